"""Text from frozen features: a linear layer with CTC on characters, by how little it learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from runyoro_ssl.evaluate.grid import GRID
from runyoro_ssl.evaluate.measures.group_sums import GroupSums
from runyoro_ssl.evaluate.measures.linear_ctc import CtcExample, decode, fit_linear_ctc
from runyoro_ssl.evaluate.measures.not_measured import NotMeasured
from runyoro_ssl.evaluate.measures.standardised import Standardiser

MINUTES = (1.0, 5.0, 10.0)
SEEDS = (0, 1, 2)
TOO_FAST = "more characters than frames of 20 ms can spell"
MIN_SHARE = 0.9
"""A size is reached with this share of its minutes."""


@dataclass(frozen=True)
class TranscribedClips:
    """Clips with text: features float32 (F, H), normalised text, and the group of each."""

    features: Sequence[np.ndarray]
    texts: Sequence[str]
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class CtcPoint:
    """A point of the learning curve: `minutes` learned from, character errors of the other half by group.

    `errors` has the edits as means over seeds; `by_seed` the error rate of each seed.
    """

    minutes: float
    errors: GroupSums
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class CtcCurve:
    """The learning curve, and how many clips are left out, by reason.

    `unheard_rate`: the character error rate of a layer that learned from the same clips with each other's texts. It
    knows the language's letters, and hears nothing: rates near it say nothing about features. Log-mel of real speech
    is near it.
    """

    points: Sequence[CtcPoint]
    unheard_rate: float
    left_out: Mapping[str, int]


def ctc_curve(
    train: TranscribedClips,
    test: TranscribedClips,
    *,
    num_groups: int,
    minutes: Sequence[float] = MINUTES,
    seeds: Sequence[int] = SEEDS,
) -> CtcCurve:
    """Character error rates of a linear CTC layer on frozen features, learned from 1, 5 and 10 minutes.

    Features are standardised by those of all of `train`. For each size and seed clips of `train` are drawn until they
    are so long; each seed draws others, the same for every subject, and the smaller sizes are parts of the larger. Text
    is decoded greedily; the rate is edits (Levenshtein) per character, spaces too, over all of `test`. Graves et al.,
    2006; as a probe of frozen features: SUPERB, Yang et al., 2021, arXiv 2105.01051.

    Raises:
        NotMeasured: A group stands in both; there is under a minute to learn from; or features are not finite.
    """
    if set(train.groups.tolist()) & set(test.groups.tolist()):
        raise NotMeasured("it must be judged on other recordings than it learned from, and there is one only")
    learned, judged = _that_can_be_spelt(train), _that_can_be_spelt(test)
    num_fast = len(train) + len(test) - len(learned) - len(judged)
    total = sum(len(train.features[clip]) for clip in learned) * GRID.frame_sec / 60
    sizes = [size for size in minutes if total >= MIN_SHARE * size]
    if not sizes or not judged:
        raise NotMeasured(
            f"{total:.1f} minutes with text to learn from, and {len(judged)} clips to be judged on: {min(minutes):g} "
            "minutes are needed at least, and others by other speakers or of other recordings"
        )
    if not all(np.isfinite(frames).all() for frames in [*train.features, *test.features]):
        raise NotMeasured("its features are no finite numbers")
    scale = Standardiser(np.concatenate([train.features[clip] for clip in learned]))
    alphabet = "".join(sorted({one for clip in learned for one in train.texts[clip]}))
    frames = {clip: torch.from_numpy(scale(train.features[clip])) for clip in learned}
    judge = _Judge([torch.from_numpy(scale(test.features[clip])) for clip in judged], test, judged, alphabet)
    points = []
    for size in sizes:
        drawn = [_drawn(train, learned, size, seed) for seed in seeds]
        edits = [
            judge.edits([(frames[clip], train.texts[clip]) for clip in clips], seed)
            for clips, seed in zip(drawn, seeds, strict=True)
        ]
        points.append(judge.point(size, np.stack(edits), num_groups))
    shifted = zip(drawn[0], [*drawn[0][1:], drawn[0][0]], strict=True)
    unheard = judge.edits([(frames[clip], train.texts[other]) for clip, other in shifted], seeds[0])
    left_out = {TOO_FAST: num_fast} if num_fast else {}
    return CtcCurve(points, float(unheard.sum() / judge.num_characters.sum()), left_out)


class _Judge:
    """Learns layers, and counts what they get wrong in the other half."""

    def __init__(
        self, frames: Sequence[torch.Tensor], test: TranscribedClips, judged: Sequence[int], alphabet: str
    ) -> None:
        self._frames, self._alphabet = frames, alphabet
        self._texts, self._groups = [test.texts[clip] for clip in judged], test.groups[judged]
        self.num_characters = np.array([len(text) for text in self._texts])

    def edits(self, learned: Sequence[tuple[torch.Tensor, str]], seed: int) -> np.ndarray:
        """Edits in each clip, int64, after learning from these frames and texts."""
        from rapidfuzz.distance import Levenshtein

        # Texts that their frames cannot spell, as another clip's may be, would have no finite loss.
        examples = [CtcExample.of(frames, text, self._alphabet) for frames, text in learned if _fits(text, len(frames))]
        layer = fit_linear_ctc(examples, len(self._alphabet) + 1, seed=seed)
        found = [decode(layer, frames, self._alphabet) for frames in self._frames]
        return np.array([Levenshtein.distance(one, other) for one, other in zip(found, self._texts, strict=True)])

    def point(self, minutes: float, edits: np.ndarray, num_groups: int) -> CtcPoint:
        """A point of the curve, of edits (seeds, clips)."""
        sums = [
            np.bincount(self._groups, one, minlength=num_groups).astype(float)
            for one in (edits.mean(axis=0), self.num_characters)
        ]
        rates = edits.sum(axis=1) / self.num_characters.sum()
        return CtcPoint(minutes, GroupSums(*sums), tuple(rates.tolist()))


def _that_can_be_spelt(clips: TranscribedClips) -> list[int]:
    """Clips with as many frames as CTC needs: one a character, one more between equal ones."""
    return [clip for clip, text in enumerate(clips.texts) if text and _fits(text, len(clips.features[clip]))]


def _fits(text: str, num_frames: int) -> bool:
    return len(text) + sum(one == other for one, other in pairwise(text)) <= num_frames


def _drawn(clips: TranscribedClips, learned: Sequence[int], minutes: float, seed: int) -> list[int]:
    """Clips in a random order until they are so long, or all of them."""
    drawn: list[int] = []
    frames = 0
    for index in np.random.default_rng([seed, 0]).permutation(len(learned)).tolist():
        if frames * GRID.frame_sec / 60 >= minutes:
            break
        drawn.append(learned[index])
        frames += len(clips.features[learned[index]])
    return drawn
