"""Data damaged or replaced while a run reads it: named, and nothing is learned from it; what was learned is saved."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from runyoro_ssl.config import Config
from runyoro_ssl.dataset.read import Clips, load_splits
from runyoro_ssl.errors import DatasetError, LoaderError
from runyoro_ssl.evaluate.heldout import validate_all
from runyoro_ssl.train import loop
from support.datasets_by_hand import reseal, train_file
from support.trainer import ENDLESS, Trainer, check_saved, run, wait_until, worker_of

Configured = Callable[..., Config]


@pytest.fixture
def mine(dataset: Path, tmp_path: Path) -> Path:
    """The prepared corpus, which a test may damage."""
    return Path(shutil.copytree(dataset, tmp_path / "dataset"))


def spoil(dataset: Path, num_bytes: int) -> None:
    """Write noise over the middle of its training clips, in place."""
    file = train_file(dataset)
    with file.open("r+b") as stored:
        stored.seek(file.stat().st_size // 2)
        stored.write(np.random.default_rng(0).bytes(num_bytes))


def spoiled(dataset: Path) -> set[int]:
    """The rows of its training clips that are not what they were."""
    clips = Clips(load_splits(dataset, sampling_rate=16_000)["train"])
    found = set()
    for row in range(len(clips)):
        try:
            clips.waveform(row)
        except DatasetError:
            found.add(row)
    return found


def test_damaged_clips_are_left_out(train_config: Configured, mine: Path) -> None:
    """They are named, and counted in no step; the others are trained on."""
    spoil(mine, 200_000)
    rows = spoiled(mine)
    config = train_config("run", f"train.processed_dataset_path={mine}", "train.max_unreadable_share=1")
    with capture_logs() as logs:
        assert run(config).step == 4
    told = {line["row"]: line["because"] for line in logs if line["event"] == "clip_unreadable"}
    assert told
    assert told.keys() <= rows
    assert all("holds other samples than were written" in why for why in told.values())


def test_too_many_damaged_clips_end_the_run(train_config: Configured, mine: Path) -> None:
    """More than the share that is allowed: which, and what to do."""
    spoil(mine, 200_000)
    with pytest.raises(LoaderError, match=r"clips cannot be read.*rows \d+.*holds other samples.*invoke prepare"):
        run(train_config("run", f"train.processed_dataset_path={mine}", "train.max_steps=200"))


@pytest.mark.parametrize("put", ["another dataset", pytest.param("nothing", marks=pytest.mark.long)])
def test_dataset_replaced_when_a_worker_starts_anew(
    train_config: Configured, dataset: Path, mine: Path, tmp_path: Path, put: str
) -> None:
    """The new worker would learn from it: the run ends, and says so."""
    settings = (f"train.processed_dataset_path={mine}", "hardware.dataloader_num_workers=1")
    trainer = Trainer(train_config("run", *ENDLESS, *settings), tmp_path / "log")
    process = trainer.start()
    assert wait_until(lambda: trainer.steps_logged() >= 5, process)
    mine.rename(mine.with_name("away"))
    if put != "nothing":
        shutil.copytree(dataset, mine)
        spoil(mine, 1000)
        reseal(mine)
    worker_of(process).kill()
    check_saved(trainer, process, 1, within_sec=60)
    said = " ".join(trainer.log.read_text().split())
    assert re.search(r"dataset is not what it was when the run began: .*\.arrow: it (holds other clips|is gone)", said)


def test_what_was_learned_is_saved_when_a_validation_cannot_read(
    train_config: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As between two steps: its held-out clips may be on a disk that fails."""
    config = train_config("run", "train.eval_steps=3", "train.save_steps=100")
    answers = iter([validate_all])  # the first is before the first step

    def failing(*arguments: Any, **named: Any) -> Any:
        for answer in answers:
            return answer(*arguments, **named)
        raise LoaderError("the disk is gone")

    monkeypatch.setattr(loop, "validate_all", failing)
    with pytest.raises(LoaderError, match="the disk is gone"):
        run(config)
    assert (config.train.output_dir / "checkpoint-3").is_dir()
