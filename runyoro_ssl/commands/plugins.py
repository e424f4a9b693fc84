"""`plugins`: what is loaded, from where, and what of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from runyoro_ssl import logs
from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.given import resolve


class PluginRow(NamedTuple):
    """One name that a plugin offers; or, as "registers nothing", a plugin that offers none."""

    name: str
    kind: str
    source: str
    hook: str
    is_enabled: bool


def plugins(**given: Any) -> list[PluginRow]:
    """List the plugins: where each comes from, what it offers, what the configuration uses.

    Args:
        **given: `no_plugins`, `profile`, `config`, `set`, and any setting of `plugins`.

    Raises:
        RunyoroError: A plugin that cannot be loaded, or a setting that is wrong.
    """
    from runyoro_ssl.plugin.manager import HOOKS, load_plugins

    loaded = load_plugins(resolve("plugins", given))
    rows = [
        PluginRow(name, kind, one.plugin.described_source, HOOKS[kind], name in loaded.enabled(kind))
        for kind in HOOKS
        for name, one in loaded.registered[kind].items()
    ]
    used = {one.plugin.name for names in loaded.registered.values() for one in names.values()}
    idle = [plugin for plugin in loaded.plugins if plugin.name not in used]
    return rows + [
        PluginRow(plugin.name, "registers nothing", plugin.described_source, ", ".join(plugin.hooks), is_enabled=False)
        for plugin in idle
    ]


def show(rows: list[PluginRow], given: Mapping[str, Any]) -> None:  # noqa: ARG001 - as every task's
    """Print them as a table, and how one is used."""
    cells = [[row.name, row.kind, row.source, row.hook, "yes" if row.is_enabled else "no"] for row in rows]
    logs.print_table("Plugins", ["name", "kind", "source", "hook", "enabled"], cells)
    close(then=[("use an augmentation", command("train", set='plugins.augmentations=["noise"]'))])
