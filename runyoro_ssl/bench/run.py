"""Run a bench of the training step, from a task or from a bare checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from runyoro_ssl.bench.measure import Row, describe_machine, write_json
from runyoro_ssl.bench.subjects import SIZES
from runyoro_ssl.bench.training import DTYPES, PARTS, BenchSettings, TrainingBench
from runyoro_ssl.errors import ConfigError

DEFAULT_PRECISION = {"cuda": "bf16", "mps": "fp32", "cpu": "fp32"}


def resolve_settings(
    *,
    size: str = "small",
    device: str | None = None,
    precision: str | None = None,
    reference_precision: str | None = None,
    steps: int = 5,
    parts: tuple[str, ...] = PARTS,
    **more: Any,
) -> BenchSettings:
    """Settings from options; None takes what suits the machine.

    The reference runs in fp32 on a CPU, as a user's script would, and elsewhere in the precision of ours.

    Raises:
        ConfigError: Names the option, the value seen and what is accepted.
    """
    device = device or _best_device()
    precision = precision or DEFAULT_PRECISION.get(device, "fp32")
    reference_precision = reference_precision or ("fp32" if device == "cpu" else precision)
    _check("--size", size, tuple(SIZES))
    _check("--device", device, tuple(DEFAULT_PRECISION))
    _check("--precision", precision, tuple(DTYPES))
    _check("--reference-precision", reference_precision, tuple(DTYPES))
    for part in parts:
        _check("--parts", part, PARTS)
    if steps < 1:
        raise ConfigError(f"--steps is {steps}: at least 1 timed run is needed")
    if (device == "cuda" and not torch.cuda.is_available()) or (device == "mps" and not _has_mps()):
        raise ConfigError(f"--device {device} is not present on this machine; use --device {_best_device()}")
    return BenchSettings(size, device, precision, reference_precision, steps, parts, **more)  # type: ignore[arg-type]


def run_training_bench(settings: BenchSettings) -> Iterator[Row]:
    """Rows as they are measured."""
    yield from TrainingBench(settings).rows()


def save(path: str | None, device: str, rows: list[Row]) -> None:
    """Write the JSON file, if one was asked for."""
    if path is not None:
        write_json(Path(path), describe_machine(device), rows)


def _check(option: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ConfigError(f'{option} is "{value}"; it can be {", ".join(accepted)}')


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())
