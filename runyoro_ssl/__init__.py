"""Continued self-supervised pre-training of wav2vec 2.0 on a language with very little data.

The tasks are functions here, for notebooks and scripts. Options and settings are keywords, by the names that
`runyoro-ssl TASK --help` shows; a result object comes back; what goes wrong is raised, as a
`RunyoroError` or the system's own `OSError`:

    from runyoro_ssl import manifest, prepare, train

    manifest(audio_dir="recordings", output="m.jsonl", speaker_from="folder")
    prepared = prepare(manifest_path="m.jsonl", output_dir="dataset")
    result = train(processed_dataset_path="dataset", output_dir="run", max_steps=100, set={"train.adam_beta2": 0.95})
    result.best["eval/contrastive_loss"]

Nothing heavy is imported before it is used. In a script, put the calls below `if __name__ == "__main__":`, for the
processes that decode import it again.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runyoro_ssl.commands.bench import bench as bench
    from runyoro_ssl.commands.convert import convert as convert
    from runyoro_ssl.commands.doctor import doctor as doctor
    from runyoro_ssl.commands.donors import donors as donors
    from runyoro_ssl.commands.embed import embed as embed
    from runyoro_ssl.commands.evaluate import evaluate as evaluate
    from runyoro_ssl.commands.manifest import manifest as manifest
    from runyoro_ssl.commands.plugins import plugins as plugins
    from runyoro_ssl.commands.prepare import prepare as prepare
    from runyoro_ssl.commands.publish import publish as publish
    from runyoro_ssl.commands.runs import runs as runs
    from runyoro_ssl.commands.smoke import smoke as smoke
    from runyoro_ssl.commands.train import train as train
    from runyoro_ssl.errors import RunyoroError as RunyoroError

__version__ = "0.2.0"

try:
    import pluggy

    hookspec = pluggy.HookspecMarker("runyoro_ssl")
    hookimpl = pluggy.HookimplMarker("runyoro_ssl")
    """Marks a function of a plugin as an implementation of one of the hooks in `runyoro_ssl.plugin.spec`."""
except ImportError:  # torch and transformers alone: `python -m runyoro_ssl.bench` takes no plugins

    def _unmarked(function: Any) -> Any:
        return function

    hookspec = hookimpl = _unmarked  # type: ignore[assignment]

TASKS = (
    "manifest",
    "prepare",
    "train",
    "evaluate",
    "runs",
    "publish",
    "embed",
    "convert",
    "donors",
    "smoke",
    "bench",
    "plugins",
    "doctor",
)


def __getattr__(name: str) -> Any:
    if name == "RunyoroError":
        return import_module("runyoro_ssl.errors").RunyoroError
    if name not in TASKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if (Path(__file__).parent / name).is_dir():  # the package of its stage has its name: that can be called
        return import_module(f"runyoro_ssl.{name}")
    return _task(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *TASKS})


def _task(name: str) -> Any:
    """The function of a task, imported now; its log lines go to stderr."""
    logs = import_module("runyoro_ssl.logs")
    if not logs.is_configured():
        logs.configure()
    return getattr(import_module(f"runyoro_ssl.commands.{name}"), name)


class _CallablePackage(ModuleType):
    """A package that is also its task: `from runyoro_ssl import train` gives it, whatever was imported before."""

    def __call__(self, **given: Any) -> Any:
        """Do the task: see its function in `runyoro_ssl.commands`."""
        return _task(self.__name__.rpartition(".")[2])(**given)

    @property
    def __signature__(self) -> Any:
        import inspect

        return inspect.signature(_task(self.__name__.rpartition(".")[2]))


class _FrontDoor(ModuleType):
    """This package. The import system sets each subpackage as its attribute: those that are tasks become callable."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in TASKS and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
            value.__doc__ = (
                f"The task, which can be called: see `runyoro_ssl.commands.{name}.{name}`.\n\n{value.__doc__}"
            )
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
