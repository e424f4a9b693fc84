"""A linear phone probe: how many frames a straight boundary in the features names right."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.evaluate.measures.group_sums import GroupSums
from runyoro_ssl.evaluate.measures.not_measured import NotMeasured
from runyoro_ssl.evaluate.measures.standardised import Standardiser

MIN_FRAMES = 25
"""Phones with fewer frames to learn from, half a second, are left out."""
MAX_FRAMES = 20_000
"""At most so many frames are learned from."""
MAX_STEPS = 100
INVERSE_PENALTY = 0.01
"""scikit-learn's C, over standardised features."""


@dataclass(frozen=True)
class LabelledFrames:
    """Frames that have a phone: features float32 (N, H), phones (N,), and the group of each, int64 (N,)."""

    features: np.ndarray
    phones: Sequence[str]
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.phones)


@dataclass(frozen=True)
class ProbeFound:
    """What a probe named right: int64 (P, G), frames of each phone and group, beside all of them.

    `steps` are those of the fit, `has_converged` says whether they were enough.
    """

    phones: tuple[str, ...]
    num_right: np.ndarray
    num_frames: np.ndarray
    left_out: Mapping[str, int]
    steps: int
    has_converged: bool

    def accuracy(self) -> GroupSums:
        """The share of all frames."""
        return GroupSums(self.num_right.sum(axis=0).astype(float), self.num_frames.sum(axis=0).astype(float))


def gather_frames(
    features: Sequence[np.ndarray], labels: Sequence[Sequence[str | None]], groups: Sequence[int]
) -> LabelledFrames:
    """The frames of clips that have a phone: features (F, H), labels of `labels.frames`, group; by clip."""
    kept = [[index for index, label in enumerate(clip) if label is not None] for clip in labels]
    if not any(kept):
        raise NotMeasured("no frame has a phone")
    return LabelledFrames(
        np.concatenate([clip[rows] for clip, rows in zip(features, kept, strict=True)]),
        [label for clip in labels for label in clip if label is not None],
        np.repeat(np.asarray(groups, dtype=np.int64), [len(rows) for rows in kept]),
    )


def probe_phones(
    train: LabelledFrames,
    test: LabelledFrames,
    generator: np.random.Generator,
    *,
    num_groups: int,
    max_frames: int = MAX_FRAMES,
) -> ProbeFound:
    """Fit multinomial logistic regression to the frames of some groups, and count what it names right in others.

    Features are standardised by the mean and deviation of `train`. L2 penalty (C = 0.01), L-BFGS, at most 100 steps:
    more change the accuracy by less than 0.1 points. Of more than `max_frames` frames so many are drawn. Alain &
    Bengio, 2016, arXiv 1610.01644; phones as in Oord et al., 2018, arXiv 1807.03748, sec. 3.1.

    Raises:
        NotMeasured: A group has frames in both; under two phones are seen often enough; or features are not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if set(train.groups.tolist()) & set(test.groups.tolist()):
        raise NotMeasured("a probe must be judged on other recordings than it learned from, and there is one only")
    if not (np.isfinite(train.features).all() and np.isfinite(test.features).all()):
        raise NotMeasured("its features are no finite numbers")
    rows, phones, left_out = _learned(train, test, generator, max_frames)
    seen = np.isin(test.phones, phones)
    scale = Standardiser(train.features[rows])
    regression = LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `has_converged` says so
        regression.fit(scale(train.features[rows]), np.asarray(train.phones)[rows])
    truth, groups = np.asarray(test.phones)[seen], test.groups[seen]
    is_right = regression.predict(scale(test.features[seen])) == truth
    place = np.searchsorted(phones, truth) * num_groups + groups
    shape = len(phones), num_groups
    return ProbeFound(
        phones,
        np.bincount(place[is_right], minlength=shape[0] * shape[1]).reshape(shape),
        np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape),
        left_out,
        int(regression.n_iter_.max()),
        bool(regression.n_iter_.max() < MAX_STEPS),
    )


def _learned(
    train: LabelledFrames, test: LabelledFrames, generator: np.random.Generator, max_frames: int
) -> tuple[np.ndarray, tuple[str, ...], dict[str, int]]:
    """The frames to learn from, the phones that are known then, and how many frames and phones are left out."""
    counts = Counter(train.phones)
    known = tuple(sorted(phone for phone, count in counts.items() if count >= MIN_FRAMES and phone in set(test.phones)))
    if len(known) < 2:  # noqa: PLR2004 - a boundary is between two
        raise NotMeasured(
            f"{len(known)} phones have {MIN_FRAMES} frames (0.5 s) to learn from, and one to be judged on; two are "
            "needed at least: more minutes with phone labels"
        )
    rows = np.flatnonzero(np.isin(train.phones, known))
    if len(rows) > max_frames:
        rows = np.sort(generator.choice(rows, max_frames, replace=False))
    rare = (set(counts) | set(test.phones)) - set(known)
    num_frames = sum(phone in rare for phone in test.phones)
    return rows, known, {"phones that are too rare": len(rare), "frames of them": num_frames} if rare else {}
