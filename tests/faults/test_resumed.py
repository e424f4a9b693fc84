"""A run that was stopped and resumed equals one that was not: every bit of its weights, every logged number."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runyoro_ssl.batches.micro_batches import PlanSettings
from runyoro_ssl.batches.plan import RunPlan
from runyoro_ssl.batches.regroup import Regroup
from runyoro_ssl.config import Config
from support.trainer import Trainer, cut_back, equal, metrics, run, weights

MakeConfig = Callable[..., Config]
STEPS = 24
EVERY = (
    f"train.max_steps={STEPS}",
    "train.save_steps=1",
    "train.eval_steps=4",
    "train.logging_steps=5",
    "train.save_total_limit=0",
    "train.learning_rate=1e-3",
    "hardware.update_seconds=6",
    "model.layerdrop=0.5",
    'plugins.augmentations=["noise", "speed", "gain"]',
)
"""Epochs of 6 to 7 steps, of which the last has fewer micro-batches; dropout, layer drop and augmentation are on."""


def stop_points(count: int) -> list[int]:
    """Steps to stop after: first those at the edges of epochs, logs and validations, in the end all."""
    hard = [6, 1, 13, 7, 4, 5, 23, 12, 19, 20]
    return [*hard, *(step for step in range(1, STEPS) if step not in hard)][:count]


def resumed(whole: Config, parted: Config, step: int) -> None:
    """Go on from a checkpoint of a finished run, in another folder, and compare the ends."""
    shutil.copytree(whole.train.output_dir, parted.train.output_dir)
    cut_back(parted.train.output_dir, step)
    run(parted)
    assert metrics(parted.train.output_dir) == metrics(whole.train.output_dir)
    for name in (".", f"checkpoint-{whole.train.max_steps}"):
        assert equal(weights(parted.train.output_dir / name), weights(whole.train.output_dir / name))
    shutil.rmtree(parted.train.output_dir)


@pytest.mark.parametrize(
    "setting", ["hardware.clip_lengths=0", pytest.param("hardware.clip_lengths=3", marks=pytest.mark.long)]
)
def test_resumed_at_many_steps(train_config: MakeConfig, pytestconfig: pytest.Config, setting: str) -> None:
    """`--faults 23` for every step: edges of epochs, between log lines, within the window of a validation."""
    whole = train_config("whole", *EVERY, setting)
    run(whole)
    points = stop_points(min(STEPS - 1, max(3, pytestconfig.getoption("--faults"))))
    for step in points:
        resumed(whole, train_config("parted", *EVERY, setting, "train.resume_from_checkpoint=last"), step)
    print(f"{len(points)} stop points of {setting}: equal")  # noqa: T201 - the figure


@pytest.mark.usefixtures("prompt_loader")
def test_resumed_with_other_workers(train_config: MakeConfig) -> None:
    """Two processes that build batches, after the stop, change no bit."""
    settings = (*EVERY, "train.max_steps=12")
    whole = train_config("whole", *settings)
    run(whole)
    two = "hardware.dataloader_num_workers=2"
    resumed(whole, train_config("parted", *settings, two, "train.resume_from_checkpoint=last"), 9)


def test_what_plugins_draw_from_the_global_generators(train_config: MakeConfig, tmp_path: Path) -> None:
    """They should not; but Python's, numpy's and torch's generators go on where they were, too."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "runyoro_dice.py").write_text(
        "import random, numpy as np, torch\n"
        "from runyoro_ssl import hookimpl\n"
        "class Dice:\n"
        "    def open(self, run):\n"
        "        self.path = run.output_dir / 'dice.txt'\n"
        "    def log(self, step, metrics):\n"
        "        with self.path.open('a') as file:\n"
        "            print(step, random.gauss(0, 1), np.random.normal(), float(torch.rand(())), file=file)\n"
        "    def close(self, status): pass\n"
        "@hookimpl\n"
        "def runyoro_logging_backends(register):\n"
        "    register('dice', Dice)\n"
    )
    settings = (f"plugins.dir={folder}", 'plugins.loggers=["jsonl", "dice"]', "train.max_steps=6")
    whole = train_config("whole", *settings)
    run(whole)
    parted = train_config("parted", *settings, "train.resume_from_checkpoint=last")
    shutil.copytree(whole.train.output_dir, parted.train.output_dir)
    for step in (4, 6):
        shutil.rmtree(parted.train.output_dir / f"checkpoint-{step}")
    dice = parted.train.output_dir / "dice.txt"
    dice.write_text("".join(line for line in dice.read_text().splitlines(keepends=True) if int(line.split()[0]) <= 2))
    run(parted)
    assert dice.read_text() == (whole.train.output_dir / "dice.txt").read_text()


