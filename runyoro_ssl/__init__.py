"""Continued self-supervised pre-training of wav2vec 2.0 on a language with very little data."""

import pluggy

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("runyoro_ssl")
"""Marks a function of a plugin as an implementation of one of the hooks in `runyoro_ssl.hookspecs`."""
