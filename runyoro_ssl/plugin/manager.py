"""Load, check and build plugins. Loading is not enabling: the configuration names what is used."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import pluggy

from runyoro_ssl.config import Config
from runyoro_ssl.errors import PluginError, RunyoroError, describe, did_you_mean
from runyoro_ssl.plugin import spec as hookspecs
from runyoro_ssl.plugin.sources import BUILT_IN, find_modules
from runyoro_ssl.plugin.spec import Augmentation, Collator, LoggingBackend, OpenExecutor
from runyoro_ssl.plugin.versions import DECLARATION

PluginKind = Literal["filter", "augmentation", "collator", "logger", "executor"]

HOOKS: dict[PluginKind, str] = {
    "filter": "runyoro_manifest_filters",
    "augmentation": "runyoro_augmentations",
    "collator": "runyoro_collators",
    "logger": "runyoro_logging_backends",
    "executor": "runyoro_executors",
}


@dataclass(frozen=True)
class Plugin:
    """One loaded plugin. `source` is where a user finds it: "built in", a package, or a file."""

    name: str
    source: str
    module: ModuleType
    hooks: tuple[str, ...]

    @property
    def requires(self) -> str | None:
        """The versions of runyoro_ssl that it declares to be made for."""
        return getattr(self.module, DECLARATION, None)

    @property
    def described_source(self) -> str:
        """Where a user finds it, and for which versions it is."""
        return f"{self.source}, for runyoro_ssl {self.requires}" if self.requires else self.source


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
    registered: dict[PluginKind, dict[str, Registration]] = field(default_factory=lambda: {kind: {} for kind in HOOKS})

    def without_effect(self, kind: PluginKind, enabled: Iterable[str]) -> list[str]:
        """Plugins of a kind that have options and are not enabled."""
        return [name for name in self.config.plugins.options if name in self.registered[kind] and name not in enabled]

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

    def executor(self, folder: Path, *, num_tasks: int) -> Executor:
        """What `prepare.executor` names, started for so many tasks; `folder` is for its own files."""
        name, _, where = self.config.prepare.executor.partition("://")
        opener = cast("OpenExecutor", self._build("executor", name))
        with _naming(f'executor "{name}" ({self._find("executor", name).plugin.source}) failed'):
            return opener(where, min(self.config.hardware.num_workers, num_tasks), folder)

    def enabled(self, kind: PluginKind) -> tuple[str, ...]:
        """Names of this kind that the configuration uses."""
        chosen = self.config.plugins
        return {
            "filter": chosen.filters,
            "augmentation": chosen.augmentations,
            "collator": (chosen.collator,),
            "logger": chosen.loggers,
            "executor": (self.config.prepare.executor.partition("://")[0],),
        }[kind]

    def sources(self, kind: PluginKind) -> dict[str, str]:
        """SHA-256 of the file that defines each enabled plugin of a kind that is not built in: it tells its code."""
        plugins = {name: self._find(kind, name).plugin for name in self.enabled(kind)}
        files = {name: Path(str(one.module.__file__)) for name, one in plugins.items() if one.source != BUILT_IN}
        return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}

    def check(self) -> None:
        """Raise PluginError if the configuration names or sets something no plugin offers."""
        for kind in HOOKS:
            for name in self.enabled(kind):
                self._find(kind, name)
        known = {name for names in self.registered.values() for name in names}
        for name in self.config.plugins.options:
            if name not in known:
                raise PluginError(
                    f'plugins.options.{name}: no plugin has the name "{name}"{did_you_mean(name, known)}; there are: '
                    f"{_list(known)}"
                    f"{self._hidden()}"
                )

    def _find(self, kind: PluginKind, name: str) -> Registration:
        found = self.registered[kind].get(name)
        if found is None:
            there = self.registered[kind]
            raise PluginError(
                f'no {kind} "{name}" in the loaded plugins{did_you_mean(name, there)}; there are: {_list(there)}'
                f"{self._hidden()}. "
                f"Run `invoke plugins`, or put a file runyoro_*.py that registers it into {self.config.plugins.dir}/"
            )
        return found

    def _hidden(self) -> str:
        if not self.config.plugins.built_in_only:
            return ""
        return " (others are hidden by --no-plugins or plugins.built_in_only: leave that off to use them)"

    def _build(self, kind: PluginKind, name: str) -> Any:
        found = self._find(kind, name)
        options = self.config.plugins.options.get(name, {})
        try:
            inspect.signature(found.factory).bind(**options)
        except TypeError as error:
            takes = _list(inspect.signature(found.factory).parameters) or "no options"
            raise PluginError(f"plugins.options.{name} ({found.plugin.source}): {error}; it takes: {takes}") from None
        with _naming(f'{kind} "{name}" ({found.plugin.source}) could not be made'):
            return found.factory(**options)


def load_plugins(config: Config) -> Plugins:
    """Load every plugin, check its hooks, collect what it registers, and check the configuration against it.

    Raises:
        PluginError: A file that fails to import, a hook that does not exist, a name registered twice, or a
            configuration that names something no plugin offers. The message names the file.
    """
    manager = pluggy.PluginManager("runyoro_ssl")
    manager.add_hookspecs(hookspecs)
    loaded = Plugins(config)
    for name, source, module in find_modules(config.plugins):
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


def ensure_picklable(kind: PluginKind, built: Iterable[tuple[str, Any]]) -> None:
    """Raise PluginError for what cannot be sent to a worker process."""
    for name, thing in built:
        try:
            pickle.dumps(thing)
        except Exception as error:  # noqa: BLE001 - pickling runs plugin code
            raise PluginError(
                f'{kind} "{name}" cannot be sent to worker processes ({type(error).__name__}: {error}); write it as a '
                "class with __call__ at the top of its module, not as a closure"
            ) from None


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

        def register(name: str, factory: Callable[..., Any], *, kind: PluginKind = kind) -> None:
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
        with _naming(f"{plugin.source}: {hook} failed"):
            implementation(**arguments)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Plugin code may raise anything; the user needs to know whose, and where."""
    try:
        yield
    except RunyoroError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what}: {describe(error)}") from error
