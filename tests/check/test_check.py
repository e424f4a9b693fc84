"""The check of a device: right where all is right, and each kind of wrongness, planted, has its row."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT, TINY
from runyoro_ssl.bench import measure, sizes
from runyoro_ssl.check import agreement, blocks, curve, kernels, learner, memory, resume, run, speed
from runyoro_ssl.check.finding import Finding, failed
from runyoro_ssl.check.options import CheckOptions
from runyoro_ssl.check.room import predicted_bytes
from runyoro_ssl.check.settings import UPDATE_SECONDS, CheckSettings, Way, resolve_check
from runyoro_ssl.model import at_hand
from runyoro_ssl.model.encoder import encode_waveforms
from runyoro_ssl.resolve import load_config, profile_for

RunTask = Callable[[str], tuple[int, str, str]]
SETTINGS = CheckSettings("cpu", Way("fp32", 4.0), 0, "small", 5.0, Path("doctor.json"))
LIKE_TINY = {name: value for name, value in TINY.items() if name != "layerdrop"}


@pytest.fixture(autouse=True)
def _tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every size is a toy; so is the matrix product."""
    for size in sizes.SIZES:
        monkeypatch.setitem(sizes.SIZES, size, LIKE_TINY)
    monkeypatch.setitem(measure.GEMM_SIZE, "cpu", 64)


def verdicts(rows: Iterator[Finding]) -> dict[str, str]:
    """By what was looked at."""
    return {row.what: row.verdict for row in rows}


def test_all_is_right_where_it_is() -> None:
    """Blocks, loss curve, save and resume, memory and cache, on the CPU."""
    checks = (agreement.check_blocks, curve.check_curve, resume.check_resume, memory.check_memory, memory.check_cache)
    rows = [row for check in checks for row in check(SETTINGS)]
    assert {row.what: row.value for row in rows if row.verdict != "ok"} == {}
    assert {row.check for row in rows} == set(run.CHECKS) - {"speed", "kernels"}
    assert len(rows) == 4 * 4 + 1 + 2 + 2 + 1
    assert json.loads(json.dumps([row.to_json() for row in rows], allow_nan=False))


def test_bf16_is_held_to_what_bf16_can() -> None:
    """In both precisions; its limit is wider, and it is not fp32."""
    bf16 = replace(SETTINGS, way=Way("bf16", 4.0))
    rows = {row.what: row for row in agreement.check_blocks(bf16)}
    assert {row.verdict for row in rows.values()} == {"ok"}
    assert rows["layer, padded clips, bf16"].numbers["forward_difference"] > 1e-4
    assert rows["layer, padded clips, fp32"].numbers["forward_difference"] < 1e-5


def wrong_weights(monkeypatch: pytest.MonkeyPatch, module: Any, part: str, *, from_call: int = 0) -> None:
    """A model that is set up on its device has there a weight that is one per cent too large."""
    calls = itertools.count()

    def set_up(model: Any, **_how: Any) -> None:
        if next(calls) >= from_call:
            next(one for one in model.get_submodule(part).parameters() if one.ndim > 1).data.mul_(1.01)

    monkeypatch.setattr(module, "set_up", set_up)


@pytest.mark.parametrize("block", blocks.BLOCKS, ids=lambda block: block.name)
def test_a_wrong_block_is_told(monkeypatch: pytest.MonkeyPatch, block: blocks.Block) -> None:
    """In every shape; the other blocks are right."""
    wrong_weights(monkeypatch, agreement, block.parts[0])
    found = verdicts(agreement.check_blocks(SETTINGS))
    assert {what.partition(",")[0] for what, verdict in found.items() if verdict == "wrong"} == {block.name}
    assert sum(verdict == "wrong" for verdict in found.values()) == 4


