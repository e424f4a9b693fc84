"""Masks and negatives: transformers' semantics, each clip by its own key."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.wav2vec2 import modeling_wav2vec2

from runyoro_ssl.config import MaskingConfig
from runyoro_ssl.model.draws import derive_generator
from runyoro_ssl.model.masking import count_spans, make_masks, sample_negatives, sample_span_mask, summarise_masks


@pytest.mark.parametrize("num_frames", [9, 10, 11, 25, 99, 250, 749])
@pytest.mark.parametrize("prob", [0.05, 0.3, 0.65, 1.0])
@pytest.mark.parametrize("min_spans", [0, 2])
def test_span_count_is_that_of_transformers(
    num_frames: int, prob: float, min_spans: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any rounding draw, as many spans start as in `_compute_mask_indices`."""
    for epsilon in (0.0, 0.37, 0.99):
        ours = count_spans(num_frames, prob=prob, length=10, min_spans=min_spans, epsilon=epsilon)
        if num_frames < 10:
            assert ours == 0  # transformers raises
            continue
        counts: list[int] = []

        def choice(starts: np.ndarray, count: int, *, replace: bool, counts: list[int] = counts) -> np.ndarray:
            assert not replace
            counts.append(count)
            return starts[:count]

        monkeypatch.setattr(np.random, "rand", lambda _size, value=epsilon: np.array([value]))
        monkeypatch.setattr(np.random, "choice", choice)
        modeling_wav2vec2._compute_mask_indices((1, num_frames), prob, 10, min_masks=min_spans)
        assert ours == (counts[0] if counts else 0)


def test_masked_share_is_that_of_transformers() -> None:
    """Over many draws the share of masked frames agrees to half a percent."""
    # Of the global state, one rounding draw a call in transformers, one a clip here: many calls give the same average.
    theirs = np.mean([modeling_wav2vec2._compute_mask_indices((2, 250), 0.65, 10).mean() for _ in range(1000)])
    ours = torch.stack(
        [
            sample_span_mask(250, prob=0.65, length=10, min_spans=0, generator=derive_generator(index))
            for index in range(2000)
        ]
    )
    assert float(ours.float().mean()) == pytest.approx(float(theirs), abs=0.005)


def test_spans_have_their_length() -> None:
    """Every run of masked frames is at least one span long."""
    mask = sample_span_mask(300, prob=0.3, length=10, min_spans=2, generator=derive_generator("spans"))
    edges = torch.diff(torch.cat([torch.tensor([0]), mask.int(), torch.tensor([0])])).nonzero().squeeze(1)
    runs = edges[1::2] - edges[::2]
    assert len(runs) > 1
    assert int(runs.min()) >= 10


def test_spans_start_anywhere() -> None:
    """From the first frame to the last that leaves room for a whole span."""
    masks = [
        sample_span_mask(30, prob=0.3, length=10, min_spans=1, generator=derive_generator(draw)) for draw in range(600)
    ]
    starts = {int(mask.int().argmax()) for mask in masks if int(mask.sum()) == 10}
    assert starts == set(range(21))


def test_a_frame_masked_alone_is_left() -> None:
    """It would have no negative: the clip adds nothing."""
    one = MaskingConfig(mask_time_prob=1e-6, mask_time_length=1, mask_time_min_spans=1)
    masks = make_masks([5, 5], [(0, 0), (0, 1)], one, num_negatives=3, hidden_size=8)
    assert not masks.time_mask.any()
    assert not masks.valid.any()
    two = MaskingConfig(mask_time_prob=1e-6, mask_time_length=2, mask_time_min_spans=1)
    assert int(make_masks([5], [(0, 0)], two, num_negatives=3, hidden_size=8).valid.sum()) == 2


def test_negatives_are_uniform_and_never_the_positive() -> None:
    """No frame is its own negative; every other frame is drawn about equally often."""
    drawn = sample_negatives(11, 20_000, derive_generator("negatives"))
    assert not (drawn == torch.arange(11)[:, None]).any()
    counts = torch.stack([(drawn == place).sum(dim=1) for place in range(11)], dim=1).float()
    others = counts[~torch.eye(11, dtype=torch.bool)]
    assert float(others.min()) > 1800
    assert float(others.max()) < 2200


def test_batch_masks_point_at_masked_frames_of_the_same_clip() -> None:
    """Positions are the masked frames in order, negatives stay below each clip's count, padding is invalid."""
    masks = make_masks([150, 99, 5], [(0, 0, i) for i in range(3)], MaskingConfig(), num_negatives=50, hidden_size=8)
    counts = masks.time_mask.sum(dim=1)
    assert masks.valid.sum(dim=1).tolist() == counts.tolist()
    assert counts[2] == 0
    for clip in range(2):
        places = masks.positions[clip][masks.valid[clip]]
        assert torch.equal(places, masks.time_mask[clip].nonzero().squeeze(1))
        assert int(masks.negatives[clip][masks.valid[clip]].max()) < counts[clip]
    assert not masks.time_mask[1, 99:].any()


def test_masks_of_a_clip_depend_on_its_key_alone() -> None:
    """The same clip in another batch, at another place, has the same mask and negatives."""
    alone = make_masks([120], [(7, 3, 5)], MaskingConfig(), num_negatives=10, hidden_size=8)
    among = make_masks([200, 120], [(7, 3, 1), (7, 3, 5)], MaskingConfig(), num_negatives=10, hidden_size=8)
    count = int(alone.valid.sum())
    assert torch.equal(alone.time_mask[0], among.time_mask[1, :120])
    assert torch.equal(alone.negatives[0, :count], among.negatives[1, :count])
    other_epoch = make_masks([120], [(7, 4, 5)], MaskingConfig(), num_negatives=10, hidden_size=8)
    assert not torch.equal(alone.time_mask[0], other_epoch.time_mask[0])


def test_every_clip_has_a_feature_mask_of_its_own() -> None:
    """Spans of hidden dimensions, drawn by the clip's key, beside the same time masks; none where switched off."""
    keys = [(7, 3, clip) for clip in (1, 5)]
    off = make_masks([99, 120], keys, MaskingConfig(), num_negatives=10, hidden_size=64)
    config = MaskingConfig(mask_feature_prob=0.5, mask_feature_length=4)
    on = make_masks([99, 120], keys, config, num_negatives=10, hidden_size=64)
    assert off.feature_mask is None
    assert on.feature_mask is not None
    assert on.feature_mask.shape == (2, 64)
    assert on.feature_mask.any(dim=1).all()
    assert not torch.equal(on.feature_mask[0], on.feature_mask[1])
    assert torch.equal(on.time_mask, off.time_mask)
    alone = make_masks([120], keys[1:], config, num_negatives=10, hidden_size=64)
    assert alone.feature_mask is not None
    assert torch.equal(alone.feature_mask[0], on.feature_mask[1])


def test_summary_says_what_a_setting_means() -> None:
    """At 0.05 without a minimum half of the 2 s clips have no mask; the default leaves none. science: measured."""
    frames = [99] * 500
    bad = summarise_masks(frames, MaskingConfig(mask_time_prob=0.05, mask_time_min_spans=0), seed=0)
    good = summarise_masks(frames, MaskingConfig(), seed=0)
    assert bad.num_without / bad.num_clips == pytest.approx(0.5, abs=0.08)
    assert good.num_without == 0
    assert good.masked_share == pytest.approx(0.5, abs=0.02)
    assert "49" in good.line() or "50" in good.line()
