"""Healthy runs, of which none may be sent back: from random weights, and from models trained a little before."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runyoro_ssl.commands.smoke import MODEL
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.resolve import load_config
from runyoro_ssl.torchaudio_compat import import_transformers
from runyoro_ssl.train.checkpoints.format import load_state
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.run import TrainResult, train

LAYERS = (1, 2, 3)
RATES = (1e-4, 2e-4, 3e-4, 5e-4)
UPDATES_SEC = (12.0, 24.0)
"""Small updates, of a few clips each, differ most."""
BASE_RATE, BASE_STEPS = 1e-3, 250
"""Of the models trained before: held-out loss a few tenths of a nat below guessing."""


@dataclass(frozen=True)
class Trial:
    """A healthy run. `base`: a model trained before, or None for random weights."""

    layers: int
    rate: float
    seed: int
    update_sec: float
    base: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a run: its alarms by kind and action, checkpoints that were not healthy, and held-out gains."""

    trial: Trial
    alarms: Counter[str]
    unhealthy: int
    checkpoints: int
    first_gap: float
    last_gap: float
    codes: float

    @property
    def is_sent_back(self) -> bool:
        """Whether an alarm took the run from its course."""
        return any(not alarm.endswith(": note") for alarm in self.alarms)

    def line(self) -> str:
        """The outcome in a line."""
        trial = self.trial
        begun = "trained" if trial.base else "random"
        alarms = ", ".join(f"{count} {kind}" for kind, count in self.alarms.items()) or "none"
        return (
            f"{trial.layers} layer(s), {begun}, rate {trial.rate:g}, seed {trial.seed}, {trial.update_sec:g} s: "
            f"held-out gap {self.first_gap:+.3f} to {self.last_gap:+.3f}, {self.codes:.0f} codes; "
            f"{self.unhealthy} of {self.checkpoints} checkpoints not healthy; alarms: {alarms}"
        )


def build_model(folder: Path, *, layers: int, seed: int) -> Path:
    """Random weights of XLS-R's architecture, with its 640 codes, at small size."""
    transformers = import_transformers()
    import torch

    torch.manual_seed(seed)
    sizes = {**MODEL, "num_hidden_layers": layers, "num_codevectors_per_group": 320}
    transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**sizes)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


def train_model(base: Path, dataset: Path, out: Path, *, trial: Trial, steps: int, **health: Any) -> TrainResult:
    """Train as a user would, with ten checkpoints and five validations."""
    config = load_config(
        profile="cpu-smoke",
        flags={
            "hardware": {
                "precision": "fp32",
                "batch_seconds": 12.0,
                "update_seconds": trial.update_sec,
                "keep_freed_memory": False,
            },
            "model": {"model_name_or_path": str(base)},
            "plugins": {"loggers": ["jsonl"]},
            "health": health,
            "train": {
                "processed_dataset_path": dataset,
                "output_dir": out,
                "max_steps": steps,
                "save_steps": max(1, steps // 10),
                "eval_steps": max(1, steps // 5),
                "logging_steps": 1,
                "save_total_limit": 0,
                "learning_rate": trial.rate,
                "seed": trial.seed,
            },
        },
    )
    return train(config, load_plugins(config))


def try_run(trial: Trial, dataset: Path, folder: Path, *, steps: int) -> Outcome:
    """Train, and see what the watch said."""
    base = trial.base or build_model(folder / "random", layers=trial.layers, seed=trial.seed)
    # What would end the run is to be counted, not to end this trial of it.
    result = train_model(base, dataset, folder / "run", trial=trial, steps=steps, early_stop_patience=0)
    states = [load_state(path) for _, path in list_checkpoints(folder / "run")]
    events = [event for event in journal.read(folder / "run") if "kind" in event]
    return Outcome(
        trial,
        Counter(f"{event['kind']}: {event['action']}" for event in events),
        unhealthy=sum(bool(state["concerns"]) for state in states),
        checkpoints=len(states),
        first_gap=_gap(result.first),
        last_gap=_gap(result.last),
        codes=result.last["eval/hard_perplexity"],
    )


def trials(number: int, bases: dict[int, Path]) -> Iterator[Trial]:
    """As many trials, every other one from a trained model, over sizes, rates, seeds and sizes of an update."""
    layers, rates, updates = itertools.cycle(LAYERS), itertools.cycle(RATES[::-1]), itertools.cycle(UPDATES_SEC)
    for seed in range((number + 1) // 2):
        size, rate, update_sec = next(layers), next(rates), next(updates)
        yield Trial(size, rate, seed, update_sec)
        if 2 * seed + 1 < number:
            yield Trial(size, rate, seed, update_sec, bases[size])


def prepare(speech: Path, model: Path, folder: Path) -> Path:
    """The real clips, prepared with the default settings."""
    from runyoro_ssl.prepare.pipeline import prepare as prepare_clips

    config = load_config(
        profile="cpu-smoke",
        flags={
            "model": {"model_name_or_path": str(model)},
            "prepare": {"manifest_path": speech / "manifest.jsonl", "output_dir": folder / "dataset"},
        },
    )
    prepare_clips(config, load_plugins(config))
    return folder / "dataset"


def _gap(validation: dict[str, float]) -> float:
    return validation["eval/contrastive_loss"] - validation["eval/chance_loss"]


def begin(speech: Path, folder: Path) -> tuple[Path, dict[int, Path]]:
    """The dataset and the trained models, by layers, in a folder; what is there from an earlier time is used again."""
    random = {size: build_model(folder / f"random-{size}", layers=size, seed=99) for size in LAYERS}
    if not (folder / "dataset" / "fingerprint.json").exists():
        prepare(speech, random[LAYERS[0]], folder)
    bases = {size: folder / f"base-{size}" for size in LAYERS}
    for size, base in bases.items():
        if not (base / "model.safetensors").exists():
            first = Trial(size, BASE_RATE, 99, UPDATES_SEC[0])
            train_model(random[size], folder / "dataset", base, trial=first, steps=BASE_STEPS, enabled=False)
    return folder / "dataset", bases


def main() -> int:
    """`python tests/healthy.py SPEECH --runs 20`: each run in a line; status 1 if any was sent back."""
    import argparse
    import tempfile

    import torch

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("speech", type=Path, help="folder with manifest.jsonl, of real clips")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="number of the first run")
    parser.add_argument("--steps", type=int, default=100, help="of each run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keeps dataset, trained models and runs; used again")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sent_back = 0
    with tempfile.TemporaryDirectory(prefix="runyoro-healthy-") as scratch:
        folder = options.folder or Path(scratch)
        dataset, bases = begin(options.speech, folder)
        for number, trial in enumerate(trials(options.runs, bases), 1):
            if number >= options.first:
                outcome = try_run(trial, dataset, folder / f"run-{number}", steps=options.steps)
                sent_back += outcome.is_sent_back
                print(f"{number}. {outcome.line()}", flush=True)  # noqa: T201 - figures for a person
    print(f"{sent_back} sent back")  # noqa: T201
    return int(sent_back > 0)


if __name__ == "__main__":
    raise SystemExit(main())
