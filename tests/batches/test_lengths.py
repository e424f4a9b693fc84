"""A few clip lengths for a run: chosen well, and clips fitted to them."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from runyoro_ssl.batches import lengths
from runyoro_ssl.batches.lengths import ENOUGH, HALVING_STEP, Lengths, Piece, choose_lengths
from runyoro_ssl.model.draws import derive_generator

SIZES = random.Random(1).choices(range(32_000, 240_000), k=300)  # noqa: S311
WHOLE = [Piece(clip) for clip in range(len(SIZES))]


def distance(sizes: list[int], values: tuple[int, ...]) -> float:
    """Total distance of each size to the nearest value, as a share of all."""
    return float(np.abs(np.subtract.outer(sizes, values)).min(axis=1).sum() / sum(sizes))


def test_lengths_are_the_best_ones() -> None:
    """No other choice among a fine grid is more than a little better, for two lengths and short clips."""
    sizes = [size for size in SIZES if size < 120_000]
    chosen = choose_lengths(sizes, 2)
    unhalved = [size for size in sizes if size < chosen.halve_from]
    pieces = unhalved + [size // 2 for size in sizes if size >= chosen.halve_from for _ in range(2)]
    grid = range(min(pieces), max(pieces), (max(pieces) - min(pieces)) // 60)
    best = min(distance(pieces, pair) for pair in itertools.combinations(grid, 2))
    assert distance(pieces, chosen.values) <= best + 0.002


def test_clips_are_halved_only_as_far_as_needed() -> None:
    """All long clips of one length: six lengths fit them whole. Many lengths: the longest are halved."""
    assert choose_lengths([240_000] * 50 + [100_000] * 50, 6) == Lengths((100_000, 240_000), 240_001)
    spread = choose_lengths(SIZES, 6)
    assert min(SIZES) < spread.halve_from < max(SIZES)
    pieces = [piece.num_samples(SIZES[piece.clip]) for piece in spread.halved(WHOLE, SIZES)]
    assert distance(pieces, spread.values) <= ENOUGH
    fewer = Lengths((), round(spread.halve_from / HALVING_STEP)).halved(WHOLE, SIZES)
    _, waste = lengths._medians(np.array([piece.num_samples(SIZES[piece.clip]) for piece in fewer]), 6)
    assert waste > ENOUGH


@pytest.mark.parametrize(
    ("piece", "length", "begins"),
    [
        (Piece(0), 600, range(401)),  # a crop anywhere
        (Piece(0, 1), 400, range(101)),  # within its half
        (Piece(0, 2), 400, range(500, 601)),
        (Piece(0, 1), 600, [0]),  # longer than its half: it reaches into the other
        (Piece(0, 2), 600, [400]),
    ],
)
def test_windows(piece: Piece, length: int, begins: list[int]) -> None:
    """Of a clip of 1000 samples, many draws: all of them inside, and the ends are reached."""
    found = {piece.window(1000, length, derive_generator(draw)) for draw in range(3000)}
    assert {stop - start for start, stop in found} == {length}
    starts = {start for start, _ in found}
    assert starts <= set(begins)
    assert {min(begins), max(begins)} <= starts


@pytest.mark.parametrize("length", [None, 1000, 1200])
def test_short_clips_are_read_whole(length: int | None) -> None:
    """Without a length, or with one that the clip does not exceed."""
    assert Piece(0).window(1000, length, derive_generator(0)) == (0, 1000)
