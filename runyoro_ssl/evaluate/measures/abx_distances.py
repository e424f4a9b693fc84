"""Distances between stretches of frames: of their means, or along the best path through both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

CHUNK = 128
"""Stretches of like length are aligned so many by so many at a time."""


def mean_distances(rows: Sequence[np.ndarray], columns: Sequence[np.ndarray]) -> np.ndarray:
    """Cosine distances of mean-pooled stretches (T, H) float32: float32 (rows, columns), from 0 to 2."""
    distances: np.ndarray = 1.0 - _unit(_means(rows)) @ _unit(_means(columns)).T
    return distances


def _means(stretches: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([frames.mean(axis=0) for frames in stretches])


def _unit(frames: np.ndarray) -> np.ndarray:
    """Vectors (…, H) of length 1; what is 0 stays so, and is at a right angle to everything."""
    norms = np.linalg.norm(frames, axis=-1, keepdims=True)
    scaled: np.ndarray = frames / np.where(norms == 0, 1, norms)
    return scaled


def dtw_distances(rows: Sequence[np.ndarray], columns: Sequence[np.ndarray]) -> np.ndarray:
    """Mean angles along the best path through two stretches (T, H) float32: float32 (rows, columns), from 0 to 1.

    The angle of two frames is arccos(cosine) / pi. The path goes by one in either stretch or in both, from both starts
    to both ends, and has the least sum; where two are equal, both is taken before columns, columns before rows. As in
    ZeroSpeech 2021 and fastabx.
    """
    distances = np.empty((len(rows), len(columns)), dtype=np.float32)
    right = list(_chunks(columns))
    for row_places, row_lengths, row_frames in _chunks(rows):
        for places, lengths, frames in right:
            found = _align(_angles(row_frames, frames), row_lengths, lengths)
            distances[np.ix_(row_places, places)] = found.numpy()
    return distances


def _chunks(stretches: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, list[int], torch.Tensor]]:
    """Stretches of like length together: their places, their lengths (ascending), unit frames (T, n, H) with zeros."""
    lengths = np.array([len(frames) for frames in stretches])
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), CHUNK):
        places = order[start : start + CHUNK]
        longest = lengths[places[-1]]
        padded = np.zeros((longest, len(places), stretches[0].shape[1]), dtype=np.float32)
        for column, place in enumerate(places):
            padded[: lengths[place], column] = _unit(stretches[place])
        yield places, lengths[places].tolist(), torch.from_numpy(padded)


def _angles(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Angles of all frames, as shares of a half turn: (S, n, H), (T, m, H) -> (S, n, T, m)."""
    cosines = rows.flatten(0, 1) @ columns.flatten(0, 1).T
    return cosines.clamp_(-1, 1).acos_().div_(math.pi).view(*rows.shape[:2], *columns.shape[:2])


def _align(costs: torch.Tensor, row_lengths: list[int], lengths: list[int]) -> torch.Tensor:
    """The mean cost along the best path of each pair: (S, n, T, m) and ascending lengths -> (n, m).

    What lies behind the end of a stretch is padding; no path to its end comes from there.
    """
    found = torch.empty(costs.shape[1], costs.shape[3])
    row_ends, ends = _stretches_of(row_lengths), _stretches_of(lengths)
    nothing = torch.zeros_like(found), torch.zeros_like(found)
    above: list[tuple[torch.Tensor, torch.Tensor]] = []
    for i in range(costs.shape[0]):
        line: list[tuple[torch.Tensor, torch.Tensor]] = []
        for j in range(costs.shape[2]):
            cost, steps = _best(above, line, j) if i or j else nothing
            line.append((costs[i, :, j] + cost, steps + 1))
            if i + 1 in row_ends and j + 1 in ends:
                at = row_ends[i + 1], ends[j + 1]
                found[at] = line[-1][0][at] / line[-1][1][at]
        above = line
    return found


def _best(
    above: list[tuple[torch.Tensor, torch.Tensor]], line: list[tuple[torch.Tensor, torch.Tensor]], j: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cost and steps of the best way to a cell, without its own: from the cells above, left, and diagonally."""
    if not above:
        return line[-1]
    if not line:
        return above[j]
    (diagonal, diagonal_steps), (up, up_steps), (left, left_steps) = above[j - 1], above[j], line[-1]
    side, side_steps = torch.minimum(left, up), torch.where(left <= up, left_steps, up_steps)
    is_diagonal = diagonal <= side
    return torch.where(is_diagonal, diagonal, side), torch.where(is_diagonal, diagonal_steps, side_steps)


def _stretches_of(lengths: list[int]) -> dict[int, slice]:
    """Where each length stands among ascending ones."""
    found: dict[int, slice] = {}
    for index, length in enumerate(lengths):
        start = found[length].start if length in found else index
        found[length] = slice(start, index + 1)
    return found
