"""Environments, limits of the system, and disks, of which little works."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from attacking.command import Command
from attacking.part import TRAINING, Draw, Part, await_phase, nap, phases_of
from attacking.place import MADE, RUN, Place

FOLDERS = ("HOME", "TMPDIR", "HF_HOME", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "HF_HUB_CACHE", "XDG_CONFIG_HOME")
UNUSABLE: tuple[str | None, ...] = (
    None,
    "",
    "/nope",
    "/proc/nope",
    "/dev/null",
    "relative",
    "~",
    "/sys",
    "PLACE/others/nothing",
)
UNUSABLE += ("PLACE/\x1b[31m",)
ODD: dict[str, tuple[str, ...]] = {
    "OMP_NUM_THREADS": ("0", "-1", "x", "1000000", "", "1.5", "2,3"),
    "MKL_NUM_THREADS": ("0", "x"),
    "CUDA_VISIBLE_DEVICES": ("x", "-1", "0,0"),
    "WORLD_SIZE": ("1", "0", "x", "-1", "2"),
    "RANK": ("1", "x", ""),
    "LOCAL_RANK": ("3", "x"),
    "HF_HUB_OFFLINE": ("x", "", "0"),
    "HF_ENDPOINT": ("http://127.0.0.1:9", "x", "file:///etc", ""),
    "HF_TOKEN": ("x" * 5000, "a\nb", ""),
    "SLURM_JOB_ID": ("x", "1"),
    "TZ": ("nowhere", "Asia/Kathmandu", ":"),
    "SOURCE_DATE_EPOCH": ("x", "0"),
    "RUNYORO_TEST_SPEECH": ("x",),
    "PYTORCH_CUDA_ALLOC_CONF": ("x",),
    "ACCELERATE_MIXED_PRECISION": ("fp16", "x"),
    "ACCELERATE_USE_CPU": ("x",),
    "ACCELERATE_USE_FSDP": ("true",),
    "MALLOC_ARENA_MAX": ("1",),
    "TORCH_LOGS": ("x",),
}
KIB, MIB = 1 << 10, 1 << 20
LIMITS: dict[str, tuple[int, tuple[int, ...]]] = {
    "RLIMIT_NOFILE": (resource.RLIMIT_NOFILE, (8, 16, 24, 32, 64)),
    "RLIMIT_FSIZE": (resource.RLIMIT_FSIZE, (0, 100, 10 * KIB, 100 * KIB, MIB, 3 * MIB)),
    "RLIMIT_AS": (resource.RLIMIT_AS, (1000 * MIB, 2000 * MIB, 4000 * MIB, 8000 * MIB)),
    "RLIMIT_CPU": (resource.RLIMIT_CPU, (1, 3, 6)),
    "RLIMIT_CORE": (resource.RLIMIT_CORE, (0,)),
    "RLIMIT_DATA": (resource.RLIMIT_DATA, (500 * MIB, 1000 * MIB, 2000 * MIB)),
    "RLIMIT_STACK": (resource.RLIMIT_STACK, (256 * KIB, MIB)),
}


def draw_environment(chance: Draw, _task: str) -> Part | None:
    """Folders that are no folders, numbers that are none; files that nobody, or everybody, may read."""
    if chance.random() < 0.15:
        umask = chance.choice((0o777, 0o000, 0o477, 0o077))
        return Part("environment", f"umask {umask:03o}", umask=umask)
    if chance.random() < 0.5:
        names = chance.sample(FOLDERS, chance.choice((1, 1, 2, len(FOLDERS))))
        told = {name: chance.choice(UNUSABLE) for name in names}
    else:
        name = chance.choice(sorted(ODD))
        told = {name: chance.choice(ODD[name])}
    what = ", ".join(f"{name}={str(value)[:30]!r}" for name, value in told.items())
    keeps = not {"WORLD_SIZE", "RANK", "LOCAL_RANK", "ACCELERATE_MIXED_PRECISION"} & told.keys()
    return Part(
        "environment", what, environment=told, is_fresh=True, keeps=keeps, touches=("relative", "~", "\x1b[31m")
    )


def draw_limits(chance: Draw, _task: str) -> Part | None:
    """What the system gives to no process."""
    name = chance.choice(sorted(LIMITS))
    kind, values = LIMITS[name]
    value = chance.choice(values)
    is_fresh = name != "RLIMIT_CPU" and chance.random() < 0.3
    statuses = (-signal.SIGXCPU,) if name == "RLIMIT_CPU" else ()  # before our own code has begun, and in other tasks
    return Part("limits", f"{name} {value}", limits=[(kind, value)], is_fresh=is_fresh, statuses=statuses)


def draw_disks(chance: Draw, task: str) -> Part | None:
    """A small disk under the output that fills, is freed, can only be read, or has no more inodes."""
    if not (phases := phases_of(task)[1:]):
        return None
    phase, pause, name = chance.choice(phases), chance.random(), RUN if task in TRAINING else MADE
    kind = chance.choice(("fills", "fills and is freed", "read-only", "read-only for a while", "few inodes"))
    options = f"size=16M,nr_inodes={chance.randrange(4, 60) if kind == 'few inodes' else 2000}"
    during = partial(_spoil_disk, name=name, kind=kind, phase=phase, pause=pause)
    what, around = f"{kind} {phase} + {pause:.2f} s ({options})", partial(_disk, name=name, options=options)
    return Part("disks", what, around=around, during=during, touches=("usual",))


@contextmanager
def _disk(place: Place, *, name: str, options: str) -> Iterator[None]:
    """A folder is on a disk of its own; afterwards what is there stands in its place, on the usual disk."""
    disk, there = place.folder / name, place.folder / "usual"
    if disk.exists():
        disk.rename(there)
    else:
        there.mkdir()
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)
    try:
        subprocess.run(["cp", "-a", f"{there}/.", str(disk)], check=False, capture_output=True)
        yield
    finally:
        with suppress(OSError):
            (disk / "filling").unlink()
        subprocess.run(["rm", "-rf", str(there)], check=True)
        subprocess.run(["cp", "-a", str(disk), str(there)], check=True)
        subprocess.run(["umount", "-l", str(disk)], check=True)
        disk.rmdir()
        there.rename(disk)


def _spoil_disk(
    place: Place, command: Command, process: BaseProcess, *, name: str, kind: str, phase: str, pause: float
) -> None:
    disk = place.folder / name
    if kind == "few inodes":
        return
    await_phase(phase, place, command, process, step=1)
    nap(process, pause * 0.3)
    if kind.startswith("read-only"):
        _remount(disk, "ro")
    else:
        _fill(disk)
    nap(process, 1 + pause)
    if kind == "fills and is freed":
        with suppress(OSError):
            (disk / "filling").unlink()
    elif kind == "read-only for a while":
        _remount(disk, "rw")


def _remount(disk: Path, how: str) -> None:
    """A disk on which a file is open for writing becomes read-only by force."""
    for option in (f"remount,{how}", f"remount,bind,{how}"):
        command = ["mount", "-o", option, str(disk)]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return


def _fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(os.urandom(4096))
