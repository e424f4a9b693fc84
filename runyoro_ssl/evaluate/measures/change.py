"""Change: how like the features of two models are, layer by layer. It is shown, and never judged."""

from __future__ import annotations

import numpy as np


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Linear centred kernel alignment of the same frames in two models, float32 (N, H1) and (N, H2).

    1 where they are alike up to rotation and scale, 0 where they share nothing. Kornblith et al., 2019, arXiv
    1905.00414, sec. 3.
    """
    first, second = (
        (frames - frames.mean(axis=0)).astype(np.float64) / max(float(frames.std()), 1e-12)
        for frames in (first, second)
    )
    shared = np.linalg.norm(first.T @ second) ** 2
    own = np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)
    return float(shared / own) if own > 0 else float("nan")
