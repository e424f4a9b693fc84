"""Several processes train one model, each with a copy or a part of it, and come to what one comes to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import transformers
from runyoro_ssl.config import Config
from support.trainer import Trainer, metrics, run, weights

MakeConfig = Callable[..., Config]
RESUME = "train.resume_from_checkpoint=last"


def largest_difference(one: Path, other: Path) -> float:
    """Of any weight."""
    ours, theirs = weights(one), weights(other)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)


def test_sharded_run_goes_on_with_fewer_processes(train_config: MakeConfig, tmp_path: Path) -> None:
    """Four, two, one: the same clips, losses and weights as in one from the start, and each checkpoint a plain model.

    With dropout and layer drop; some update gives a process nothing, so that it idles.
    """
    settings = ("model.layerdrop=0.5", "train.max_steps=6", "train.save_steps=2")
    whole = train_config("whole", *settings)
    run(whole)
    for processes, steps in ((4, 2), (2, 4), (1, 6)):
        sharding = "hardware.sharding=full" if processes > 1 else "hardware.sharding=auto"
        resume = [RESUME] if processes < 4 else []
        config = train_config("parted", *settings, sharding, *resume)
        trainer = Trainer(config, tmp_path / "parted.log")
        trainer.finish_in(processes, "--stop-at", str(steps)) if processes > 1 else run(config)
