"""Decoding and resampling alone, with the libraries of `prepare` and nothing else: what it is measured against."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BLOCK_FRAMES = 1 << 19


def core_seconds_to_decode(path: Path, to_rate: int) -> float:
    """Decode a mono recording once, block by block, and resample it to `to_rate` Hz. Returns the processor time."""
    import soxr

    begun = time.process_time()
    from_rate, blocks = _blocks(path)
    stream = soxr.ResampleStream(from_rate, to_rate, num_channels=1, dtype="float32", quality="HQ")
    for block in blocks:
        if from_rate != to_rate:
            stream.resample_chunk(block)
    return time.process_time() - begun


def _blocks(path: Path) -> tuple[int, Iterator[np.ndarray]]:
    """The rate, and blocks float32 (T,), by soundfile, or by PyAV where that is what `prepare` takes."""
    import soundfile as sf

    with path.open("rb") as file:
        is_wav = file.read(4) == b"RIFF"
    return (sf.info(path).samplerate, _by_soundfile(path)) if is_wav else _by_pyav(path)


def _by_soundfile(path: Path) -> Iterator[np.ndarray]:
    import soundfile as sf

    yield from sf.blocks(path, BLOCK_FRAMES, dtype="float32")


def _by_pyav(path: Path) -> tuple[int, Iterator[np.ndarray]]:
    import av

    def blocks() -> Iterator[np.ndarray]:
        with av.open(str(path), "r") as file:
            stream = file.streams.audio[0]
            stream.codec_context.thread_count = 1
            queue = av.AudioFifo()
            for frame in file.decode(stream):
                frame.pts = None
                queue.write(frame)
                if queue.samples >= BLOCK_FRAMES and (whole := queue.read()) is not None:
                    yield np.ascontiguousarray(whole.to_ndarray()[0])
            if (rest := queue.read(0, partial=True)) is not None:
                yield np.ascontiguousarray(rest.to_ndarray()[0])

    with av.open(str(path), "r") as file:
        return file.streams.audio[0].rate, blocks()
