"""The kernels of a step on CUDA: how many there are, how busy they keep the device, how often the host waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runyoro_ssl.bench.measure import alternate
from runyoro_ssl.check.finding import Finding
from runyoro_ssl.check.learner import Learner
from runyoro_ssl.check.room import clip_seconds
from runyoro_ssl.check.settings import CheckSettings

CHECK = "kernels"
MOST = {"xls-r-300m": 3_200}
"""A step of one micro-batch. Seen on an NVIDIA H200: 3,120. docs/cuda.md has what they are."""
MOST_WAITS = 4
"""Seen there: 3, with that at the end of the profile."""
LEAST_BUSY = 0.8
"""Of a step's time. Seen there: 99 % in micro-batches of 480 s."""


@dataclass(frozen=True)
class Launches:
    """What a profile shows of a step: kernels launched, seconds that they ran, times that the host waited for them."""

    kernels: float
    busy_seconds: float
    waits: float


def check_kernels(settings: CheckSettings) -> Iterator[Finding]:
    """A row; none where the device has no kernels."""
    if settings.device != "cuda":
        return
    learner = Learner.new(settings.size, settings.device, settings.way)
    batch = learner.batch(clip_seconds(settings.way))
    taken, _ = alternate(lambda: learner.learn(2, batch), None, runs=3, warmup=2, device=settings.device)
    yield judge(settings, profile(lambda: learner.learn(2, batch)), sorted(taken)[len(taken) // 2])


def profile(step: Callable[[], object], *, num_steps: int = 2) -> Launches:
    """Profile some steps; what a step is on average."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    with torch_profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(num_steps):
            step()
    ran = [
        event
        for event in profiler.events()
        if event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False)
    ]
    waits = sum(event.count for event in profiler.key_averages() if event.key == "cudaStreamSynchronize")
    busy = sum(event.time_range.elapsed_us() for event in ran) / 1e6
    return Launches(len(ran) / num_steps, busy / num_steps, waits / num_steps)


def judge(settings: CheckSettings, found: Launches, step_seconds: float) -> Finding:
    """The row of a profile, and of what a step takes without one."""
    busy = found.busy_seconds / step_seconds
    most = MOST.get(settings.size, float("inf"))
    too_many = not settings.way.compile and found.kernels > most
    slow = busy < LEAST_BUSY
    advice = [
        *(["launches take longer than kernels: larger micro-batches, or --set hardware.compile=true"] if slow else []),
        *(["more than the budget: send doctor.json"] if too_many or found.waits > MOST_WAITS else []),
    ]
    return Finding(
        CHECK,
        f"{settings.size}, a step of {settings.way.batch_seconds:g} s",
        f"{found.kernels:,.0f} kernels, busy {busy:.0%} of the time, {found.waits:g} waits",
        f"at most {most:,.0f}, {LEAST_BUSY:.0%} at least, {MOST_WAITS} waits",
        "slow" if advice else "ok",
        "; ".join(advice),
        {
            "kernels": found.kernels,
            "busy_seconds": found.busy_seconds,
            "step_seconds": step_seconds,
            "waits": found.waits,
        },
    )
