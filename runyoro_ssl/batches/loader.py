"""The batches of a run, built ahead by a thread or by worker processes, one of which may die."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, tee
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from runyoro_ssl.batches.build import BatchBuilder, TrainingBatch, Waveforms
from runyoro_ssl.batches.plan import MicroBatch
from runyoro_ssl.batches.prefetch import prefetch
from runyoro_ssl.dataset.layout import CLIPS
from runyoro_ssl.errors import LoaderError, PluginError
from runyoro_ssl.processes import SIGNALS

NO_CLIP = -1
DEATH_SEC = 5.0
"""When a worker dies, what it breaks may be noticed this much earlier than its end."""
END_SEC = 10.0
"""What workers have to finish what is in hand, before they are killed."""


def load_batches(
    builder: BatchBuilder, groups: Iterable[Sequence[MicroBatch]], *, num_workers: int, pin_memory: bool = False
) -> Generator[list[TrainingBatch]]:
    """The batches of each group, in order, built while the group before is used.

    They are built by `num_workers` processes, or, if that is 0, by a thread of this one. Close the iterator to end
    them early. When a process dies, all are started anew, once; what is delivered stays the same.

    Raises:
        LoaderError: A process died again.
        PluginError: An augmentation or the collator failed.
    """
    return prefetch(_build_groups(builder, groups, num_workers=num_workers, pin_memory=pin_memory))


def _build_groups(
    builder: BatchBuilder, groups: Iterable[Sequence[MicroBatch]], *, num_workers: int, pin_memory: bool
) -> Generator[list[TrainingBatch]]:
    for_batches, for_sizes = tee(groups)
    plans = chain.from_iterable(for_batches)
    batches = _from_workers(builder, plans, num_workers) if num_workers else (builder[plan] for plan in plans)
    with closing(batches):
        for group in for_sizes:
            yield [next(batches).pin_memory() if pin_memory else next(batches) for _ in group]


def _from_workers(builder: BatchBuilder, plans: Iterator[MicroBatch], num_workers: int) -> Generator[TrainingBatch]:
    """The batch of each plan, in order."""
    rows = torch.empty(num_workers, dtype=torch.int64)
    rows.share_memory_()  # type: ignore[no-untyped-call]  # torch's own
    noting = replace(builder, clips=_NotedClips(builder.clips, rows))
    sent: deque[MicroBatch] = deque()
    for restarted in (False, True):
        rows.fill_(NO_CLIP)
        with _started(noting, _feed(sent, plans), num_workers) as (batches, workers):
            try:
                for batch in batches:
                    sent.popleft()
                    yield batch
            except PluginError as error:
                raise _as_raised(error) from None
            except (RuntimeError, OSError, EOFError):
                dead = _dead(workers)
                if not dead:
                    raise
            else:
                return
        how = ", ".join(_describe_exit(workers[number].exitcode) for number in dead)
        clip = ", ".join(_describe_clip(int(rows[number]), builder.stage) for number in dead)
        _report_death(how, clip, again=restarted)


def _report_death(how: str, clip: str, *, again: bool) -> None:
    """A warning, or LoaderError when it happened before."""
    if again:
        raise LoaderError(
            f"a process that builds batches died again ({how}); the last clip it read: {clip}. Look at that clip; if "
            "memory or /dev/shm is short, use --dataloader-num-workers 0; then --resume-from-checkpoint last"
        )
    from runyoro_ssl.logs import get_logger  # the bench runs where there is no structlog

    get_logger().warning("loader_restarted", because=f"a process that builds batches died ({how})", clip=clip)


def _feed(sent: deque[MicroBatch], plans: Iterator[MicroBatch]) -> Iterator[MicroBatch]:
    """Again what was sent before, then what was not; `sent` gets it."""
    yield from tuple(sent)
    for plan in plans:
        sent.append(plan)
        yield plan


@dataclass(frozen=True)
class _NotedClips:
    """The clips, and a note of the one that this worker is at, for those who find it dead. `rows`: int64 (workers,)."""

    clips: Waveforms
    rows: torch.Tensor

    def num_samples(self, clip: int) -> int:
        """Length of the clip."""
        self._note(clip)
        return self.clips.num_samples(clip)

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """The clip, or a window of it."""
        self._note(clip)
        return self.clips.waveform(clip, start, num_samples)

    def _note(self, clip: int) -> None:
        worker = get_worker_info()
        if worker is not None:
            self.rows[worker.id] = clip


@contextmanager
def _started(
    builder: BatchBuilder, plans: Iterator[MicroBatch], num_workers: int
) -> Iterator[tuple[Iterator[TrainingBatch], Sequence[Any]]]:
    """The batches, in order, and the processes that make them, which end with this."""
    loader: DataLoader[TrainingBatch] = DataLoader(
        builder,
        batch_size=None,
        sampler=plans,
        num_workers=num_workers,
        # fork after torch has started its threads can hang; spawn is what macOS does anyway.
        multiprocessing_context="spawn",
        worker_init_fn=_leave_signals_to_the_trainer,
        generator=torch.Generator(),  # its own draw must not disturb the training thread's
    )
    batches: Any = iter(loader)
    workers = batches._workers  # noqa: SLF001 - the loader has no public end
    try:
        yield batches, workers
    finally:
        # In a thread, for it waits forever if a worker was killed while it held a lock.
        ending = threading.Thread(target=batches._shutdown_workers, daemon=True)  # noqa: SLF001
        ending.start()
        ending.join(END_SEC)
        for worker in workers:
            worker.kill()  # torch would have terminated it, which it ignores
            worker.join(END_SEC)


def _leave_signals_to_the_trainer(_worker: int) -> None:
    """Ctrl-C goes to the whole process group; the trainer finishes its step, and for that needs its workers."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _as_raised(error: PluginError) -> PluginError:
    """The error without the worker's traceback, which stands before it."""
    return PluginError(str(error).rpartition("runyoro_ssl.errors.PluginError: ")[2].strip())


def _dead(workers: Sequence[Any]) -> list[int]:
    """The numbers of the workers that ended. None: what was raised has another cause."""
    ended = wait([worker.sentinel for worker in workers], DEATH_SEC)
    dead = [number for number, worker in enumerate(workers) if worker.sentinel in ended]
    for number in dead:
        workers[number].join()  # a sentinel is a little ahead of the exit status
    return dead


def _describe_exit(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _describe_clip(row: int, stage: str) -> str:
    if row == NO_CLIP:
        return "none, it died before"
    if stage == "eval":
        return f"row {row} of the validation split"
    return f"row {row} of the train split (line {row + 1} of the dataset's {CLIPS})"
