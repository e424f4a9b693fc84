"""Decoding alone: all of a recording, by the library that `prepare` takes for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr

from runyoro_ssl.bench import decoding
from support.recordings import write_av, write_sndfile


@pytest.mark.parametrize(("name", "rate"), [("pcm.wav", 16_000), ("music.mp3", 44_100), ("mono.m4a", 44_100)])
def test_all_of_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, rate: int) -> None:
    """Two seconds, at the recording's own rate, whatever the blocks."""
    monkeypatch.setattr(decoding, "BLOCK_FRAMES", 10_000)
    (write_av if name == "mono.m4a" else write_sndfile)(tmp_path / name, 2.0)
    found, blocks = decoding._blocks(tmp_path / name)
    assert found == rate
    assert sum(map(len, blocks)) / rate == pytest.approx(2.0, abs=0.05)
    resampled: list[int] = []
    resample = soxr.ResampleStream.resample_chunk

    def counted(stream: soxr.ResampleStream, block: np.ndarray) -> np.ndarray:
        made: np.ndarray = resample(stream, block)
        resampled.append(len(made))
        return made

    monkeypatch.setattr(soxr.ResampleStream, "resample_chunk", counted)
    assert decoding.core_seconds_to_decode(tmp_path / name, 8_000) > 0
    assert sum(resampled) / 8_000 == pytest.approx(2.0, abs=0.1)
