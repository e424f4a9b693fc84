"""Asked to stop at any moment, a run finishes its step, saves, says so by its status, and goes on as if never asked."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.config import Config
from support.trainer import Trainer, damaged, equal, kill, metrics, wait_until, weights

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SETTINGS = ("train.max_steps=30", "train.save_steps=10", "train.eval_steps=3", 'plugins.augmentations=["noise"]')


def _has_begun(run: Trainer, before: int) -> bool:
    return run.times_begun() > before


def test_signals_at_any_moment(
    train_config: Callable[..., Config], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Each in turn; `--faults 50` is the long form. In steps, validations, saves: at most one more step is begun."""
    calm = Trainer(train_config("calm", *SETTINGS), tmp_path / "calm.log")
    whole_sec = calm.time_whole()
    run = Trainer(train_config("run", *SETTINGS), tmp_path / "run.log")
    draw = np.random.default_rng(1)
    seconds: list[float] = []
    num_stopped = 0
    while len(seconds) < pytestconfig.getoption("--faults"):
        before = run.times_begun()
        process = run.start("--resume-from-checkpoint", "last")
        if wait_until(partial(_has_begun, run, before), process):
            process.join(draw.uniform(0.05, 0.5) * whole_sec)
        if process.is_alive():
            number = list(STATUS)[len(seconds) % len(STATUS)]
            logged, started = run.steps_logged(), time.monotonic()
            assert process.pid is not None
            os.kill(process.pid, number)
            process.join(60)
            seconds.append(time.monotonic() - started)
            assert process.exitcode in (0, STATUS[number]), run.log.read_text()[-2000:]
            assert damaged(run.out) == []
            if process.exitcode:
                num_stopped += 1
                newest = max((int(path.name.split("-")[1]) for path in run.out.glob("checkpoint-*")), default=0)
                assert logged <= newest <= logged + 2
        if process.exitcode == 0:
            shutil.rmtree(run.out)
    run.finish("--resume-from-checkpoint", "last")
    assert equal(weights(run.out), weights(calm.out))
    assert metrics(run.out) == metrics(calm.out)
    assert num_stopped >= len(seconds) / 2  # the others came when all was done
    said = f"{num_stopped} of {len(seconds)} signals stopped a run, gone after {np.median(seconds):.2f} s"
    print(f"{said}, at most {max(seconds):.2f}")  # noqa: T201 - the figure


def test_stop_after_a_time(train_config: Callable[..., Config], tmp_path: Path) -> None:
    """It saves and ends well, with status 0, before that time; the next command goes on."""
    started = time.monotonic()
    Trainer(train_config("short", "train.max_steps=2"), tmp_path / "short.log").finish()
    seconds = 3 + 2 * (time.monotonic() - started)  # the machine may be slow, or busy
    run = Trainer(train_config("run", "train.max_steps=100000"), tmp_path / "run.log")
    process = run.start("--stop-after", f"{seconds:.0f}s")
    process.join(seconds + 60)
    assert process.exitcode == 0
    assert "--resume-from-checkpoint last" in run.log.read_text()
    assert run.last_acknowledged() > 0
    assert run.last_acknowledged() == run.steps_logged()
    assert not (run.out / "model.safetensors").exists()


def test_second_run_is_refused(train_config: Callable[..., Config], tmp_path: Path) -> None:
    """The first goes on; the line says who holds the folder. After SIGKILL nothing blocks the next."""
    run = Trainer(train_config("run", "train.max_steps=100000"), tmp_path / "run.log")
    process = run.start()
    assert wait_until(lambda: run.last_acknowledged() > 0, process)
    other = Trainer(run.config, tmp_path / "other.log")
    second = other.start("--resume-from-checkpoint", "last")
    second.join(60)
    assert second.exitcode == 1
    assert f"pid {process.pid}" in other.log.read_text()
    assert process.is_alive()
    process.kill()
    process.join(10)
    third = other.start("--resume-from-checkpoint", "last")
    assert wait_until(lambda: other.last_acknowledged() > run.last_acknowledged(), third)
    kill(third)
