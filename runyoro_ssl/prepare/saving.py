"""The files of a dataset, written by several processes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runyoro_ssl.bars import progress
from runyoro_ssl.builtins.executors.processes import ProcessExecutor
from runyoro_ssl.dataset.write import DataFile, WriteFile
from runyoro_ssl.prepare.workers import opened, run

WORTH_WORKERS = 8
"""Files, 5 hours of audio, from which on the start of processes is earned back."""


def write_in_workers(num_workers: int, write: WriteFile, files: Sequence[DataFile]) -> None:
    """Write all files, with a progress bar; few of them here."""
    with progress("clips") as bar:
        task = bar.add_task("Saving", total=sum(len(file.rows) for file in files))
        for num_rows in _written(num_workers, write, files):
            bar.advance(task, num_rows)


def _written(num_workers: int, write: WriteFile, files: Sequence[DataFile]) -> Iterator[int]:
    """The number of rows of each file that is written."""
    if num_workers == 1 or len(files) < WORTH_WORKERS:
        yield from map(write, files)
        return
    with opened(ProcessExecutor(num_workers)) as executor:
        for done in run(executor, write, files, in_flight=2 * num_workers):
            # What ended a worker, ends or explains itself here.
            yield write(done.item) if done.result is None else done.result
