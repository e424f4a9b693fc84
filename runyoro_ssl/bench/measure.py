"""Alternating runs of two ways to do one thing, and the rows they become. Needs torch and the standard library only."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from runyoro_ssl.disk.durable import replace_file

What = Literal[
    "objective", "feature_encoder", "step", "epoch", "read", "prepare", "long", "workers", "corpus", "protection"
]
GEMM_SIZE = {"cpu": 2048, "mps": 4096, "cuda": 8192}
"""Rows of the square product whose rate is the ceiling of a device."""


@dataclass(frozen=True)
class Comparison:
    """One comparison: seconds of `runs` alternating runs each, after warm-up. `reference` is empty if it cannot run.

    `extra` holds what else this row tells, e.g. audio seconds per second or peak memory; JSON values.
    """

    what: What
    size: str
    precision: str
    reference_precision: str
    ours: Sequence[float]
    reference: Sequence[float]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times longer the reference takes; None without one."""
        return statistics.median(self.reference) / statistics.median(self.ours) if self.reference else None

    def to_json(self) -> dict[str, Any]:
        """The row of `bench --json`: medians in seconds, minimum and maximum beside them."""
        return {
            "what": self.what,
            "size": self.size,
            "precision": self.precision,
            "reference_precision": self.reference_precision,
            **_spread("ours", self.ours),
            **_spread("reference", self.reference),
            "ratio": self.ratio,
            "runs": len(self.ours),
            "unit": "s",
            **self.extra,
        }


def alternate(
    ours: Callable[[], Any],
    reference: Callable[[], Any] | None,
    *,
    runs: int,
    device: str = "cpu",
    warmup: int = 1,
    repeats: int = 1,
) -> tuple[list[float], list[float]]:
    """Seconds of `runs` runs each, taken in turn, so that a slow minute of the machine meets both.

    Each turn runs `repeats` times, and counts the last: it then finds memory as its own run before has left it.
    """
    both = [ours] if reference is None else [ours, reference]
    seconds: list[list[float]] = [[] for _ in both]
    for turn in range(warmup + runs):
        for function, taken in zip(both, seconds, strict=True):
            for _ in range(repeats - 1):
                function()
            synchronize(device)
            start = time.perf_counter()
            function()
            synchronize(device)
            if turn >= warmup:
                taken.append(time.perf_counter() - start)
    return seconds[0], [] if reference is None else seconds[1]


def measure_gemm(device: str, dtype: torch.dtype) -> float:
    """The best rate of a square matrix product on a device, in TFLOP/s."""
    size = GEMM_SIZE[device]
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    taken, _ = alternate(lambda: one @ other, None, runs=10, device=device, warmup=3)
    return float(2 * size**3 / min(taken) / 1e12)


def peak_bytes(function: Callable[[], Any], device: str) -> int | None:
    """The most bytes that a call holds beyond what was held before it; None on MPS, which does not count."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        synchronize(device)
        return torch.cuda.max_memory_allocated() - before
    if device == "mps":
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would announce itself on stderr
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    held = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def describe_machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": _version("transformers"),
    }


def write_json(path: Path, machine: dict[str, Any], rows: Sequence[Comparison]) -> None:
    """Write `{"machine": …, "rows": […]}`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine, "rows": [row.to_json() for row in rows]}, indent=2)
    replace_file(path, text + "\n")


def _spread(name: str, seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return {name: None, f"{name}_min": None, f"{name}_max": None}
    return {name: statistics.median(seconds), f"{name}_min": min(seconds), f"{name}_max": max(seconds)}


def _processor() -> str:
    """The processor's name; Linux keeps it where platform.processor() does not look."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
