"""What is tried without root's powers: as root, rights of files say nothing."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

import pytest

CAPABILITIES_V3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def said_without_powers(act: Callable[[], object]) -> str:
    """Call something in a child that must obey the rights of files: what it gave, or the kind and words of its error.

    Skips the test where root cannot lay its powers down.
    """
    if os.geteuid() == 0 and sys.platform != "linux":
        pytest.skip("root obeys no rights of files, and lays its powers down on Linux only")
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        said = "capset failed"
        if os.geteuid() != 0 or _drop_powers():
            try:
                said = str(act())
            except Exception as error:  # noqa: BLE001 - it is what the test asks for
                said = f"{type(error).__name__}: {error}"
        os.write(theirs, said.encode()[:60_000])
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    if said == "capset failed":
        pytest.skip("root cannot lay its powers down here: capset is refused")
    return said


def _drop_powers() -> bool:
    """Give up every capability of this process, as `setpriv --bounding-set=-all` does."""
    header, sets = _Header(CAPABILITIES_V3, 0), (_Sets * 2)()
    return int(ctypes.CDLL(None).capset(ctypes.byref(header), ctypes.byref(sets))) == 0
