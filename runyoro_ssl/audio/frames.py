"""Frames of FFmpeg as blocks of samples: at one rate, gathered by FFmpeg's own queue, skipped and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.audio.frame import AudioFrame

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError

FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}
"""By sample format, without the p of planar ones; 24 bits come as the upper part of s32."""
MAX_PLANES = 7
"""PyAV (seen in 18.1) takes what lies behind the eighth plane for a ninth and reads it: a crash."""


def check(frame: AudioFrame) -> None:
    """Raise AudioError for samples that cannot be read from a frame."""
    num_channels, name = frame.layout.nb_channels, frame.format.name.removesuffix("p")
    if frame.format.is_planar and num_channels > MAX_PLANES:
        raise AudioError(Reason.CHANNELS, f"{num_channels}, at most {MAX_PLANES} are read from this format")
    if name not in FULL_SCALE:
        raise AudioError(Reason.UNREADABLE, f"samples of the kind {name}")


def at_one_rate(frames: Iterable[AudioFrame], rate: int) -> Iterator[AudioFrame]:
    """The frames, those at another rate resampled: recordings that were joined may each have their own."""
    kind, resampler = None, None
    for frame in frames:
        if resampler is None and frame.sample_rate == rate:
            yield frame
            continue
        found = frame.sample_rate, frame.format.name, frame.layout.name
        if resampler is None or found != kind:
            if resampler is not None:
                yield from resampler.resample(None)
            check(frame)
            resampler, kind = av.AudioResampler(frame.format, frame.layout, rate), found
        frame.pts = None  # nothing follows from where it stood
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)


def up_to(frames: Iterable[AudioFrame], num_samples: int) -> Iterator[AudioFrame]:
    """The frames that hold the first so many samples: no more is decoded."""
    for frame in frames:
        yield frame
        num_samples -= frame.samples
        if num_samples <= 0:
            return


def gather(frames: Iterable[AudioFrame], size: int) -> Iterator[np.ndarray]:
    """Blocks float32 (channels, `size`) of frames of any length; what came before an error is given, then it is raised.

    A block is shorter at the end, and where the number of channels changes.
    """
    queue, num_channels, kind = av.AudioFifo(), 0, ""
    try:
        for frame in frames:
            # The queue itself does not look at channels: it would read past the end of the frame.
            if frame.layout.nb_channels != num_channels or frame.format.name != kind:
                yield from _rest(queue)
                check(frame)
                queue, num_channels, kind = av.AudioFifo(), frame.layout.nb_channels, frame.format.name
            frame.pts = None  # the queue would refuse what does not follow
            try:
                queue.write(frame)
            except ValueError:  # of another time base, as what was resampled is
                yield from _rest(queue)
                queue = av.AudioFifo()
                queue.write(frame)
            while queue.samples >= size and (block := queue.read(size)) is not None:
                yield _values(block)
    except Exception:
        yield from _rest(queue)
        raise
    yield from _rest(queue)


def _rest(queue: av.AudioFifo) -> Iterator[np.ndarray]:
    frame = queue.read(0, partial=True) if queue.samples else None
    if frame is not None:
        yield _values(frame)


def _values(frame: AudioFrame) -> np.ndarray:
    """float32 (channels, T) in [-1, 1]."""
    name = frame.format.name.removesuffix("p")
    values: np.ndarray = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if FULL_SCALE[name] == 1.0:
        return values.astype(np.float32, copy=False)
    made = values.astype(np.float32)
    made *= np.float32(1 / FULL_SCALE[name])
    if name == "u8":
        made -= 1
    return made


def cut(blocks: Iterable[np.ndarray], skip: int, count: int | None) -> Iterator[np.ndarray]:
    """Without the first `skip` frames of blocks (channels, T), at most `count`. An empty one tells of more skipping."""
    for block in blocks:
        wanted = block[:, skip:]
        skip = max(0, skip - block.shape[1])
        if count is not None:
            wanted = wanted[:, :count]
            count -= wanted.shape[1]
        yield wanted
        if count == 0:
            return
