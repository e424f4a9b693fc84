"""Memory that grows, falls back, peaks, passes what was predicted; measured for real in a process that leaks."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from runyoro_ssl.config import Config, FittedConfig, FittedHardware
from runyoro_ssl.model.allocator import Allowance
from runyoro_ssl.train.fitting import LEAST
from runyoro_ssl.train.health import memory_growth as drift
from runyoro_ssl.train.health.memory_growth import MIB, MemoryWatch
from runyoro_ssl.train.health.remedies import COMPILER, LOADER, PLUGINS, REPORT, Remedies

WARMUP, WINDOW = 10, 5


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What is measured, in bytes."""
    amounts = {"memory": 100 * MIB}
    monkeypatch.setattr(drift, "_measure", lambda _device: dict(amounts))
    monkeypatch.setattr(drift, "_pages_of_files", lambda: 0)
    return amounts


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch, used: dict[str, int]) -> list[int]:
    """What was in use, in MiB, each time that freed memory was given back: 50 MiB of it."""
    before = []

    def give_back() -> bool:
        before.append(used["memory"] // MIB)
        used["memory"] -= 50 * MIB
        return True

    monkeypatch.setattr(drift, "give_back_freed", give_back)
    return before


def alarms(watch: MemoryWatch, used: dict[str, int], mib: Iterable[float], *, name: str = "memory") -> dict[int, str]:
    """Alarms by step, with one amount a step; the run goes on from step 1001."""
    found = {}
    for step, amount in enumerate(mib, 1001):
        used[name] = int(amount * MIB)
        if (text := watch.measure(step)) is not None:
            found[step] = text
    return found


def remedies(*, built_in_only: bool = False, **hardware: Any) -> Remedies:
    """Those of a run with such hardware and clips of up to 10 s."""
    config = Config.model_validate({"plugins": {"built_in_only": built_in_only}})
    fitted = FittedHardware(
        **{**dict(config.hardware), **LEAST, "batch_seconds": 30.0, "plan_seconds": 60.0, **hardware}
    )
    return Remedies.of(FittedConfig.of(config, fitted), longest_sec=10.0)


def make_watch(device: str = "cpu") -> MemoryWatch:
    """A watch with short windows that minds a quarter."""
    return MemoryWatch(
        device, remedies(device=torch.device(device).type), max_growth=0.25, warmup=WARMUP, window=WINDOW
    )


def test_steady_growth_is_said_once_and_again_after_as_much(used: dict[str, int]) -> None:
    """One MiB a step from 100: the baseline is 114; the least of five steps is 143 at the 48th, and 179 at the 84th.

    Warm-up counts from the first step of the process, for it may have resumed.
    """
    found = alarms(make_watch(), used, (100 + step for step in range(90)))
    assert list(found) == [1048, 1084]
    assert "this process grew from 114 to 143 MiB by step 1048" in found[1048]
    assert "the built-in plugins alone (--no-plugins)" in found[1048]
    assert "--resume-from-checkpoint last" in found[1048]


def held(predicted: int, most: int) -> MemoryWatch:
    """A watch over a run with an allowance, in MiB; growth is not judged yet."""
    trim_at = predicted + 0.8 * (most - predicted)
    allowance = Allowance(predicted * MIB, most * MIB, round(trim_at * MIB), keeps=True)
    return MemoryWatch("cpu", remedies(), max_growth=0.25, warmup=10_000, allowance=allowance)


def test_freed_memory_is_given_back_before_the_run_takes_more_than_it_may(
    used: dict[str, int], trims: list[int]
) -> None:
    """From the first step on; at 180 of 200 MiB, where 100 are predicted; that is no alarm."""
    assert not alarms(held(100, 200), used, [190, 100, 180, 181, 150, 199])
    assert trims == [190, 181, 199]


def test_what_cannot_be_given_back_is_an_alarm(used: dict[str, int], trims: list[int]) -> None:
    """Still over 200 MiB at the first step: said with both numbers, and again when a quarter has been added."""
    found = alarms(held(100, 200), used, [300, 305, 361, 363, 400])
    assert list(found) == [1001, 1004]
    assert "is 250 MiB after step 1001, what was freed given back; predicted were 100, at most 200" in found[1001]
    assert "at once, with a lower --set hardware.batch_seconds (now 30; what is learned stays the same" in found[1001]
    assert (
        "beside --set hardware.plan_seconds=60) or --gradient-checkpointing; if slowly, try the built-in" in found[1001]
    )
    assert trims == [300, 305, 361, 363, 400]


def test_growth_that_can_be_given_back_is_no_alarm(used: dict[str, int], trims: list[int]) -> None:
    """A heap with holes is no leak: 140 MiB are 90 when it has given back."""
    assert not alarms(make_watch(), used, [100] * (WARMUP + WINDOW) + [140] * WINDOW)
    assert trims == [140]


@pytest.mark.parametrize(
    "later", [[100] * 50, [100, 1000, 100, 100, 100, 1000] * 10, [400] * 4 + [100] * 20, [124] * 50, [50] * 50]
)
def test_what_falls_back_is_no_alarm(used: dict[str, int], later: list[float]) -> None:
    """Peaks, also several, a rise shorter than the window, a rise under the share."""
    assert not alarms(make_watch(), used, [500] * WARMUP + [100] * WINDOW + later)


def test_warm_up_does_not_count(used: dict[str, int]) -> None:
    """Memory grows to its size in the first steps; the baseline is the most of the window after them."""
    assert not alarms(make_watch(), used, [10] * WARMUP + [100, 100, 200, 100, 100] + [240] * 20)


@pytest.mark.parametrize(("device", "advice"), [("mps", "hardware.clip_lengths=5"), ("cuda", "plugins")])
def test_device_is_watched_by_itself(used: dict[str, int], device: str, advice: str) -> None:
    """Its growth is named, with advice for it, while the process stays as it was."""
    used["device_memory"] = 0
    found = alarms(make_watch(device), used, [100] * (WARMUP + WINDOW) + [200] * 10, name="device_memory")
    assert len(found) == 1
    (text,) = found.values()
    assert text.startswith(f"memory of the device ({device}) grew from 100 to 200 MiB")
    assert advice in text
    assert make_watch(device).numbers() == {"train/memory_mib": 100, "train/device_memory_mib": 200}


@pytest.mark.parametrize(
    ("hardware", "measure", "expected"),
    [
        ({"device": "cpu"}, "memory", [PLUGINS]),
        ({"device": "cpu", "built_in_only": True}, "memory", [REPORT]),
        ({"device": "mps"}, "memory", ["--set hardware.clip_lengths=5", PLUGINS]),
        (
            {"device": "mps", "clip_lengths": 5},
            "device_memory",
            ["a lower --set hardware.clip_lengths (now 5)", PLUGINS],
        ),
        ({"device": "mps", "clip_lengths": 1}, "device_memory", [PLUGINS]),
        ({"device": "cuda"}, "memory", [LOADER, PLUGINS]),
        ({"device": "cuda", "dataloader_num_workers": 4}, "memory", [PLUGINS]),
        ({"device": "cuda", "dataloader_num_workers": 4, "compile": True}, "memory", [COMPILER, PLUGINS]),
        ({"device": "cuda", "compile": True, "built_in_only": True}, "device_memory", [REPORT]),
    ],
)
def test_what_is_done_already_is_not_advised(hardware: dict[str, Any], measure: str, expected: list[str]) -> None:
    """Fewer lengths of clips than there are; another process for batches only where there is none."""
    ways = remedies(**hardware).slowly[measure].split("; or ")
    assert len(ways) == len(expected)
    assert all(part in way for part, way in zip(expected, ways, strict=True))


def test_device_numbers_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors on CUDA; on MPS what the driver holds, programs included."""
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 7 * MIB)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 9 * MIB)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 5 * MIB)
    assert make_watch("cuda:0").numbers()["train/device_memory_mib"] == 7
    assert make_watch("mps").numbers()["train/device_memory_mib"] == 9


def test_leak_of_this_process_is_seen() -> None:
    """Real memory, kept at every step; none that malloc had left over. A run on a CPU logs one number."""
    watch = MemoryWatch("cpu", remedies(), max_growth=0.1, warmup=2, window=3)
    before = watch.numbers()["train/memory_mib"]
    kept, found = [], []
    for step in range(30):
        kept.append(mmap.mmap(-1, 10 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        kept[-1].write(b"1" * 10 * MIB)
        found.append(watch.measure(step))
    assert list(watch.numbers()) == ["train/memory_mib"]
    assert watch.numbers()["train/memory_mib"] > before + 250
    assert any(found)


def test_pages_of_files_are_not_memory_in_use(tmp_path: Path) -> None:
    """A dataset is mapped, and read over the first epoch: that is no growth."""
    path = tmp_path / "dataset"
    path.write_bytes(b"x" * (60 * MIB))
    watch = make_watch()
    before = watch.numbers()["train/memory_mib"]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) > 0
        assert watch.numbers()["train/memory_mib"] < before + 20
