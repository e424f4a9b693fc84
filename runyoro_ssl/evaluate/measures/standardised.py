"""Features on one scale, so that a penalty and a learning rate mean the same for all of them."""

from __future__ import annotations

import numpy as np


class Standardiser:
    """Standardises features (N, H) by the mean and deviation of those that it was made from.

    A feature that never changed there, but for rounding, becomes 0.
    """

    def __init__(self, features: np.ndarray) -> None:
        mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
        self._mean = mean.astype(np.float32)
        changes = deviation > 1e-6 * (1e-12 + np.abs(mean))
        self._factor = np.where(changes, 1 / np.where(changes, deviation, 1), 0).astype(np.float32)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Float32 (N, H)."""
        scaled: np.ndarray = (features - self._mean) * self._factor
        return scaled
