"""Audio seconds a second in each way to train: micro-batch, precision, compiled or not, checkpointing or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from runyoro_ssl.bench.measure import alternate, measure_gemm, synchronize
from runyoro_ssl.bench.subjects import DTYPES
from runyoro_ssl.check.finding import Finding, failed, not_done, number_or_none, of_another_way
from runyoro_ssl.check.learner import Learner, kept_bytes
from runyoro_ssl.check.room import clip_seconds, shortage, tune
from runyoro_ssl.check.settings import CheckSettings, Way
from runyoro_ssl.model.at_hand import finds_compiler
from runyoro_ssl.model.fit import RECOMPUTING
from runyoro_ssl.model.flops import count_flops
from runyoro_ssl.model.precision import is_emulated

CHECK = "speed"
NUM_RUNS = 3
LONG_STEP_SEC = 10.0
"""A step that takes as long is not taken more than twice."""
MULTIPLES = {"cuda": (0.5, 2.0, 4.0, 8.0), "mps": (0.5, 2.0, 4.0), "cpu": (0.5, 2.0)}
"""Of the profile's micro-batch, that are tried, as long as they are not more than a step."""
LEAST_SHARE = {"cuda": 0.25, "mps": 0.25, "cpu": 0.4}
"""Of the rate of a square matrix product; below, something else than products takes the time. Measured: 16 % of an
H200 in micro-batches of 120 s, 38 % in 480 s; 79 % of a CPU in fp32, to whose products bf16 is held there, too: its own
may be ten times as fast as what stands between them."""
WORTH_A_CHANGE = 1.1
"""Times as fast: then another setting than the profile's is recommended."""


@dataclass(frozen=True)
class Measured:
    """How fast a way is. Seconds of the first step, which compiles; audio seconds a second of the others."""

    way: Way
    first_seconds: float
    speed: float
    tflops: float
    is_finite: bool
    kept: int | None


def check_speed(settings: CheckSettings) -> Iterator[Finding]:
    """A row for the profile's way, one for each that differs from it in one setting, and which is the best."""
    rates: dict[str, float] = {}
    base: Measured | None = None
    tried: list[tuple[str, Measured]] = []
    for change, way in ways(settings):
        what = f"{settings.size}, {change or described(way)}"
        if why := _why_not(settings, way):
            yield not_done(CHECK, what, why)
            continue
        try:
            pace = measure_pace(settings, way)
            of = "fp32" if settings.device == "cpu" else way.precision
            if of not in rates:
                rates[of] = measure_gemm(settings.device, DTYPES[of])
        except Exception as error:  # noqa: BLE001 - of this way: what a library lacks, say; the others say more
            row = failed(CHECK, what, error)
        else:
            row = _judge(settings, what, pace, base, rates[of], is_profiles=not change)
            if not change:
                base = pace
            elif pace.is_finite and _is_for_runs(settings, way):
                tried.append((change, pace))
        yield of_another_way(row) if change else row
    if base is not None and tried:
        yield _recommend(settings, base, tried)


def ways(settings: CheckSettings) -> Iterator[tuple[str, Way]]:
    """What is tried: the profile's way, by no name; then each other, by the setting that differs."""
    way = settings.way
    yield "", way
    precisions = ("fp32", "bf16") if settings.device == "cpu" else ("fp32", "bf16", "fp16")
    for precision in precisions:
        if precision != way.precision:
            yield f"hardware.precision={precision}", replace(way, precision=precision)
    for seconds in _sizes(settings):
        yield f"hardware.batch_seconds={seconds:g}", replace(way, batch_seconds=seconds)
    other = not way.gradient_checkpointing
    yield f"hardware.gradient_checkpointing={str(other).lower()}", replace(way, gradient_checkpointing=other)
    yield f"hardware.compile={str(not way.compile).lower()}", replace(way, compile=not way.compile)


def _sizes(settings: CheckSettings) -> list[float]:
    """Seconds of other micro-batches that a run could have: of no more than a step, of whose audio it learns."""
    way = settings.way
    if settings.plan_seconds is None:
        return []
    most = max(settings.update_seconds, settings.plan_seconds)
    sizes = [min(multiple * way.batch_seconds, most) for multiple in MULTIPLES[settings.device]]
    by_clips = {len(clip_seconds(replace(way, batch_seconds=seconds))): seconds for seconds in sizes}
    by_clips.pop(len(clip_seconds(way)), None)  # which is the same once more
    return list(by_clips.values())


def described(way: Way) -> str:
    """The profile's way, in words."""
    more = (", gradient checkpointing" if way.gradient_checkpointing else "") + (", compiled" if way.compile else "")
    more += "" if way.attention == "sdpa" else f", {way.attention} attention"
    return f"as in the profile: {way.precision}, {way.batch_seconds:g} s{more}"


