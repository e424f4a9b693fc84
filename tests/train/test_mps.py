"""MPS readiness, without a Mac: whole runs on a CPU that pretends to be one break none of the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere

from conftest import build_tiny_model
from runyoro_ssl.batches.micro_batches import PlanSettings
from runyoro_ssl.batches.plan import RunPlan
from runyoro_ssl.config import Config
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.evaluate.metrics import Meter
from runyoro_ssl.model import encoder
from runyoro_ssl.model.fit import FEW_LENGTHS
from runyoro_ssl.resolve import list_profiles, load_config
from runyoro_ssl.train import final
from runyoro_ssl.train.checkpoints.averages import read_averages
from runyoro_ssl.train.recovery import go_back
from runyoro_ssl.train.step import Stepper
from support.mps_rules import MAX_SHAPES, RULES, Trace, input_shapes
from support.pretend_mps import MPS, pretended_mps
from support.trainer import build, metrics, run

MakeConfig = Callable[..., Config]
CountWaits = Callable[[Trace], Counter[str]]
ENCODERS: dict[str, dict[str, Any]] = {
    "layer norm": {},
    "group norm": {"feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False},
}
JUDGED = {"Stepper.take": 1, "Meter.take": 2}
"""Where the host waits for the device in an update, and how often: the norm of the gradient is read, then the sums, all
of them once, for the judge, who must have seen an update before it is taken. The count of frames goes the other way."""
COPIED = "TrainingBatch.to.<locals>.<lambda>"
"""Where a micro-batch is copied to the device: waited for, as MPS may otherwise read what was freed."""
ELSEWHERE = {"Choice.share", "put_on_device", "take_snapshot.<locals>.on_the_host", "num_updates"}
"""Where it may wait outside of steps: the model goes to the device; a checkpoint comes from it."""
RUN = {"linear", "linear_backward", "convolution", "convolution_backward", "mm", "bmm", "_fused_adamw_", "_softmax"}
"""Operators without which no run was seen."""
SETTINGS = (
    "hardware.device=mps",
    f"hardware.clip_lengths={FEW_LENGTHS}",
    "hardware.dataloader_num_workers=0",
    "masking.mask_feature_prob=0.2",
    "masking.mask_feature_length=4",
    "train.max_steps=2",
    "train.logging_steps=1",
    "train.eval_steps=2",
    "train.save_steps=2",
    'plugins.loggers=["jsonl"]',
)
WAYS: dict[str, tuple[str, ...]] = {
    "cpu-smoke": (),
    "cuda": ("hardware.precision=bf16", "hardware.batch_seconds=30"),
    "mps-m4": ("hardware.gradient_checkpointing=true",),
}
"""What a user of each profile might give; the rest is decided."""
RESUME = "train.resume_from_checkpoint=last"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model with each kind of feature encoder."""
    folder = tmp_path_factory.mktemp("mps")
    return {name: build_tiny_model(folder / name, **overrides) for name, overrides in ENCODERS.items()}


@pytest.fixture
def waits_in_steps(monkeypatch: pytest.MonkeyPatch) -> CountWaits:
    """A function (trace) -> where the host will have waited within optimizer steps."""

    def count(trace: Trace) -> Counter[str]:
        found: Counter[str] = Counter()
        take = Stepper.take

        def watched(*args: Any) -> dict[str, float]:
            before = trace.waits.copy()
            numbers = take(*args)
            found.update(trace.waits - before)
            return numbers

        monkeypatch.setattr(Stepper, "take", watched)
        return found

    return count


@pytest.fixture
def short(models: dict[str, Path], dataset: Path, tmp_path: Path) -> MakeConfig:
    """A function (profile, encoder, *settings) -> a run of two steps on MPS: with few shapes, as there."""

    def make(profile: str, kind: str, *settings: str) -> Config:
        return load_config(
            profile=profile,
            settings=[
                *SETTINGS,
                *WAYS[profile],
                f"model.model_name_or_path={models[kind]}",
                f"train.processed_dataset_path={dataset}",
                f"train.output_dir={tmp_path / 'run'}",
                *settings,
            ],
        )

    return make


