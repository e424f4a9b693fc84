"""The owner of a lock: a process, as its record in the lock file names it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Owner:
    """A process that writes into a folder. `boot` names its kernel since the start: processes of one share OS locks."""

    host: str
    pid: int
    since: str
    boot: str

    @classmethod
    def here(cls) -> Self:
        """The owner that this process is."""
        import psutil

        since = datetime.fromtimestamp(psutil.Process().create_time(), tz=UTC).astimezone()
        return cls(socket.gethostname(), os.getpid(), since.isoformat(" ", timespec="seconds"), _boot())

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """The owner that a record names; None if it is damaged."""
        try:
            found = json.loads(content)
            return cls(found["host"], found["pid"], found["since"], found["boot"])
        except (ValueError, LookupError, TypeError, RecursionError):
            return None

    def record(self, beat: int) -> bytes:
        """The content of the lock file at a beat: always as long, so that it can be written over."""
        return json.dumps({**asdict(self), "beat": f"{beat:012d}"}).encode() + b"\n"

    @staticmethod
    def names(owner: Owner | None) -> dict[str, str | int | None]:
        """The host and pid of an owner for the log; None for those of a record that cannot be read."""
        return {"host": owner.host if owner else None, "pid": owner.pid if owner else None}

    def __str__(self) -> str:
        return f"pid {self.pid} on host {self.host}, since {self.since}"


def _boot() -> str:
    """A name of this kernel that ends with it; empty where there is none, and then every owner is a stranger."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]  # macOS
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - fixed
    except (OSError, subprocess.CalledProcessError):
        return ""