@pytest.mark.parametrize("begin", [pytest.param(1, marks=pytest.mark.long), 2])
def test_resumed_with_another_number_of_processes(train_config: MakeConfig, tmp_path: Path, begin: int) -> None:
    """One to two, and two to one: the same clips in each update, the same numbers to 1e-5, parameters to 1e-6."""
    settings = (*EVERY, "train.max_steps=8", "train.learning_rate=5e-5", "hardware.update_seconds=12")
    whole = train_config("whole", *settings)
    run(whole)
    out = tmp_path / "parted"
    if begin == 1:
        shutil.copytree(whole.train.output_dir, out)
    else:
        Trainer(train_config("parted", *settings), tmp_path / "two.log").finish_in_two()
    cut_back(out, 3)
    rest = train_config("parted", *settings, "train.resume_from_checkpoint=last")
    if begin == 1:
        Trainer(rest, tmp_path / "two.log").finish_in_two()
    else:
        run(rest)
    ours, theirs = weights(out / "checkpoint-8"), weights(whole.train.output_dir / "checkpoint-8")
    worst = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
    print(f"{begin} process(es), then {3 - begin}: largest difference {worst:.1e}")  # noqa: T201 - the figure
    assert worst < 1e-6
    for one, other in zip(metrics(out), metrics(whole.train.output_dir), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_clips_of_an_update_outlast_a_change_of_machine() -> None:
    """With smaller or larger micro-batches, padded or fitted to lengths, each step sees the clips planned for it."""
    draw = torch.Generator().manual_seed(0)
    lengths = tuple((16_000 * (2 + 13 * torch.rand(300, generator=draw))).int().tolist())
    for num_lengths in (0, 4):
        planned = PlanSettings(30 * 16_000, 240 * 16_000, num_lengths=num_lengths)
        plan = RunPlan(lengths, planned, seed=1, num_epochs=2)
        for machine in (
            PlanSettings(16 * 16_000, 240 * 16_000),
            PlanSettings(120 * 16_000, 1500 * 16_000, num_lengths=6),
            PlanSettings(1.0, 1.0, clips_per_batch=3),
        ):
            moved = RunPlan(lengths, planned, 1, 2, regroup=Regroup(planned, machine))
            assert plan.total_steps > 10
            for here, there in zip(plan.updates(), moved.updates(), strict=True):
                pieces = [
                    sorted((piece, batch.length) for batch in update.micro_batches for piece in batch.pieces)
                    for update in (here, there)
                ]
                assert pieces[0] == pieces[1]
                for batch in there.micro_batches:
                    longest = batch.length or max(lengths[piece.clip] for piece in batch.pieces)
                    assert len(batch.pieces) <= machine.clips_of(longest)


def test_resumed_with_other_micro_batches(train_config: MakeConfig, capfd: pytest.CaptureFixture[str]) -> None:
    """It runs to its end, says what it keeps and what it cannot, and its loss stays near that of the undisturbed."""
    settings = (*EVERY, "train.max_steps=8", "train.learning_rate=5e-5", "hardware.update_seconds=12")
    whole = train_config("whole", *settings)
    run(whole)
    parted = train_config("parted", *settings, "hardware.batch_seconds=20", "hardware.update_seconds=48",
                          "train.resume_from_checkpoint=last")  # fmt: skip
    shutil.copytree(whole.train.output_dir, parted.train.output_dir)
    cut_back(parted.train.output_dir, 3)
    capfd.readouterr()
    run(parted)
    said = capfd.readouterr()
    assert "kept_from_the_run" in said.out + said.err
    assert "update_seconds=12" in said.out + said.err
    assert "micro_batches_regrouped" in said.out + said.err
    last = [metrics(config.train.output_dir)[-1]["eval/objective"] for config in (whole, parted)]
    assert last[0] == pytest.approx(last[1], rel=1e-2)
