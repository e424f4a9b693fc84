"""Find, load, check and build plugins.

Sources, in order: built-ins, installed packages (entry-point group `runyoro_ssl`), `runyoro_*.py` in the project's
plugin folder. Loading is not enabling: the configuration names what is used.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pickle
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import pluggy

from runyoro_ssl import hookspecs
from runyoro_ssl.config import Config, PluginsConfig
from runyoro_ssl.errors import PluginError
from runyoro_ssl.hookspecs import Augmentation, Collator, LoggingBackend, OpenExecutor

Kind = Literal["filter", "augmentation", "collator", "logger", "executor"]

HOOKS: dict[Kind, str] = {
    "filter": "runyoro_manifest_filters",
    "augmentation": "runyoro_augmentations",
    "collator": "runyoro_collators",
    "logger": "runyoro_logging_backends",
    "executor": "runyoro_executors",
}
BUILT_IN = "built in"
BUILTINS = ("filters", "duplicates", "caps", "augmentations", "collators", "loggers", "executors")


@dataclass(frozen=True)
class Plugin:
    """One loaded plugin. `source` is where a user finds it: "built in", a package, or a file."""

    name: str
    source: str
    module: ModuleType
    hooks: tuple[str, ...]


@dataclass(frozen=True)
class Registration:
    """A named factory and the plugin that offers it."""

    name: str
    factory: Callable[..., Any]
    plugin: Plugin


@dataclass
class Plugins:
    """Everything loaded, by kind and name; builds what the configuration enables."""

    config: Config
    plugins: list[Plugin] = field(default_factory=list)
    registered: dict[Kind, dict[str, Registration]] = field(default_factory=lambda: {kind: {} for kind in HOOKS})

    def filters(self, names: Iterable[str] | None = None) -> list[tuple[str, Any]]:
        """The enabled filters, each a Filter or a CorpusFilter, in order, with their names; or those named."""
        return [(name, self._build("filter", name)) for name in names or self.config.plugins.filters]

    def augmentations(self) -> list[tuple[str, Augmentation]]:
        """The enabled augmentations, in order, with their names."""
        return [(name, self._build("augmentation", name)) for name in self.config.plugins.augmentations]

    def collator(self, name: str | None = None) -> Collator:
        """The enabled collator, or the one of this name."""
        return cast("Collator", self._build("collator", name or self.config.plugins.collator))

    def loggers(self) -> list[tuple[str, LoggingBackend]]:
        """The enabled logging backends, with their names."""
        return [(name, self._build("logger", name)) for name in self.config.plugins.loggers]

    def executor(self, folder: Path) -> Executor:
        """What `prepare.executor` names, started; `folder` is for its own files."""
        name, _, where = self.config.prepare.executor.partition("://")
        opener = cast("OpenExecutor", self._build("executor", name))
        return opener(where, self.config.hardware.num_workers, folder)

    def enabled(self, kind: Kind) -> tuple[str, ...]:
        """Names of this kind that the configuration uses."""
        chosen = self.config.plugins
        return {
            "filter": chosen.filters,
            "augmentation": chosen.augmentations,
            "collator": (chosen.collator,),
            "logger": chosen.loggers,
            "executor": (self.config.prepare.executor.partition("://")[0],),
        }[kind]

    def sources(self, kind: Kind) -> dict[str, str]:
        """SHA-256 of the file that defines each enabled plugin of a kind: changes when its code does."""
        files = {name: Path(str(self._find(kind, name).plugin.module.__file__)) for name in self.enabled(kind)}
        return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}

    def check(self) -> None:
        """Raise PluginError if the configuration names or sets something no plugin offers."""
        for kind in HOOKS:
            for name in self.enabled(kind):
                self._find(kind, name)
        known = {name for names in self.registered.values() for name in names}
        for name in self.config.plugins.options:
            if name not in known:
                raise PluginError(f'plugins.options.{name}: no plugin has the name "{name}"; there are: {_list(known)}')

    def _find(self, kind: Kind, name: str) -> Registration:
        found = self.registered[kind].get(name)
        if found is None:
            raise PluginError(
                f'no {kind} "{name}" in the loaded plugins; there are: {_list(self.registered[kind])}. '
                f"Run `invoke plugins`, or put a file runyoro_*.py that registers it into {self.config.plugins.dir}/"
            )
        return found

    def _build(self, kind: Kind, name: str) -> Any:
        found = self._find(kind, name)
        options = self.config.plugins.options.get(name, {})
        try:
            inspect.signature(found.factory).bind(**options)
        except TypeError as error:
            takes = _list(inspect.signature(found.factory).parameters) or "no options"
            raise PluginError(f"plugins.options.{name} ({found.plugin.source}): {error}; it takes: {takes}") from None
        try:
            return found.factory(**options)
        except Exception as error:
            raise PluginError(f'{kind} "{name}" ({found.plugin.source}) could not be made: {_say(error)}') from error


def load_plugins(config: Config) -> Plugins:
    """Load every plugin, check its hooks, collect what it registers, and check the configuration against it.

    Raises:
        PluginError: A file that fails to import, a hook that does not exist, a name registered twice, or a
            configuration that names something no plugin offers. The message names the file.
    """
    manager = pluggy.PluginManager("runyoro_ssl")
    manager.add_hookspecs(hookspecs)
    loaded = Plugins(config)
    for name, source, module in _modules(config.plugins.dir):
        _check_hooks(module, source)
        # Each is registered and checked on its own, so that the error can name its file.
        try:
            manager.register(module, name=name)
            manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"{source}: {error}; the hooks are: {_list(HOOKS.values())}") from None
        hooks = tuple(caller.name for caller in manager.get_hookcallers(module) or ())
        plugin = Plugin(name, source, module, hooks)
        loaded.plugins.append(plugin)
        _collect(loaded, plugin)
    loaded.check()
    return loaded


def ensure_picklable(kind: Kind, built: Iterable[tuple[str, Any]]) -> None:
    """Raise PluginError for what cannot be sent to a worker process."""
    for name, thing in built:
        try:
            pickle.dumps(thing)
        except Exception as error:  # noqa: BLE001 - pickling runs plugin code
            raise PluginError(
                f'{kind} "{name}" cannot be sent to worker processes ({_say(error)}); write it as a class with '
                "__call__ at the top of its module, not as a closure"
            ) from None


def _modules(plugin_dir: Path) -> Iterable[tuple[str, str, ModuleType]]:
    """(name, source, module) of every plugin."""
    for stem in BUILTINS:
        yield f"builtin.{stem}", BUILT_IN, importlib.import_module(f"runyoro_ssl.builtins.{stem}")
    for point in entry_points(group="runyoro_ssl"):
        source = f"package {point.dist.name}" if point.dist else f"entry point {point.name}"
        yield point.name, source, _import(source, point.load)
    if not plugin_dir.is_dir() and plugin_dir != PluginsConfig().dir:
        raise PluginError(f"plugins.dir is {plugin_dir}: no such folder; check the path")
    for path in sorted(plugin_dir.glob("runyoro_*.py")):
        yield path.stem, str(path), _import(str(path), partial(_import_by_stem, path))


def _import(source: str, load: Callable[[], Any]) -> ModuleType:
    try:
        return cast("ModuleType", load())
    except PluginError as error:
        raise PluginError(f"{source}: {error}") from None
    except (Exception, SystemExit) as error:
        raise PluginError(f"{source}: cannot be imported: {_say(error)}; mend it, or move it away") from error


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


def _check_hooks(module: ModuleType, source: str) -> None:
    """A function named like a hook but not marked as one would silently do nothing."""
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("runyoro_") and not hasattr(function, "runyoro_ssl_impl"):
            raise PluginError(f"{source}: {name} lacks its @hookimpl (from runyoro_ssl import hookimpl)")


def _collect(loaded: Plugins, plugin: Plugin) -> None:
    """Call the plugin's hooks and keep what they register."""
    for kind, hook in HOOKS.items():
        implementation = getattr(plugin.module, hook, None)
        if implementation is None:
            continue

        def register(name: str, factory: Callable[..., Any], *, kind: Kind = kind) -> None:
            # One name space for all kinds: plugins.options is keyed by name alone.
            other = next((names[name] for names in loaded.registered.values() if name in names), None)
            if other is not None:
                raise PluginError(
                    f'{plugin.source}: "{name}" is already registered by {other.plugin.source}; rename one'
                )
            loaded.registered[kind][name] = Registration(name, factory, plugin)

        offered = {"register": register, "config": loaded.config}
        # As pluggy does, an implementation may leave out arguments it does not use.
        arguments = {name: offered[name] for name in inspect.signature(implementation).parameters}
        try:
            implementation(**arguments)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(f"{plugin.source}: {hook} failed: {_say(error)}") from error


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
