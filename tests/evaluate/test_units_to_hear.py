"""Units to hear: the longest stretches, where they are, and which phones they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.evaluate.examples import AROUND_FRAMES, NUM_STRETCHES, heard_units
from runyoro_ssl.evaluate.grid import GRID

NUM_FRAMES = 50


def held_out(rows: list[int]) -> Any:
    """Clips of a split, whose samples are their own places."""
    waveform = np.arange(GRID.num_samples(NUM_FRAMES), dtype=np.float32)
    return SimpleNamespace(clips=[SimpleNamespace(row=row) for row in rows], waveform=lambda _: waveform)


def units(*stretches: tuple[int, int]) -> np.ndarray:
    """Frames of unit 0, but for unit 1 in these: first frame, length."""
    found = np.zeros(NUM_FRAMES, dtype=np.int64)
    for first, length in stretches:
        found[first : first + length] = 1
    return found


def test_the_longest_stretch_of_each_clip_is_heard_longest_first() -> None:
    """With the row of its clip, and its time there; no more than are wanted."""
    of = {index: units((20, index + 2), (40, 1)) for index in range(NUM_STRETCHES + 2)}
    (one,) = [unit for unit in heard_units(of, held_out([10 * index for index in of]), None) if unit.unit == 1]
    assert [stretch.row for stretch in one.stretches] == [60, 50, 40, 30, 20]
    assert one.stretches[0].at_sec == pytest.approx(20 * 0.02 + 0.0025)
    assert one.phones == []


@pytest.mark.parametrize(("first", "length"), [(20, 4), (3, 2), (0, 5), (46, 4)])
def test_where_the_unit_is_in_its_sound_is_where_it_is_in_the_clip(first: int, length: int) -> None:
    """Wherever the clip begins and ends; it is as long as its frames, and little more is around."""
    (one,) = [unit for unit in heard_units({0: units((first, length))}, held_out([0]), None) if unit.unit == 1]
    (stretch,) = one.stretches
    begin = float(stretch.waveform[0]) / GRID.sample_rate
    assert stretch.at_sec == pytest.approx(begin + stretch.begin_sec)
    assert stretch.end_sec - stretch.begin_sec == pytest.approx(length * GRID.frame_sec)
    assert 0 < stretch.begin_sec <= AROUND_FRAMES * GRID.frame_sec + 0.003
    assert stretch.end_sec < len(stretch.waveform) / GRID.sample_rate


def test_phones_of_a_unit_are_counted_by_frame_with_those_that_have_none() -> None:
    """In clips that have labels alone."""
    labels = [[Phone("a", 0.2, 0.32), Phone("e", 0.32, 0.36)], None]  # frames 9.4 to 15.4, to 17.4
    of = {0: units((10, 10)), 1: units((10, 30))}
    (one,) = [unit for unit in heard_units(of, held_out([0, 1]), labels) if unit.unit == 1]
    assert one.phones == [("a", 0.6), ("e", 0.2), ("", 0.2)]
