"""Which clips are taken: the nearest first, until there is enough, no more of one voice than is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def choose(
    similarity: np.ndarray,
    num_samples: np.ndarray,
    groups: Sequence[np.ndarray],
    *,
    max_samples: int,
    max_of_group: int,
) -> np.ndarray:
    """Choose clips, the nearest first, equals in their order. Returns bool (N,).

    A clip is passed over that would bring its group over `max_of_group` samples, unless it is the group's first. The
    last one may exceed `max_samples`.

    Args:
        similarity: float (N,); NaN of what is never taken.
        num_samples: int (N,), of each clip.
        groups: int (N,) each: who speaks, and in which recording; -1 where that is not known.
        max_samples: How much is wanted.
        max_of_group: How much of it one group may give.
    """
    chosen = np.zeros(len(similarity), dtype=bool)
    given = [np.zeros(int(group.max(initial=-1)) + 1, dtype=np.int64) for group in groups]
    taken = 0
    for clip in np.argsort(-similarity, kind="stable"):  # NaN stands last
        if taken >= max_samples or np.isnan(similarity[clip]):
            break
        of_clip = [(sums, int(group[clip])) for sums, group in zip(given, groups, strict=True) if group[clip] >= 0]
        if any(0 < sums[group] > max_of_group - num_samples[clip] for sums, group in of_clip):
            continue
        for sums, group in of_clip:
            sums[group] += num_samples[clip]
        chosen[clip] = True
        taken += int(num_samples[clip])
    return chosen
