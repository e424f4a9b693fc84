"""The tasks, as `invoke`, `runyoro-ssl` and `python -m runyoro_ssl` offer them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from runyoro_ssl.commands.ending import command
from runyoro_ssl.commands.program import as_task


@command
def run(name: str, given: dict[str, Any]) -> None:
    """Do what a task does, with the options that were given, and show what came of it."""
    module = import_module(f"runyoro_ssl.commands.{name}")
    module.show(getattr(module, name)(**given))


@as_task
def manifest(**given: Any) -> None:
    """List the readable recordings of a folder, with their real durations."""
    run("manifest", given)


@as_task
def prepare(**given: Any) -> None:
    """Decode, cut, filter and split the manifest's recordings into a dataset."""
    run("prepare", given)


@as_task
def train(**given: Any) -> None:
    """Adapt the base model to the prepared dataset."""
    run("train", given)


@as_task
def smoke(**given: Any) -> None:
    """Run the whole way, small, and check what it claims: no network, data or GPU needed."""
    run("smoke", given)


@as_task
def bench(**given: Any) -> None:
    """Time the training step, or with --data the data path, beside what a user would otherwise run."""
    run("bench", given)


@as_task
def plugins(**given: Any) -> None:
    """List the plugins: where each comes from, what it offers, what the configuration uses."""
    run("plugins", given)


@as_task
def doctor(**given: Any) -> None:
    """Say what this machine is, what will work on it, and, with any option, what memory training needs."""
    run("doctor", given)


ALL = (manifest, prepare, train, smoke, bench, plugins, doctor)
