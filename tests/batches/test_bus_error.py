"""A mapped file that shrinks while it is read, in processes of their own: a line says so, a builder stands still."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

READS = """
import mmap, os, sys
from pathlib import Path
import numpy as np
from runyoro_ssl.batches.bus_error import outlast_bus_errors
from runyoro_ssl.batches.prefetch import Prefetch
path = sys.argv[1]
with open(path, "rb") as file:
    samples = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.int16)
os.truncate(path, 0)
def items():
    yield samples.astype(np.float32)
with outlast_bus_errors([Path("the/dataset")]):
    if sys.argv[2] == "builder":
        coming = Prefetch(items())
        while not coming.wait(0.1) and coming.fault is None:
            pass
        print(coming.fault, coming.close(0.1))
    else:
        samples.astype(np.float32)
"""


def read(tmp_path: Path, where: str) -> subprocess.CompletedProcess[str]:
    """Read a file that was cut short, in this thread."""
    file = tmp_path / "mapped"
    file.write_bytes(bytes(1 << 20))
    command = [sys.executable, "-c", READS, str(file), where]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_builder_stands_still_and_the_process_ends_well(tmp_path: Path) -> None:
    """Whoever waits for it is told, and can still save."""
    done = read(tmp_path, "builder")
    assert (done.returncode, done.stdout) == (0, "SIGBUS: a file of the dataset could not be read False\n"), done.stderr


def test_any_other_thread_ends_the_process_with_a_line(tmp_path: Path) -> None:
    """By the signal, as before; the last line says what happened, of which dataset, and what to do."""
    done = read(tmp_path, "main")
    assert done.returncode == -signal.SIGBUS
    last = done.stderr.splitlines()[-1]
    assert last.startswith("SIGBUS: a file that is mapped into memory was cut short")
    assert "the/dataset" in last
    assert "--resume-from-checkpoint last" in last
    assert "in <module>" in done.stderr
