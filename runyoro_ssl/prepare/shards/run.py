"""The shards of a job, run on its executor; a file that kills its worker costs itself, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path

from runyoro_ssl.bars import progress
from runyoro_ssl.config import Config
from runyoro_ssl.dataset.layout import shard_features
from runyoro_ssl.disk.durable import sweep
from runyoro_ssl.errors import ConfigError, DatasetError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.plugin.manager import Plugins
from runyoro_ssl.prepare.accounts import Account, Drop
from runyoro_ssl.prepare.shards.job import Job
from runyoro_ssl.prepare.shards.shard import Line, MakeShard, Shard, StoredLine, find_done, plan
from runyoro_ssl.prepare.workers import Done, opened, run, why_lost

log = get_logger()

VISIBLE_SEC = 60.0
"""Network file systems show a new file on all machines by then."""
IN_FLIGHT = 4
"""Shards sent out for each worker: none waits for work."""


def make_clips(config: Config, plugins: Plugins, job: Job, folder: Path, executor_files: Path) -> list[StoredLine]:
    """Make the clips of every line, in order. What `folder` holds already is not done again.

    `executor_files` is where the executor may keep files of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(folder)
    wanted = [line.key for line in job.lines]
    trial = job.maker.filters.trial
    done = find_done(folder, wanted, trial=trial)
    todo = plan(job.lines, done, config.prepare.shard_seconds)
    if done:
        log.info("shards_found", lines=len(done), lines_to_do=sum(len(shard.lines) for shard in todo))
    make = MakeShard(job.maker, shard_features().arrow_schema, folder)
    failed: dict[str, StoredLine] = {}
    if todo:
        with (
            _swept(folder),
            _there(executor_files),
            opened(plugins.executor(executor_files, num_tasks=len(todo))) as executor,
        ):
            for shard, account in _run(executor, make, todo, config):
                if account is not None:
                    failed[shard.lines[0].key] = StoredLine(account, folder / f"{shard.name}.arrow", range(0))
        done = failed | _find_all(folder, [key for key in wanted if key not in failed], trial)
    return [done[key] for key in wanted]


@contextmanager
def _there(folder: Path) -> Iterator[None]:
    """A folder that is there while the block runs, and stays if something is in it."""
    folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _swept(folder: Path) -> Iterator[None]:
    """When the block fails, the shards that ended workers were writing go: the disk may be full of them."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # why the block failed comes first
            _remove_unfinished(folder)
        raise


def _remove_unfinished(folder: Path) -> None:
    """Remove what nobody will finish: what is half written, and Arrow files that never came to have an account."""
    sweep(folder)
    for arrow in folder.glob("[0-9a-f]*.arrow"):
        if not arrow.with_suffix(".json").exists():
            arrow.unlink(missing_ok=True)


def _find_all(folder: Path, wanted: Sequence[str], trial: str) -> dict[str, StoredLine]:
    """The lines that were worked on, by key. What other machines write may take a while to be seen."""
    end = time.monotonic() + VISIBLE_SEC
    while len(done := find_done(folder, wanted, settled=False, trial=trial)) < len(wanted):
        if time.monotonic() > end:
            raise DatasetError(
                f"{folder}: {len(wanted) - len(done)} of {len(wanted)} lines were worked on, and are not here; an "
                "executor's machines must see this folder under the same path"
            )
        time.sleep(1)
    return done


def _run(
    executor: Executor, function: MakeShard, todo: Sequence[Shard], config: Config
) -> Iterator[tuple[Shard, Account | None]]:
    """(shard, None) when it is made; and for a line that killed its worker (its shard, its account)."""
    in_flight = IN_FLIGHT * config.hardware.num_workers
    again: list[Shard] = []
    with progress("audio seconds") as bar:
        task = bar.add_task("Preparing", total=round(sum(shard.seconds for shard in todo)))
        for done in run(executor, function, todo, in_flight=in_flight):
            if done.lost_after_sec is not None:
                again += done.item.one_by_one()
                continue
            bar.advance(task, round(done.item.seconds))
            yield done.item, None
        if len(again) == sum(len(shard.lines) for shard in todo):
            _check_workers(executor, config)
        # Each line of a shard whose worker died has a worker to itself, to tell which one it was.
        for done in run(executor, function, again, in_flight=config.hardware.num_workers):
            bar.advance(task, round(done.item.seconds))
            if done.lost_after_sec is None:
                yield done.item, None
            else:
                yield done.item, _account_of_lost(done, config, function.maker.sample_rate)


def _check_workers(executor: Executor, config: Config) -> None:
    """No shard came back: are there workers at all that can work?"""
    (done,) = run(executor, _nothing, [None], in_flight=1)
    if done.lost_after_sec is not None:
        raise ConfigError(
            f"prepare.executor is {config.prepare.executor}: its workers fail ({done.detail}); runyoro_ssl must be "
            "installed there, and the folders of the manifest and the output must be the same as here"
        )


def _nothing(_item: None) -> None:
    """What every worker can do."""


def _account_of_lost(done: Done[Shard, None], config: Config, sample_rate: int) -> Account:
    """The account of the one line of a shard that killed its worker twice."""
    line: Line = done.item.lines[0]
    error = why_lost(done, config.prepare.time_limit_sec)
    log.warning("file_dropped", file=line.entry.source, reason=str(error), executor_says=done.detail)
    num_samples = round(line.entry.duration * sample_rate)
    drop = Drop(line.entry.source, line.entry.offset or 0.0, num_samples, error.reason, error.detail)
    return Account(line.key, num_samples, drops=[drop])
