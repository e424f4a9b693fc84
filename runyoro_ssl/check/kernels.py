"""The kernels of a step on CUDA: how many there are, how busy they keep the device, how often the host waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runyoro_ssl.bench.measure import alternate
from runyoro_ssl.check.finding import Finding, not_done
from runyoro_ssl.check.learner import Learner
from runyoro_ssl.check.room import clip_seconds, shortage
from runyoro_ssl.check.settings import CheckSettings

CHECK = "kernels"
MOST = {"xls-r-300m": 3_200}
"""A step of one micro-batch, in bf16 or fp32, not recomputed, attention fused. Seen on an NVIDIA H200: 3,120.
docs/cuda.md has what they are."""
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
    if short := shortage(settings, settings.way):
        yield not_done(CHECK, f"{settings.size}, a step of {settings.way.batch_seconds:g} s", short)
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
    busy, (most, most_waits) = found.busy_seconds / step_seconds, budget(settings)
    over = (most is not None and found.kernels > most) or (most_waits is not None and found.waits > most_waits)
    advice = [
        *(["launches take longer than kernels: the rows of speed say what is faster"] if busy < LEAST_BUSY else []),
        *(["more than the budget: send doctor.json"] if over else []),
    ]
    expected = [
        *([] if most is None else [f"at most {most:,}"]),
        f"busy {LEAST_BUSY:.0%} at least",
        *([] if most_waits is None else [f"{most_waits} waits"]),
    ]
    return Finding(
        CHECK,
        f"{settings.size}, a step of {settings.way.batch_seconds:g} s",
        f"{found.kernels:,.0f} kernels, busy {busy:.0%} of the time, {found.waits:g} waits",
        ", ".join(expected),
        "slow" if advice else "ok",
        "; ".join(advice),
        {
            "kernels": found.kernels,
            "busy_seconds": found.busy_seconds,
            "step_seconds": step_seconds,
            "waits": found.waits,
        },
    )


def budget(settings: CheckSettings) -> tuple[int | None, int | None]:
    """The most kernels and waits of a step; None where they were not measured in this way.

    Recomputing launches kernels again, attention in steps more of them, and fp16 reads the scale of losses.
    """
    way = settings.way
    if way.gradient_checkpointing or way.precision == "fp16" or way.attention != "sdpa":
        return None, None
    return None if way.compile else MOST.get(settings.size), MOST_WAITS
