"""Recordings that libsndfile reads: WAV, FLAC, AIFF, CAF, MP3, Ogg Vorbis, Opus and more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile as sf

from runyoro_ssl.audio.decoder import block_frames
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError

MAX_STATED_SEC = 7 * 86_400
"""Streams of unknown length carry a huge sentinel (libsndfile reports 2**63 - 1 frames): that states nothing."""


class SoundFileSource:
    """A recording open in libsndfile. Raises soundfile.LibsndfileError if that cannot open it."""

    def __init__(self, file: BinaryIO) -> None:
        # By descriptor: given a path, libsndfile believes the extension of headerless files.
        self._file = sf.SoundFile(file.fileno(), closefd=False)
        self.sample_rate: int = self._file.samplerate
        self.num_channels: int = self._file.channels
        stated_sec = self._file.frames / max(1, self.sample_rate)
        self.stated_sec = stated_sec if stated_sec < MAX_STATED_SEC else None

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
                yield block[:, 0] if self.num_channels == 1 else block.mean(axis=1)
        except sf.LibsndfileError as error:
            raise AudioError(Reason.UNREADABLE, explain(error)) from None

    def close(self) -> None:
        """Free the decoder, as `Source.close` says."""
        self._file.close()

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


def explain(error: sf.LibsndfileError) -> str:
    """Say what is wrong in libsndfile's own words, without the file's descriptor."""
    return str(error.error_string).removeprefix("Error : ").strip(" .")


def is_unknown_format(error: sf.LibsndfileError) -> bool:
    """Whether libsndfile does not know the format at all; else it found damage in one that it knows."""
    # 1: format not recognised; 7: "file does not exist", its word for an MP3 without one good frame.
    return error.code in {1, 7}
