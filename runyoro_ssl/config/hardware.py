"""The settings of one machine: the only ones that a profile may set."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from runyoro_ssl.devices import Device
from runyoro_ssl.setting import Section, setting


class HardwareConfig(Section):
    """What one machine can do; the only section a profile may set."""

    device: Device = setting("cpu", decides="rounding")
    """Where the network runs."""
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", decides="rounding")
    """Autocast type of the network; the loss is always computed in fp32."""
    batch_seconds: PositiveFloat = setting(32.0, decides="machine")
    """Audio seconds of one micro-batch, padding included."""
    update_seconds: PositiveFloat = setting(240.0, decides="steps")
    """Audio seconds behind one optimizer step, over all micro-batches and processes."""
    clip_lengths: int = setting(0, decides="steps", ge=0, le=32)
    """Crop or pad every clip to one of this many lengths, chosen to waste little; long clips may give two pieces.
    Then the device sees few shapes. 0: clips keep their lengths, and are padded to the longest of their micro-batch."""
    per_device_train_batch_size: PositiveInt | None = setting(None, decides="machine", flag_of="train")
    """Clips of one micro-batch; replaces the profile's `hardware.batch_seconds`."""
    gradient_accumulation_steps: PositiveInt | None = setting(None, decides="steps", flag_of="train")
    """Micro-batches of each process behind one step; replaces the profile's `hardware.update_seconds`."""
    dataloader_num_workers: NonNegativeInt = setting(0, decides="machine", flag_of="train")
    """Processes that build training batches; 0 builds them in the training process."""
    sharding: Literal["auto", "none", "full"] = setting("auto", decides="rounding")
    """What each of several processes holds of weights, gradients and moments: all (none), or its part (full).
    auto: its part, where all does not fit."""
    num_workers: PositiveInt = setting(2, decides="machine", flag_of="manifest prepare")
    """Processes that decode audio in `manifest` and `prepare`."""
    gradient_checkpointing: bool = setting(default=False, decides="rounding", flag_of="train")
    """Recompute each layer in the backward pass: less memory, about a third more time."""
    keep_freed_memory: bool | None = setting(None, decides="machine")
    """On a CPU with glibc: keep what is freed for the next step, faster, but up to two and three
    quarters times what a step takes and gives back. Not set: where there is so much."""
    attention: Literal["sdpa", "eager"] = setting("sdpa", decides="rounding")
    """Implementation of attention: fused where the device has it, or plain."""
    compile: bool = setting(default=False, decides="rounding")
    """torch.compile each Transformer layer."""
