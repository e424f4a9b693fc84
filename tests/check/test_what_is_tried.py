"""What a check tries is what a run here could be: only that can be wrong, and what is advised teaches the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import TINY
from runyoro_ssl.bench import measure, sizes
from runyoro_ssl.check import agreement, blocks, kernels, memory, resume, room, run, settings, speed
from runyoro_ssl.check.finding import Finding
from runyoro_ssl.check.learner import Learner
from runyoro_ssl.check.options import CheckOptions
from runyoro_ssl.check.report import is_wrong
from runyoro_ssl.check.room import predicted_bytes
from runyoro_ssl.check.settings import CheckSettings, Way, resolve_check
from runyoro_ssl.config import FittedHardware, HardwareConfig
from runyoro_ssl.devices import Device
from runyoro_ssl.model.at_hand import AtHand
from runyoro_ssl.resolve import load_config
from runyoro_ssl.setting import deciding

RunTask = Callable[[str], tuple[int, str, str]]
GIB = 1 << 30
CPU = CheckSettings("cpu", Way("fp32", 30.0), 0, "small", 5.0, Path("doctor.json"), plan_seconds=30.0)
GPU = replace(CPU, device="cuda", way=Way("bf16", 480.0), size="xls-r-300m")
MACHINES: dict[Device, AtHand] = {
    "cuda": AtHand("cuda", free=70 * GIB, cores=16, flops=700e12),
    "mps": AtHand("mps", free=20 * GIB, cores=8),
    "cpu": AtHand("cpu", free=20 * GIB, cores=2, bf16_gain=1.0),
}


@pytest.fixture(autouse=True)
def _tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every size is a toy; so is the matrix product."""
    for size in sizes.SIZES:
        monkeypatch.setitem(sizes.SIZES, size, {name: value for name, value in TINY.items() if name != "layerdrop"})
    monkeypatch.setitem(measure.GEMM_SIZE, "cpu", 64)


