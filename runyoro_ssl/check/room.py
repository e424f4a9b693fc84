"""How much memory a way to train takes, as predicted, and how much there is."""

from __future__ import annotations

import torch

from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.bench.subjects import NO_DROPOUT
from runyoro_ssl.check.settings import CheckSettings, Way
from runyoro_ssl.machine import available_memory
from runyoro_ssl.model.allocator import allow, tune_allocator
from runyoro_ssl.model.memory import BatchSettings, Memory, predict_memory
from runyoro_ssl.page.amounts import size
from runyoro_ssl.torchaudio_compat import import_transformers

CLIP_SEC = 15.0
SPARE = 1 << 30
"""Bytes of a GPU that torch does not count, or cannot give."""


def clip_seconds(way: Way) -> list[float]:
    """The clips of a full micro-batch, in seconds: those of the longest that fit, at least one."""
    return [CLIP_SEC] * max(1, int(way.batch_seconds // CLIP_SEC))


def predicted_bytes(settings: CheckSettings, way: Way) -> int:
    """The predicted peak of a step on micro-batches of `clip_seconds`, of what the device counts: tensors alone."""
    memory = predict(settings, way)
    return memory.peak - memory.base - (memory.batches if settings.device == "cpu" else 0)


def predict(settings: CheckSettings, way: Way) -> Memory:
    """The predicted memory of a run on such micro-batches."""
    batch = BatchSettings(
        batch_seconds=way.batch_seconds,
        num_clips=len(clip_seconds(way)),
        accumulates=False,
        padded=False,
        precision=way.precision,  # type: ignore[arg-type]  # checked to be one
        gradient_checkpointing=way.gradient_checkpointing,
        compile=way.compile,
        attention=way.attention,  # type: ignore[arg-type]  # as well
        device=settings.device,  # type: ignore[arg-type]  # as well
    )
    config = import_transformers().Wav2Vec2Config(**SIZES[settings.size], **NO_DROPOUT)
    return predict_memory(config, batch)


def shortage(settings: CheckSettings, way: Way) -> str | None:
    """What a step is predicted to take and what is free, where that is less."""
    predicted, free = predicted_bytes(settings, way), free_bytes(settings.device)
    return f"{size(predicted)} predicted, {size(free)} free" if predicted > free else None


def tune(settings: CheckSettings, way: Way) -> None:
    """Have a CPU's allocator do what it does in a run."""
    if settings.device == "cpu":
        tune_allocator(keep=allow(predict(settings, way), keep_freed_memory=settings.keep_freed_memory).keeps)


def free_bytes(device: str) -> int:
    """The bytes that this process can have on a device, those it keeps unused among them."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated() - SPARE
    if device == "mps":
        return int(torch.mps.recommended_max_memory()) - torch.mps.current_allocated_memory()
    return available_memory()
