"""A small disk in memory, to fill."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE_BYTES = 4096


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """An empty disk of 1 MB under an empty folder; skips the test where mounting is not permitted."""
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(place)], check=False, capture_output=True
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("mounting a disk is not permitted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def resize(disk: Path, num_bytes: int) -> None:
    """Give the disk another size, to the page."""
    size = f"remount,size={num_bytes // PAGE_BYTES * PAGE_BYTES}"
    subprocess.run(["mount", "-o", size, str(disk)], check=True)
