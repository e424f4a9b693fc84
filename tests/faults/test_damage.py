"""A checkpoint that was damaged on the disk is noticed and set aside, and the one before it is used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.train.checkpoints.folder import find_newest
from runyoro_ssl.train.checkpoints.format import verify_checkpoint, write_checkpoint
from support.trainer import Trainer, build_saveable, cut_back, equal, metrics, spoil_metrics, weights

KINDS = ("bit", "byte", "truncate", "extend", "delete", "zeros", "swap")


def damage(path: Path, kind: str, draw: np.random.Generator) -> None:
    """Do something to a file that no trainer does."""
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    at = int(draw.integers(len(content)))
    if kind == "delete":
        path.unlink()
        return
    if kind == "bit":
        content[at] ^= 1 << int(draw.integers(8))
    elif kind == "byte":
        content[at] ^= int(draw.integers(1, 256))
    elif kind == "truncate":
        content = content[:at]
    elif kind == "extend":
        content = np.append(content, np.uint8(draw.integers(256)))
    elif kind == "zeros":  # as some file systems leave after a power failure
        content[at : at + 4096] = 0
    elif kind == "swap":
        other = int(draw.integers(len(content)))
        content[[at, other]] = content[[other, at]]
    path.write_bytes(content.tobytes())


def test_every_damage_is_noticed(tiny_model: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """1,000 with `--faults 50` or more, else 100: bits, bytes, lengths, files; the checkpoint before it is used."""
    loaded, extractor, snapshot = build_saveable(tiny_model)
    out = tmp_path / "run"
    good, newest = (write_checkpoint(out, snapshot(step), loaded, extractor) for step in (3, 5))
    whole = tmp_path / "whole"
    shutil.copytree(newest, whole)
    files = sorted(path.name for path in whole.iterdir())
    draw = np.random.default_rng(0)
    count = 0
    for _ in range(1000 if pytestconfig.getoption("--faults") >= 50 else 100):
        name, kind = str(draw.choice(files)), str(draw.choice(KINDS))
        damage(newest / name, kind, draw)
        same = (newest / name).exists() and (newest / name).read_bytes() == (whole / name).read_bytes()
        assert (verify_checkpoint(newest) is None) == same, (name, kind)
        if not same:
            count += 1
            assert find_newest(out) == good
            assert (out / "damaged-checkpoint-5").is_dir()
        shutil.rmtree(newest, ignore_errors=True)
        shutil.copytree(whole, newest)
    assert count
    print(f"{count} damages, each noticed")  # noqa: T201 - the figure


def test_damage_that_leaves_the_manifest_readable(tiny_model: Path, tmp_path: Path) -> None:
    """Even between its words: what is not as it was written is not trusted."""
    loaded, extractor, snapshot = build_saveable(tiny_model)
    manifest = write_checkpoint(tmp_path / "run", snapshot(3), loaded, extractor) / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace("\n  ", "\n\t\t", 1))
    assert verify_checkpoint(manifest.parent) == "MANIFEST.json is damaged"


def test_all_damaged_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    """A run is never begun anew by itself where there was one."""
    loaded, extractor, snapshot = build_saveable(tiny_model)
    folder = write_checkpoint(tmp_path / "run", snapshot(3), loaded, extractor)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint is intact \(checkpoint-3: config.json"):
        find_newest(tmp_path / "run")
    assert folder.is_dir()


def test_run_goes_on_from_the_one_before(train_config: Callable[..., Config], tmp_path: Path) -> None:
    """It says what was damaged and how many steps are lost, and ends as the undisturbed run did."""
    calm = Trainer(train_config("calm", "train.max_steps=8", "train.save_total_limit=0"), tmp_path / "calm.log")
    calm.finish()
    run = Trainer(train_config("run", "train.max_steps=8", "train.save_total_limit=0"), tmp_path / "run.log")
    shutil.copytree(calm.out, run.out)
    cut_back(run.out, 6)
    spoil_metrics(run.out, 4)
    damage(run.out / "checkpoint-6" / "model.safetensors", "bit", np.random.default_rng(0))
    run.finish("--resume-from-checkpoint", "last")
    assert (run.out / "damaged-checkpoint-6").is_dir()
    assert "steps_lost=2" in run.log.read_text()
    assert equal(weights(run.out), weights(calm.out))
    assert metrics(run.out) == metrics(calm.out)