@pytest.mark.parametrize("kind", ["layer norm", pytest.param("group norm", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "profile",
    [name if name == "mps-m4" else pytest.param(name, marks=pytest.mark.long) for name in list_profiles()],
)
def test_whole_run_breaks_no_rule(
    profile: str, kind: str, short: MakeConfig, tmp_path: Path, waits_in_steps: CountWaits
) -> None:
    """Building, steps, validation, checkpoints, the final model, loading one and going back; micro-batches of 30 s.

    In fp32 its numbers are those of a CPU.
    """
    config = short(profile, kind)
    trace = Trace()
    waits = waits_in_steps(trace)
    with pretended_mps(), trace.watching():
        run(config)
        everywhere = trace.waits.keys() - ELSEWHERE
        lost = build(short(profile, kind, RESUME))
        assert "went back to checkpoint-2" in go_back(lost)
    assert sorted(trace.violations) == []
    assert trace.operators.keys() >= RUN
    assert everywhere == {COPIED, *JUDGED}
    copied = waits.pop(COPIED)
    assert copied
    assert waits == {name: 2 * count for name, count in JUDGED.items()}
    print(f"\n{profile}, {kind}: {trace.summary()}; waits in 2 steps: {dict(waits)}, {COPIED}: {copied}")  # noqa: T201
    if config.hardware.precision == "fp32":
        run(short(profile, kind, "hardware.device=cpu", f"train.output_dir={tmp_path / 'cpu'}"))
        for there, here in zip(metrics(tmp_path / "run"), metrics(tmp_path / "cpu"), strict=True):
            there.pop("train/device_memory_mib", None)
            assert there == pytest.approx(here, rel=1e-5)


def test_moving_average_breaks_no_rule_and_is_waited_for_by_nobody(
    short: MakeConfig, waits_in_steps: CountWaits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each step, on the device, and in a checkpoint. What is heard at the end is loaded as `evaluate` does."""
    monkeypatch.setattr(final, "num_compared", lambda _train: 0)
    trace = Trace()
    waits = waits_in_steps(trace)
    with pretended_mps(), trace.watching():
        out = run(short("mps-m4", "layer norm", "train.ema_decay=0.9")).output_dir
    assert sorted(trace.violations) == []
    assert read_averages(out / "checkpoint-2")
    waits.pop(COPIED)
    assert waits == {name: 2 * count for name, count in JUDGED.items()}


@pytest.mark.parametrize("batch_seconds", [30.0, 120.0])
def test_network_sees_few_shapes(batch_seconds: float) -> None:
    """Five lengths, in full micro-batches but for one; other epochs bring no new ones. Without them, hundreds."""
    lengths = tuple((16_000 * np.random.default_rng(0).gamma(3, 2.2, 2000).clip(1, 15)).astype(int).tolist())

    def shapes(num_lengths: int) -> set[tuple[int, int]]:
        settings = PlanSettings(batch_seconds * 16_000, 240 * 16_000, num_lengths=num_lengths)
        plan = RunPlan(lengths, settings, 42, num_epochs=3)
        return input_shapes((each for update in plan.updates() for each in update.micro_batches), lengths)

    few = shapes(FEW_LENGTHS)
    assert len({length for _, length in few}) == FEW_LENGTHS
    assert len(few) <= MAX_SHAPES
    assert len({length for _, length in shapes(0)}) > MAX_SHAPES


def there(*shape: int, **how: Any) -> Any:
    """Numbers on the device."""
    return torch.ones(shape, device=MPS, **how)


PLANTED: dict[str, tuple[Callable[[], Any], ...]] = {
    "no_kernel": (
        lambda: torch.ops.aten._pdist_forward(there(3, 2), 2.0),
        lambda: F.multilabel_margin_loss(there(1, 3), there(1, 3, dtype=torch.int64)),
    ),
    "wrong_dtype": (
        lambda: torch.ones(3, dtype=torch.float64).to(MPS),
        lambda: there(3).double(),
        lambda: torch.fft.rfft(there(8)),
        lambda: torch.tensor(np.ones(3), device=MPS),
    ),
    "mixed_devices": (lambda: there(3) + torch.ones(3), lambda: there(3).mul_(torch.tensor(2.0))),
    "boolean_mask": (
        lambda: there(3)[there(3) > 0],
        lambda: there(3).masked_select(there(3) > 0),
        lambda: there(3).index_put_((there(3) > 0,), there()),
    ),
    "convolution_too_long": (lambda: F.conv1d(there(1, 1, 65_546), there(1, 1, 3)),),
    "convolution_with_gaps": (
        lambda: F.conv1d(there(1, 20, 4).transpose(1, 2), there(2, 4, 3)),
        lambda: F.conv1d(there(1, 4, 20), there(3, 4, 2).transpose(0, 2)),
    ),
    "reduction_too_long": (
        lambda: there(2, 32_767) @ there(32_767, 2),
        lambda: torch.bmm(there(1, 2, 32_767), there(1, 32_767, 2)),
        lambda: torch.einsum("ra,rb->ab", there(32_767, 2), there(32_767, 2)),
        lambda: torch.autograd.grad(F.linear(there(32_767, 2), weight := there(3, 2).requires_grad_()).sum(), weight),
    ),
    "too_many_rows_with_bias": (
        lambda: F.linear(there(65_536, 1, 2), there(3, 2), there(3)),
        lambda: torch.addmm(there(3), there(65_536, 2), there(2, 3)),
    ),
}


@pytest.mark.parametrize(
    ("rule", "number"), [(rule, index) for rule, all_ in PLANTED.items() for index in range(len(all_))]
)
def test_planted_violation_is_caught(rule: str, number: int) -> None:
    """Each rule by what breaks it and nothing else does."""
    trace = Trace()
    with pretended_mps(), trace.watching():
        PLANTED[rule][number]()
    assert {found.rule for found in trace.violations} == {rule}


def test_every_rule_has_a_planted_violation() -> None:
    """And every planted violation a rule."""
    assert PLANTED.keys() == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize(
    "wait",
    [
        float,
        bool,
        lambda it: it.item(),
        lambda it: it.cpu(),
        lambda it: it.tolist(),
        lambda it: it.nonzero(),
        lambda it: it + torch.ones(()).to(MPS),
    ],
)
def test_planted_wait_is_caught(
    wait: Callable[[torch.Tensor], Any],
    short: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    waits_in_steps: CountWaits,
) -> None:
    """The host waits where a micro-batch is counted: within a step, where nobody asked for it."""
    trace = Trace()
    waits = waits_in_steps(trace)
    add = Meter.add

    def waiting(meter: Meter, objective: Any, num_masked: int) -> None:
        wait(objective.contrastive_loss)
        add(meter, objective, num_masked)

    monkeypatch.setattr(Meter, "add", waiting)
    with pretended_mps(), trace.watching():
        lost = build(short("mps-m4", "group norm"))
        update = next(lost.plan.updates())
        lost.stepper.take(update, [lost.train_batches[each] for each in update.micro_batches[:1]], lost.meter)
    assert sum(waits.values()) - waits[COPIED] - sum(JUDGED.values()) == 1


def test_unsplit_gradient_is_caught(short: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feature encoder as it was: its weight gradients sum over all rows of 30 s."""
    monkeypatch.setattr(encoder, "transposed_product", lambda left, right: left.T @ right)
    trace = Trace()
    with pretended_mps(), trace.watching():
        run(short("mps-m4", "layer norm", "train.max_steps=1"))
    assert {found.rule for found in trace.violations} == {"reduction_too_long"}


def test_composites_are_seen_through() -> None:
    """What they are made of counts, as deep as it goes; an operator with a kernel is not looked into."""
    trace = Trace()
    with pretended_mps(), trace.watching():
        torch._safe_softmax(there(3, 4), -1)
        F.linear(there(2, 3), there(4, 3), there(4))
    assert {"softmax.int", "_softmax"} <= trace.operators.keys()
    assert not {"addmm", "mm", "t"} & trace.operators.keys()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("hardware.batch_seconds=700",), "a micro-batch may have 700 s; over 655 s, 32,766 frames"),
        (("hardware.per_device_train_batch_size=300",), "a micro-batch may have"),
    ],
)
def test_micro_batch_too_large_for_mps_is_refused(
    settings: tuple[str, ...], said: str, short: MakeConfig, tmp_path: Path
) -> None:
    """In one line, before anything is written."""
    with pretended_mps(), Trace().watching(), pytest.raises(TrainingError, match=said) as error:
        run(short("mps-m4", "layer norm", *settings))
    assert "\n" not in str(error.value)
    assert not [path for path in (tmp_path / "run").glob("*") if path.suffix != ".lock"]
