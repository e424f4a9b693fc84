"""Processes that start at once: forks of one that has imported what trainers, and the workers of `prepare`, need."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any
from unittest import mock

IMPORTED = (
    "support.trainer",
    "support.together",
    "runyoro_ssl.prepare.shards.shard",
    "silero_vad",
    "av",
    "soxr",
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint",
)
"""Once, in the process that they are forked from."""


class ForkedProcess(ForkServerProcess):
    """A process like one of spawn: it has nothing of this one's state, and what it works on is pickled."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's
        start_server()
        return ForkServerProcess._Popen(process_obj)


class ForkedContext(ForkServerContext):
    """What `multiprocessing.get_context` gives, for such processes."""

    Process = ForkedProcess


FORKED = ForkedContext()


@cache
def start_server() -> None:
    """Start the process that the others are forked from. Older Pythons lose its sys.path."""
    multiprocessing.set_forkserver_preload(list(IMPORTED))
    held = signal.pthread_sigmask(signal.SIG_SETMASK, [])  # whoever asks first may hold signals back: not for all
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS="1"):
        forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
