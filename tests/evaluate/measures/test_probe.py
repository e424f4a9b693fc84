"""The linear phone probe: far better than chance where phones are in the features, at chance where they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runyoro_ssl.evaluate.measures.not_measured import NotMeasured
from runyoro_ssl.evaluate.measures.probe import LabelledFrames, gather_frames, probe_phones

NUM_GROUPS = 8
PHONES = [*"aeiou"]


def speech(groups: range, rng: np.random.Generator, *, count: int = 1200) -> LabelledFrames:
    """LabelledFrames of five phones about five centres; the first is most frequent."""
    centres = np.random.default_rng(7).standard_normal((5, 12))
    phones = rng.choice(5, count, p=[0.6, 0.1, 0.1, 0.1, 0.1])
    features = 5.0 + centres[phones] + 0.6 * rng.standard_normal((count, 12))
    return LabelledFrames(features.astype(np.float32), [PHONES[one] for one in phones], rng.choice([*groups], count))


def halves() -> tuple[LabelledFrames, LabelledFrames, np.random.Generator]:
    """What is learned from, what is judged on, and a generator."""
    rng = np.random.default_rng(0)
    return speech(range(4), rng), speech(range(4, 8), rng), rng


def test_phones_in_the_features_are_found_and_shuffled_ones_are_not() -> None:
    """Shuffled labels give what always naming the most frequent phone gives."""
    train, test, rng = halves()
    found = probe_phones(train, test, rng, num_groups=NUM_GROUPS)
    assert found.accuracy().value > 0.9
    assert found.has_converged
    shuffled = replace(train, phones=rng.permutation(train.phones).tolist())
    chance = probe_phones(shuffled, test, rng, num_groups=NUM_GROUPS)
    assert chance.accuracy().value == pytest.approx(0.6, abs=0.05)


def test_counts_are_those_of_scikit_learn_by_phone_and_group() -> None:
    """An oracle: the same regression, standardiser and metrics of scikit-learn; a group drawn twice counts twice."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test, rng = halves()
    train.features[:] += 1.5 * rng.standard_normal(train.features.shape)
    found = probe_phones(train, test, rng, num_groups=NUM_GROUPS)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=100)).fit(train.features, train.phones)
    named = theirs.predict(test.features)
    assert found.accuracy().value == pytest.approx(accuracy_score(test.phones, named), abs=0.002)
    twice = np.concatenate([np.flatnonzero(test.groups == group) for group in (4, 4, 6)])
    weights = np.zeros((1, NUM_GROUPS))
    weights[0, [4, 6]] = 2, 1
    truth = np.array(test.phones)[twice]
    sums = found.accuracy()
    accuracy = (weights @ sums.numerators) / (weights @ sums.denominators)
    assert accuracy[0] == pytest.approx(accuracy_score(truth, named[twice]), abs=0.004)


def test_rare_phones_are_left_out_and_counted() -> None:
    """Those with too few frames to learn from, and those that are not in both halves."""
    train, test, rng = halves()
    train.phones[:3] = ["ʘ"] * 3  # type: ignore[index] # a list
    test.phones[:5] = ["ʘ", "ʘ", "ǂ", "ǂ", "ǂ"]  # type: ignore[index]
    found = probe_phones(train, test, rng, num_groups=NUM_GROUPS)
    assert found.phones == tuple(PHONES)
    assert found.left_out == {"phones that are too rare": 2, "frames of them": 5}
    assert found.num_frames.sum() == len(test) - 5


def test_what_cannot_be_learned_is_said() -> None:
    """One recording only, one phone only, no phones, features that are no numbers."""
    train, test, rng = halves()
    with pytest.raises(NotMeasured, match="other recordings"):
        probe_phones(train, train, rng, num_groups=NUM_GROUPS)
    with pytest.raises(NotMeasured, match="1 phones have 25 frames"):
        probe_phones(replace(train, phones=["a"] * len(train)), test, rng, num_groups=NUM_GROUPS)
    with pytest.raises(NotMeasured, match="no frame has a phone"):
        gather_frames([np.zeros((2, 3), np.float32)], [[None, None]], [0])
    test.features[0, 0] = np.inf
    with pytest.raises(NotMeasured, match="no finite numbers"):
        probe_phones(train, test, rng, num_groups=NUM_GROUPS)


def test_a_feature_that_never_changes_is_no_harm_and_many_frames_are_drawn_from() -> None:
    """A dead dimension, and more frames than are learned from."""
    train, test, rng = halves()
    for half in (train, test):
        half.features[:, 0] = 3e6
    assert probe_phones(train, test, rng, num_groups=NUM_GROUPS, max_frames=300).accuracy().value > 0.85


def test_frames_are_gathered_by_label() -> None:
    """LabelledFrames without a phone are not in it; the group of a clip is that of its frames."""
    clips = [np.arange(6, dtype=np.float32).reshape(3, 2), np.full((2, 2), 9, np.float32)]
    found = gather_frames(clips, [["a", None, "b"], [None, "c"]], [4, 2])
    assert found.features.tolist() == [[0, 1], [4, 5], [9, 9]]
    assert found.phones == ["a", "b", "c"]
    assert found.groups.tolist() == [4, 4, 2]
