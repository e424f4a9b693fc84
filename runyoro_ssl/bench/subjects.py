"""What is measured: models by size, clips of noise, and our step around them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from runyoro_ssl.batches.build import BatchBuilder
from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.model.precision import set_precision
from runyoro_ssl.torchaudio_compat import import_transformers
from runyoro_ssl.train.optim import build_optimizer
from runyoro_ssl.train.step import Stepper

SAMPLE_RATE = 16_000
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop"), 0.0
)
"""On both sides: what is dropped would differ."""
MASKING = SimpleNamespace(
    mask_time_prob=0.65,
    mask_time_length=10,
    mask_time_min_spans=2,
    mask_feature_prob=0.0,
    mask_feature_length=10,
    mask_feature_min_spans=0,
)
TRAINING = SimpleNamespace(
    learning_rate=5e-5,
    warmup_steps=None,
    constant_after_warmup=False,
    optimizer="adamw",
    weight_decay=0.01,
    adam_beta1=0.9,
    adam_beta2=0.98,
    adam_epsilon=1e-6,
    max_grad_norm=1.0,
    feature_encoder_lr_scale=0.1,
    freeze_feature_encoder=False,
    train_only="all",
    layer_decay=1.0,
    gumbel_temperature_start=2.0,
    gumbel_temperature_end=0.5,
    seed=42,
)
"""The defaults of runyoro_ssl/config/, which needs pydantic."""


@dataclass(frozen=True)
class NoiseClips:
    """Clips of noise in memory, kept as int16 like a prepared dataset's."""

    samples: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, lengths: Sequence[int], *, seed: int = 0) -> NoiseClips:
        """One clip for each length, in samples."""
        generator = np.random.default_rng(seed)
        return cls(tuple((3000 * generator.standard_normal(length)).astype(np.int16) for length in lengths))

    def num_samples(self, clip: int) -> int:
        """Length of a clip."""
        return len(self.samples[clip])

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """float32 (T,) in [-1, 1]: a clip, or a window of it."""
        stop = None if num_samples is None else start + num_samples
        return self.samples[clip][start:stop].astype(np.float32) / np.float32(32768)


def equal_clips(seconds: float, clip_seconds: float) -> NoiseClips:
    """Clips of one length that add up to about this many seconds, at least one."""
    length = round(clip_seconds * SAMPLE_RATE)
    return NoiseClips.of([length] * max(1, round(seconds * SAMPLE_RATE / length)))


def uniform_lengths(seconds: float, *, seed: int = 0) -> tuple[int, ...]:
    """Lengths of clips of 2 to 15 s, in samples, that add up to about this many seconds."""
    draw = random.Random(seed)  # noqa: S311 - not for cryptography
    lengths: list[int] = []
    while sum(lengths) < seconds * SAMPLE_RATE:
        lengths.append(int(draw.uniform(2, 15) * SAMPLE_RATE))
    return tuple(lengths)


def build_model(size: str, device: str) -> Any:
    """A Wav2Vec2ForPreTraining of random weights, in training mode."""
    transformers = import_transformers()
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**SIZES[size], **NO_DROPOUT)
    with torch.device(device):  # the largest part is drawn there; transformers makes a few parameters on the CPU
        return transformers.Wav2Vec2ForPreTraining(config).to(device).train()


def build_accelerator(device: str, precision: str) -> Any:
    """An Accelerator on a device, with its precision, whatever others there were in this process."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # noqa: SLF001 - it keeps the precision of the first in a process
    return Accelerator(mixed_precision=set_precision(device, precision), cpu=device == "cpu")


class InPrecision:
    """What the forward and backward pass need of an Accelerator, in a precision of its own."""

    def __init__(self, device: torch.device, precision: str) -> None:
        self.device, self._dtype = device, DTYPES[precision]

    def autocast(self) -> Any:
        """Autocast to the precision; nothing for fp32."""
        return nullcontext() if self._dtype is torch.float32 else torch.autocast(self.device.type, self._dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Run the backward pass, without loss scaling: no one waits for what it would learn."""
        loss.backward()  # type: ignore[no-untyped-call]


def build_stepper(model: Any, accelerator: Any, *, total_steps: int) -> Stepper:
    """Our training step with its default settings."""
    settings: Any = TRAINING
    optimizer = accelerator.prepare(build_optimizer(model, settings))
    return Stepper(accelerator, model, optimizer, settings, total_steps, report=_refuse_to_split)


def _refuse_to_split(_num_parts: int) -> None:
    """A bench measures the micro-batch it was asked for."""
    raise torch.OutOfMemoryError("out of memory")


def build_batches(model: Any, clips: NoiseClips) -> BatchBuilder:
    """Our batches: padded, normalised, masked."""
    from runyoro_ssl.builtins.collators import PaddedCollator

    masking: Any = MASKING
    return BatchBuilder(
        clips=clips,
        model_config=model.config,
        masking=masking,
        collator=PaddedCollator(),
        augmentations=(),
        do_normalize=True,
        use_attention_mask=model.config.feat_extract_norm == "layer",
        seed=0,
    )
