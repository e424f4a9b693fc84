"""The settings of a check: what a run on this device would be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runyoro_ssl.bench.options import PRECISIONS
from runyoro_ssl.bench.run import one_of, positive, present_device
from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.check.options import CheckOptions
from runyoro_ssl.errors import ConfigError

if TYPE_CHECKING:
    from runyoro_ssl.config import HardwareConfig  # the check runs where there is no pydantic


@dataclass(frozen=True)
class Way:
    """A way to train: the settings of `HardwareConfig` that decide memory and speed, by their names there."""

    precision: str
    batch_seconds: float
    gradient_checkpointing: bool = False
    compile: bool = False


PROFILES = {
    "cuda": (Way("bf16", 120.0), 0),
    "mps": (Way("fp32", 30.0, gradient_checkpointing=True), 6),
    "cpu": (Way("fp32", 32.0), 0),
}
"""What the shipped profile of a device says, and its `clip_lengths`, for where profiles cannot be read."""


@dataclass(frozen=True)
class CheckSettings:
    """What to check. `way`: that of the profile. `size`: of which speed and memory are measured; `small`: of the rest.

    `minutes`: after them nothing new is begun.
    """

    device: str
    way: Way
    clip_lengths: int
    size: str
    minutes: float
    json: Path
    small: str = "small"

    @property
    def precision(self) -> str:
        """The precision of a run."""
        return self.way.precision


def resolve_check(options: CheckOptions, hardware: HardwareConfig | None = None) -> CheckSettings:
    """Settings from options as they were typed, and from `hardware`, what a run is set to; None: the shipped profile.

    Raises:
        ConfigError: Names the option, the value seen and what is accepted.
    """
    device = present_device(options.device)
    way, clip_lengths = PROFILES[device]
    if hardware is not None:
        way, clip_lengths = _of_hardware(hardware)
    precision = one_of("--precision", options.precision or way.precision, PRECISIONS)
    if precision == "fp16" and device == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; use --precision bf16 or fp32 with --device cpu")
    return CheckSettings(
        device=device,
        way=Way(precision, way.batch_seconds, way.gradient_checkpointing, way.compile),
        clip_lengths=clip_lengths,
        size=one_of("--size", options.size or ("small" if device == "cpu" else "xls-r-300m"), tuple(SIZES)),
        minutes=positive("--minutes", options.minutes, float),
        json=Path(options.json),
    )


def _of_hardware(hardware: HardwareConfig) -> tuple[Way, int]:
    return (
        Way(hardware.precision, hardware.batch_seconds, hardware.gradient_checkpointing, hardware.compile),
        hardware.clip_lengths,
    )
