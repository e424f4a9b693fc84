"""Whatever hangs or fails while clips are read: a run is savable between two steps, ends when asked, and says why."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runyoro_ssl.config import Config
from support.trainer import ENDLESS, Trainer, check_saved, wait_until, worker_of

HANGS_SOON = """
import time
from pathlib import Path
from runyoro_ssl import hookimpl
class Stuck:
    def __call__(self, waveform, generator):
        while Path({gate!r}).exists():
            time.sleep(0.05)
        return waveform
@hookimpl
def runyoro_augmentations(register):
    register("stuck", Stuck)
"""


def stuck(make: Callable[..., Config], tmp_path: Path, *settings: str) -> tuple[Trainer, Path]:
    """A run that builds its batches itself, and hangs there as long as the file exists."""
    gate, plugins = tmp_path / "gate", tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "runyoro_stuck.py").write_text(HANGS_SOON.format(gate=str(gate)))
    config = make("run", *ENDLESS, f"plugins.dir={plugins}", 'plugins.augmentations=["stuck"]', *settings)
    return Trainer(config, tmp_path / "log"), gate


@pytest.mark.long
def test_signal_while_a_worker_hangs(train_config: Callable[..., Config], tmp_path: Path) -> None:
    """A stopped worker hands out nothing more, not even what it has built: SIGTERM saves and ends."""
    run = Trainer(train_config("run", *ENDLESS, "hardware.dataloader_num_workers=1"), tmp_path / "log")
    process = run.start()
    assert wait_until(lambda: run.steps_logged() >= 20, process)
    worker = worker_of(process)
    worker.suspend()
    time.sleep(1)
    os.kill(process.pid or 0, signal.SIGTERM)
    check_saved(run, process, 143, within_sec=30)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGXCPU, 152)]
)
def test_signal_while_own_loading_hangs(
    train_config: Callable[..., Config], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """Nothing can end that, and nothing waits for it, at the end of the process neither."""
    run, gate = stuck(train_config, tmp_path)
    process = run.start()
    assert wait_until(lambda: run.steps_logged() >= 3, process)
    gate.touch()
    time.sleep(0.5)
    os.kill(process.pid or 0, number)
    check_saved(run, process, status, within_sec=15)


@pytest.mark.long
def test_deadline_while_loading_hangs(train_config: Callable[..., Config], tmp_path: Path) -> None:
    """It holds: the run saves in time, with status 0; after the patience that was set, a line has named the clip."""
    run, gate = stuck(train_config, tmp_path, "hardware.loader_patience_sec=0.5")
    started = time.monotonic()
    process = run.start("--stop-after", "25s")
    assert wait_until(lambda: run.steps_logged() >= 3, process)
    gate.touch()
    check_saved(run, process, 0, within_sec=40)
    assert time.monotonic() - started < 30
    assert re.search(r"loading_hangs.*has given nothing for \d+ s.*row \d+ of the train split", run.log.read_text())


def test_hang_in_two_processes(train_config: Callable[..., Config], tmp_path: Path) -> None:
    """One has its batches, the other has none: both end together, saved."""
    run, gate = stuck(train_config, tmp_path)
    started = run.start_in(2)
    assert wait_until(lambda: run.steps_logged() >= 3, started[0])
    gate.touch()
    time.sleep(1)
    os.kill(started[1].pid or 0, signal.SIGTERM)
    for process in started:
        check_saved(run, process, 143, within_sec=30)


def truncate(dataset: Path) -> None:
    """Make its train split shorter in place, as `rsync --inplace` does."""
    for file in (dataset / "train").glob("*.arrow"):
        os.truncate(file, 4096)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_dataset_that_shrinks(
    train_config: Callable[..., Config], dataset: Path, tmp_path: Path, num_workers: int
) -> None:
    """What was learned is saved; the last line names the file, and what to do."""
    mine = tmp_path / "dataset"
    shutil.copytree(dataset, mine)
    settings = (f"train.processed_dataset_path={mine}", f"hardware.dataloader_num_workers={num_workers}")
    run = Trainer(train_config("run", *ENDLESS, *settings), tmp_path / "log")
    process = run.start()
    assert wait_until(lambda: run.steps_logged() >= 3, process)
    truncate(mine)
    check_saved(run, process, 1, within_sec=60)
    said = " ".join(run.log.read_text().split())
    assert re.search(r"SIGBUS.*\.arrow.*shorter.*invoke prepare", said), said[-2000:]
