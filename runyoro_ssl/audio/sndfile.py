"""Recordings that libsndfile reads: WAV, AIFF, CAF, AU and their kin, which it reads four times as fast as FFmpeg."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import soundfile as sf

from runyoro_ssl.audio.channels import Mixer
from runyoro_ssl.audio.decoder import block_frames
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.audio.samples import Samples
from runyoro_ssl.errors import AudioError

MAX_STATED_SEC = 7 * 86_400
"""Streams of unknown length carry a huge sentinel (libsndfile reports 2**63 - 1 frames): that states nothing."""
PLAIN = {
    "PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1,
}  # fmt: skip
"""Encodings in which every sample stands for itself, and its bytes: they are read without a header, too."""


class SoundFileSource:
    """A recording open in libsndfile. Raises soundfile.LibsndfileError if that cannot open it.

    `samples` says where its samples stand, if that is known; where the header says otherwise, they are read as they
    stand.
    """

    def __init__(self, file: BinaryIO, samples: Samples | None = None) -> None:
        # By descriptor: given a path, libsndfile believes the extension of headerless files.
        self._file = sf.SoundFile(file.fileno(), closefd=False)
        self.sample_rate: int = self._file.samplerate
        self.num_channels: int = self._file.channels
        self.is_float = self._file.subtype in {"FLOAT", "DOUBLE"}
        self.stated_sec = self._stated_sec() if samples is None else None
        self.is_plain = self._file.subtype in PLAIN
        self.flaws = [samples.flaw] if samples is not None and samples.flaw is not None else []
        if samples is not None and self.is_plain and self._file.frames != self._num_frames(samples):
            self._file = self._open_headless(file, samples)
        self._mixer = Mixer(self.sample_rate)

    def blocks(self, start: int, count: int | None) -> Iterator[np.ndarray]:
        """Decode mono blocks, as `Source.blocks` says."""
        if start >= self._file.frames:
            return
        try:
            if self._file.seekable():
                self._file.seek(start)
            else:  # GSM in WAV
                for _ in self._read_blocks(start):
                    pass
            for block in self._read_blocks(self._file.frames if count is None else count):
                yield self._mixer.mix(block.T)
        except sf.LibsndfileError as error:
            raise AudioError(Reason.UNREADABLE, explain(error)) from None
        self.flaws += self._mixer.flaws

    @property
    def is_whole(self) -> bool:
        """Whether the last of the frames that are stated is there."""
        try:
            self._file.seek(self._file.frames - 1)
            return len(self._file.read(1)) == 1
        except (sf.LibsndfileError, ValueError):
            return False

    def close(self) -> None:
        """Free the decoder, as `Source.close` says."""
        self._file.close()

    def _stated_sec(self) -> float | None:
        stated_sec = self._file.frames / max(1, self.sample_rate)
        return stated_sec if stated_sec < MAX_STATED_SEC else None

    def _num_frames(self, samples: Samples) -> int:
        return (samples.stop - samples.start) // (PLAIN[self._file.subtype] * self.num_channels)

    def _open_headless(self, file: BinaryIO, samples: Samples) -> Any:
        self._file.close()
        return sf.SoundFile(
            _Window(file.fileno(), samples.start, samples.stop),
            samplerate=self.sample_rate,
            channels=self.num_channels,
            subtype=self._file.subtype,
            format="RAW",
            endian="LITTLE" if samples.little_endian else "BIG",
        )

    def _read_blocks(self, num_frames: int) -> Iterator[np.ndarray]:
        """The next `num_frames`, or what there is of them, as `_read`."""
        size = block_frames(self.sample_rate, self.num_channels)
        while num_frames > 0 and len(block := self._read(min(size, num_frames))):
            num_frames -= len(block)
            yield block

    def _read(self, num_frames: int) -> np.ndarray:
        """float32 (at most `num_frames`, channels) in [-1, 1]."""
        block: np.ndarray
        if self._file.subtype != "PCM_16":
            block = self._file.read(num_frames, dtype="float32", always_2d=True)
            return block
        # The same numbers as libsndfile's own floats, which for WAV take four times as long.
        block = self._file.read(num_frames, dtype="int16", always_2d=True).astype(np.float32)
        block *= 1 / 32768
        return block


class _Window(io.RawIOBase):
    """A part of a file, as a file of its own."""

    def __init__(self, descriptor: int, start: int, stop: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, stop - start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = min(max(0, base + offset), self._size)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")[: self._size - self._at]
        count = os.preadv(self._descriptor, [view], self._start + self._at) if len(view) else 0
        self._at += count
        return count


def explain(error: sf.LibsndfileError) -> str:
    """Say what is wrong in libsndfile's own words, without the file's descriptor."""
    return str(error.error_string).removeprefix("Error : ").strip(" .")


def is_unknown_format(error: sf.LibsndfileError) -> bool:
    """Whether libsndfile does not know the format at all; else it found damage in one that it knows."""
    # 1: format not recognised; 7: "file does not exist", its word for an MP3 without one good frame.
    return error.code in {1, 7}
