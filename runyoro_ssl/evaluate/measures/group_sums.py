"""Sums by group, of which a measure is the ratio: what a bootstrap over groups weights anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GroupSums:
    """A ratio by group: `numerators` and `denominators`, float64 (G,). Its value is the ratio of their sums."""

    numerators: np.ndarray
    denominators: np.ndarray

    @property
    def value(self) -> float:
        """The measure, every group once."""
        return float(self.numerators.sum() / self.denominators.sum())
