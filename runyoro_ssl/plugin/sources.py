"""Find and import plugins.

Sources, in order: built-ins, installed packages (entry-point group `runyoro_ssl`), `runyoro_*.py` in the project's
plugin folder.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from runyoro_ssl.config import PluginsConfig
from runyoro_ssl.errors import PluginError, describe
from runyoro_ssl.plugin.versions import DECLARATION, check_distribution, check_file, check_range

BUILT_IN = "built in"
BUILTINS = ("filters", "duplicates.filter", "caps", "augmentations", "collators", "loggers", "executors.processes")


def find_modules(chosen: PluginsConfig) -> Iterable[tuple[str, str, ModuleType]]:
    """(name, source, module) of every plugin; of the built-in ones, if no others are wanted."""
    for module in BUILTINS:
        yield f"builtin.{module.partition('.')[0]}", BUILT_IN, importlib.import_module(f"runyoro_ssl.builtins.{module}")
    if chosen.built_in_only:
        return
    for point in entry_points(group="runyoro_ssl"):
        yield _load_point(point)
    if not chosen.dir.is_dir() and chosen.dir != PluginsConfig().dir:
        raise PluginError(f"plugins.dir is {chosen.dir}: no such folder; {chosen.dir.absolute()} was looked for")
    for path in sorted(chosen.dir.glob("runyoro_*.py")):
        check_file(path)
        yield path.stem, str(path), _import(str(path), partial(_import_by_stem, path))


def _load_point(point: EntryPoint) -> tuple[str, str, ModuleType]:
    """What an installed package offers."""
    source = f"entry point {point.name}"
    if point.dist:
        source = f"package {point.dist.name} {point.dist.version}"
        check_distribution(source, point.dist)
    return point.name, source, _import(source, point.load)


def _import(source: str, load: Callable[[], Any]) -> ModuleType:
    try:
        module = cast("ModuleType", load())
    except PluginError as error:
        raise PluginError(f"{source}: {error}") from None
    except (Exception, SystemExit) as error:
        raise PluginError(f"{source}: cannot be imported: {describe(error)}; mend it, or move it away") from error
    check_range(source, getattr(module, DECLARATION, ""))
    return module


def _import_by_stem(path: Path) -> ModuleType:
    """Import a plugin file as a top-level module."""
    # spawn hands sys.path to its workers: found there, the module's classes can be unpickled.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    module = importlib.import_module(path.stem)
    if Path(str(module.__file__)).resolve() != path.resolve():
        raise PluginError(f"another module of this name stands at {module.__file__}; rename one of the two")
    return module
