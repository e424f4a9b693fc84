"""Memory over a run: held to what was predicted on a CPU, and growth noticed in time.

What leaks a little at every step ends a run of days; what takes more than was promised ends its neighbours, too.
"""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

from runyoro_ssl.model.allocator import Allowance, give_back_freed
from runyoro_ssl.train.health.remedies import Remedies

MIB = 1 << 20


class MemoryWatch:
    """The watch over the memory of this process and its device. Call `measure` after every step.

    On a CPU, from the first step on: above `allowance.trim_at` what was freed is given back, and what is then still
    above `allowance.most` is an alarm.

    For growth, the first `warmup` steps of the process do not count; the most that is used in the `window` calls after
    them is the baseline. Growth is what never fell back under it, by more than the share `max_growth`, in the last
    `window` calls, nor when what was freed is given back.
    """

    def __init__(
        self,
        device: str,
        remedies: Remedies,
        *,
        max_growth: float,
        warmup: int = 100,
        window: int = 50,
        allowance: Allowance | None = None,
    ) -> None:
        self._device, self._warmup, self._max_growth = torch.device(device).type, warmup, max_growth
        self._remedies = remedies
        self._allowance, self._libraries = allowance, _pages_of_files()
        self._said_above = 0 if allowance is None else allowance.most
        self._trends = {name: Trend(max_growth, window) for name in _measure(self._device)}
        self._first_step: int | None = None

    def measure(self, step: int) -> str | None:
        """Measure memory after a step. Returns the text of an alarm: once, and again when as much has been added."""
        if self._first_step is None:
            self._first_step = step
        alarms = [self._over(step)]
        if step >= self._first_step + self._warmup:
            alarms += [self._grown(name, step, num_bytes) for name, num_bytes in _measure(self._device).items()]
        return "; ".join(alarm for alarm in alarms if alarm) or None

    def numbers(self) -> dict[str, float]:
        """Memory in use now in MiB, named as in the log."""
        return {f"train/{name}_mib": num_bytes / MIB for name, num_bytes in _measure(self._device).items()}

    def _over(self, step: int) -> str | None:
        """Stay within the allowance. An alarm if that cannot be done."""
        allowance = self._allowance
        if allowance is None or self._in_all() <= allowance.trim_at:
            return None
        give_back_freed()
        used = self._in_all()
        if used <= self._said_above:
            return None
        self._said_above = round((1 + self._max_growth) * used)
        return (
            f"memory of this process is {used / MIB:,.0f} MiB after step {step}, what was freed given back; predicted "
            f"were {allowance.predicted / MIB:,.0f}, at most {allowance.most / MIB:,.0f}. To free it, press Ctrl-C and "
            f"go on with --resume-from-checkpoint last; if it comes back at once, with {self._remedies.at_once}; if "
            f"slowly, {self._remedies.slowly['memory']}"
        )

    def _in_all(self) -> int:
        """Bytes that compare with a prediction: the libraries' files are in that, the dataset's are not."""
        return _measure(self._device)["memory"] + self._libraries

    def _grown(self, name: str, step: int, num_bytes: int) -> str | None:
        grown = self._trends[name].add(num_bytes)
        if grown is None:
            return None
        before, now = grown
        if name == "memory" and give_back_freed():
            now = min(now, _measure(self._device)[name])
        return self._alarm(name, step, before, now) if now > (1 + self._max_growth) * before else None

    def _alarm(self, name: str, step: int, before: int, now: int) -> str:
        where = "this process" if name == "memory" else f"the device ({self._device})"
        return (
            f"memory of {where} grew from {before / MIB:,.0f} to {now / MIB:,.0f} MiB by step {step} and did not fall "
            "back: something is kept at every step, and the run may end for lack of memory. To free it, press Ctrl-C "
            f"and go on with --resume-from-checkpoint last; to mend it, {self._remedies.slowly[name]}"
        )


@dataclass
class Trend:
    """One measure of memory against its baseline."""

    max_growth: float
    window: int
    baseline: int | None = None
    _latest: deque[int] = field(default_factory=deque, init=False)

    def add(self, value: int) -> tuple[int, int] | None:
        """Compare a value: (baseline, least of the latest window) if that grew too much, and becomes the baseline."""
        self._latest.append(value)
        if len(self._latest) < self.window:
            return None
        if self.baseline is None:
            self.baseline = max(self._latest)
            self._latest.clear()
            return None
        least = min(self._latest)
        self._latest.popleft()
        if least <= (1 + self.max_growth) * self.baseline:
            return None
        before, self.baseline = self.baseline, least
        return before, least


def _measure(device: str) -> dict[str, int]:
    """Bytes in use, by name."""
    found = {"memory": _footprint() or _private()}
    if device == "cuda":
        found["device_memory"] = torch.cuda.memory_allocated()
    if device == "mps":
        # With what Metal keeps for its programs: that grows with the number of shapes.
        found["device_memory"] = max(torch.mps.driver_allocated_memory(), torch.mps.current_allocated_memory())
    return found


def _pages_of_files() -> int:
    """Resident bytes that are files': at the start of a run those of Python and its libraries. 0 where not told."""
    return int(getattr(psutil.Process().memory_info(), "shared", 0))


def _private() -> int:
    """Resident bytes; on Linux without pages of files: the dataset's come as they are read, and go when asked for."""
    info: Any = psutil.Process().memory_info()
    return int(info.rss) - int(getattr(info, "shared", 0))


def _footprint() -> int | None:
    """What macOS counts against this process, compressed and swapped pages included and those of files left out.

    `ri_phys_footprint` of proc_pid_rusage (sys/resource.h). None elsewhere, or if it cannot be had.
    """
    if sys.platform != "darwin":
        return None
    usage = (ctypes.c_uint64 * 12)()  # rusage_info_v0: a UUID of 16 bytes, then ten numbers
    failed = ctypes.CDLL(None).proc_pid_rusage(psutil.Process().pid, 0, ctypes.byref(usage))
    return None if failed else int(usage[9])
