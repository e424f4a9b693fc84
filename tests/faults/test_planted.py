"""What makes learning go wrong, planted into the run of a model that had learned: noticed, undone, or the run ends.

The model is that of `invoke smoke`, half trained: there is something to lose.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from runyoro_ssl.batches import forward
from runyoro_ssl.batches.plan import Update
from runyoro_ssl.commands.smoke import _build_model
from runyoro_ssl.config import Config
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train import loop, recovery
from runyoro_ssl.train import step as step_module
from runyoro_ssl.train.checkpoints.format import load_state
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.health.journal import read, record
from runyoro_ssl.train.run import TrainResult
from runyoro_ssl.train.step import Stepper
from support.trainer import metrics, run, weights

Plant = Callable[[Stepper, int], None]
AT = 12
"""The step at which it is planted; the last checkpoint before it is that of step 10."""
NOTICED_WITHIN = 20


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose held-out loss is 0.16 nats below guessing, in 8 s."""
    folder = tmp_path_factory.mktemp("trained")
    _build_model(folder / "random", seed=0)
    flags: dict[str, Any] = {
        "hardware": {"precision": "fp32", "batch_seconds": 12.0, "update_seconds": 12.0},
        "model": {"model_name_or_path": str(folder / "random")},
        "plugins": {"loggers": []},
        "train": {
            "processed_dataset_path": dataset,
            "output_dir": folder / "run",
            "max_steps": 70,
            "learning_rate": 5e-3,
            "warmup_steps": 20,
            "feature_encoder_lr_scale": 1.0,
            "gumbel_temperature_start": 1.0,
        },
    }
    run(load_config(profile="cpu-smoke", flags=flags))
    return folder / "run"


