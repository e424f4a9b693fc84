"""The memory that a step takes beside what was predicted, and what the device keeps over many shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.batches.lengths import fewer_shapes
from runyoro_ssl.batches.micro_batches import MicroBatch, PlanSettings
from runyoro_ssl.batches.plan import plan_epoch
from runyoro_ssl.bench.measure import peak_bytes
from runyoro_ssl.bench.subjects import SAMPLE_RATE, NoiseClips, build_batches, uniform_lengths
from runyoro_ssl.check.finding import SMALLER, Finding, failed, not_done, of_another_way
from runyoro_ssl.check.learner import Learner, kept_bytes, release
from runyoro_ssl.check.room import clip_seconds, free_bytes, predicted_bytes, shortage
from runyoro_ssl.check.settings import CheckSettings, Way
from runyoro_ssl.page.amounts import size

CHECK = "memory"
CACHE = "cache"
WITHIN = 0.15
"""The prediction is held to this share on a CPU and on CUDA."""
WITHIN_ON_MPS = 0.5
"""MPS tells what it keeps, not what is in use; never measured so far."""
NUM_SHAPES = 6
NUM_ROUNDS = 3
GROWTH = 0.05
"""Of what is kept, between the last two rounds: by then every shape has been there twice."""


def check_memory(settings: CheckSettings) -> Iterator[Finding]:
    """The peak of a step, with and without gradient checkpointing, beside the prediction."""
    way = settings.way
    for checkpointing in (way.gradient_checkpointing, not way.gradient_checkpointing):
        row = _check_peak(settings, replace(way, gradient_checkpointing=checkpointing, compile=False))
        yield row if checkpointing == way.gradient_checkpointing else of_another_way(row)


def _check_peak(settings: CheckSettings, way: Way) -> Finding:
    what = f"{settings.size}, micro-batch of {way.batch_seconds:g} s, {way.precision}"
    what += ", gradient checkpointing" if way.gradient_checkpointing else ""
    predicted = predicted_bytes(settings, way)
    if predicted > free_bytes(settings.device):
        return not_done(CHECK, what, f"{size(predicted)} predicted, {size(free_bytes(settings.device))} free")
    try:
        peak = measure_peak(settings, way)
    except RuntimeError as error:  # memory that ran out in this way: the other says more
        return failed(CHECK, what, error)
    within = WITHIN_ON_MPS if settings.device == "mps" else WITHIN
    ratio = peak / predicted
    too_much, too_little = ratio > 1 + within, ratio < 1 - within
    advice = f"a run may need more memory than it is told: {SMALLER}; send doctor.json"
    return Finding(
        CHECK,
        what,
        size(peak),
        f"{size(predicted)}, within {within:.0%}",
        "wrong" if too_much or too_little else "ok",
        advice if too_much else "micro-batches could be larger than predicted; send doctor.json" if too_little else "",
        {"peak_bytes": peak, "predicted_bytes": predicted},
    )


def measure_peak(settings: CheckSettings, way: Way) -> int:
    """The most bytes in use during a step, the optimizer's states being there already. On MPS: kept after it."""
    device = settings.device
    release(device)
    before = kept_bytes(device) if device == "mps" else torch.cuda.memory_allocated() if device == "cuda" else 0
    learner = Learner.new(settings.size, device, way)
    batch = learner.batch(clip_seconds(way))
    learner.learn(1, batch)
    if device == "mps":
        return (kept_bytes(device) or 0) - (before or 0)
    states = [value for state in learner.stepper.optimizer.state.values() for value in state.values()]
    held: int = sum(tensor.nbytes for tensor in [*learner.model.parameters(), *states])
    if device == "cuda":
        held = torch.cuda.memory_allocated() - (before or 0)
    return held + (peak_bytes(lambda: learner.learn(2, batch), device) or 0)


def check_cache(settings: CheckSettings) -> Iterator[Finding]:
    """What the device keeps after each round over the shapes of a plan; it must stop growing."""
    what = f"{settings.size}, {settings.way.precision}, after each of {NUM_ROUNDS} rounds over"
    if kept_bytes(settings.device) is None:
        yield not_done(CACHE, what, "this system does not tell what a process holds")
        return
    if short := shortage(settings, settings.way):
        yield not_done(CACHE, what, short)
        return
    learner = Learner.new(settings.size, settings.device, replace(settings.way, compile=False))
    batches = plan_shapes(learner, settings)
    kept: list[int] = []
    for number in range(NUM_ROUNDS):
        for step, batch in enumerate(batches, start=1):
            learner.learn(number * len(batches) + step, batch.to(learner.accelerator.device))
        kept.append(kept_bytes(settings.device) or 0)
    growth = kept[-1] / kept[-2] - 1
    grows = growth > GROWTH
    yield Finding(
        CACHE,
        f"{what} {len(batches)} shapes",
        ", ".join(map(size, kept)),
        f"last round at most {GROWTH:.0%} more",
        "wrong" if grows else "ok",
        f"send doctor.json{_way_out(settings)}" if grows else "",
        {"kept_bytes": kept, "shapes": [list(batch.waveforms.shape) for batch in batches]},
    )


def _way_out(settings: CheckSettings) -> str:
    """What may help against a cache that grows."""
    if settings.device == "cpu":
        return "" if settings.keep_freed_memory is False else "; --set hardware.keep_freed_memory=false"
    fewer = fewer_shapes(settings.clip_lengths)
    return f"; or, for a new run, which then learns from other crops, {fewer}" if fewer else ""


def plan_shapes(learner: Learner, settings: CheckSettings) -> list[TrainingBatch]:
    """Micro-batches of clips of 2 to 15 s as a plan makes them, one of each shape, and few."""
    samples = settings.way.batch_seconds * SAMPLE_RATE
    lengths = uniform_lengths(4 * NUM_SHAPES * settings.way.batch_seconds)
    plan = plan_epoch(lengths, PlanSettings(samples, samples, num_lengths=settings.clip_lengths), seed=0, epoch=0)
    builder = build_batches(learner.model, NoiseClips.of(lengths))
    shapes: dict[object, MicroBatch] = {}
    for plan_of_step in plan:
        for batch in plan_of_step:
            longest = batch.length or max(lengths[clip] for clip in batch.clips)
            shapes.setdefault((len(batch.pieces), longest), batch)
    return [builder[batch] for batch in list(shapes.values())[:NUM_SHAPES]]
