"""Blocks regrouped: what is taken is what came, in order, whatever the blocks were."""

from __future__ import annotations

import numpy as np
import pytest

from runyoro_ssl.audio.blocks import SampleQueue
from runyoro_ssl.prepare.clips.segment import cut_evenly, cut_stream, take_bounds

STREAM = np.arange(1000, dtype=np.float32)


def blocks(seed: int) -> list[np.ndarray]:
    """The stream in blocks of 0 to 99 samples."""
    edges = np.cumsum(np.random.default_rng(seed).integers(0, 100, size=60))
    return np.split(STREAM, edges[edges < len(STREAM)])


@pytest.mark.parametrize("seed", range(5))
def test_takes_and_skips_are_slices(seed: int) -> None:
    """Of the stream that was added; beyond its end they are shorter."""
    rng = np.random.default_rng([seed, 1])
    held, at = SampleQueue(), 0
    for block in blocks(seed):
        held.add(block)
    assert held.num_samples == len(STREAM)
    while held.num_samples:
        count = int(rng.integers(0, 90))
        if rng.integers(2):
            np.testing.assert_array_equal(held.take(count), STREAM[at : at + count])
        else:
            assert held.skip(count) == len(STREAM[at : at + count])
        at += count
        assert held.num_samples == max(0, len(STREAM) - at)
    assert len(held.take(7)) == held.skip(7) == 0


@pytest.mark.parametrize("max_samples", [1, 70, 300, 499, 500, 2000])
def test_pieces_of_a_stream_are_those_of_the_whole(max_samples: int) -> None:
    """Pieces of the maximum, the last two equal; together they are the stream."""
    pieces = list(cut_stream(iter(blocks(0)), max_samples))
    starts = range(0, len(STREAM) - 2 * max_samples + 1, max_samples)
    rest = len(starts) * max_samples
    expected = [(start, start + max_samples) for start in starts]
    if rest < len(STREAM):
        expected += [(rest + start, rest + stop) for start, stop in cut_evenly(len(STREAM) - rest, max_samples)]
    assert [(piece.start, piece.start + len(piece.waveform)) for piece in pieces] == expected
    np.testing.assert_array_equal(np.concatenate([piece.waveform for piece in pieces]), STREAM)


def test_bounds_are_taken_and_nothing_is_read_beyond_them() -> None:
    """Adjoining, apart, at the start, within one block and over many."""
    bounds = [(0, 3), (3, 250), (260, 261), (600, 640)]
    todo = iter(blocks(1))
    taken = list(take_bounds(todo, bounds))
    assert [place for place, _ in taken] == bounds
    for (start, stop), waveform in taken:
        np.testing.assert_array_equal(waveform, STREAM[start:stop])
    assert float(next(block for block in todo if len(block))[0]) < 640 + 200
