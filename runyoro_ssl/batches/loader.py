"""The batches of a run, built ahead by a thread or by worker processes, one of which may die, or hang."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain, tee
from multiprocessing.connection import wait
from typing import Any

import torch
from torch.utils.data import DataLoader

from runyoro_ssl.batches.build import BatchBuilder, TrainingBatch
from runyoro_ssl.batches.crew import NO_CLIP, Crew, describe_exit, forget
from runyoro_ssl.batches.loading import END_SEC, Loading
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.errors import LoaderError, PluginError
from runyoro_ssl.processes import LOADER_PATIENCE_SEC, SIGNALS, signals_held

DEATH_SEC = 5.0
"""When a worker dies, what it breaks may be noticed this much earlier than its end."""


def load_batches(
    builder: BatchBuilder,
    groups: Iterable[Sequence[MicroBatch]],
    *,
    num_workers: int,
    pin_memory: bool = False,
    patience_sec: float = LOADER_PATIENCE_SEC,
) -> Loading:
    """The batches of each group, in order, built while the group before is used.

    They are built by `num_workers` processes, or, if that is 0, by a thread of this one. Close the iterator to end
    them early. When a process dies, all are started anew, once; what is delivered stays the same. One that hands out
    nothing for `patience_sec`, and for many times what is usual, is killed, and counts as one that died.

    Raises:
        LoaderError: A process died or hung again, or would have read other clips than those of `builder`.
        PluginError: An augmentation or the collator failed.
    """
    rows = torch.full((max(1, num_workers),), NO_CLIP)
    if num_workers:
        rows.share_memory_()  # type: ignore[no-untyped-call]  # torch's own
    crew = Crew(rows, builder.clips, builder.stage)
    noting = replace(builder, clips=crew.noted())
    made = _build_groups(noting, groups, crew, num_workers=num_workers, pin_memory=pin_memory)
    return Loading(made, crew, patience_sec=patience_sec)


def _build_groups(
    builder: BatchBuilder, groups: Iterable[Sequence[MicroBatch]], crew: Crew, *, num_workers: int, pin_memory: bool
) -> Generator[list[TrainingBatch]]:
    for_batches, for_sizes = tee(groups)
    plans = chain.from_iterable(for_batches)
    batches = _from_workers(builder, plans, crew, num_workers) if num_workers else _from_here(builder, plans, crew)
    with closing(batches):
        for group in for_sizes:
            yield [next(batches).pin_memory() if pin_memory else next(batches) for _ in group]


def _from_here(builder: BatchBuilder, plans: Iterator[MicroBatch], crew: Crew) -> Generator[TrainingBatch]:
    """The batch of each plan, in order, built by who asks for it."""
    for plan in plans:
        crew.sent.append(plan)
        batch = builder[plan]
        crew.num_built += 1
        crew.sent.clear()
        yield batch
        del batch


def _from_workers(
    builder: BatchBuilder, plans: Iterator[MicroBatch], crew: Crew, num_workers: int
) -> Generator[TrainingBatch]:
    """The batch of each plan, in order."""
    for restarted in (False, True):
        crew.rows.fill_(NO_CLIP)
        crew.hung, crew.is_starting = None, True
        if (fault := crew.changed()) is not None:
            raise LoaderError(
                f"the dataset is not what it was when the run began: {fault}. Put it back as it was, then "
                "--resume-from-checkpoint last; or train on the other one with another --output-dir"
            )
        with _started(builder, _feed(crew.sent, plans), num_workers) as (batches, workers):
            crew.workers, crew.awaited = workers, partial(_awaited, batches)
            try:
                for number, batch in enumerate(batches, 1):  # of each worker in turn
                    crew.sent.popleft()
                    crew.num_built += 1
                    crew.is_starting = number < num_workers
                    yield batch
            except PluginError as error:
                raise _as_raised(error) from None
            except Exception as error:
                if crew.is_closing:
                    return
                may_be_death = crew.hung is not None or isinstance(error, (RuntimeError, OSError, EOFError))
                dead = _dead(workers) if may_be_death else []
                if not dead:
                    raise
            else:
                return
        _report_end(crew, dead, again=restarted)


def _awaited(batches: Any) -> int | None:
    """The worker that has the next batch in hand, by the notes of torch's iterator, which another thread may change."""
    with suppress(KeyError, IndexError, RuntimeError):
        return int(batches._task_info[batches._rcvd_idx][0])  # noqa: SLF001 - the loader has no public way to ask
    return None


def _report_end(crew: Crew, dead: Sequence[int], *, again: bool) -> None:
    """A warning on workers that died, or were killed because they hung; LoaderError where no others can do better."""
    ways = [describe_exit(crew.workers[number].exitcode) for number in dead]
    clip = crew.describe_clips() if crew.hung is not None else crew.describe_clips(dead)
    how = crew.hung or f"a process that builds batches died ({', '.join(ways)})"
    bus_error = crew.describe_bus_error() if "SIGBUS" in ways else None
    if bus_error is not None and crew.shrunk() is not None:
        raise LoaderError(f"{how} at {clip}: {bus_error}; then --resume-from-checkpoint last")
    if again:
        advice = bus_error or (
            "Look at that clip; if memory or /dev/shm is short, use --dataloader-num-workers 0"
            if crew.hung is None
            else "See to the disk or share of the dataset, and to plugins that wait for something"
        )
        raise LoaderError(f"{how}, again; the last clip it read: {clip}. {advice}; then --resume-from-checkpoint last")
    from runyoro_ssl.logs import get_logger  # the bench runs where there is no structlog

    get_logger().warning("loader_restarted", because=how, clip=clip, **({"means": bus_error} if bus_error else {}))


def _feed(sent: deque[MicroBatch], plans: Iterator[MicroBatch]) -> Iterator[MicroBatch]:
    """Again what was sent before, then what was not; `sent` gets it."""
    yield from tuple(sent)
    for plan in plans:
        sent.append(plan)
        yield plan


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
    with signals_held(SIGNALS):  # until they have imported what ignores them
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
            worker.kill()
            worker.join(END_SEC)
            forget(worker)


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
