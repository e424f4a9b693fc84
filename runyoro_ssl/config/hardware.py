"""The settings of one machine: the only ones that a profile may set.

What is `auto` is decided before a run, from the machine, the model and the clips: `FittedHardware` is what comes of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from runyoro_ssl.devices import Device
from runyoro_ssl.machine import usable_workers
from runyoro_ssl.option import AUTO, Auto
from runyoro_ssl.processes import LOADER_PATIENCE_SEC
from runyoro_ssl.setting import Section, setting

Precision = Literal["fp32", "bf16", "fp16"]
NumLengths = Annotated[int, Field(ge=0, le=32)]
Workers = Annotated[PositiveInt, BeforeValidator(lambda value: usable_workers() if value == AUTO else value)]
"""Nothing but the machine decides it: `auto` is a number as soon as it is read."""


class HardwareConfig(Section):
    """What one machine can do; the only section a profile may set."""

    device: Device = setting("cpu", decides="rounding")
    """Where the network runs."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(AUTO, decides="rounding")
    """Autocast type of the network; the loss is always computed in fp32. auto: on a CPU bf16 where a product, timed
    there and then, is fast enough in it; on CUDA bf16, or fp16 where the GPU has no units for that; on MPS fp32."""
    batch_seconds: PositiveFloat | Auto = setting(AUTO, decides="machine")
    """Audio seconds of one micro-batch, padding included. auto: as much as makes the device fast, if memory holds it;
    that much is tried before the first step."""
    update_seconds: PositiveFloat = setting(240.0, decides="steps")
    """Audio seconds behind one optimizer step, over all micro-batches and processes. The same on every machine: what is
    learned follows from it, and the usual learning rate suits 4 minutes."""
    plan_seconds: PositiveFloat | Auto = setting(AUTO, decides="steps")
    """Clips of like length are grouped by so much audio, and optimizer steps are made of whole groups, whatever
    `batch_seconds` the machine cuts them into. auto: an eighth of `update_seconds`, or the longest clip; where
    micro-batches are given by hand, these are the groups."""
    clip_lengths: NumLengths | Auto = setting(AUTO, decides="steps")
    """Crop or pad every clip to one of this many lengths, chosen to waste little; long clips may give two pieces.
    Then the device sees few shapes. 0: clips keep their lengths, and are padded to the longest of their micro-batch.
    auto: 5 on MPS; on CUDA 5 where each length then fills micro-batches; else 0."""
    per_device_train_batch_size: PositiveInt | None = setting(None, decides="machine", flag_of="train")
    """Clips of one micro-batch; replaces `hardware.batch_seconds`."""
    gradient_accumulation_steps: PositiveInt | None = setting(None, decides="steps", flag_of="train")
    """Micro-batches of each process behind one step; replaces `hardware.update_seconds`."""
    dataloader_num_workers: NonNegativeInt | Auto = setting(AUTO, decides="machine", flag_of="train")
    """Processes that build training batches; 0 builds them in the training process. auto: 0, but on CUDA."""
    loader_patience_sec: PositiveFloat = setting(LOADER_PATIENCE_SEC, decides="machine")
    """Seconds without a batch, and 20 times what is usual, after which a process that builds them counts as hung, and
    is replaced, once. Where the training process builds them itself, a line says that it hangs."""
    sharding: Literal["auto", "none", "full"] = setting("auto", decides="rounding")
    """What each of several processes holds of weights, gradients and moments: all (none), or its part (full).
    auto: its part, where all does not fit."""
    num_workers: Workers = setting(AUTO, decides="machine", flag_of="manifest prepare", validate_default=True)
    """Processes that decode audio in `manifest` and `prepare`. auto: one for each core, as memory allows."""
    gradient_checkpointing: bool | Auto = setting(AUTO, decides="rounding", flag_of="train")
    """Recompute each layer in the backward pass: less memory, about a third more time. auto: where micro-batches would
    else be so small that it costs more."""
    keep_freed_memory: bool | None = setting(None, decides="machine")
    """On a CPU with glibc: keep what is freed for the next step, faster, but up to two and three
    quarters times what a step takes and gives back. Not set: where there is so much."""
    attention: Literal["sdpa", "eager"] = setting("sdpa", decides="rounding")
    """Implementation of attention: fused where the device has it, or plain."""
    compile: bool | Auto = setting(AUTO, decides="rounding")
    """torch.compile each Transformer layer. auto: on CUDA in long runs of few shapes, which gain more than it costs."""

    fitted: tuple[str, ...] = setting((), decides="nothing")
    """In a run.toml: the settings of this section that were decided for the machine; a run that goes on decides them
    again where it must."""


class FittedHardware(HardwareConfig):
    """The same with every value decided: what a run works with, and run.toml has."""

    precision: Precision
    batch_seconds: PositiveFloat
    plan_seconds: PositiveFloat
    clip_lengths: NumLengths
    dataloader_num_workers: NonNegativeInt
    gradient_checkpointing: bool
    compile: bool
