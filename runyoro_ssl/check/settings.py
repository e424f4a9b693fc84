"""The settings of a check: what a run on this device would be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from runyoro_ssl.bench.options import PRECISIONS
from runyoro_ssl.bench.run import one_of, positive, present_device
from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.bench.subjects import NO_DROPOUT
from runyoro_ssl.check.options import CheckOptions
from runyoro_ssl.errors import ConfigError, TrainingError
from runyoro_ssl.model.at_hand import look
from runyoro_ssl.model.fit import OPEN, RunAtHand, decide
from runyoro_ssl.model.memory import BatchSettings
from runyoro_ssl.option import AUTO
from runyoro_ssl.torchaudio_compat import import_transformers

if TYPE_CHECKING:
    from runyoro_ssl.config import HardwareConfig  # the check runs where there is no pydantic


@dataclass(frozen=True)
class Way:
    """A way to train: the settings of `HardwareConfig` that decide memory and speed, by their names there."""

    precision: str
    batch_seconds: float
    gradient_checkpointing: bool = False
    compile: bool = False
    attention: str = "sdpa"


UPDATE_SECONDS = 240.0
NOT_SET = {
    **dict.fromkeys(OPEN, AUTO),
    "update_seconds": UPDATE_SECONDS,
    "per_device_train_batch_size": None,
    "gradient_accumulation_steps": None,
    "keep_freed_memory": None,
    "attention": "sdpa",
}
"""The settings of `HardwareConfig` that a check tries, with their defaults, for where there is no pydantic."""


@dataclass(frozen=True)
class CheckSettings:
    """What to check. `way`: that of a run. `size`: of which speed and memory are measured; `small`: of the rest.

    `minutes`: after them nothing new is begun. `plan_seconds`: of the groups that a run's steps are made of; None:
    micro-batches are counted, and of one size. The other names are those of `HardwareConfig`.
    """

    device: str
    way: Way
    clip_lengths: int
    size: str
    minutes: float
    json: Path
    small: str = "small"
    plan_seconds: float | None = None
    update_seconds: float = UPDATE_SECONDS
    keep_freed_memory: bool | None = None

    @property
    def precision(self) -> str:
        """The precision of a run."""
        return self.way.precision


def resolve_check(options: CheckOptions, hardware: HardwareConfig | None = None) -> CheckSettings:
    """Settings from options as they were typed, and from `hardware`, what a run is set to; None: nothing is.

    What is `auto` is decided as for a run of a model of this size.

    Raises:
        ConfigError: Names the option, the value seen and what is accepted.
    """
    device = present_device(options.device)
    size = one_of("--size", options.size or ("small" if device == "cpu" else "xls-r-300m"), tuple(SIZES))
    given: Any = SimpleNamespace(**{**NOT_SET, **({} if hardware is None else dict(hardware))})
    if options.precision is not None:
        given.precision = one_of("--precision", options.precision, PRECISIONS)
    if given.precision == "fp16" and device == "cpu":
        raise ConfigError("--precision fp16 needs a GPU; use --precision bf16 or fp32 with --device cpu")
    counts_clips = given.per_device_train_batch_size is not None
    if counts_clips:  # as in a run
        given.batch_seconds = AUTO
    values = {**vars(given), **_decided(given, device, size)}
    return CheckSettings(
        device=device,
        way=Way(**{name: values[name] for name in Way.__dataclass_fields__}),
        clip_lengths=values["clip_lengths"],
        size=size,
        minutes=positive("--minutes", options.minutes, float),
        json=Path(options.json),
        plan_seconds=None if counts_clips or given.gradient_accumulation_steps else values["plan_seconds"],
        update_seconds=values["update_seconds"],
        keep_freed_memory=values["keep_freed_memory"],
    )


def _decided(hardware: Any, device: Any, size: str) -> dict[str, Any]:
    """The settings that may be `auto`, decided for a run of a model of this size."""
    config = import_transformers().Wav2Vec2Config(**SIZES[size], **NO_DROPOUT)
    batch = BatchSettings(1.0, update_seconds=hardware.update_seconds, attention=hardware.attention, device=device)
    run = RunAtHand(config, batch)
    at_hand = look(device, config, asks_for_precision=hardware.precision == AUTO)
    try:
        return decide(hardware, run, at_hand).values
    except TrainingError:  # memory is short of a single clip: rows will say so, one by one
        return decide(hardware, run, replace(at_hand, free=None)).values
