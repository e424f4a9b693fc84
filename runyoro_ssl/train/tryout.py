"""The largest micro-batch of a run, tried before its first step; where memory is short, a smaller one."""

from __future__ import annotations

import gc
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from runyoro_ssl.batches.build import BatchBuilder, TrainingBatch
from runyoro_ssl.batches.forward import run_objective
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.builtins.collators import PaddedCollator
from runyoro_ssl.config import FittedHardware
from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.activations import FP32
from runyoro_ssl.model.allocator import give_back_freed
from runyoro_ssl.model.at_hand import free_memory
from runyoro_ssl.model.counts import OptimizerKind, state_bytes
from runyoro_ssl.model.fit import too_little
from runyoro_ssl.model.load import set_up
from runyoro_ssl.model.memory import BatchSettings, largest_shape
from runyoro_ssl.processes import sum_over_processes
from runyoro_ssl.train.checkpoints.generators import generator_states, restore_generators
from runyoro_ssl.train.fitting import Fitted, Material

log = get_logger()
BECAUSE = "memory was short of more when it was tried"


@dataclass(frozen=True)
class MadeUpClips:
    """Clips of noise of these lengths, in samples."""

    lengths: tuple[int, ...]

    def num_samples(self, clip: int) -> int:
        """Length of a clip."""
        return self.lengths[clip]

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """float32 (T,) in [-1, 1]."""
        noise = np.random.default_rng(clip).uniform(-1, 1, self.lengths[clip]).astype(np.float32)
        return noise[start : None if num_samples is None else start + num_samples]


def try_out(fitted: Fitted, material: Material, model: Any, accelerator: Any) -> Fitted:
    """Try the largest micro-batch on the model, forward and backward, and smaller ones until memory holds one.

    Only where its size was decided here; what the user gives is taken. It leaves no trace: no gradient, no draw.

    Raises:
        TrainingError: Memory does not hold a single clip.
    """
    if "batch_seconds" not in fitted.reasons:
        return fitted
    train = fitted.config.train
    more = 0 if train.ema_decay is None else FP32
    while True:
        batch = _largest_batch(fitted, material, model)
        if not sum_over_processes(accelerator, int(not fits(model, accelerator, batch, train.optimizer, more))):
            return fitted
        tried = fitted.config.hardware
        fitted = _smaller(fitted, material, model)
        log.warning("micro_batch_too_large", tried=_words(tried), now=_words(fitted.config.hardware), because=BECAUSE)
        if fitted.config.hardware.gradient_checkpointing and not tried.gradient_checkpointing:
            set_up(model, device=tried.device, gradient_checkpointing=True, compile_layers=False)


def fits(model: Any, accelerator: Any, batch: TrainingBatch, optimizer: OptimizerKind, more: int = 0) -> bool:
    """Whether memory holds a micro-batch beside the optimizer's moments and the gradients of those before it.

    `more`: bytes that are kept of each weight that learns besides.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    generators = generator_states(accelerator.device)
    try:
        sizes = [state_bytes([one.numel()], optimizer) + more * one.numel() for one in parameters]
        moments = [torch.empty(size, dtype=torch.uint8, device=accelerator.device) for size in sizes]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        accelerator.backward(run_objective(accelerator, model, batch.to(accelerator.device)).loss)
        del moments
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        for parameter in parameters:
            parameter.grad = None
        restore_generators(generators, accelerator.device)
    return True


def _largest_batch(fitted: Fitted, material: Material, model: Any) -> TrainingBatch:
    """Noise in the shape that needs most; one clip is a little shorter, so that there is a mask if there may be one."""
    give_back(fitted.config.hardware.device)
    extractor, config = material.extractor, fitted.config
    settings = _settings(fitted, material)
    clips, seconds = largest_shape(model.config, settings)
    lengths = [round(seconds * extractor.sampling_rate)] * clips
    if clips > 1 and settings.padded:
        lengths[-1] = math.ceil(0.9 * lengths[-1])
    builder = BatchBuilder(
        clips=MadeUpClips(tuple(lengths)),
        model_config=model.config,
        masking=config.masking,
        collator=PaddedCollator(),
        augmentations=(),
        do_normalize=extractor.do_normalize,
        use_attention_mask=extractor.return_attention_mask,
        seed=config.train.seed,
    )
    return builder[MicroBatch.of(range(clips))]


def _smaller(fitted: Fitted, material: Material, model: Any) -> Fitted:
    """Half as much; and when that is one clip, with its layers recomputed, if the user leaves that open."""
    hardware, longest = fitted.config.hardware, material.longest_sec
    if hardware.batch_seconds > longest:
        seconds = max(longest, hardware.batch_seconds / 2)
        return fitted.with_hardware({"batch_seconds": BECAUSE}, batch_seconds=seconds)
    if not hardware.gradient_checkpointing and "gradient_checkpointing" in fitted.reasons:
        return fitted.with_hardware({"gradient_checkpointing": BECAUSE}, gradient_checkpointing=True)
    raise too_little(model.config, _settings(fitted, material), free_memory(hardware.device))


def _settings(fitted: Fitted, material: Material) -> BatchSettings:
    padded = material.extractor.return_attention_mask
    return BatchSettings.of(fitted.config, padded=padded, clip_seconds=material.longest_sec)


def _words(hardware: FittedHardware) -> str:
    return f"{hardware.batch_seconds:g} s" + (", gradient checkpointing" if hardware.gradient_checkpointing else "")


def give_back(device: str) -> None:
    """Give back the memory of what nobody holds any more."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
    else:
        give_back_freed()
