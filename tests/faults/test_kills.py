"""SIGKILL at any moment: nothing acknowledged is lost, nor much else, and the end is the same to the bit."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.model.source import RUN_FILE
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.intervals import SAVE_APART_SEC
from support.trainer import Trainer, damaged, equal, kill, metrics, weights

SETTINGS = (
    "train.max_steps=30",
    "train.save_steps=3",
    "train.save_total_limit=2",
    "model.layerdrop=0.3",
    'plugins.augmentations=["noise", "speed"]',
    "train.keep_awake=false",
)


@pytest.fixture(scope="module")
def num_kills(request: pytest.FixtureRequest) -> int:
    """`--faults`."""
    return int(request.config.getoption("--faults"))


def test_killed_at_any_moment(train_config: Callable[..., Config], tmp_path: Path, num_kills: int) -> None:
    """`--faults 200` for the long form. Workers that build batches are killed too, in the runs that have them."""
    calm = Trainer(train_config("calm", *SETTINGS), tmp_path / "calm.log")
    whole_sec = calm.time_whole()
    draw = np.random.default_rng(0)
    done = ended = 0
    while done < num_kills:
        run = Trainer(train_config("run", *SETTINGS), tmp_path / "run.log")
        while done < num_kills:
            acknowledged = run.last_acknowledged()
            process = run.start("--resume-from-checkpoint", "last")
            process.join(draw.uniform(0.1, 0.9) * whole_sec)
            if process.exitcode is not None:
                break
            kill(process)
            done += 1
            assert damaged(run.out) == []
            newest = max((int(path.name.split("-")[1]) for path in run.out.glob("checkpoint-*")), default=0)
            assert newest >= run.last_acknowledged() >= acknowledged
        run.finish("--resume-from-checkpoint", "last")
        ended += 1
        assert equal(weights(run.out), weights(calm.out))
        assert metrics(run.out) == metrics(calm.out)
        assert {path.name for path in run.out.iterdir()} == {path.name for path in calm.out.iterdir()}
        shutil.rmtree(run.out)
        run.log.unlink()
    print(f"{done} kills in {ended} runs, each equal to the undisturbed one")  # noqa: T201 - the figure


@pytest.mark.long
def test_default_settings_lose_little(train_config: Callable[..., Config], tmp_path: Path, num_kills: int) -> None:
    """Where no flag says how often to save: a twentieth of the run's time, or 3 seconds, and one to write it.

    No run here is so long that 15 minutes are less. `--faults 50`: one long enough that the seconds matter little; as
    many kills are enough.
    """
    steps, kills = (120, min(1, num_kills)) if num_kills < 50 else (1200, 20)
    settings = [f"train.max_steps={steps}", "train.eval_steps=1000", "hardware.update_seconds=6"]
    settings.append("health.chance_patience=2000")  # random weights need not get anywhere
    calm, run = (Trainer(_save_by_time(train_config(name, *settings)), tmp_path / f"{name}.log") for name in "ab")
    whole_sec = calm.time_whole()
    draw = np.random.default_rng()
    lost_sec: list[float] = []
    while len(lost_sec) < kills:
        process = run.start("--resume-from-checkpoint", "last")
        process.join(draw.uniform(0.6, 1.0) * whole_sec)
        if process.exitcode is None:
            killed_at = time.time()
            kill(process)
            # run.toml is written when a run begins or goes on.
            written = [folder for _, folder in list_checkpoints(run.out)] + list(run.out.glob(RUN_FILE))
            lost_sec += [killed_at - max(path.stat().st_mtime for path in written)] if written else []
        if process.exitcode == 0 or draw.random() < 0.5:
            shutil.rmtree(run.out, ignore_errors=True)
    print(f"{kills} kills in runs of {whole_sec:.1f} s: {max(lost_sec):.1f} s lost at most")  # noqa: T201 - the figure
    assert max(lost_sec) <= max(whole_sec / 20, SAVE_APART_SEC) + 1.0


def _save_by_time(config: Config) -> Config:
    """The configuration as of somebody who gives no --save-steps."""
    return config.model_copy(update={"train": config.train.model_copy(update={"save_steps": None})})
