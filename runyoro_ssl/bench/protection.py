"""What checkpoints, the health watch and the memory watch cost: the same run with all of them, and with none."""

from __future__ import annotations

import io
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

STEPS = 60
SAVE_STEPS = 20
"""Two checkpoints are written while steps are timed."""
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

    @property
    def seconds(self) -> float:
        """Time from the first step to the last."""
        return self.times[max(self.times)] - self.times[min(self.times)]


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
    """One row: seconds of `STEPS` steps with everything on ("ours") and off ("reference"), in turn."""
    with tempfile.TemporaryDirectory(prefix="runyoro-bench-") as scratch:
        folder = Path(scratch)
        base = _prepared(folder, audio_dir, size, device, precision)
        on: dict[str, Any] = {"train": {"save_steps": SAVE_STEPS}}
        off: dict[str, Any] = {"train": {"save_steps": STEPS}, "health": {"enabled": False}}
        seconds: tuple[list[float], list[float]] = ([], [])
        with progress("runs") as bar:
            task = bar.add_task("Training", total=2 * (runs + 1))
            for turn in range(runs + 1):
                for side, (taken, settings) in enumerate(zip(seconds, (on, off), strict=True)):
                    spent = _run(base, settings, folder / f"run-{turn}-{side}")
                    if turn:  # the first of each warms up
                        taken.append(spent)
                    bar.advance(task)
    extra = {"steps": STEPS, "save_steps": SAVE_STEPS}
    return [Comparison("protection", size, precision, precision, seconds[0], seconds[1], extra)]


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


def _run(base: Mapping[str, Any], settings: Mapping[str, Any], output_dir: Path) -> float:
    """Seconds of the steps of one run. Validation comes after the last of them."""
    from runyoro_ssl.train.run import train

    merged = {section: {**values, **settings.get(section, {})} for section, values in {**settings, **base}.items()}
    merged["train"] = {**merged["train"], "output_dir": output_dir, "eval_steps": STEPS}
    config = load_config(flags=merged)
    clock = StepClock()
    with redirect_stdout(io.StringIO()):  # the table of each run
        train(config, _Timed(config, clock))
    return clock.seconds
