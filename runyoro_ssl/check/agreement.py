"""Block by block against the CPU in fp32: is what this device computes what it should be?"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.bench.subjects import SAMPLE_RATE, InPrecision, NoiseClips, build_batches, build_model
from runyoro_ssl.check.blocks import BLOCKS, Block, Outcome, run_block
from runyoro_ssl.check.finding import Finding, failed, number_or_none, of_another_way
from runyoro_ssl.check.room import CLIP_SEC, clip_seconds
from runyoro_ssl.check.settings import CheckSettings
from runyoro_ssl.model.load import set_up
from runyoro_ssl.model.precision import set_precision

CHECK = "blocks"
LIMITS = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 1e-2, "bf16": 1e-1}
"""Of the relative difference of gradients. Measured on a CPU: 5e-6 in fp32, 5e-2 in bf16; on an NVIDIA H200: 1e-6 in
fp32, 1e-3 in TF32."""
FORWARD = 0.3
"""Of that limit, for what goes forward. Measured: 1e-6 and 1e-2."""
SMALLEST_SHARE = 0.05
"""Of the norm of all gradients: a smaller one is held against this. That of the keys' bias is 0, and all noise."""
SHAPES = {
    "one clip": (3.0,),
    "three clips": (3.0, 3.0, 3.0),
    "padded clips": (3.0, 2.2, 1.5),
}
"""Seconds of each clip."""


def check_blocks(settings: CheckSettings) -> Iterator[Finding]:
    """Each block in each shape and precision: forward and backward, beside the reference on the CPU."""
    reference = build_model(settings.small, "cpu")
    model = copy.deepcopy(reference).to(settings.device)
    model.set_attn_implementation(settings.way.attention)
    set_up(model, device=settings.device, gradient_checkpointing=False, compile_layers=False)
    reference.set_attn_implementation("eager")
    for shape, batch in batches(reference, settings):
        for block in BLOCKS:
            yield from _check_block(block, shape, batch, (reference, model), settings)


def batches(model: Any, settings: CheckSettings) -> Iterator[tuple[str, TrainingBatch]]:
    """The micro-batches that are tried, by name; the last is as large as a run's."""
    largest = clip_seconds(settings.way)
    shapes = {**SHAPES, f"{len(largest)} clips of {CLIP_SEC:g} s": tuple(largest)}
    for name, lengths in shapes.items():
        noise = NoiseClips.of([round(one * SAMPLE_RATE) for one in lengths])
        yield name, build_batches(model, noise)[MicroBatch.of(range(len(lengths)))]


def _check_block(
    block: Block, shape: str, batch: TrainingBatch, models: tuple[Any, Any], settings: CheckSettings
) -> Iterator[Finding]:
    reference, model = models
    inputs = block.draw(reference, batch, torch.Generator().manual_seed(0))
    cpu = InPrecision(torch.device("cpu"), "fp32")
    expected = run_block(block, reference, inputs, by=block.reference, accelerator=cpu, in_chunks=True)
    *_, of_run = names = precisions(settings)
    for name in names:
        what = f"{block.name}, {shape}, {name}"
        try:
            with precision(settings.device, name):
                accelerator = InPrecision(torch.device(settings.device), "fp32" if name == "tf32" else name)
                seen = run_block(block, model, inputs, by=block.ours, accelerator=accelerator)
        except RuntimeError as error:  # of this shape, in this precision: the others say more
            row = failed(CHECK, what, error)
            yield row if name == of_run else of_another_way(row)
        else:
            yield _judge(what, expected, seen, LIMITS[name])


def precisions(settings: CheckSettings) -> list[str]:
    """fp32 as exact as the device can, which shows best what is wrong; last what a run takes: on CUDA TF32 for fp32."""
    of_run = "tf32" if (settings.device, settings.precision) == ("cuda", "fp32") else settings.precision
    return list(dict.fromkeys(["fp32", of_run]))


@contextmanager
def precision(device: str, name: str) -> Iterator[None]:
    """Products in exact fp32, or as a run has them; afterwards as a run has them."""
    set_precision(device, "fp32")
    try:
        if name == "fp32":
            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.allow_tf32 = False
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = True
        set_precision(device, "fp32")


def _judge(what: str, expected: Outcome, seen: Outcome, limit: float) -> Finding:
    forward = relative_difference(expected.output, seen.output)
    backward, worst = worst_gradient(expected.gradients, seen.gradients)
    wrong = not (forward <= FORWARD * limit and backward <= limit)  # NaN is within no limit
    return Finding(
        CHECK,
        what,
        f"forward {forward:.1e}, backward {backward:.1e}",
        f"at most {FORWARD * limit:.0e}, {limit:.0e}",
        "wrong" if wrong else "ok",
        f"do not train here in this precision: the gradient of {worst} is off most; send doctor.json" if wrong else "",
        {
            "forward_difference": number_or_none(forward),
            "backward_difference": number_or_none(backward),
            "most_different": worst,
            "limit": limit,
        },
    )


def relative_difference(expected: torch.Tensor, seen: torch.Tensor) -> float:
    """The norm of the difference, of the expected norm."""
    return float((seen - expected).norm() / expected.norm().clamp(min=torch.finfo(torch.float32).tiny))


def worst_gradient(expected: Mapping[str, torch.Tensor], seen: Mapping[str, torch.Tensor]) -> tuple[float, str]:
    """The largest difference of a gradient, as a share of its norm or of a part of all; and whose. inf: none."""
    norms = {name: float(gradient.norm()) for name, gradient in expected.items()}
    least = SMALLEST_SHARE * sum(norm**2 for norm in norms.values()) ** 0.5
    differences = {
        name: float((seen[name] - gradient).norm()) / max(norms[name], least, torch.finfo(torch.float32).tiny)
        if name in seen
        else float("inf")
        for name, gradient in expected.items()
    }
    worst = max(differences, key=lambda name: (differences[name] != differences[name], differences[name]))
    return differences[worst], worst