def test_a_wrong_gradient_is_told_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the output is right."""

    def wrong(encoder: Any, waveforms: torch.Tensor) -> torch.Tensor:
        output = encode_waveforms(encoder, waveforms)
        return output.detach() + 0.9 * (output - output.detach())

    monkeypatch.setattr(blocks, "encode_waveforms", wrong)
    row = next(agreement.check_blocks(SETTINGS))
    assert row.verdict == "wrong"
    assert row.numbers["forward_difference"] < 1e-5
    assert row.numbers["backward_difference"] == pytest.approx(0.1, rel=0.01)
    assert row.numbers["most_different"] in row.advice


@pytest.mark.parametrize("seen", [{}, {"a": torch.tensor([math.nan, 1.0])}], ids=["missing", "NaN"])
def test_a_gradient_that_is_none_or_no_number_is_wrong(seen: dict[str, torch.Tensor]) -> None:
    """And has a row that is JSON."""
    outcome = blocks.Outcome(torch.ones(2), {"a": torch.ones(2)})
    row = agreement._judge("what", outcome, blocks.Outcome(torch.ones(2), seen), 0.1)
    assert row.verdict == "wrong"
    assert row.numbers["backward_difference"] is None


def test_a_gradient_of_nothing_but_noise_is_not_told() -> None:
    """That of the keys' bias is 0 but for rounding."""
    expected = {"weight": torch.ones(100), "bias": torch.tensor([1e-9])}
    seen = {"weight": torch.ones(100), "bias": torch.tensor([-5e-8])}
    difference, worst = agreement.worst_gradient(expected, seen)
    assert worst == "bias"
    assert difference < 1e-6


def test_one_shape_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that runs out for one of them is a row."""

    def full(block: blocks.Block, *args: Any, **how: Any) -> blocks.Outcome:
        if block.name == "layer" and "in_chunks" not in how:
            raise torch.OutOfMemoryError("out of memory: tried to allocate 3 GiB")
        return blocks.run_block(block, *args, **how)

    monkeypatch.setattr(agreement, "run_block", full)
    rows = list(agreement.check_blocks(SETTINGS))
    assert len(rows) == 16
    assert {row.value for row in rows if row.verdict == "wrong"} == {"out of memory"}
    assert sum(row.verdict == "ok" for row in rows) == 12


def test_a_curve_that_leaves_the_cpus_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on which the same steps lead elsewhere."""
    wrong_weights(monkeypatch, learner, "wav2vec2.feature_projection", from_call=1)
    monkeypatch.setattr(curve, "LIMITS", {"fp32": 1e-4})
    (row,) = curve.check_curve(SETTINGS)
    assert row.verdict == "wrong"
    assert row.numbers["largest_difference"] > 1e-4
    assert len(row.numbers["losses"]) == len(row.numbers["cpu"]) == curve.NUM_STEPS


@pytest.mark.parametrize(
    ("times", "found", "said"),
    [
        (0.5, ["wrong", "avoid"], "may need more memory"),
        (2.0, ["wrong", "avoid"], "could be larger"),
        (1.05, ["ok", "ok"], ""),
        (1e9, ["not done", "not done"], ""),
    ],
)
def test_memory_beside_its_prediction(
    monkeypatch: pytest.MonkeyPatch, times: float, found: list[str], said: str
) -> None:
    """More than predicted, less than predicted, and what is not even tried; wrong is only a run's own way."""
    monkeypatch.setattr(memory, "predicted_bytes", lambda *given: round(times * predicted_bytes(*given)))
    rows = list(memory.check_memory(SETTINGS))
    assert [row.verdict for row in rows] == found
    assert all(said in row.advice for row in rows)


@pytest.mark.parametrize(("kept", "verdict"), [([100, 120, 140], "wrong"), ([100, 120, 121], "ok")])
def test_a_cache_that_keeps_growing_is_told(monkeypatch: pytest.MonkeyPatch, kept: list[int], verdict: str) -> None:
    """Over the same shapes, round after round."""
    told = iter([kept[0], *kept])
    monkeypatch.setattr(memory, "kept_bytes", lambda _device: next(told))
    (row,) = memory.check_cache(replace(SETTINGS, clip_lengths=3))
    assert row.verdict == verdict
    shapes = [tuple(shape) for shape in row.numbers["shapes"]]
    assert len(set(shapes)) == len(shapes) <= memory.NUM_SHAPES