@pytest.fixture
def config(trained: Path, dataset: Path, tmp_path: Path) -> Config:
    """A run of 32 steps on from the trained model."""
    return load_config(
        profile="cpu-smoke",
        flags={
            "hardware": {"batch_seconds": 12.0, "update_seconds": 12.0},
            "model": {"model_name_or_path": str(trained)},
            "plugins": {"loggers": ["jsonl"]},
            "train": {
                "processed_dataset_path": dataset,
                "output_dir": tmp_path / "run",
                "max_steps": 32,
                "save_steps": 5,
                "eval_steps": 16,
                "logging_steps": 1,
                "learning_rate": 5e-4,
                "gumbel_temperature_start": 0.5,
            },
        },
    )


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function (what to do to a stepper, how often): it is done before step `AT`, each time the run comes to it."""
    take = Stepper.take

    def planted(do: Plant, *, times: int = 1) -> None:
        left = [times]

        def take_after(stepper: Stepper, update: Update, *rest: Any) -> Any:
            if update.step == AT and left[0]:
                left[0] -= 1
                do(stepper, update.step)
            return take(stepper, update, *rest)

        monkeypatch.setattr(Stepper, "take", take_after)

    return planted


@torch.no_grad()
def no_numbers(stepper: Stepper, _step: int) -> None:
    """Weights that are no numbers: so is every loss from now on."""
    stepper.model.project_q.weight.fill_(math.nan)


@torch.no_grad()
def zero_codevectors(stepper: Stepper, _step: int) -> None:
    """All targets are the same."""
    stepper.model.quantizer.codevectors.zero_()


@torch.no_grad()
def one_code(stepper: Stepper, _step: int) -> None:
    """Every frame has the same code."""
    stepper.model.quantizer.weight_proj.weight.zero_()
    stepper.model.quantizer.weight_proj.bias.zero_()
    stepper.model.quantizer.weight_proj.bias[::32] = 50.0


def hot(stepper: Stepper, _step: int) -> None:
    """A learning rate ten thousand times too high; going back ends it."""
    stepper.rate_scale *= 10_000


def check_undone(config: Config, result: TrainResult, kinds: set[str]) -> None:
    """Noticed in time, back to step 10 with half the rate, and a good end."""
    out = config.train.output_dir
    (alarm,) = [event for event in read(out) if event.get("action") == "go_back"]
    assert alarm["kind"] in kinds
    assert AT <= alarm["step"] < AT + NOTICED_WITHIN
    assert "went back to checkpoint-10" in alarm["done"]
    assert alarm["last_updates"][-1]["step"] == alarm["step"]
    assert (result.ending.kind, result.step) == ("finished", 32)
    lines = [line for line in metrics(out) if "train/objective" in line]
    assert [line["step"] for line in lines] == list(range(1, 33))
    rates = [line["train/learning_rate"] for line in lines]
    assert rates[11] < 0.51 * rates[9]
    assert all(bool(torch.isfinite(weight).all()) for weight in weights(out).values())
    assert not any(load_state(folder)["concerns"] for _, folder in list_checkpoints(out))
    assert result.best["eval/contrastive_loss"] < result.best["eval/chance_loss"] - 0.05


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        (no_numbers, {"non_finite_update"}),
        pytest.param(zero_codevectors, {"lost_progress"}, marks=pytest.mark.long),
        (one_code, {"codebook_collapse"}),
        # Which of its effects comes first depends on the machine.
        pytest.param(
            hot, {"codebook_collapse", "lost_progress", "fell_to_chance", "non_finite_update"}, marks=pytest.mark.long
        ),
    ],
)
def test_fault_is_undone(config: Config, plant: Callable[..., None], fault: Plant, kinds: set[str]) -> None:
    """Once: the run goes back to a checkpoint from before, with half the learning rate, and ends healthy."""
    plant(fault)
    check_undone(config, run(config), kinds)


def test_fault_that_comes_again_ends_the_run(config: Config, plant: Callable[..., None]) -> None:
    """After going back twice: status 1, with the reason in words; healthy checkpoints are kept, and resumed from."""
    plant(no_numbers, times=3)
    with pytest.raises(TrainingError, match=r"is a number.*gone back 2 times.*--learning-rate"):
        run(config)
    out = config.train.output_dir
    assert [event["rollbacks"] for event in read(out) if event.get("action") in ("go_back", "stop")] == [1, 2, 2]
    steps = [step for step, _ in list_checkpoints(out)]
    assert steps[-1] <= 15
    assert not (out / "model.safetensors").exists()
    resumed = config.train.model_copy(update={"resume_from_checkpoint": "last"})
    result = run(config.model_copy(update={"train": resumed}))
    assert result.ending.kind == "finished"
    (last,) = [line for line in metrics(out) if line["step"] == 31]
    assert last["train/learning_rate"] < 0.26 * 5e-4


def test_fault_before_the_first_checkpoint_starts_over(config: Config, plant: Callable[..., None]) -> None:
    """From the model as it came, whose validation is not made again."""
    plant(no_numbers)
    settings = config.train.model_copy(update={"max_steps": 20, "save_steps": 20})
    result = run(config.model_copy(update={"train": settings}))
    assert result.ending.kind == "finished"
    (alarm,) = [event for event in read(config.train.output_dir) if event.get("action") == "go_back"]
    assert "went back to the model as it came" in alarm["done"]
    assert [line["step"] for line in metrics(config.train.output_dir) if "eval/objective" in line] == [0, 16, 20]


@pytest.mark.long
def test_updates_that_are_often_no_numbers_end_the_run_and_name_the_clips(
    config: Config, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third of the clips gives none: never six in a row, but too many; the journal and the last line name them."""
    objective = forward.run_objective
    lines = (dataset / "clips.jsonl").read_text(encoding="utf-8").splitlines()
    names = [json.loads(line)["id"] for line in lines if json.loads(line)["split"] == "train"]
    broken = set(range(0, len(names), 4))

    def poisoned(accelerator: Any, model: Any, batch: Any) -> Any:
        made = objective(accelerator, model, batch)
        bad = model.training and broken & set(batch.plan.clips)
        return (
            replace(made, loss=made.loss * math.nan, contrastive_loss=made.contrastive_loss * math.nan) if bad else made
        )

    monkeypatch.setattr(step_module, "run_objective", poisoned)
    hardware = config.hardware.model_copy(update={"batch_seconds": 3.0, "update_seconds": 6.0})
    settings = config.train.model_copy(update={"max_steps": 100, "save_steps": 50, "eval_steps": 100})
    with pytest.raises(TrainingError, match=r"health.max_skipped_share.*gone back 2 times.*Clips: ") as raised:
        run(config.model_copy(update={"train": settings, "hardware": hardware}))
    events = [event for event in read(config.train.output_dir) if event.get("kind") == "non_finite_update"]
    assert [event["action"] for event in events if event["action"] != "skip"] == ["go_back", "go_back", "stop"]
    assert all(event["step"] <= 30 for event in events)
    expected = {names[row] for row in broken}
    assert {clip for event in events for clip in event["clips"]} == expected
    assert set(events[-1]["clips"]) <= expected
    assert events[-1]["clips"][0] in str(raised.value)


