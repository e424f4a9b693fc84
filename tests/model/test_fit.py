"""What is `auto` is decided from the device at hand, the memory predicted and what the run is; given values stay."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from conftest import transformers
from runyoro_ssl.bench.fits import DROPOUT, GPUS, MACS, MODELS, WAYS, budget_of
from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.bench.subjects import NO_DROPOUT
from runyoro_ssl.config import HardwareConfig
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.model import at_hand
from runyoro_ssl.model.allocator import SPREAD
from runyoro_ssl.model.at_hand import AtHand, bf16_gain, look
from runyoro_ssl.model.fit import OPEN, ROOM, Decisions, RunAtHand, decide, needed_bytes
from runyoro_ssl.model.memory import BatchSettings, largest_batch_seconds, predict_memory
from runyoro_ssl.option import AUTO

GIB = 1 << 30
H200 = AtHand("cuda", free=130 * GIB, cores=16, flops=790e12)
T4 = AtHand("cuda", free=14 * GIB, cores=2, has_bf16=False, flops=40e12)
MAC = AtHand("mps", free=16 * GIB, cores=10)
CPU = AtHand("cpu", free=16 * GIB, cores=8, bf16_gain=1.0)
CONFIG = transformers.Wav2Vec2Config(**SIZES["xls-r-300m"], **NO_DROPOUT)


def decided(device: AtHand, *, hours: float = 5.0, processes: int = 1, config: Any = CONFIG, **given: Any) -> Decisions:
    """What comes of it for XLS-R-300M and clips of 15 s, where these settings are given."""
    hardware = HardwareConfig(device=device.device, **given)
    batch = BatchSettings(1.0, update_seconds=hardware.update_seconds, device=device.device)
    return decide(hardware, RunAtHand(config, batch, hours * 3600, processes), device)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (H200, ("bf16", 240.0, 0, 4, False, False)),
        (T4, ("fp16", 30.0, 0, 1, False, False)),
        (MAC, ("fp32", 30.0, 5, 0, False, False)),
        (replace(MAC, free=6 * GIB), ("fp32", 30.0, 5, 0, True, False)),
        (CPU, ("fp32", 30.0, 0, 0, False, False)),
        (replace(CPU, bf16_gain=2.0), ("bf16", 30.0, 0, 0, False, False)),
        (replace(CPU, bf16_gain=0.0), ("fp32", 30.0, 0, 0, False, False)),
    ],
)
def test_each_device_gets_what_suits_it(device: AtHand, expected: tuple[Any, ...]) -> None:
    """With a reason for each; steps are the same on all: groups of 30 s, whatever the micro-batch."""
    made = decided(device)
    names = (
        "precision",
        "batch_seconds",
        "clip_lengths",
        "dataloader_num_workers",
        "gradient_checkpointing",
        "compile",
    )
    assert tuple(made.values[name] for name in names) == expected
    assert made.values["plan_seconds"] == 30.0
    assert made.reasons.keys() == set(OPEN)
    assert all(made.reasons.values())


def test_large_steps_fill_a_large_gpu() -> None:
    """With 50 min a step, micro-batches are as large as makes an H200 fast, of one length, compiled in a long run."""
    made = decided(H200, update_seconds=3000.0)
    assert 450 < made.values["batch_seconds"] < 500
    assert (made.values["clip_lengths"], made.values["compile"], made.values["plan_seconds"]) == (5, False, 375.0)
    assert "less than compiling takes" in made.reasons["compile"]
    assert decided(H200, update_seconds=3000.0, hours=20_000).values["compile"]
    without = replace(H200, has_compiler=False)
    assert not decided(without, update_seconds=3000.0, hours=20_000).values["compile"]
    assert decided(H200, update_seconds=1200.0, processes=8).values["batch_seconds"] == ROOM * 150.0


@pytest.mark.parametrize("gib", [5.5, 6, 6.5, 7, 8, 9, 10, 12, 16])
@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
def test_what_is_decided_fits(device: Any, gib: float) -> None:
    """The prediction, on a CPU with its spread, is within what is free; else it is refused, as a clip alone is more."""
    free = round(gib * GIB)
    there = replace({"cpu": CPU, "mps": MAC, "cuda": T4}[device], free=free)
    try:
        values = decided(there).values
    except TrainingError:
        one = BatchSettings(15.0, device=device, gradient_checkpointing=True)
        assert needed_bytes(CONFIG, replace(one, precision="fp16" if device == "cuda" else "fp32")) > free
        return
    names = ("precision", "batch_seconds", "gradient_checkpointing")
    memory = predict_memory(CONFIG, BatchSettings(device=device, **{name: values[name] for name in names}))
    assert (1 + SPREAD * (device == "cpu")) * (memory.peak - memory.base) <= free


def test_layers_are_recomputed_only_where_that_is_faster() -> None:
    """Where memory holds no clip without; not where micro-batches are a little smaller without."""
    for gib in range(6, 17):
        try:
            made = decided(replace(MAC, free=gib * GIB))
        except TrainingError:
            continue
        plain = decided(replace(MAC, free=gib * GIB), gradient_checkpointing=False) if gib > 10 else None
        if made.values["gradient_checkpointing"]:
            assert plain is None
        elif plain is not None:
            assert plain.values == made.values


def test_given_values_stay() -> None:
    """Each of them, without a reason; where the micro-batch is given, it is the group that steps are made of."""
    given: dict[str, Any] = {
        "precision": "fp32",
        "batch_seconds": 7.0,
        "plan_seconds": 9.0,
        "clip_lengths": 3,
        "dataloader_num_workers": 2,
        "gradient_checkpointing": True,
        "compile": True,
    }
    made = decided(H200, **given)
    assert (made.values, made.reasons) == (given, {})
    assert decided(CPU, batch_seconds=7.0).values["plan_seconds"] == 7.0
    made = decided(CPU, per_device_train_batch_size=3)
    assert (made.values["batch_seconds"], made.values["plan_seconds"]) == (45.0, 45.0)
    assert "batch_seconds" not in made.reasons
    counted = decided(H200, gradient_accumulation_steps=8).values
    assert (counted["batch_seconds"], counted["plan_seconds"]) == (30.0, 30.0)


def test_too_little_for_one_clip_is_a_line() -> None:
    """What it takes, what there is, and what to do."""
    with pytest.raises(
        TrainingError, match=r"a single clip of 15.0 s takes .*GiB.*, and 1.00 GiB is free on cpu; close"
    ):
        decided(replace(CPU, free=GIB))
    with pytest.raises(TrainingError, match=r"add --gradient-checkpointing$"):
        decided(replace(MAC, free=6 * GIB), gradient_checkpointing=False)


@pytest.mark.parametrize(
    ("device", "gib", "given", "advice"),
    [
        (H200, 5.7, False, "add --gradient-checkpointing"),
        (H200, 5.0, False, "add --gradient-checkpointing --set train.optimizer=adamw-8bit"),
        (H200, 5.0, AUTO, "add --set train.optimizer=adamw-8bit"),
        (H200, 2.5, False, "add --adapters lora"),
        (MAC, 4.0, AUTO, "add --adapters lora"),
        (H200, 0.95, False, "add --adapters lora --gradient-checkpointing"),
        (H200, 0.95, AUTO, "add --adapters lora"),
        (H200, 0.5, AUTO, "close what else takes memory, .*"),
    ],
)
def test_advice_is_a_way_that_fits(device: AtHand, gib: float, given: Any, advice: str) -> None:
    """The one that costs least; 8 bits not on MPS, which has no kernels for them."""
    with pytest.raises(TrainingError, match=rf"; {advice}$"):
        decided(replace(device, free=round(gib * GIB)), gradient_checkpointing=given)


@pytest.mark.parametrize(("device", "memories"), [("mps", MACS), ("cuda", GPUS)])
def test_default_runs_where_the_table_says_that_it_fits(device: Any, memories: tuple[int, ...]) -> None:
    """Each cell of `doctor --what-fits` against what a run there decides: both say no, or neither."""
    for (name, size), way, memory in product(MODELS.items(), WAYS, memories):
        config = transformers.Wav2Vec2Config(**SIZES[size], **DROPOUT)
        batch, free = way.batches(device), budget_of(config, way, memory * GIB, device)
        hardware = HardwareConfig(device=device, gradient_checkpointing=way.checkpointing)
        fits = largest_batch_seconds(config, batch, free) is not None
        try:
            decide(hardware, RunAtHand(config, batch), replace({"mps": MAC, "cuda": H200}[device], free=free))
        except TrainingError:
            assert not fits, (name, way.words, memory)
        else:
            assert fits, (name, way.words, memory)


def test_an_absent_device_is_planned_for() -> None:
    """Its memory is not known."""
    assert decided(AtHand("mps")).values["batch_seconds"] == 30.0
    assert decided(AtHand("cuda")).values["batch_seconds"] == 240.0


def test_the_gain_of_bf16_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """By medians of products in turn: a few that are disturbed do not count; long ones are not repeated often."""
    monkeypatch.setattr(at_hand, "is_emulated", lambda *_: False)
    assert _gain([3e-4, 2e-4]) == pytest.approx(1.5)
    assert _gain([3e-4, 2e-4], disturbed=3) == pytest.approx(1.5)
    ticks: list[float] = []
    assert _gain([1.0, 250.0], ticks=ticks) == pytest.approx(1 / 250)
    assert len(ticks) == 3 * 3 * 2 * 2
    monkeypatch.setattr(at_hand, "is_emulated", lambda *_: True)
    assert _gain([3e-4, 2e-4]) == 0.0


def _gain(seconds: list[float], *, disturbed: int = 0, ticks: list[float] | None = None) -> float:
    """What is found where products take these seconds in fp32 and in bf16, in turn, by a clock that is made up.

    `disturbed`: every so manieth in bf16 takes 40 times as long.
    """
    seen = [] if ticks is None else ticks

    def clock() -> float:
        number = len(seen)
        took = seconds[number // 2 % 2] if number % 2 else 0.0
        took *= 40 if disturbed and number // 2 % 2 and number // 4 % disturbed == 0 else 1
        seen.append((seen[-1] if seen else 0.0) + took)
        return seen[-1]

    tiny = transformers.Wav2Vec2Config(hidden_size=8, intermediate_size=8, conv_dim=(8,) * 7)
    return bf16_gain(tiny, clock)


def test_a_gpu_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A T4 has no units for bf16, though torch would emulate it."""
    monkeypatch.setattr(at_hand, "available_devices", lambda: ["cuda", "cpu"])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (15 * GIB, 16 * GIB))
    monkeypatch.setattr(at_hand, "product_rate", lambda dtype: {torch.float16: 40e12}[dtype])
    found = look("cuda", CONFIG, asks_for_precision=True)
    assert (found.name, found.has_bf16, found.free, found.flops) == ("Tesla T4", False, 14 * GIB, 40e12)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (GIB // 2, 16 * GIB))
    assert look("cuda", CONFIG, asks_for_precision=True).free == 0
    assert decided(found).values["precision"] == "fp16"
    assert look("mps", CONFIG, asks_for_precision=True) == AtHand("mps")


def test_every_open_setting_is_known() -> None:
    """Those of the schema that are `auto` by default; workers of `prepare` and sharing have their own."""
    fields = HardwareConfig.model_fields.items()
    assert {name for name, field in fields if field.default == AUTO} == {*OPEN, "num_workers", "sharding"}
