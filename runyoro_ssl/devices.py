"""Devices: which of them torch can use here, and how they say that memory ran out."""

from __future__ import annotations

from typing import Literal

Device = Literal["mps", "cuda", "cpu"]
PREFERENCE = ("cuda", "mps", "cpu")


def available_devices() -> list[str]:
    """Devices torch can use here, the best first."""
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [device for device in PREFERENCE if present[device]]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says so: CUDA and Python have one of their own; MPS and the CPU raise a plain RuntimeError."""
    import torch

    texts = (
        "out of memory",
        "can't allocate memory",
        "Cannot allocate memory",  # the system's own words, as of a file that cannot be mapped
        "not enough memory",
        "ALLOC_FAILED",
        "Invalid buffer size",
        "bad_alloc",
        "can't start new thread",  # whose stack takes addresses: of `ulimit -v`
    )
    said = str(error)
    if said == "could not create a primitive":  # oneDNN's; of a kind that it has not, it says "descriptor" besides
        return True
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in said for text in texts)