def test_a_resume_that_forgets_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments of the optimizer that were not put back."""
    monkeypatch.setattr(resume, "load_optimizer", lambda *_given, **_how: None)
    ordinary, resumed = resume.check_resume(SETTINGS)
    assert (ordinary.verdict, resumed.verdict) == ("ok", "wrong")
    assert resumed.numbers["differ"] > 0
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_step_that_does_not_repeat_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients that are others each time."""
    seeds = itertools.count()
    monkeypatch.setattr(resume, "derive_seed", lambda *_key: next(seeds))
    ordinary, _ = resume.check_resume(SETTINGS)
    assert ordinary.verdict == "wrong"
    assert ordinary.numbers["differ"] > 0


def measured(way: Way, rate: float = 100.0, *, finite: bool = True) -> speed.Measured:
    """What a way might have given."""
    return speed.Measured(way, 1.0, rate, 0.5, finite, None)


def test_speeds_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of real steps, the profile's way first; what cannot be is said."""
    way = SETTINGS.way
    others = [("", way), ("hardware.batch_seconds=8", replace(way, batch_seconds=8.0))]
    monkeypatch.setattr(speed, "ways", lambda _settings: iter(others))
    base, other, _ = speed.check_speed(SETTINGS)
    assert base.numbers["audio_seconds_per_second"] > 0
    assert base.numbers["times_the_profile"] is None
    ratio = other.numbers["audio_seconds_per_second"] / base.numbers["audio_seconds_per_second"]
    assert other.numbers["times_the_profile"] == pytest.approx(ratio)


def test_what_is_slow_wrong_or_impossible_about_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of the products' rate that is low, a faster setting, losses that are no numbers, and a failure."""

    def pace(_settings: CheckSettings, way: Way) -> speed.Measured:
        if way.compile:
            raise RuntimeError("no compiler in /home/someone/bin")
        if way.gradient_checkpointing:
            return measured(way, 1e6, finite=False)
        return measured(way, 100.0 * way.batch_seconds)

    settings = replace(SETTINGS, way=Way("fp32", 30.0), plan_seconds=30.0)
    monkeypatch.setattr(speed, "measure_pace", pace)
    monkeypatch.setattr(speed, "measure_gemm", lambda *_given: 10.0)
    monkeypatch.setattr(speed, "is_emulated", lambda _device, precision: precision == "bf16")
    rows = {row.what.partition(", ")[2]: row for row in speed.check_speed(settings)}
    assert {what: row.verdict for what, row in rows.items()} == {
        "as in the profile: fp32, 30 s": "slow",
        "hardware.precision=bf16": "not done",
        "hardware.batch_seconds=15": "ok",
        "hardware.batch_seconds=60": "ok",
        "hardware.gradient_checkpointing=true": "avoid",
        "hardware.compile=true": "avoid",
        "the profile's settings": "slow",
    }
    assert "someone" not in json.dumps(rows["hardware.compile=true"].to_json())
    assert rows["the profile's settings"].advice == "--set hardware.batch_seconds=60 --set hardware.plan_seconds=30.0"


@pytest.mark.parametrize(
    ("launches", "compiled", "verdict", "said"),
    [
        (kernels.Launches(3_120, 0.19, 3), False, "ok", "3,120 kernels, busy 95% of the time, 3 waits"),
        (kernels.Launches(3_120, 0.10, 3), False, "slow", "launches take longer than kernels"),
        (kernels.Launches(4_000, 0.19, 3), False, "slow", "more than the budget"),
        (kernels.Launches(4_000, 0.19, 3), True, "ok", "4,000 kernels"),
        (kernels.Launches(3_120, 0.19, 20), False, "slow", "more than the budget"),
    ],
)
def test_kernels_are_held_to_a_budget(launches: kernels.Launches, *, compiled: bool, verdict: str, said: str) -> None:
    """Too many, too idle a device, too many waits."""
    settings = CheckSettings("cuda", Way("bf16", 480.0, compile=compiled), 0, "xls-r-300m", 5.0, Path("doctor.json"))
    row = kernels.judge(settings, launches, step_seconds=0.2)
    assert row.verdict == verdict
    assert said in f"{row.value} {row.advice}"


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_profile_counts_what_ran_on_a_gpu() -> None:
    """Nothing, here; and no row is made of it."""
    assert kernels.profile(lambda: torch.ones(3) + 1) == kernels.Launches(0, 0, 0)
    assert list(kernels.check_kernels(SETTINGS)) == []


