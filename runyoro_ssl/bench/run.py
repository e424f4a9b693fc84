"""A bench of the training step, from a task or from a bare checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from runyoro_ssl.bench.measure import Comparison, describe_machine, write_json
from runyoro_ssl.bench.options import DEVICES, PARTS, PRECISIONS, BenchOptions
from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.bench.training import BenchSettings, TrainingBench
from runyoro_ssl.devices import available_devices
from runyoro_ssl.errors import ConfigError, did_you_mean

Choice = TypeVar("Choice", bound=str)
Number = TypeVar("Number", int, float)


def resolve_settings(options: BenchOptions) -> BenchSettings:
    """Settings from options as they were typed; None takes what suits the machine.

    The reference runs in fp32 on a CPU, as a user's script would, and elsewhere in the precision of ours.

    Raises:
        ConfigError: Names the option, the value seen and what is accepted.
    """
    device = present_device(options.device)
    precision = one_of("--precision", options.precision or ("bf16" if device == "cuda" else "fp32"), PRECISIONS)
    reference_precision = options.reference_precision or ("fp32" if device == "cpu" else precision)
    batch_seconds = options.batch_seconds
    return BenchSettings(
        size=one_of("--size", options.size, tuple(SIZES)),
        device=device,
        precision=precision,
        reference_precision=one_of("--reference-precision", reference_precision, PRECISIONS),
        steps=positive("--steps", options.steps, int),
        parts=tuple(one_of("--parts", part.strip(), PARTS) for part in options.parts.split(",")),
        clip_seconds=positive("--clip-seconds", options.clip_seconds, float),
        batch_seconds=None if batch_seconds is None else positive("--batch-seconds", batch_seconds, float),
        compile=options.compile,
        with_reference=not options.without_reference,
    )


def present_device(asked: str | None) -> str:
    """The device that was asked for; None: the best one.

    Raises:
        ConfigError: There is no such device, or not here.
    """
    present = available_devices()
    device = one_of("--device", asked or present[0], DEVICES)
    if device not in present:
        raise ConfigError(f"--device {device} is not present on this machine; use --device {present[0]}")
    return device


def positive(option: str, value: Any, kind: type[Number]) -> Number:
    """The number above 0 that an option holds, as a number or as it was typed.

    Raises:
        ConfigError: It holds none.
    """
    try:
        number = kind(value)
    except ValueError:
        number = kind(0)
    if not 0 < number < float("inf"):
        raise ConfigError(f'{option} is "{value}"; it must be a number above 0, such as {kind(5)}')
    return number


def run_training_bench(settings: BenchSettings) -> Iterator[Comparison]:
    """Rows as they are measured."""
    yield from TrainingBench(settings).rows()


def save(path: Path | str | None, device: str, rows: list[Comparison]) -> None:
    """Write the JSON file, if one was asked for."""
    if path is not None:
        write_json(Path(path), describe_machine(device), rows)


def one_of(option: str, value: str, accepted: tuple[Choice, ...]) -> Choice:
    """The choice that an option holds. Raises ConfigError, with the nearest, if it holds none."""
    for choice in accepted:
        if choice == value:
            return choice
    raise ConfigError(f'{option} is "{value}"{did_you_mean(value, accepted)}; it can be {", ".join(accepted)}')
