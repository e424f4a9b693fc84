"""What this process can have: whatever limits it, the least counts."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from runyoro_ssl import machine
from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.machine import available_memory, usable_cores, usable_workers

GIB = 1 << 30


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 64 GiB free, and folders in which its limits can be put."""
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write(tmp_path / "proc" / "meminfo", f"MemTotal: 9 kB\nMemAvailable: {64 << 20} kB\n")
    write(tmp_path / "proc" / "self" / "statm", "262144 9 9 9 0 131072 0\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    """A file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_machine_alone(made_up: Path) -> None:
    """What it has free."""
    assert made_up
    assert available_memory() == 64 * GIB


@pytest.mark.parametrize("place", ["", "user.slice/job"])
@pytest.mark.parametrize(
    ("line", "folder", "names"),
    [
        ("0::/{}", "", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:memory:/{}",
            "memory",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
)
def test_containers(made_up: Path, place: str, line: str, folder: str, names: tuple[str, ...]) -> None:
    """Of either version of cgroups, this process's own and those around it: limit less use, but for pages of files."""
    write(made_up / "proc" / "self" / "cgroup", f"9:name=systemd:/\n{line.format(place)}\n")
    root = made_up / "cgroup" / folder
    for inner in {root, root / place}:
        write(inner / names[0], "max\n")
        write(inner / names[1], f"{3 * GIB}\n")
        write(inner / "memory.stat", f"anon 5\n{names[2]} {GIB}\n")
    assert available_memory() == 64 * GIB
    write(root / place / names[0], f"{8 * GIB}\n")
    assert available_memory() == 6 * GIB
    write(root / names[0], f"{7 * GIB}\n")
    assert available_memory() == 5 * GIB


@pytest.mark.parametrize("page", [4 << 10, 64 << 10])
@pytest.mark.parametrize(("kind", "used"), [(resource.RLIMIT_AS, 1.0), (resource.RLIMIT_DATA, 0.5)])
def test_limits_of_the_process(
    made_up: Path, monkeypatch: pytest.MonkeyPatch, kind: int, used: float, page: int
) -> None:
    """`ulimit -v` and `ulimit -d`, less what is taken, and something for threads; never under nothing."""
    monkeypatch.setattr(machine, "PAGE", page)
    write(made_up / "proc" / "self" / "statm", f"{GIB // page} 9 9 9 0 {GIB // 2 // page} 0\n")
    for limit, left in ((4 * GIB, 4 * GIB - used * GIB - machine.RESERVED_ADDRESSES), (GIB // 2, 0)):
        monkeypatch.setattr(
            resource, "getrlimit", lambda asked, limit=limit: (limit if asked == kind else resource.RLIM_INFINITY, 0)
        )
        assert available_memory() == max(0, left)


@pytest.mark.parametrize("place", ["", "user.slice/job"])
@pytest.mark.parametrize(
    ("line", "folder", "files", "unlimited"),
    [
        ("0::/{}", "", ("cpu.max",), "max 100000"),
        ("5:cpuacct,cpu:/{}", "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us"), "-1 100000"),
        ("5:cpu,cpuacct:/{}", "cpu,cpuacct", ("cpu.cfs_quota_us", "cpu.cfs_period_us"), "-1 100000"),
    ],
)
def test_cores_of_containers(  # noqa: PLR0917 - fixtures
    made_up: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    line: str,
    folder: str,
    files: tuple[str, ...],
    unlimited: str,
) -> None:
    """Of either version of cgroups, this process's own share of time and those around it: the least, rounded up."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    write(made_up / "proc" / "self" / "cgroup", f"4:memory:/elsewhere\n{line.format(place)}\n")
    root = made_up / "cgroup" / folder

    def limit(group: Path, text: str) -> None:
        for name, value in zip(files, [text] if len(files) == 1 else text.split(), strict=True):
            write(group / name, f"{value}\n")

    for group in {root, root / place}:
        limit(group, unlimited)
    assert usable_cores() == 12
    limit(root / place, "350000 100000")
    assert usable_cores() == 4
    limit(root, "200000 100000")
    assert usable_cores() == 2
    limit(root / place, "50000 100000")
    assert usable_cores() == 1


def test_cores_and_workers(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By affinity and the container's share of time; workers by memory, too."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert (usable_cores(), usable_workers()) == (12, 12)
    write(made_up / "cgroup" / "cpu.max", "250000 100000\n")
    assert usable_cores() == 3
    write(made_up / "cgroup" / "cpu.max", "max 100000\n")
    write(made_up / "proc" / "meminfo", f"MemAvailable: {5 << 20} kB\n")
    assert (usable_cores(), usable_workers()) == (12, 5)
    write(made_up / "proc" / "meminfo", "MemAvailable: 1000 kB\n")
    assert usable_workers() == 1


def test_onednn_without_memory_is_told_from_what_it_has_not() -> None:
    """Its words for a full memory, as under `ulimit -d`, are part of those for a product that it has not."""
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a matmul primitive"))
