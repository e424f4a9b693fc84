"""Going back: the run is where it would be if it were resumed there, but for what only it can know."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runyoro_ssl.config import Config
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.recovery import Recovery, go_back
from runyoro_ssl.train.training_run import TrainingRun
from support.trainer import build, equal, run, weights

MakeConfig = Callable[..., Config]
SETTINGS = ("train.max_steps=4", "train.save_total_limit=0")
RESUME = "train.resume_from_checkpoint=last"


def where(run: TrainingRun) -> dict[str, Any]:
    """All that a checkpoint keeps of a run, and its weights."""
    moments = [tensor for state in run.optimizer.optimizer.state.values() for tensor in state.values()]
    return {
        "step": (run.step, run.epoch),
        "window": run.meter.window.to_json(),
        "validations": run.watch.validations,
        "unreadable": run.unreadable.state_dict(),
        "weights": torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()]).tolist(),
        "moments": torch.cat([tensor.flatten() for tensor in moments]).tolist() if moments else [],
    }


def led_astray(config: Config) -> TrainingRun:
    """A run at its last checkpoint that has gone wrong: everything of it has changed since."""
    lost = build(config)
    with torch.no_grad():
        lost.model.project_q.weight.zero_()
    lost.step, lost.epoch, lost.stepper.num_parts = 40, 9.0, 4
    lost.meter.window.num_masked += 7
    lost.watch.judge_validation(40, {**lost.watch.validations["last"], "eval/objective": 0.1})
    lost.unreadable.load_state_dict({"rows": [3]})
    return lost


@pytest.fixture
def out(train_config: MakeConfig) -> Path:
    """The folder of a finished run, with checkpoints of its steps 2 and 4."""
    return run(train_config("run", *SETTINGS)).output_dir


@pytest.mark.usefixtures("out")
def test_run_that_went_back_is_where_a_resumed_one_is(train_config: MakeConfig) -> None:
    """With half the rate, and micro-batches in as many parts as its memory asked for."""
    lost = led_astray(train_config("run", *SETTINGS, RESUME))
    assert go_back(lost) == "went back to checkpoint-4; the learning rate's peak is now 2.5e-05"
    resumed = build(train_config("run", *SETTINGS, RESUME))
    assert where(lost) == where(resumed)
    assert (lost.watch.rollbacks, lost.stepper.rate_scale, lost.stepper.num_parts) == (1, 0.5, 4)
    assert (resumed.watch.rollbacks, resumed.stepper.rate_scale, resumed.stepper.num_parts) == (0, 1.0, 1)
    assert "went back to checkpoint-4; the learning rate's peak is now 1.25e-05" in go_back(lost)


def test_run_without_a_healthy_checkpoint_goes_back_to_its_start(
    train_config: MakeConfig, out: Path, tiny_model: Path
) -> None:
    """To the base model; its first validation is kept, and not made again."""
    lost = led_astray(train_config("run", *SETTINGS, RESUME))
    first = lost.watch.validations["first"]
    for _, folder in list_checkpoints(out):
        shutil.rmtree(folder)
    assert "went back to the model as it came" in go_back(lost)
    assert (lost.step, lost.epoch, lost.watch.rollbacks, lost.stepper.rate_scale) == (0, 0.0, 1, 0.5)
    assert lost.watch.validations == {"first": first, "last": first}
    assert equal({name: tensor.cpu() for name, tensor in lost.model.state_dict().items()}, weights(tiny_model))
    assert where(lost)["moments"] == []


@pytest.mark.parametrize("has_units", [True, False])
def test_fp16_that_cannot_go_on_says_what_can(monkeypatch: pytest.MonkeyPatch, *, has_units: bool) -> None:
    """bf16 only on a GPU that has units for it: fp16 is chosen by itself where there are none."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_units)
    scaler = SimpleNamespace(get_scale=lambda: 2.0**-11)
    run = SimpleNamespace(accelerator=SimpleNamespace(scaler=scaler, device=torch.device("cuda")))
    with pytest.raises(TrainingError, match=r"fp16 overflows.*hardware\.precision=fp32") as ended:
        Recovery._check_loss_scale(SimpleNamespace(_run=run))  # type: ignore[arg-type]  # all that it looks at
    assert ("--bf16" in str(ended.value)) == has_units
