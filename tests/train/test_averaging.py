"""The moving average of what learns: the mean it is said to be, whatever happens to the run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from runyoro_ssl.config import Config
from runyoro_ssl.errors import CheckpointError, ConfigError
from runyoro_ssl.evaluate.metrics import Totals
from runyoro_ssl.model.adapters import trained_weights
from runyoro_ssl.model.memory import BatchSettings, predict_memory
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train.averaging import MovingAverage
from runyoro_ssl.train.checkpoints.averages import by_saved_name, read_averages
from runyoro_ssl.train.checkpoints.format import ADAPTERS, AVERAGES, load_state
from runyoro_ssl.train.disk_space import CheckpointSpace
from runyoro_ssl.train.recovery import go_back
from support.reference import moving_average
from support.trainer import Trainer, build, cut_back, equal, run, weights

MakeConfig = Callable[..., Config]
AVERAGED = "train.ema_decay=0.6"
EVERY = ("train.save_steps=1", "train.eval_steps=4", "train.save_total_limit=0", "train.learning_rate=1e-3")
RESUME = "train.resume_from_checkpoint=last"


def learned(checkpoint: Path) -> dict[str, torch.Tensor]:
    """What learns, as a checkpoint has it."""
    return load_file(checkpoint / ADAPTERS) if (checkpoint / ADAPTERS).exists() else weights(checkpoint)


def check_against_reference(out: Path, steps: list[int], decay: float) -> None:
    """The averages of the last checkpoint are those of what the others have."""
    found = read_averages(out / f"checkpoint-{steps[-1]}")
    visited = [learned(out / f"checkpoint-{step}") for step in steps]
    assert found.keys() == ({*visited[-1]} & found.keys())
    for name, average in found.items():
        assert average.dtype == torch.float32
        expected = moving_average([one[name] for one in visited], decay)
        torch.testing.assert_close(average.double(), expected, rtol=4e-7, atol=1e-7)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param((), id="all"),
        pytest.param(("adapter.kind=lora", "adapter.rank=4"), id="lora"),
        pytest.param(("hardware.precision=bf16",), id="bf16", marks=pytest.mark.long),
        pytest.param(("train.freeze_feature_encoder=true",), id="frozen", marks=pytest.mark.long),
    ],
)
def test_average_is_the_references(train_config: MakeConfig, way: tuple[str, ...]) -> None:
    """To rounding, of all that learns and nothing else; training is what it is without."""
    config = train_config("run", *way, *EVERY, AVERAGED)
    built = build(config)
    assert built.average is not None
    learning = set(trained_weights(built.model))
    predicted = CheckpointSpace.of(built).checkpoint
    run(config)
    out = config.train.output_dir
    check_against_reference(out, [1, 2, 3, 4], 0.6)
    assert read_averages(out / "checkpoint-4").keys() == learning
    of_space = sum(file.stat().st_size for file in (out / "checkpoint-4").glob("*.safetensors"))
    assert predicted == pytest.approx(of_space, abs=100 << 10)  # headers, and random states
    if not way:
        without = run(train_config("without", *EVERY)).output_dir
        assert equal(weights(out), weights(without))
        assert not (without / "checkpoint-4" / AVERAGES).exists()


def test_resumed_average_is_the_same_to_the_bit(train_config: MakeConfig) -> None:
    """In the middle of a run, as if nothing had happened."""
    whole, parted = train_config("whole", *EVERY, AVERAGED), train_config("parted", *EVERY, AVERAGED, RESUME)
    run(whole)
    shutil.copytree(whole.train.output_dir, parted.train.output_dir)
    cut_back(parted.train.output_dir, 2)
    run(parted)
    for step in (3, 4):
        ours, theirs = (one.train.output_dir / f"checkpoint-{step}" for one in (parted, whole))
        assert equal(read_averages(ours), read_averages(theirs))
        assert load_state(ours)["num_averaged"] == step


def test_run_that_goes_back_has_the_average_of_then(train_config: MakeConfig) -> None:
    """That of the checkpoint; at the beginning none, and the next update is its first."""
    config = train_config("run", *EVERY, AVERAGED)
    run(config)
    lost = build(train_config("run", *EVERY, AVERAGED, RESUME))
    assert lost.average is not None
    lost.average.update()
    shutil.rmtree(config.train.output_dir / "checkpoint-4")
    assert "went back to checkpoint-3" in go_back(lost)
    assert lost.average.num_updates == 3
    saved = load_file(config.train.output_dir / "checkpoint-3" / AVERAGES)
    assert equal(by_saved_name(lost.average), saved)
    for checkpoint in config.train.output_dir.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    go_back(lost)
    assert by_saved_name(lost.average) == {}
    lost.average.update()
    assert equal(lost.average.averages, trained_weights(lost.model))


def test_steps_that_are_not_taken_do_not_count(train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update without numbers is left out of the average, too; so is one that fp16's scaler leaves out."""
    of_update = Totals.of_update

    def without_numbers(totals: Totals, step: int, grad_norm: float) -> Any:
        numbers = of_update(totals, step, grad_norm)
        return replace(numbers, grad_norm=math.nan) if step == 2 else numbers

    monkeypatch.setattr(Totals, "of_update", without_numbers)
    config = train_config("run", *EVERY, AVERAGED)
    run(config)
    check_against_reference(config.train.output_dir, [1, 3, 4], 0.6)
    assert load_state(config.train.output_dir / "checkpoint-4")["num_averaged"] == 3
    monkeypatch.undo()
    built = build(train_config("other", AVERAGED))
    taken: list[int] = []
    built.stepper.after_step = lambda: taken.append(1)
    update = next(built.plan.updates(0))
    batches = [built.train_batches[one] for one in update.micro_batches]
    built.stepper.take(update, batches, built.meter)
    assert taken == [1]
    built.stepper.optimizer = SimpleNamespace(
        step=lambda: None, step_was_skipped=True, param_groups=[], zero_grad=lambda: None
    )
    built.stepper.take(update, batches, built.meter)
    assert taken == [1]