def measure_pace(settings: CheckSettings, way: Way) -> Measured:
    """Take a few steps of a new model in this way."""
    device = settings.device
    tune(settings, way)
    learner = Learner.new(settings.size, device, way)
    clips = clip_seconds(way)
    batch = learner.batch(clips)
    losses: list[float] = []
    synchronize(device)
    start = time.perf_counter()
    losses.append(learner.learn(1, batch))
    synchronize(device)
    first = time.perf_counter() - start
    runs, warmup = (1, 0) if first > LONG_STEP_SEC else (NUM_RUNS, 1)
    taken, _ = alternate(lambda: losses.append(learner.learn(2, batch)), None, runs=runs, warmup=warmup, device=device)
    seconds = min(taken)  # what else the machine does only adds
    flops = count_flops(learner.model.config, batch.clip_samples[0]).training * len(clips)
    return Measured(
        way,
        first,
        sum(clips) / seconds,
        flops / seconds / 1e12,
        all(loss - loss == 0 for loss in losses),
        torch.cuda.max_memory_allocated() if device == "cuda" else kept_bytes(device),
    )


def _why_not(settings: CheckSettings, way: Way) -> str | None:
    """Why a way is not even tried here."""
    if is_emulated(settings.device, way.precision):
        return "this device has no units for it"
    if settings.device == "mps" and way.compile:
        return "not on MPS"
    if way.compile and not settings.way.compile and not finds_compiler():
        return "no C compiler is found"
    return shortage(settings, way)


def _is_for_runs(settings: CheckSettings, way: Way) -> bool:
    """Whether a run could gain from a way as a step does: clips that keep their lengths have every shape compiled."""
    return settings.way.compile or not way.compile or settings.clip_lengths > 0


def _judge(
    settings: CheckSettings, what: str, pace: Measured, base: Measured | None, gemm: float, *, is_profiles: bool
) -> Finding:
    share = pace.tflops / gemm
    times = None if base is None else pace.speed / base.speed
    least = LEAST_SHARE[settings.device] * (RECOMPUTING if pace.way.gradient_checkpointing else 1)
    slow = is_profiles and share < least
    advice = "a setting of the rows below, if one is faster" if slow else ""
    if not pace.is_finite:
        advice = "do not train in this way: its losses are no numbers; send doctor.json"
    more = f", {times:.2f}x" if times is not None else ""
    return Finding(
        CHECK,
        what,
        f"{pace.speed:,.3g} audio s/s{more}, {share:.0%} of a product's rate",
        f"at least {least:.0%}" if is_profiles else "",
        "wrong" if not pace.is_finite else "slow" if slow else "ok",
        advice,
        {
            "audio_seconds_per_second": pace.speed,
            "times_the_profile": times,
            "share_of_gemm": share,
            "gemm_tflops_per_second": gemm,
            "first_step_seconds": pace.first_seconds,
            "peak_or_kept_bytes": pace.kept,
            "precision": pace.way.precision,
            "batch_seconds": pace.way.batch_seconds,
            "compile": pace.way.compile,
            "gradient_checkpointing": pace.way.gradient_checkpointing,
        },
    )


def _recommend(settings: CheckSettings, base: Measured, tried: list[tuple[str, Measured]]) -> Finding:
    """The best other setting, if it is faster by enough, and still is when the profile's way is measured again."""
    change, best = max(tried, key=lambda one: one[1].speed)
    times = best.speed / base.speed
    if times > WORTH_A_CHANGE:  # the machine may have been busy meanwhile
        times = best.speed / max(base.speed, measure_pace(settings, base.way).speed)
    slow = times > WORTH_A_CHANGE
    return Finding(
        CHECK,
        f"{settings.size}, the profile's settings",
        f"{change} is {times:.2f}x" if slow else "none is faster by a tenth",
        f"at most {WORTH_A_CHANGE:g}x",
        "slow" if slow else "ok",
        _advice(settings, change, best.way) if slow else "",
        {"best_change": change, "times_the_profile": number_or_none(times)},
    )


def _advice(settings: CheckSettings, change: str, way: Way) -> str:
    """How a run is given this way. It learns the same: of a `batch_seconds` alone its steps would be made anew."""
    if way.batch_seconds != settings.way.batch_seconds:
        return f"--set {change} --set hardware.plan_seconds={settings.plan_seconds}"
    if way.compile != settings.way.compile and way.compile:
        return f"--set {change} for runs of some hours: compiling takes minutes"
    return f"--set {change}"
