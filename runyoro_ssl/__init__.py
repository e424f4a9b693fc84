"""Continued self-supervised pre-training of wav2vec 2.0 on a language with very little data."""

from typing import Any

__version__ = "0.1.0"

try:
    import pluggy

    hookspec = pluggy.HookspecMarker("runyoro_ssl")
    hookimpl = pluggy.HookimplMarker("runyoro_ssl")
    """Marks a function of a plugin as an implementation of one of the hooks in `runyoro_ssl.plugin.spec`."""
except ImportError:  # torch and transformers alone: `python -m runyoro_ssl.bench` takes no plugins

    def _unmarked(function: Any) -> Any:
        return function

    hookspec = hookimpl = _unmarked  # type: ignore[assignment]
