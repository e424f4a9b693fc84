"""What checkpoints, the health watch and the memory watch cost: the same run with all of them, and with none.

A checkpoint is timed by itself, and counts as often as a run of days writes one. Of steps, the median counts: a machine
that is taken away for a moment slows few of them.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from runyoro_ssl.bars import progress
from runyoro_ssl.bench.corpus import synthesise
from runyoro_ssl.bench.measure import Comparison
from runyoro_ssl.bench.subjects import build_model
from runyoro_ssl.config import Config
from runyoro_ssl.plugin.manager import Plugins, load_plugins
from runyoro_ssl.plugin.spec import Run
from runyoro_ssl.resolve import load_config
from runyoro_ssl.torchaudio_compat import import_transformers
from runyoro_ssl.train.intervals import SAVE_SEC

STEPS = 60
SAVE_STEPS = 20
"""Two checkpoints are written between steps that are timed."""
MINUTES = 10.0


class StepClock:
    """A logging backend that only notes when each step was logged."""

    def open(self, run: Run) -> None:  # noqa: ARG002 - the backend's interface
        """Start anew."""
        self.times: dict[int, float] = {}

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Note the time of a step."""
        if "train/objective" in metrics:
            self.times[step] = time.perf_counter()

    def close(self, status: str) -> None:
        """Nothing to close."""

    def took(self, save_steps: int) -> tuple[float, float]:
        """Seconds of a step, the median of those without a checkpoint; what one with a checkpoint takes more."""
        steps = {step: self.times[step] - self.times[step - 1] for step in self.times if step - 1 in self.times}
        saving = [seconds for step, seconds in steps.items() if (step - 1) % save_steps == 0]  # it comes after its step
        plain = statistics.median(seconds for step, seconds in steps.items() if (step - 1) % save_steps)
        return plain, statistics.mean(saving) - plain if saving else 0.0


class _Timed(Plugins):
    """The plugins of a run whose only logger is a clock."""

    def __init__(self, config: Config, clock: StepClock) -> None:
        loaded = load_plugins(config)
        super().__init__(config, loaded.plugins, loaded.registered)
        self._clock = clock

    def loggers(self) -> list[tuple[str, Any]]:
        """The clock."""
        return [("clock", self._clock)]


def bench_protection(*, size: str, device: str, precision: str, runs: int, audio_dir: Path | None) -> list[Comparison]:
    """One row: seconds of a step with everything on ("ours") and off ("reference"), of runs in turn."""
    with tempfile.TemporaryDirectory(prefix="runyoro-bench-") as scratch:
        folder = Path(scratch)
        base = _prepared(folder, audio_dir, size, device, precision)
        on: dict[str, Any] = {"train": {"save_steps": SAVE_STEPS}}
        off: dict[str, Any] = {"train": {"save_steps": STEPS}, "health": {"enabled": False}}
        steps: tuple[list[float], list[float]] = ([], [])
        checkpoints = []
        with progress("runs") as bar:
            task = bar.add_task("Training", total=2 * (runs + 1))
            for turn in range(runs + 1):
                for side, settings in enumerate((on, off)):
                    clock = _run(base, settings, folder / f"run-{turn}-{side}")
                    step, checkpoint = clock.took(settings["train"]["save_steps"])
                    if turn:  # the first of each warms up
                        steps[side].append(step)
                        checkpoints += [checkpoint] if settings is on else []
                    bar.advance(task)
    often = statistics.median(checkpoints) / SAVE_SEC
    ours = [step * (1 + often) for step in steps[0]]
    extra = {"steps": STEPS, "checkpoint_seconds": statistics.median(checkpoints), "save_seconds": SAVE_SEC}
    return [Comparison("protection", size, precision, precision, ours, steps[1], extra)]


def _prepared(folder: Path, audio_dir: Path | None, size: str, device: str, precision: str) -> dict[str, Any]:
    """A model of random weights and a dataset, and the flags of a run with them."""
    from runyoro_ssl.prepare.pipeline import prepare
    from runyoro_ssl.prepare.scan import scan

    build_model(size, "cpu").save_pretrained(folder / "model")
    import_transformers().Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / "model")
    scan(audio_dir or synthesise(folder / "synthetic", MINUTES), folder / "manifest.jsonl")
    flags = {
        "hardware": {"device": device, "precision": precision, "update_seconds": 16.0, "batch_seconds": 16.0},
        "model": {"model_name_or_path": str(folder / "model")},
        "prepare": {
            "manifest_path": str(folder / "manifest.jsonl"),
            "output_dir": folder / "dataset",
            "split_by": "recording",
        },
        "plugins": {"filters": ["duration"], "built_in_only": True},
        "train": {"processed_dataset_path": folder / "dataset", "max_steps": STEPS, "logging_steps": 1},
    }
    config = load_config(flags=flags)
    prepare(config, load_plugins(config))
    return flags


def _run(base: Mapping[str, Any], settings: Mapping[str, Any], output_dir: Path) -> StepClock:
    """The clock of a run's steps. Validation comes after the last of them."""
    from runyoro_ssl.train.run import train

    merged = {section: {**values, **settings.get(section, {})} for section, values in {**settings, **base}.items()}
    merged["train"] = {**merged["train"], "output_dir": output_dir, "eval_steps": STEPS}
    config = load_config(flags=merged)
    clock = StepClock()
    with redirect_stdout(io.StringIO()):  # the table of each run
        train(config, _Timed(config, clock))
    return clock
