"""The options of a check, for `invoke doctor --check` and `python -m runyoro_ssl.check`. The standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from runyoro_ssl.bench.options import DEVICES, PRECISIONS, about, options_of_class
from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.option import Option

DOCTOR_JSON = Path("doctor.json")
ENVIRONMENT = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS does the same twice only so
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
"""Of a check, unless the user says otherwise."""


@dataclass(frozen=True)
class CheckOptions:
    """How to check. Not given: what suits the machine."""

    device: str | None = field(
        default=None, metadata=about("text", "Device to check. Not given: the best one present.", choices=DEVICES)
    )
    precision: str | None = field(
        default=None, metadata=about("text", "Precision to train in. Not given: the profile's.", choices=PRECISIONS)
    )
    size: str | None = field(
        default=None,
        metadata=about(
            "text",
            "Shape of which speed and memory are measured. Not given: xls-r-300m on a GPU, small on a CPU.",
            choices=tuple(SIZES),
        ),
    )
    minutes: float = field(
        default=8.0, metadata=about("float", "Time for it. What is not begun by then is left out, and said.")
    )
    json: Path = field(default=DOCTOR_JSON, metadata=about("path", "File to write, for sending: no names, no paths."))


def prepare_environment() -> None:
    """Set what torch and cuBLAS read when they start. Call before either is there."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def options_of_check() -> list[Option]:
    """The options as a command line needs them."""
    return options_of_class(CheckOptions, "How to check")
