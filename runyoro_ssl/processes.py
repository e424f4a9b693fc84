"""Processes: what those of one run agree on, and the signals that ask one to stop."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU")
    if hasattr(signal, name)  # Windows has the first two
)
NOTICES = tuple(number for number in SIGNALS if number.name in ("SIGUSR1", "SIGXCPU"))
"""What batch systems send some time before they end a job, as `sbatch --signal=USR1@120` asks for, and the kernel when
a limit of CPU time is near, again each second."""
BY_NAME = {"SIGINT": "Ctrl-C", "SIGHUP": "a closed terminal", "SIGXCPU": "SIGXCPU, a limit of CPU time"}
SIGNAL_EXIT = 128
"""Added to a signal's number, as shells do: 130 for SIGINT, 143 for SIGTERM, 129 for a terminal that was closed, 138
and 152 on Linux for SIGUSR1 and SIGXCPU."""
LOADER_PATIENCE_SEC = 600.0
"""So long nothing may come, before what builds batches counts as hung: longer than a share takes that wakes its disks,
or is mounted anew."""
PATIENCE_SEC = 60.0
"""Network file systems show what another machine wrote after so long at most."""


@contextmanager
def signals_held(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Start threads and processes to which signals never come; what comes to this one comes when the block has ended.

    A process that starts cannot ignore Ctrl-C before it has imported what does so, and would end with a traceback.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # a spawn starts it, and that lets SIGINT and SIGTERM in
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def in_words(number: signal.Signals) -> str:
    """What a signal most often comes of; others keep their name."""
    return BY_NAME.get(number.name, number.name)


def sum_over_processes(accelerator: Any, count: int) -> int:
    """A count of this process, summed over all. Between hosts only: the device is not waited for."""
    if accelerator.num_processes == 1:
        return count
    import torch

    total = torch.tensor(count)
    torch.distributed.all_reduce(total, group=_host_group())
    return int(total)


def gather_over_processes(accelerator: Any, value: Any) -> list[Any]:
    """A small value of each process, by process. Every process calls it."""
    if accelerator.num_processes == 1:
        return [value]
    import torch

    values: list[Any] = [None] * accelerator.num_processes
    torch.distributed.all_gather_object(values, value, group=_host_group())
    return values


def is_lost_process(error: BaseException) -> bool:
    """Whether an error of torch says that another process of the run is gone, or does not answer."""
    import torch

    texts = ("gloo/transport", "closed by peer", "reset by peer", "Broken pipe", "NCCL communicator was aborted")
    distributed = getattr(torch.distributed, "DistError", ())
    return isinstance(error, distributed) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def part(accelerator: Any) -> None:
    """Leave the other processes, at the end of a run. Nothing may be gathered after it."""
    _host_group.cache_clear()  # what it holds has threads, which must not outlive the group
    accelerator.end_training()


@functools.cache
def _host_group() -> Any:
    """All processes, over their CPUs; every process asks for it at the same point."""
    import torch

    return torch.distributed.new_group(backend="gloo")