@pytest.mark.long
def test_codes_that_become_fewer_are_undone_from_before_they_did(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never under 3 in use. Back to no checkpoint of the way down, but to one from before, which is kept for that."""
    take = Stepper.take

    def take_after(stepper: Stepper, update: Update, *rest: Any) -> Any:
        if update.step >= AT and stepper.rate_scale == 1:
            with torch.no_grad():
                bias = stepper.model.quantizer.weight_proj.bias
                bias[:4] += 0.6
                bias[32:36] += 0.6
        return take(stepper, update, *rest)

    monkeypatch.setattr(Stepper, "take", take_after)
    settings = config.train.model_copy(update={"max_steps": 60, "save_total_limit": 2})
    result = run(config.model_copy(update={"train": settings}))
    out = config.train.output_dir
    (alarm,) = [event for event in read(out) if event.get("action") == "go_back"]
    assert alarm["kind"] == "codebook_collapse"
    assert "health.max_lost_codes" in alarm["seen"]
    assert alarm["step"] <= AT + 2 * NOTICED_WITHIN
    assert "went back to checkpoint-10" in alarm["done"]
    assert (result.ending.kind, result.step) == ("finished", 60)


def test_single_bad_updates_are_left_out(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their weights are those of the update before; the log says so, and the run goes on.

    So does the journal, which at first has no room for it.
    """
    tried: set[str] = set()

    def full_at_first(folder: Path, event: Mapping[str, Any]) -> None:
        if event.get("action") == "skip" and str(event) not in tried:
            tried.add(str(event))
            raise OSError(errno.ENOSPC, "No space left on device")
        record(folder, event)

    monkeypatch.setattr(recovery, "record", full_at_first)
    objective = forward.run_objective
    calls = [0]

    def poisoned(accelerator: Any, model: Any, batch: Any) -> Any:
        made = objective(accelerator, model, batch)
        calls[0] += model.training
        return replace(made, loss=made.loss * math.nan) if model.training and calls[0] in (5, 9) else made

    monkeypatch.setattr(step_module, "run_objective", poisoned)
    settings = config.train.model_copy(update={"max_steps": 12})
    result = run(config.model_copy(update={"train": settings}))
    assert result.ending.kind == "finished"
    skipped = [event for event in read(config.train.output_dir) if event.get("action") == "skip"]
    assert len(skipped) == 2
    assert all(bool(torch.isfinite(weight).all()) for weight in weights(config.train.output_dir).values())
    logged = [json.loads(line) for line in (config.train.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert sum(line.get("train/grad_norm", 0) is None for line in logged) == 2


@pytest.mark.long
def test_learning_rate_that_is_far_too_high(config: Config) -> None:
    """From the start: noticed within 20 steps; halving it twice does not help, and the run stops, saying why."""
    settings = config.train.model_copy(update={"learning_rate": 10.0, "warmup_steps": 0})
    with pytest.raises(TrainingError, match=r"gone back 2 times.*--learning-rate"):
        run(config.model_copy(update={"train": settings}))
    alarms = [event for event in read(config.train.output_dir) if event.get("action") in ("go_back", "stop")]
    assert [event["action"] for event in alarms] == ["go_back", "go_back", "stop"]
    assert alarms[0]["step"] <= NOTICED_WITHIN


def test_worse_validation_ends_with_the_best_model(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The final model is that of the best validation, whose checkpoint is never removed."""
    real: Any = vars(loop)["validate_all"]
    losses = iter([1.0, 0.9, 0.5, *(0.6 + 0.01 * number for number in range(20))])

    def validate(*args: Any, **options: Any) -> Any:
        found = real(*args, **options)
        return {**found, "eval/objective": next(losses)}

    monkeypatch.setattr(loop, "validate_all", validate)
    settings = config.train.model_copy(update={"eval_steps": 2, "save_steps": 2, "save_total_limit": 1})
    health = config.health.model_copy(update={"early_stop_patience": 4})
    result = run(config.model_copy(update={"train": settings, "health": health}))
    out = config.train.output_dir
    assert (result.ending.kind, result.step, result.best["step"]) == ("early", 12, 4)
    # 10: if codes have begun to become fewer since, the run would go back to it.
    assert [step for step, _ in list_checkpoints(out)] == [4, 10, 12]
    assert torch.equal(weights(out)["project_q.weight"], weights(out / "checkpoint-4")["project_q.weight"])
