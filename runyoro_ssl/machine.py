"""What of this machine there is for this process: cores and memory, and how much of them limits leave."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
PAGE = mmap.PAGESIZE
"""Bytes: 4 KiB as a rule, 16 or 64 on some machines with arm64."""
WORKER_BYTES = 1 << 30
"""What a process that decodes takes, 0.45 GiB as measured, and something to spare."""
RESERVED_ADDRESSES = 256 << 20
"""Of `ulimit -v` and `ulimit -d`: threads that are still to come reserve much, and use little. From there on runs of 6
and 23 M parameters took 0.41 and 0.88 GiB of addresses where 0.50 and 1.09 were predicted, so this is spare."""


@dataclass(frozen=True)
class _Files:
    """The files of a group in which limits and use of memory and time stand, in one version of cgroups."""

    limit: str
    used: str
    file_pages: str
    time: tuple[str, ...]


_VERSION_2 = _Files("memory.max", "memory.current", "inactive_file", ("cpu.max",))
_VERSION_1 = _Files(
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
    ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
)


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and its containers' shares of time; at least one."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    shares = [share for group in _groups("cpu") if (share := _cores_of(*group)) is not None]
    return max(1, min([cores, *map(math.ceil, shares)]))


def usable_workers() -> int:
    """Processes that may decode beside each other: one for each core, if memory holds them."""
    return max(1, min(usable_cores(), available_memory() // WORKER_BYTES))


def available_memory() -> int:
    """Bytes that this process can still take: of the machine, of its container (Linux), and of its own limits."""
    return max(0, min((_free_memory(), *_left_by_containers(), *_left_by_limits())))


def _free_memory() -> int:
    """Bytes that the machine has left."""
    try:
        lines = (PROC / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        import psutil  # not where only the training step is installed, which is Linux

        return int(psutil.virtual_memory().available)
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def _left_by_containers() -> Iterator[int]:
    """Bytes that are left of each limit on memory of the containers this process is in."""
    return (left for group in _groups("memory") if (left := _left_in(*group)) is not None)


def _groups(controller: Literal["cpu", "memory"]) -> Iterator[tuple[Path, _Files]]:
    """The groups that this process is in, those around it last; of version 1 those of the controller alone."""
    try:
        lines = (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        number, controllers, place = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        # Controllers of version 1 that share a mount, "cpu,cpuacct", need not have a link each.
        roots = [CGROUPS] if number == "0" else [CGROUPS / controller, CGROUPS / controllers]
        root = next((root for root in roots if root.is_dir()), roots[0])
        inner = root / place.strip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(root):
                yield folder, _VERSION_2 if number == "0" else _VERSION_1


def _cores_of(folder: Path, files: _Files) -> float | None:
    """Cores that a container's share of time comes to; None: no limit, or none that can be read."""
    try:
        quota, period = " ".join((folder / name).read_text(encoding="ascii") for name in files.time).split()
        cores = int(quota) / int(period)
    except (OSError, ValueError):  # "max" is no number
        return None
    return cores if cores > 0 else None  # version 1 writes -1


def _left_in(folder: Path, files: _Files) -> int | None:
    """Bytes that are left of a container's memory; None: no limit, or none that can be read."""
    try:
        limit, used = (int((folder / name).read_text(encoding="ascii")) for name in (files.limit, files.used))
        pairs = (line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        given_back = next((int(value) for name, value in pairs if name == files.file_pages), 0)
    except (OSError, ValueError):  # "max" is no number
        return None
    return limit - used + given_back


def _left_by_limits() -> Iterator[int]:
    """Bytes that are left of `ulimit -v` and `ulimit -d`; Linux, where alone they hold."""
    try:
        import resource  # not on Windows

        pages = [int(number) for number in (PROC / "self" / "statm").read_text(encoding="ascii").split()]
    except (ImportError, OSError):
        return
    for kind, used, reserved in (
        (resource.RLIMIT_AS, pages[0], RESERVED_ADDRESSES),
        (resource.RLIMIT_DATA, pages[5], RESERVED_ADDRESSES),
    ):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit - used * PAGE - reserved
