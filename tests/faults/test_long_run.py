"""Memory over a long run of clips of many lengths: it does not grow."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.resolve import load_config
from support.trainer import Trainer

STEPS = 2000
WARMUP = 800
"""More than two epochs: every page of the dataset has been read, and the heap has met most mixtures of lengths."""
MIB = 1 << 20


def prepare_mixed(bantu: Path, tiny_model: Path, folder: Path) -> None:
    """Real clips of 2 to 15 s, prepared."""
    flags = {
        "hardware": {"num_workers": 2},
        "model": {"model_name_or_path": str(tiny_model)},
        "prepare": {"manifest_path": str(bantu / "manifest.jsonl"), "output_dir": folder},
        "plugins": {"filters": ["duration"]},
    }
    config = load_config(profile="cpu-smoke", flags=flags)
    prepare(config, load_plugins(config))


@pytest.mark.timeout(1200)
def test_memory_does_not_grow(
    train_config: Callable[..., Config], bantu: Path, tiny_model: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Resident memory, over 2,000 steps with everything on: at most 2 % after warm-up."""
    if pytestconfig.getoption("--faults") < 50:
        pytest.skip("minutes long: only with --faults 50 or more")
    prepare_mixed(bantu, tiny_model, tmp_path / "mixed")
    settings = (
        f"train.processed_dataset_path={tmp_path / 'mixed'}",
        f"train.max_steps={STEPS}",
        "train.save_steps=100",
        "hardware.batch_seconds=16",
        "hardware.update_seconds=16",
        "health.chance_patience=100000",  # the tiny model learns nothing
    )
    run = Trainer(train_config("run", *settings), tmp_path / "run.log")
    process = run.start("--set", "train.eval_steps=1000")
    measured: dict[int, list[float]] = {}
    while process.is_alive():
        process.join(0.2)
        if process.exitcode is None and process.pid is not None:
            resident = psutil.Process(process.pid).memory_info().rss / MIB
            measured.setdefault(run.steps_logged(), []).append(resident)
    assert process.exitcode == 0, run.log.read_text()[-2000:]
    after = {step: statistics.median(values) for step, values in measured.items() if step >= WARMUP}
    span = (STEPS - WARMUP) // 4
    early = statistics.median(value for step, value in after.items() if step < WARMUP + span)
    late = statistics.median(value for step, value in after.items() if step >= STEPS - span)
    print(f"resident {early:.0f} MiB after warm-up, {late:.0f} MiB at the end ({late / early - 1:+.1%})")  # noqa: T201
    assert late <= 1.02 * early
    # How much it takes in all is asked of processes that have not imported tests: tests/memory_runs.py.
    assert "did not fall back" not in run.log.read_text()
