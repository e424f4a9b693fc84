"""The allocator of a CPU run: what becomes of freed memory, and how much there is."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

KEEPING_COSTS = 3
"""Measured: 2.7 times the predicted peak after 14 steps of real speech (a model of 5 M parameters, 32 s)."""

MMAP_THRESHOLD = 128 * 1024
"""glibc's initial one, bytes."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Their numbers in malloc.h."""


def tune_allocator(predicted_peak: int, *, keep_freed_memory: bool | None = None) -> None:
    """Tell glibc what to do with freed tensors, unless a MALLOC_ variable already says so. For runs on a CPU.

    None: keep them where `can_keep` says so of the predicted peak, in bytes (`memory.predict_memory`).

    Kept, they are there for the next step: no page faults, a fifth to a third more speed; but the heap does not shrink
    under what is still in use, and with clips of many lengths the run grows to `KEEPING_COSTS` times what it needs.
    Given back at once, the run holds what is predicted. Left alone, glibc is slow and grows.
    """
    if keep_freed_memory is None:
        keep_freed_memory = can_keep(predicted_peak)
    if keep_freed_memory:
        _mallopt({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1})
    else:
        _mallopt({M_MMAP_THRESHOLD: MMAP_THRESHOLD})


def reset_allocator() -> None:
    """Have glibc do what it comes to by itself in a process that frees large tensors. For comparisons."""
    _mallopt({M_MMAP_MAX: 65_536, M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20})


def _mallopt(settings: dict[int, int]) -> None:
    """Set glibc's malloc, by number; nothing elsewhere, or where a MALLOC_ variable speaks for the user."""
    if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
        mallopt = ctypes.CDLL(None).mallopt
        for number, value in settings.items():
            mallopt(number, value)


def can_keep(peak: int) -> bool:
    """Whether this machine has so much memory free that a run of this peak can keep what it frees."""
    return available_memory() > KEEPING_COSTS * peak


def available_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can still be taken, of the machine, or of the container that the process is in (Linux, cgroup v2)."""
    available = _free_memory()
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        pairs = (line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
        given_back = next((int(value) for name, value in pairs if name == "inactive_file"), 0)
    except (OSError, ValueError):  # no such thing here, or "max": no limit
        return available
    return min(available, limit - used + given_back)


def _free_memory() -> int:
    """Bytes that the machine has left."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        import psutil  # not where only the training step is installed, which is Linux

        return int(psutil.virtual_memory().available)
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
