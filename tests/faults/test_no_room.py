"""The disk fills at each file of a save: it is said, the last good checkpoint stays, and with room it goes on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runyoro_ssl import logs
from runyoro_ssl.config import Config
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.train.checkpoints import saver as saver_module
from runyoro_ssl.train.checkpoints.folder import find_newest
from runyoro_ssl.train.checkpoints.format import Snapshot
from runyoro_ssl.train.checkpoints.saver import Saver
from support.disks import PAGE_BYTES, resize
from support.trainer import Trainer, build_saveable, equal, metrics, run, wait_until, weights

FILES = (
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "optimizer.safetensors",
    "trainer_state.json",
    "MANIFEST.json",
)
"""In the order they are written."""
PLENTY = 1 << 26


def pages(path: Path) -> int:
    """Bytes that a file takes on the disk."""
    return -(-path.stat().st_size // PAGE_BYTES) * PAGE_BYTES


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again at once; does not ask how much room there is before it writes."""
    monkeypatch.setattr(saver_module, "RETRY_SEC", 0.05)
    monkeypatch.setattr(Saver, "_lack_of_space", lambda *_: None)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("full", FILES)
@pytest.mark.parametrize("is_copy", [True, False])
def test_full_at_a_file(disk: Path, tiny_model: Path, full: str, is_copy: bool) -> None:  # noqa: FBT001 - a parameter
    """Written in the background or not. What was begun is removed, so that it does not fill the disk further."""
    loaded, extractor, snapshot = build_saveable(tiny_model)

    def take(step: int) -> Callable[[], Snapshot]:
        made = snapshot(step)
        made.is_copy = is_copy
        return lambda: made

    with Saver(disk, loaded, extractor, limit=0) as saver:
        resize(disk, PLENTY)
        saver.save(take(1))
        saver.finish()
        sizes = [pages(disk / "checkpoint-1" / name) for name in FILES]
        at = FILES.index(full)
        resize(disk, shutil.disk_usage(disk).used + sum(sizes[: at + 1]) - PAGE_BYTES)
        saver.save(take(2))
        with pytest.raises(
            TrainingError, match=r"checkpoint-2 could not be written.*untouched; make room, then --resume"
        ):
            saver.finish()
        assert {path.name for path in disk.iterdir()} == {"checkpoint-1"}
        resize(disk, PLENTY)
        assert find_newest(disk) == disk / "checkpoint-1"
        saver.save(take(3))
        saver.finish()
    assert find_newest(disk) == disk / "checkpoint-3"


def test_lack_of_space_is_seen_before_writing(disk: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written; the line gives what it takes, and what there is."""
    loaded, extractor, snapshot = build_saveable(tiny_model)
    monkeypatch.setattr(saver_module, "write_checkpoint", lambda *_: pytest.fail("written"))
    with Saver(disk, loaded, extractor, limit=0) as saver:
        saver.save(lambda: snapshot(1))
        with pytest.raises(TrainingError, match=r"it takes \d+ MiB, the disk has [01] MiB free"):
            saver.finish()


def test_run_goes_on_when_there_is_room(
    disk: Path,
    train_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A save that fails does not end the run: it is tried again, and the run ends as it would have."""
    monkeypatch.setattr(saver_module, "RETRY_SEC", 0.05)
    calm = Trainer(train_config("calm", "train.max_steps=8"), tmp_path / "calm.log")
    run(calm.config)
    config = train_config("run", "train.max_steps=8", f"train.output_dir={disk / 'run'}")
    free: list[int] = []
    real = Saver._lack_of_space

    def lack_of_space(saver: Saver, snapshot: Snapshot) -> str | None:
        resize(disk, PLENTY if len(free) >= 2 else 1 << 20)
        free.append(1)
        return real(saver, snapshot)

    monkeypatch.setattr(Saver, "_lack_of_space", lack_of_space)
    logs.configure()
    run(config)
    said = capfd.readouterr().err
    assert "checkpoint_not_saved" in said
    assert equal(weights(disk / "run"), weights(calm.out))
    assert metrics(disk / "run") == metrics(calm.out)


def test_full_disk_ends_a_run_in_one_line(disk: Path, train_config: Callable[..., Config], tmp_path: Path) -> None:
    """If there is no room at its end either: status 1. With room, the same command goes on from the last good one."""
    settings = ("train.max_steps=8", 'plugins.loggers=["jsonl"]')
    calm = Trainer(train_config("calm", *settings), tmp_path / "calm.log")
    calm.finish()
    run = Trainer(train_config("run", *settings, f"train.output_dir={disk / 'run'}"), tmp_path / "run.log")
    resize(disk, 20 << 20)
    process = run.start()
    assert wait_until(lambda: run.last_acknowledged() >= 2, process)
    resize(disk, 1 << 20)
    process.join(60)
    assert process.exitcode == 1
    assert re.search(r"error .*checkpoint-\d could not be written.*make room", run.log.read_text())
    resize(disk, PLENTY)
    run.finish("--resume-from-checkpoint", "last")
    assert equal(weights(run.out), weights(calm.out))
    assert metrics(run.out) == metrics(calm.out)
