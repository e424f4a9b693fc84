"""A call in a process of its own: what ends that process ends nothing else. For executors whose workers do more.

A Dask worker may run several tasks at once, and one that died would take them along.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any


class ProcessDied(Exception):  # noqa: N818 - what happened, as pebble's ProcessExpired
    """The error of a process that ended before its work; `exitcode` as multiprocessing has it, -N for signal N."""

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode
        super().__init__(f"exit status {exitcode}")


def call_apart(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, Any]:
    """Call a function in a process of its own: (exit status of the process, what the function returned there)."""
    path = os.pathsep.join(os.path.abspath(place) for place in sys.path)  # noqa: PTH100 - "" is the working directory
    child = subprocess.Popen(
        [sys.executable, "-m", "runyoro_ssl.builtins.executors.apart"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        return _converse(child, pickle.dumps((function, arguments)))
    finally:
        child.kill()
        child.wait()


def _converse(child: subprocess.Popen[bytes], question: bytes) -> tuple[int, Any]:
    assert child.stdin  # noqa: S101 - both are pipes
    assert child.stdout  # noqa: S101
    with child.stdout, child.stdin:
        try:
            child.stdin.write(question)
            child.stdin.flush()
        except BrokenPipeError:
            return child.wait(), None
        answer = child.stdout.read()
        exitcode = child.wait()
    return exitcode, pickle.loads(answer) if exitcode == 0 else None  # noqa: S301 - from the child


def _main() -> None:
    """The child: stdin stays open as long as its parent lives."""
    answer = os.dup(1)
    os.dup2(2, 1)  # decoders print
    function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with os.fdopen(answer, "wb") as stream:
        pickle.dump(function(*arguments), stream)


def _end_with_parent() -> None:
    # Not sys.stdin, whose lock the interpreter wants when it ends.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    _main()
