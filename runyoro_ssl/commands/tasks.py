"""The tasks of `invoke`, `runyoro-ssl` and `python -m runyoro_ssl`: the file of its name, beside this, does each."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from runyoro_ssl.commands.ending import command
from runyoro_ssl.commands.program import SchemaTask

HELP = {
    "manifest": "List the readable recordings of a folder, with their real durations.",
    "prepare": "Decode, cut, filter and split the manifest's recordings into a dataset.",
    "train": "Adapt the base model to the prepared dataset.",
    "evaluate": "Compare the adapted model with its base on held-out speech, and say whether it helped.",
    "runs": "List the runs, how far they are and how good; or compare two: `runs ONE OTHER`.",
    "publish": "Send the final model of a run to the hub: weights, settings and card, and nothing else.",
    "embed": "Write features of recordings, or units: `embed FILE… --layer 16`.",
    "convert": "Make a model of fairseq2 or fairseq one that transformers reads: `convert omniASR-W2V-300M.pt`.",
    "donors": "Choose speech of other languages that is near yours, as a dataset: `donors --target A --pool B`.",
    "smoke": "Run the whole way, small, and check what it claims: no network, data or GPU needed.",
    "bench": "Time the training step, or with --data the data path, beside what a user would otherwise run.",
    "plugins": "List the plugins: where each comes from, what it offers, what the configuration uses.",
    "doctor": "Say what this machine is, what will work on it, and, with any option, what memory training needs.",
}
"""What each task does. Nothing else of it is imported before it is called, so that lists and help come at once."""


@command
def do_and_show(name: str, **given: Any) -> None:
    """Do what a task does, with the options that were given, and show what came of it; end with the right status."""
    module = import_module(f"runyoro_ssl.commands.{name}")
    module.show(getattr(module, name)(**given), given)


ALL = tuple(SchemaTask(name, text, partial(do_and_show, name)) for name, text in HELP.items())
manifest, prepare, train, evaluate, runs, publish, embed, convert, donors, smoke, bench, plugins, doctor = ALL
