"""Cut long clips into pieces."""

from __future__ import annotations

import itertools


def cut(num_samples: int, max_samples: int) -> list[tuple[int, int]]:
    """(start, stop) of the fewest equal pieces of at most `max_samples`; together they are the whole clip.

    A clip longer than the maximum gives pieces longer than half of it.
    """
    num_pieces = max(1, -(-num_samples // max_samples))
    edges = [round(index * num_samples / num_pieces) for index in range(num_pieces + 1)]
    return list(itertools.pairwise(edges))