def test_one_check_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a row, and so is what it had found before."""

    def fails(_settings: CheckSettings) -> Iterator[Finding]:
        yield Finding("blocks", "first", "1", "1", "ok")
        raise ValueError("NDArray > 2**32 bytes")

    monkeypatch.setattr(run, "CHECKS", {"blocks": fails, "speed": lambda _: iter([Finding("speed", "", "", "", "ok")])})
    rows = list(run.run_checks(SETTINGS))
    assert [(row.check, row.verdict) for row in rows] == [("blocks", "ok"), ("blocks", "wrong"), ("speed", "ok")]
    assert rows[1].value.startswith("ValueError: NDArray > 2**32 bytes (test_check.py:")


def test_nothing_is_begun_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a check, and each other, is a row that says so."""
    now = itertools.count(step=20.0)

    def slow(_settings: CheckSettings) -> Iterator[Finding]:
        for number in range(100):
            yield Finding("blocks", str(number), "", "", "ok")

    monkeypatch.setattr(run, "CHECKS", {"blocks": slow, "speed": slow})
    rows = list(run.run_checks(replace(SETTINGS, minutes=1.0), clock=lambda: next(now)))
    assert [row.verdict for row in rows] == ["ok", "ok", "not done", "not done"]
    assert {row.value for row in rows[2:]} == {run.TIME_IS_UP}
    assert rows[-1].advice == "--minutes 2"


@pytest.mark.parametrize(
    "where", ["/home/ada/corpus/x.pt", r"C:\Users\ada\x.pt", "~/ada/x", "https://ada:pw@host/x", "(/Users/ada/a.py:3)"]
)
def test_no_path_leaves_the_machine(where: str) -> None:
    """In what libraries raise."""
    row = json.dumps(failed("speed", "a step", OSError(f"cannot open '{where}': no such file")).to_json())
    assert "ada" not in row
    assert "cannot open" in row


def test_what_is_auto_is_decided_as_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a profile, or where there is no pydantic to read one; also where memory is short of a single clip."""
    assert load_config(profile=profile_for("cpu")).hardware.update_seconds == UPDATE_SECONDS
    hardware = load_config(profile=profile_for("cpu")).hardware
    monkeypatch.setattr(at_hand, "bf16_gain", lambda _config: 2.0)
    found = resolve_check(CheckOptions(device="cpu"), hardware)
    assert found == resolve_check(CheckOptions(device="cpu"))
    assert (found.way, found.clip_lengths) == (Way("bf16", 30.0), 0)
    monkeypatch.setattr(at_hand, "free_memory", lambda _device: 1000)
    assert resolve_check(CheckOptions(device="cpu")).way == found.way


def test_doctor_checks(run_task: RunTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A table, a file without paths, status 0; then something is wrong, and the status is 1."""
    monkeypatch.setattr(run, "CHECKS", {"resume": run.CHECKS["resume"]})
    path = tmp_path / "new" / "doctor.json"
    status, out, err = run_task(f"doctor --check --device cpu --json {path}")
    assert status == 0, err
    assert "every bit the same" in " ".join(out.split())
    written = json.loads(path.read_text())
    assert written["verdicts"] == {"ok": 2}
    assert {"device", "processor", "torch"} <= written["machine"].keys()
    assert str(Path.home()) not in path.read_text()
    assert str(tmp_path) not in path.read_text()

    monkeypatch.setattr(resume, "load_optimizer", lambda *_given, **_how: None)
    status, out, err = run_task(f"doctor --check --profile cpu-smoke --json {path}")
    assert status == 1
    assert "something is wrong" in err
    assert json.loads(path.read_text())["verdicts"] == {"ok": 1, "wrong": 1}