def pretend(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    """That this machine has such a device."""
    monkeypatch.setattr(settings, "present_device", lambda _asked: device)
    monkeypatch.setattr(settings, "look", lambda *_given, **_how: MACHINES[device])
    monkeypatch.setattr(speed, "is_emulated", lambda *_given: False)


def measured(way: Way, rate: float, *, finite: bool = True) -> speed.Measured:
    """What a way might have given."""
    return speed.Measured(way, 1.0, rate, 5.0, finite, None)


def speed_rows(
    monkeypatch: pytest.MonkeyPatch, checked: CheckSettings, pace: Callable[[Way], speed.Measured]
) -> dict[str, Finding]:
    """The rows of speed, by what they are of, where ways are as fast as `pace` says and memory holds them all."""
    monkeypatch.setattr(speed, "measure_pace", lambda _settings, way: pace(way))
    monkeypatch.setattr(speed, "measure_gemm", lambda *_given: 10.0)
    monkeypatch.setattr(speed, "shortage", lambda *_given: None)
    return {row.what.partition(", ")[2]: row for row in speed.check_speed(checked)}


def fitted(*given: str) -> FittedHardware:
    """The hardware of a run with these settings."""
    hardware = load_config(settings=given).hardware
    decided = settings._decided(hardware, hardware.device, "xls-r-300m")
    return FittedHardware(**{**dict(hardware), **decided})


@pytest.mark.parametrize("best", ["larger", "smaller"])
@pytest.mark.parametrize("given", [(), ("hardware.batch_seconds=60",), ("hardware.update_seconds=100",)])
@pytest.mark.parametrize("device", MACHINES)
def test_what_is_advised_teaches_the_same(
    monkeypatch: pytest.MonkeyPatch, device: Device, given: tuple[str, ...], best: str
) -> None:
    """A run with it has the same optimizer steps; without `plan_seconds` beside it, others."""
    pretend(monkeypatch, device)
    given = (f"hardware.device={device}", *given)
    checked = resolve_check(CheckOptions(), load_config(settings=given).hardware)
    sign = 1 if best == "larger" else -1
    rows = speed_rows(monkeypatch, checked, lambda way: measured(way, way.batch_seconds**sign))
    sized = [row.numbers["batch_seconds"] for what, row in rows.items() if what.startswith("hardware.batch_seconds")]
    assert max(sized, default=0.0) <= max(checked.update_seconds, checked.way.batch_seconds)
    advice = rows["the profile's settings"].advice.replace("--set ", "").split()
    if not advice:
        assert checked.way.batch_seconds in (checked.update_seconds, room.CLIP_SEC)  # no larger, or no smaller ones
        return
    before, after, alone = fitted(*given), fitted(*given, *advice), fitted(*given, advice[0])
    steps = deciding("steps", HardwareConfig)
    assert [getattr(after, name) for name in steps] == [getattr(before, name) for name in steps]
    assert after.batch_seconds != before.batch_seconds
    assert alone.plan_seconds != before.plan_seconds


def test_the_same_clips_are_not_another_way() -> None:
    """Micro-batches of one clip are of one clip, and counted ones stay as they are."""
    one_clip = replace(CPU, way=Way("fp32", 15.0))
    assert [change for change, _ in speed.ways(one_clip) if "batch_seconds" in change] == ["hardware.batch_seconds=30"]
    counted = replace(CPU, plan_seconds=None)
    assert not any("batch_seconds" in change for change, _ in speed.ways(counted))


@pytest.mark.parametrize(("clip_lengths", "advice"), [(5, "--set hardware.compile=true for runs of"), (0, "")])
def test_compiling_is_advised_where_shapes_are_few(
    monkeypatch: pytest.MonkeyPatch, clip_lengths: int, advice: str
) -> None:
    """And with what it costs."""
    pretend(monkeypatch, "cuda")
    checked = replace(GPU, clip_lengths=clip_lengths)
    rows = speed_rows(monkeypatch, checked, lambda way: measured(way, 200.0 if way.compile else 100.0))
    assert rows["the profile's settings"].advice.startswith(advice)
    assert bool(rows["the profile's settings"].advice) == bool(advice)


def test_a_way_that_no_run_here_takes_is_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of it: it raises, or gives no numbers. A run's own way is."""

    def pace(way: Way) -> speed.Measured:
        if way.compile:
            raise RuntimeError("InductorError: g++ is missing")
        return measured(way, 100.0, finite=way.precision == "fp32")

    rows = speed_rows(monkeypatch, CPU, pace)
    assert {rows["hardware.compile=true"].verdict, rows["hardware.precision=bf16"].verdict} <= {"avoid", "not done"}
    assert not is_wrong(list(rows.values()))
    rows = speed_rows(monkeypatch, replace(CPU, way=Way("fp32", 30.0, compile=True)), pace)
    assert rows["as in the profile: fp32, 30 s, compiled"].verdict == "wrong"
    assert {row.verdict for what, row in rows.items() if what.startswith("hardware.batch")} == {"avoid"}
    assert rows["hardware.compile=false"].verdict == "ok"


def test_no_other_way_is_slow_for_want_of_the_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that fails, the others are not judged in its place."""

    def pace(way: Way) -> speed.Measured:
        if way == CPU.way:
            raise RuntimeError("fails")
        return replace(measured(way, 1.0), tflops=0.01)

    rows = speed_rows(monkeypatch, CPU, pace)
    assert [what for what, row in rows.items() if row.verdict == "slow"] == []


@pytest.mark.parametrize(("device", "verdict"), [("cpu", "ok"), ("cuda", "slow")])
def test_bf16_on_a_cpu_is_held_to_products_in_fp32(monkeypatch: pytest.MonkeyPatch, device: str, verdict: str) -> None:
    """Its own may be so fast that no step comes near them; a GPU's step is nearly all products."""
    rates = {torch.float32: 0.5, torch.bfloat16: 10.0, torch.float16: 10.0}
    monkeypatch.setattr(speed, "measure_pace", lambda _settings, way: replace(measured(way, 1.0), tflops=0.4))
    monkeypatch.setattr(speed, "measure_gemm", lambda _device, dtype: rates[dtype])
    monkeypatch.setattr(speed, "shortage", lambda *_given: None)
    monkeypatch.setattr(speed, "is_emulated", lambda *_given: False)
    row = next(speed.check_speed(replace(CPU, device=device, way=Way("bf16", 30.0))))
    assert row.verdict == verdict


def test_no_compiler_is_no_fault(run_task: RunTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Compiling is left out, and the status is 0."""
    monkeypatch.setattr(run, "CHECKS", {"speed": speed.check_speed})
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "doctor.json"
    status, _, err = run_task(f"doctor --check --device cpu --set hardware.batch_seconds=15 --json {path}")
    assert status == 0, err
    (row,) = [row for row in json.loads(path.read_text())["rows"] if "compile=true" in row["what"]]
    assert (row["verdict"], row["value"]) == ("not done", "no C compiler is found")


@pytest.mark.parametrize(
    ("way", "verdict"),
    [
        (Way("bf16", 480.0), "slow"),
        (Way("fp32", 480.0), "slow"),
        (Way("bf16", 60.0, gradient_checkpointing=True), "ok"),
        (Way("fp16", 60.0), "ok"),
        (Way("bf16", 60.0, attention="eager"), "ok"),
    ],
)
def test_kernels_have_a_budget_where_it_was_measured(way: Way, verdict: str) -> None:
    """Recomputed layers, scaled losses and eager attention launch more, and wait more, by right."""
    row = kernels.judge(replace(GPU, way=way), kernels.Launches(4_500, 0.19, 6), step_seconds=0.2)
    assert row.verdict == verdict
    assert ("at most 3,200" in row.expected) == (verdict == "slow")
    assert "inf" not in kernels.judge(replace(GPU, size="base"), kernels.Launches(9, 1, 0), step_seconds=1).expected


@pytest.mark.parametrize("check", [kernels.check_kernels, memory.check_cache, memory.check_memory])
def test_what_does_not_fit_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, check: Callable[[CheckSettings], Iterator[Finding]]
) -> None:
    """On a card that is small for the model."""
    monkeypatch.setattr(memory, "kept_bytes", lambda _device: 1)
    for module in (room, memory):
        monkeypatch.setattr(module, "free_bytes", lambda _device: 1000)
    rows = list(check(replace(GPU, clip_lengths=5)))
    assert {row.verdict for row in rows} == {"not done"}
    assert all("predicted" in row.value for row in rows)


def test_memory_that_runs_out_with_other_checkpointing_is_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of the run's own way stands."""

    def peak(checked: CheckSettings, way: Way) -> int:
        if not way.gradient_checkpointing:
            raise torch.OutOfMemoryError("out of memory")
        return predicted_bytes(checked, way)

    monkeypatch.setattr(memory, "measure_peak", peak)
    saving = replace(CPU, way=Way("fp32", 30.0, gradient_checkpointing=True))
    assert [row.verdict for row in memory.check_memory(saving)] == ["ok", "avoid"]
    assert [row.verdict for row in memory.check_memory(CPU)] == ["wrong", "ok"]


@pytest.mark.parametrize(
    ("checked", "advice"),
    [
        (CPU, "send doctor.json; --set hardware.keep_freed_memory=false"),
        (replace(CPU, keep_freed_memory=False), "send doctor.json"),
        (replace(GPU, clip_lengths=5), "other crops, a lower --set hardware.clip_lengths (now 5), down to 1"),
        (replace(GPU, clip_lengths=1), "send doctor.json"),
    ],
)
def test_advice_against_a_cache_that_grows(checked: CheckSettings, advice: str) -> None:
    """Fewer lengths teach something else, which is said."""
    assert f"send doctor.json{memory._way_out(checked)}".endswith(advice)


@pytest.mark.parametrize(("precision", "verdict"), [("bf16", "avoid"), ("fp32", "wrong")])
def test_blocks_in_a_precision_that_a_run_does_not_take(
    monkeypatch: pytest.MonkeyPatch, precision: str, verdict: str
) -> None:
    """What cannot be computed in fp32 is no fault of a run in bf16; the largest micro-batch is a run's."""

    def full(block: blocks.Block, *args: Any, accelerator: Any, **how: Any) -> blocks.Outcome:
        if "in_chunks" not in how and accelerator._dtype is torch.float32:
            raise torch.OutOfMemoryError("out of memory")
        return blocks.run_block(block, *args, accelerator=accelerator, **how)

    monkeypatch.setattr(agreement, "run_block", full)
    rows = list(agreement.check_blocks(replace(CPU, way=Way(precision, 15.0))))
    assert {row.verdict for row in rows if row.value == "out of memory"} == {verdict}
    assert any("1 clips of 15 s" in row.what for row in rows)


def test_a_device_without_deterministic_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumes as well as any, for all that is known."""

    def refuse(*_given: Any, **_how: Any) -> None:
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation")

    monkeypatch.setattr(resume, "load_optimizer", refuse)
    assert [row.verdict for row in resume.check_resume(CPU)] == ["ok", "not done"]


def test_settings_of_a_run_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips and micro-batches that are counted, attention, and what becomes of freed memory."""
    pretend(monkeypatch, "cpu")

    def resolved(**given: Any) -> CheckSettings:
        return resolve_check(CheckOptions(), HardwareConfig(**given))

    counted = resolved(per_device_train_batch_size=3, batch_seconds=4.0)
    assert (counted.way.batch_seconds, counted.plan_seconds) == (45.0, None)
    assert resolved(gradient_accumulation_steps=4).plan_seconds is None
    assert resolved(keep_freed_memory=False).keep_freed_memory is False
    assert resolved(plan_seconds=20.0, update_seconds=90.0).plan_seconds == 20.0
    eager, fused = resolved(attention="eager"), resolved()
    assert eager.way.attention == "eager"
    assert predicted_bytes(eager, eager.way) > predicted_bytes(fused, fused.way)
    assert Learner.new("small", "cpu", eager.way).model.config._attn_implementation == "eager"
    assert math.isfinite(sum(row.numbers["differ"] for row in resume.check_resume(eager)))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--set train.learning_rate=1e-4", "--set train.learning_rate says nothing to --check"),
        ("--set hardware.num_workers=2", "--set hardware.num_workers says nothing to --check"),
        ("--set hardware.dataloader_num_workers=2", "--set hardware.dataloader_num_workers says nothing"),
        ("--set model.layerdrop=0.1", "--set model.layerdrop says nothing to --check"),
        ("--adapters lora", "--adapters says nothing to --check"),
        ("--set adapter.kind=lora", "adapter.kind is lora, which --check does not try"),
        ("--set train.optimizer=adamw-8bit", "check without it: --set train.optimizer=adamw"),
        ("--set train.freeze_feature_encoder=true", "train.freeze_feature_encoder is true, which --check does not try"),
        ("--set hardware.sharding=full", "hardware.sharding is full, which --check does not try"),
        ("--config {tmp}/run.toml", "train.optimizer is adamw-8bit, which --check does not try"),
        ("--config {tmp}/run.toml --set train.optimizer=adamw", ""),
        ("--set train.optimizer=adam", "train.optimizer"),
    ],
)
def test_settings_that_are_not_tried_are_refused(
    run_task: RunTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: str, complaint: str
) -> None:
    """By name, in one line; a run.toml may have all that does not make steps others."""
    monkeypatch.setattr(run, "CHECKS", {})
    (tmp_path / "run.toml").write_text('[train]\noptimizer = "adamw-8bit"\nlearning_rate = 1e-4\n')
    path = tmp_path / "doctor.json"
    status, _, err = run_task(f"doctor --check --device cpu {options.format(tmp=tmp_path)} --json {path}")
    assert status == int(bool(complaint)), err
    assert complaint in " ".join(err.split())
