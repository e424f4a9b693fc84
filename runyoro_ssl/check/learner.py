"""A model that learns from noise as a run would, and the memory that its device holds meanwhile."""

from __future__ import annotations

import gc
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.batches.plan import Update
from runyoro_ssl.bench.subjects import (
    SAMPLE_RATE,
    NoiseClips,
    build_accelerator,
    build_batches,
    build_model,
    build_stepper,
)
from runyoro_ssl.check.settings import Way
from runyoro_ssl.evaluate.metrics import Meter
from runyoro_ssl.model.load import set_up
from runyoro_ssl.train.step import Stepper


@dataclass
class Learner:
    """A model on its device, with its optimizer."""

    device: str
    model: Any
    accelerator: Any
    stepper: Stepper
    meter: Meter

    @classmethod
    def of(cls, model: Any, device: str, way: Way, *, total_steps: int = 1_000_000) -> Learner:
        """A learner of this model, which is moved to the device and set up there."""
        accelerator = build_accelerator(device, way.precision)
        model = model.to(device)
        model.set_attn_implementation(way.attention)
        set_up(model, device=device, gradient_checkpointing=way.gradient_checkpointing, compile_layers=way.compile)
        stepper = build_stepper(model, accelerator, total_steps=total_steps)
        return cls(device, model, accelerator, stepper, Meter(accelerator, model.config))

    @classmethod
    def new(cls, size: str, device: str, way: Way) -> Learner:
        """A learner of a new model of a size (`bench.sizes`), in memory that others have left."""
        release(device)
        return cls.of(build_model(size, device), device, way)

    def scale_losses(self, scale: float) -> None:
        """Begin with this scale of losses in fp16, which overflows in no step that is compared."""
        if scaler := self.accelerator.scaler:
            scaler.load_state_dict({**scaler.state_dict(), "scale": scale})

    def learn(self, step: int, batch: TrainingBatch) -> float:
        """Take one step (the first is 1). Returns the contrastive loss of a masked frame before it, in nats."""
        self.stepper.take(Update(step, 0.0, (batch.plan,)), [batch], self.meter)
        return float(self.stepper.losses[0][1]) / batch.num_masked

    def batch(self, clip_seconds: Sequence[float]) -> TrainingBatch:
        """A micro-batch of clips of these lengths, on the device."""
        noise = NoiseClips.of([round(seconds * SAMPLE_RATE) for seconds in clip_seconds])
        batch = build_batches(self.model, noise)[MicroBatch.of(range(len(clip_seconds)))]
        return batch.to(self.accelerator.device)


def release(device: str) -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif device == "mps":
        torch.mps.empty_cache()


def kept_bytes(device: str) -> int | None:
    """The bytes that this process keeps on a device, in use or not; None where the CPU's are not told."""
    if device == "cuda":
        return torch.cuda.memory_reserved()
    if device == "mps":
        return torch.mps.driver_allocated_memory()
    try:
        resident = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(resident) * mmap.PAGESIZE
