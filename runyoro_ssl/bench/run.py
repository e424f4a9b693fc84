"""Run a bench of the training step, from a task or from a bare checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

from runyoro_ssl.bench.measure import Row, describe_machine, write_json
from runyoro_ssl.bench.subjects import SIZES
from runyoro_ssl.bench.training import DTYPES, PARTS, BenchSettings, TrainingBench
from runyoro_ssl.errors import ConfigError

Choice = TypeVar("Choice", bound=str)
Number = TypeVar("Number", int, float)
DEFAULT_PRECISION = {"cuda": "bf16", "mps": "fp32", "cpu": "fp32"}


def resolve_settings(
    *,
    size: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    reference_precision: str | None = None,
    steps: Any = None,
    parts: str | None = None,
    clip_seconds: Any = None,
    batch_seconds: Any = None,
    compile: bool = False,  # noqa: A002 - the option's name
    without_reference: bool = False,
) -> BenchSettings:
    """Settings from options as they were typed; None takes what suits the machine.

    The reference runs in fp32 on a CPU, as a user's script would, and elsewhere in the precision of ours.

    Raises:
        ConfigError: Names the option, the value seen and what is accepted.
    """
    device = _one_of("--device", device or _best_device(), tuple(DEFAULT_PRECISION))
    if (device == "cuda" and not torch.cuda.is_available()) or (device == "mps" and not _has_mps()):
        raise ConfigError(f"--device {device} is not present on this machine; use --device {_best_device()}")
    precision = _one_of("--precision", precision or DEFAULT_PRECISION[device], tuple(DTYPES))
    reference_precision = reference_precision or ("fp32" if device == "cpu" else precision)
    chosen = tuple(_one_of("--parts", part.strip(), PARTS) for part in (parts or ",".join(PARTS)).split(","))
    return BenchSettings(
        size=_one_of("--size", size or "small", tuple(SIZES)),
        device=device,
        precision=precision,
        reference_precision=_one_of("--reference-precision", reference_precision, tuple(DTYPES)),
        steps=positive("--steps", steps, int) or 5,
        parts=chosen,
        clip_seconds=positive("--clip-seconds", clip_seconds, float) or 15.0,
        batch_seconds=positive("--batch-seconds", batch_seconds, float),
        compile=compile,
        with_reference=not without_reference,
    )


def positive(option: str, value: Any, kind: type[Number]) -> Number | None:
    """The number above 0 that an option holds; None if it was not given.

    Raises:
        ConfigError: It is none.
    """
    if value is None:
        return None
    try:
        number = kind(value)
    except ValueError:
        number = kind(0)
    if not 0 < number < float("inf"):
        raise ConfigError(f'{option} is "{value}"; it must be a number above 0, such as {kind(5)}')
    return number


def run_training_bench(settings: BenchSettings) -> Iterator[Row]:
    """Rows as they are measured."""
    yield from TrainingBench(settings).rows()


def save(path: str | None, device: str, rows: list[Row]) -> None:
    """Write the JSON file, if one was asked for."""
    if path is not None:
        write_json(Path(path), describe_machine(device), rows)


def _one_of(option: str, value: str, accepted: tuple[Choice, ...]) -> Choice:
    if value not in accepted:
        raise ConfigError(f'{option} is "{value}"; it can be {", ".join(accepted)}')
    return value


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())
