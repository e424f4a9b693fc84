"""SIGKILL at any moment: nothing acknowledged is lost, nothing is unreadable, and the end is the same to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.config import Config
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