def test_settings_of_a_profile_are_checked(run_task: RunTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And --precision replaces the profile's."""
    seen: list[CheckSettings] = []

    def see(settings: CheckSettings) -> Iterator[Finding]:
        seen.append(settings)
        return iter(())

    monkeypatch.setattr(run, "CHECKS", {"speed": see})
    settings = "--set hardware.batch_seconds=8 --set hardware.gradient_checkpointing=true --set hardware.clip_lengths=2"
    status, _, err = run_task(f"doctor --check {settings} --precision bf16 --size base --json {tmp_path / 'd.json'}")
    assert status == 0, err
    assert seen[0].way == Way("bf16", 8.0, gradient_checkpointing=True)
    assert (seen[0].clip_lengths, seen[0].size) == (2, "base")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--check --device tpu", '--device is "tpu" (did you mean "cpu"?); it can be cuda, mps, cpu'),
        ("--check --device cuda", "--device cuda is not present on this machine; use --device cpu"),
        ("--check --profile mps-m4", "--device mps is not present on this machine"),
        ("--check --device cpu --profile cuda", "--device cpu, but the settings are for cuda; give one of them"),
        ("--check --precision fp8", '--precision is "fp8"'),
        ("--check --precision fp16", "--precision fp16 needs a GPU"),
        ("--check --size huge", '--size is "huge"; it can be small'),
        ("--check --minutes soon", '--minutes is "soon"; it must be a number above 0'),
        ("--check --minutes 0", '--minutes is "0"'),
        ("--check --json {tmp}", "cannot be written (it is a folder); give another file"),
        ("--check --json {tmp}/file/doctor.json", "file/doctor.json: cannot be written"),
        ("--check --fetch", "--fetch says nothing to --check"),
        ("--check --model-name-or-path m", "--model-name-or-path says nothing to --check"),
        ("--size base", "--size goes with --check, which is not given"),
        ("--json {tmp}/d.json", "--json goes with --check"),
    ],
)
def test_wrong_options_are_explained(
    run_task: RunTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: str, complaint: str
) -> None:
    """One line, status 1, and nothing is written."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(run, "CHECKS", {})
    (tmp_path / "file").write_text("")
    status, _, err = run_task(f"doctor {options.format(tmp=tmp_path)}")
    assert status == 1
    assert complaint in " ".join(err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_bare_checkout_runs_it(tmp_path: Path) -> None:
    """Without pydantic, structlog, rich, invoke, pluggy, datasets, soundfile and psutil."""
    absent = ("pydantic", "structlog", "rich", "invoke", "pluggy", "datasets", "soundfile", "soxr", "pyarrow", "psutil")
    code = (
        "import sys, runpy\n"
        f"for name in {absent}: sys.modules[name] = None\n"
        "import runyoro_ssl.bench.sizes as sizes, runyoro_ssl.bench.measure as measure\n"
        "import runyoro_ssl.check.speed as speed\n"
        f"sizes.SIZES['small'] = {LIKE_TINY!r}\n"
        "measure.GEMM_SIZE['cpu'] = 64; speed.ways = lambda settings: [('', settings.way)]\n"
        "sys.argv = ['check', '--device', 'cpu']\n"
        "runpy.run_module('runyoro_ssl.check', run_name='__main__')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "doctor.json").read_text())
    assert {row["check"] for row in written["rows"]} == set(run.CHECKS) - {"kernels"}
    assert "doctor.json has it all" in done.stdout
    assert str(tmp_path) not in (tmp_path / "doctor.json").read_text()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--device", "tpu"], 'error --device is "tpu"'),
        pytest.param(["--minutes", "-1"], 'error --minutes is "-1"', marks=pytest.mark.long),
        pytest.param(["--json", "."], "cannot be written", marks=pytest.mark.long),
    ],
)
def test_bare_checkout_explains_wrong_options(tmp_path: Path, options: list[str], complaint: str) -> None:
    """One line, status 1."""
    command = [sys.executable, "-m", "runyoro_ssl.check", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
