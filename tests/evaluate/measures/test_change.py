"""Likeness of features."""

from __future__ import annotations

import numpy as np
import pytest

from runyoro_ssl.evaluate.measures.change import linear_cka


def test_features_are_like_themselves_turned_and_scaled() -> None:
    """And unlike others; shifts do not matter."""
    generator = np.random.default_rng(0)
    frames = generator.normal(size=(2000, 6)).astype(np.float32)
    turned = frames @ np.linalg.qr(generator.normal(size=(6, 6)))[0] * 3 + 5
    assert linear_cka(frames, turned) == pytest.approx(1, abs=1e-4)
    assert linear_cka(frames, generator.normal(size=(2000, 9))) < 0.02
