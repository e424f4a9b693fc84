"""Linear CTC on frozen features: it learns what is there, and is judged by edits per character."""

from __future__ import annotations

import numpy as np
import pytest

from runyoro_ssl.evaluate.measures.not_measured import NotMeasured
from runyoro_ssl.evaluate.measures.text import TOO_FAST, TranscribedClips, ctc_curve

LETTERS = "abeio '"


def spoken(
    num_clips: int, first_group: int, rng: np.random.Generator, *, noise: float = 0.5, num_letters: int = 30
) -> TranscribedClips:
    """Clips of about 3 s in which each letter lasts 3 to 6 frames about its own centre."""
    centres = np.random.default_rng(5).standard_normal((len(LETTERS), 16))
    features, texts = [], []
    for _ in range(num_clips):
        letters = rng.integers(0, len(LETTERS), num_letters)
        frames = np.repeat(centres[letters], rng.integers(3, 7, num_letters), axis=0)
        features.append((frames + noise * rng.standard_normal(frames.shape)).astype(np.float32))
        texts.append("".join(LETTERS[one] for one in letters))
    return TranscribedClips(features, texts, np.arange(num_clips) % 3 + first_group)


def test_text_is_learned_and_shuffled_text_is_not() -> None:
    """A minute is enough for what is plainly there; the texts of other clips teach nothing about it."""
    rng = np.random.default_rng(0)
    train, test = spoken(30, 0, rng), spoken(12, 3, rng)
    curve = ctc_curve(train, test, num_groups=6, minutes=(0.5, 1.0, 10.0), seeds=(0,))
    assert [point.minutes for point in curve.points] == [0.5, 1.0]
    assert max(point.errors.value for point in curve.points) < 0.3
    assert curve.unheard_rate > 0.6


def test_errors_are_edits_by_group_and_seed() -> None:
    """Characters are those of the other half; the whole is the mean over seeds."""
    rng = np.random.default_rng(1)
    train, test = spoken(24, 0, rng, noise=1.5), spoken(6, 3, rng, noise=1.5)
    (point,) = ctc_curve(train, test, num_groups=6, minutes=(0.5,), seeds=(0, 1)).points
    assert point.errors.denominators.tolist() == [0, 0, 0, 60, 60, 60]
    assert len(set(point.by_seed)) == 2
    assert point.errors.value == pytest.approx(np.mean(point.by_seed))
    again = ctc_curve(train, test, num_groups=6, minutes=(0.5,), seeds=(1,)).points[0]
    assert again.by_seed == point.by_seed[1:]


def test_clips_that_frames_cannot_spell_are_left_out_and_counted() -> None:
    """CTC needs a frame a character, and one between equal ones."""
    rng = np.random.default_rng(2)
    train, test = spoken(24, 0, rng), spoken(4, 3, rng)
    test.features[0] = test.features[0][:29]  # type: ignore[index] # a list
    test.texts[1] = "a" * 70  # type: ignore[index] # needs 139 frames
    test.features[1] = test.features[1][:100]  # type: ignore[index]
    curve = ctc_curve(train, test, num_groups=6, minutes=(1.0,), seeds=(0,))
    assert curve.left_out == {TOO_FAST: 2}
    assert curve.points[0].errors.denominators.sum() == 60


def test_what_cannot_be_learned_is_said() -> None:
    """One recording only, under a minute, features that are no numbers."""
    rng = np.random.default_rng(3)
    train, test = spoken(24, 0, rng), spoken(4, 3, rng)
    with pytest.raises(NotMeasured, match="other recordings"):
        ctc_curve(train, train, num_groups=6)
    with pytest.raises(NotMeasured, match=r"0\.\d minutes with text to learn from, and 4 clips"):
        ctc_curve(spoken(8, 0, rng), test, num_groups=6)
    train.features[0][0] = np.nan
    with pytest.raises(NotMeasured, match="no finite numbers"):
        ctc_curve(train, test, num_groups=6)
