"""The clips of a dataset, written by several processes at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from runyoro_ssl.bars import progress
from runyoro_ssl.builtins.executors.processes import ProcessExecutor
from runyoro_ssl.dataset.content import ClipContent, content_digest
from runyoro_ssl.dataset.layout import SPLITS
from runyoro_ssl.dataset.read import Clips, load_splits
from runyoro_ssl.dataset.write import DataFile, StoredRow, WriteFile, save_splits
from runyoro_ssl.prepare.dividing import StoredClip
from runyoro_ssl.prepare.workers import opened, run

WORTH_WORKERS = 8
"""Files, 5 hours of audio, from which on the start of processes is earned back."""


def save_clips(clips: Sequence[StoredClip], finished: Path, *, num_workers: int) -> str:
    """Write clips, each with its split, as a DatasetDict into a folder. Returns the digest of their content."""
    records = [clip.record for clip in clips]
    digest = content_digest(ClipContent(clip.split, clip.id, clip.num_samples, clip.crc32) for clip in records)
    rows = {
        name: [
            StoredRow(clip.row, clip.record.num_samples, clip.record.crc32)
            for clip in clips
            if clip.record.split == name
        ]
        for name in SPLITS
    }
    save_splits(rows, finished, digest=digest, write_all=partial(write_in_workers, num_workers))
    return digest


def waveforms_of(finished: Path, sample_rate: int) -> Callable[[int], np.ndarray]:
    """A function (number of a clip, over all splits in order) -> its waveform, float32 (T,)."""
    saved = [Clips(split) for split in load_splits(finished, sampling_rate=sample_rate).values()]
    places = [(clips, index) for clips in saved for index in range(len(clips))]

    def waveform_of(index: int) -> np.ndarray:
        clips, place = places[index]
        return clips.waveform(place)

    return waveform_of


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