def test_first_update_is_the_weight_itself_and_late_ones_are_means() -> None:
    """No trace of what was there before; of a constant weight the average is that weight, however long."""
    layer = torch.nn.Linear(2, 2, bias=False)
    average = MovingAverage(layer, 0.999)
    average.update()
    average.averages["weight"].fill_(math.nan)
    average.restart()
    for _ in range(500):
        average.update()
    assert torch.equal(average.averages["weight"], layer.weight)


@pytest.mark.long
@pytest.mark.parametrize(
    ("was", "now", "starts_with"),
    [((), (AVERAGED,), [3, 4]), ((AVERAGED,), ("train.ema_decay=0.9",), None)],
    ids=["begun", "other"],
)
def test_average_may_begin_under_way(
    train_config: MakeConfig, was: tuple[str, ...], now: tuple[str, ...], starts_with: list[int] | None
) -> None:
    """Unasked, another decay is refused; with --override-mismatch what there is goes on, or it begins then."""
    run(train_config("run", *EVERY, *was))
    out = train_config("run").train.output_dir
    cut_back(out, 2)
    with pytest.raises(CheckpointError, match=r"train.ema_decay was .*--override-mismatch"):
        run(train_config("run", *EVERY, *now, RESUME))
    run(train_config("run", *EVERY, *now, RESUME, "train.override_mismatch=true"))
    if starts_with:
        check_against_reference(out, starts_with, 0.6)
    else:
        assert load_state(out / "checkpoint-4")["num_averaged"] == 4


@pytest.mark.long
@pytest.mark.parametrize("way", ["none", "full"])
def test_processes_average_alike(train_config: MakeConfig, way: str) -> None:
    """Copied or sharded, and resumed by one process, it is the mean of what was visited."""
    config = train_config(way, *EVERY, AVERAGED, f"hardware.sharding={way}", "model.layerdrop=0.3")
    trainer = Trainer(config, config.train.output_dir.with_suffix(".log"))
    trainer.finish_in_two()
    out = config.train.output_dir
    check_against_reference(out, [1, 2, 3, 4], 0.6)
    whole = read_averages(out / "checkpoint-4")
    cut_back(out, 2)
    trainer.finish_in_two("--resume-from-checkpoint", "last")
    assert equal(read_averages(out / "checkpoint-4"), whole)
    cut_back(out, 2)
    run(train_config(way, *EVERY, AVERAGED, "model.layerdrop=0.3", RESUME))
    for name, average in read_averages(out / "checkpoint-4").items():
        torch.testing.assert_close(average, whole[name], rtol=0, atol=1e-4)


def test_memory_is_predicted(train_config: MakeConfig) -> None:
    """4 bytes of each weight that learns, always; of a sharded model, a part."""
    model = build(train_config("run")).model.config
    plain = BatchSettings(30.0)
    without, averaged = (predict_memory(model, one) for one in (plain, replace(plain, averaged=True)))
    assert averaged.averages == averaged.peak - without.peak == averaged.saved - without.saved == without.gradients
    sharded = replace(plain, averaged=True, num_processes=2, sharded=True)
    assert predict_memory(model, sharded).averages == -(-averaged.averages // 2)


@pytest.mark.parametrize("value", ["1.5", "0", "1", "-0.5", "much"])
def test_decay_out_of_range_is_a_line(value: str) -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match=rf'train.ema_decay is "{value}"') as refused:
        load_config(settings=[f"train.ema_decay={value}"])
    assert "\n" not in str(refused.value)


def test_update_asks_the_device_nothing() -> None:
    """Copies once, then interpolates, all weights in one call: nothing is read, so that nothing is waited for."""
    asked: list[str] = []

    class Noting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    average = MovingAverage(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), 0.9)
    with Noting():  # type: ignore[no-untyped-call]
        average.update()
        average.update()
    assert [name for name in asked if name != "detach"] == ["_foreach_copy_", "_foreach_lerp_"]


def test_doctor_counts_it(run_task: Callable[[str], tuple[int, str, str]], tiny_model: Path) -> None:
    """A row of its own, where there is one."""
    command = f"doctor --profile cpu-smoke --model-name-or-path {tiny_model}"
    _, without, _ = run_task(command)
    status, out, err = run_task(f"{command} --set train.ema_decay=0.999")
    assert status == 0, err
    assert "moving average" in out
    assert "moving average" not in without
