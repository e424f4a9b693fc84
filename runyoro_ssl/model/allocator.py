"""The allocator of a CPU run: what becomes of freed memory, and how much that may come to."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runyoro_ssl.machine import available_memory

if TYPE_CHECKING:
    from runyoro_ssl.model.memory import Memory

PROGRAM_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0", "LRU_CACHE_CAPACITY": "32"}
"""oneDNN compiles a program for each shape; it and torch keep up to 1,024 each. With clips of all lengths most are
never used again, but each lies where it was made, amid the tensors of that step, and parts for good what was one.
Measured in MiB, freed memory kept, after 60 steps in fp32 (2 M parameters) and 40 in bf16: 3,811 and 4,266, still
growing; with these, 1,127 and 930 for good. 32: what the layers of one micro-batch share."""
OTHER_NAME = "DNNL_PRIMITIVE_CACHE_CAPACITY"
"""oneDNN's cache by its older name, which the newer one would overrule."""

SPREAD = 0.15
"""What is given back at once stays within this of the prediction."""
KEPT_AGAIN, TRIM_AT = 1.75, 0.7
"""Freed memory that is kept takes at most so many times what a step needs and gives back, besides the peak; and is
given back, at the end of a step, when so much of that is taken."""

MMAP_THRESHOLD = 128 * 1024
"""glibc's initial one, bytes."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Their numbers in malloc.h."""


@dataclass(frozen=True)
class Allowance:
    """The memory that a run on a CPU may take, in bytes.

    `predicted`: what it needs at its peak. `most`: what it stays within. `trim_at`: what may be in use at the end of a
    step before freed memory is given back. `keeps`: freed memory is kept for the next step.
    """

    predicted: int
    most: int
    trim_at: int
    keeps: bool


def allow(memory: Memory, *, keep_freed_memory: bool | None = None) -> Allowance:
    """The allowance of a run with this prediction on the CPU of this machine.

    None: freed memory is kept where this machine has `most` to give, and the user asks for no more programs. Where the
    allocator is not ours to set (another C library than glibc, or a MALLOC_ variable of the user) it is taken to keep.
    """
    beyond = round(KEPT_AGAIN * memory.passing)
    if keep_freed_memory is None:
        keep_freed_memory = _programs_are_ours() and available_memory() > memory.peak + beyond
    if keep_freed_memory or not _is_ours():
        return Allowance(memory.peak, memory.peak + beyond, memory.peak + round(TRIM_AT * beyond), keeps=True)
    most = round((1 + SPREAD) * memory.peak)
    return Allowance(memory.peak, most, trim_at=memory.peak, keeps=False)


def fate_of_freed_memory(allowance: Allowance) -> str:
    """What becomes of it in a run with this allowance, and what decides that."""
    if (variable := _variable_of_the_user()) is not None:
        return f"as {variable} in your environment says"
    if not _is_ours():
        return "as this system's C library decides"
    if allowance.keeps:
        return "kept for speed; not with hardware.keep_freed_memory=false"
    return "given back at once"


def limit_program_caches() -> None:
    """Have oneDNN and torch keep few programs, unless a variable of the user says how many.

    Call it before the first program is compiled, with the first convolution or product in bf16: what they read then
    holds for the process. In a notebook that has computed before, it comes too late, and trims do what they can.
    """
    if _programs_are_ours():
        os.environ.update(PROGRAM_CACHES)


def tune_allocator(*, keep: bool) -> None:
    """Tell glibc what to do with freed tensors, unless a MALLOC_ variable already says so. For runs on a CPU.

    Kept, they are there for the next step: no page faults, 1.4 to 2.2 times the speed; but the heap does not shrink
    under what is still in use. Given back at once, the run holds what is predicted. Left alone, glibc is slow, and
    grows.
    """
    if keep:
        _mallopt({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1})
    else:
        _mallopt({M_MMAP_MAX: 65_536, M_MMAP_THRESHOLD: MMAP_THRESHOLD, M_TRIM_THRESHOLD: MMAP_THRESHOLD})


def reset_allocator() -> None:
    """Have glibc do what it comes to by itself in a process that frees large tensors. For comparisons."""
    _mallopt({M_MMAP_MAX: 65_536, M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20})


def give_back_freed() -> bool:
    """Give all freed memory back to the system, wherever in the heap it lies. False: this C library has no way to."""
    if platform.libc_ver()[0] != "glibc":
        return False
    ctypes.CDLL(None).malloc_trim(0)
    return True


def _mallopt(settings: dict[int, int]) -> None:
    """Set glibc's malloc, by number, where it is ours."""
    if _is_ours():
        mallopt = ctypes.CDLL(None).mallopt
        for number, value in settings.items():
            mallopt(number, value)


def _programs_are_ours() -> bool:
    """Whether no variable of the user says how many programs are kept."""
    given = any(os.environ.get(name, ours) != ours for name, ours in PROGRAM_CACHES.items())
    return not given and OTHER_NAME not in os.environ


def _is_ours() -> bool:
    """Whether there is glibc, and no variable speaks for the user."""
    return platform.libc_ver()[0] == "glibc" and _variable_of_the_user() is None


def _variable_of_the_user() -> str | None:
    """A variable that tells malloc what to do, if there is one."""
    return next((name for name in os.environ if name.startswith("MALLOC_")), None)
