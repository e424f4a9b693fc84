"""Phone ABX: equal to plain loops and to fastabx, bounded, with sums by group that say how sure it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.evaluate.measures.abx import By, abx_error
from runyoro_ssl.evaluate.measures.abx_distances import dtw_distances
from runyoro_ssl.evaluate.measures.abx_pairs import phone_pairs
from runyoro_ssl.evaluate.measures.abx_task import AbxContext, AbxSpeakers, AbxTask, draw_task
from runyoro_ssl.evaluate.measures.not_measured import NotMeasured
from runyoro_ssl.evaluate.measures.segments import Segments, cut_segments
from support.abx_reference import Item, slow_abx, slow_dtw, slow_mean, slow_pairs

WAYS: list[tuple[AbxSpeakers, AbxContext]] = [
    ("within", "any"),
    ("across", "any"),
    ("within", "within"),
    ("across", "within"),
]
BY_FASTABX = [0.10960021615028381, 0.11890839372063056, 0.027777778605620067, 0.10995370397965114]
"""What fastabx 0.9.0 gave, by the function below."""


def spoken(
    num_clips: int, num_speakers: int, rng: np.random.Generator, *, symbols: str = "aeb", spread: float = 1.0
) -> tuple[Segments, list[np.ndarray]]:
    """Clips of random phones whose features differ by phone, speaker and clip; groups are clips."""
    centres = {symbol: rng.standard_normal(6) for symbol in symbols}
    voices = rng.standard_normal((num_speakers, 6))
    phones, features = [], []
    for clip in range(num_clips):
        lengths = rng.integers(1, 6, size=9)
        names = rng.choice([*symbols], size=9)
        starts = 0.02 * np.concatenate([[0], np.cumsum(lengths)])
        phones.append([Phone(*row) for row in zip(names.tolist(), starts[:-1], starts[1:], strict=True)])
        frames = np.repeat([centres[name] for name in names.tolist()], lengths, axis=0)
        noise = spread * rng.standard_normal(frames.shape)
        features.append((frames + 0.5 * voices[clip % num_speakers] + noise).astype(np.float32))
    speakers = [f"s{clip % num_speakers}" for clip in range(num_clips)]
    return cut_segments(phones, [len(one) for one in features], speakers, range(num_clips)), features


def draw_all(segments: Segments, speakers: AbxSpeakers, context: AbxContext = "any") -> AbxTask:
    """The task of all triplets."""
    rng = np.random.default_rng(0)
    num_groups = int(segments.groups.max()) + 1
    return draw_task(segments, speakers, rng, num_groups=num_groups, context=context, max_items=None, max_speakers=None)


def items_of(segments: Segments, features: Sequence[np.ndarray], context: AbxContext) -> list[Item]:
    """What the references take."""
    return [
        (
            segments.symbols[segments.phones[row]],
            str(segments.speakers[row]),
            int(segments.contexts[row]) if context == "within" else 0,
            features[segments.clips[row]][segments.first_frames[row] :][: segments.num_frames[row]],
        )
        for row in range(len(segments))
    ]


@pytest.mark.parametrize("by", ["dtw", "mean"])
@pytest.mark.parametrize(("speakers", "context"), WAYS)
def test_equals_plain_loops(speakers: AbxSpeakers, context: AbxContext, by: By) -> None:
    """Every triplet, by both distances, within and across speakers and contexts."""
    segments, features = spoken(9, 3, np.random.default_rng(3))
    found = abx_error(draw_all(segments, speakers, context), features, by=by).value
    slow = slow_dtw if by == "dtw" else slow_mean
    assert found == pytest.approx(slow_abx(items_of(segments, features, context), slow, across=speakers == "across"))
    assert 0.01 < found < 0.45


@pytest.mark.parametrize("by", ["dtw", "mean"])
@pytest.mark.parametrize(("speakers", "context"), WAYS)
def test_pairs_of_phones_equal_plain_loops_and_make_the_whole(
    speakers: AbxSpeakers, context: AbxContext, by: By
) -> None:
    """The error of each phone of A with each of B; their mean is the error."""
    segments, features = spoken(9, 3, np.random.default_rng(3))
    found = abx_error(draw_all(segments, speakers, context), features, by=by)
    slow = slow_dtw if by == "dtw" else slow_mean
    expected = slow_pairs(items_of(segments, features, context), slow, across=speakers == "across")
    known = zip(*np.nonzero(np.isfinite(found.of_pairs)), strict=True)
    pairs = {(segments.symbols[a], segments.symbols[b]): float(found.of_pairs[a, b]) for a, b in known}
    assert pairs == {pair: pytest.approx(error) for pair, error in expected.items()}
    assert np.nanmean(found.of_pairs) == pytest.approx(found.value)


def test_a_pair_is_both_orders_with_its_instances() -> None:
    """Of one order alone where a phone is said once by each; of nobody who says but one of the two."""
    segments, features = spoken(9, 3, np.random.default_rng(3), symbols="aebo")
    chosen = [row for row in range(len(segments)) if segments.symbols[segments.phones[row]] != "o"]
    once = {int(segments.speakers[row]): row for row in range(len(segments)) if row not in chosen}
    kept = np.array(sorted([*chosen, *[row for speaker, row in once.items() if speaker < 2]]))  # two say "o", once
    arrays = ("clips", "first_frames", "num_frames", "phones", "contexts", "speakers", "groups")
    segments = replace(segments, **{name: getattr(segments, name)[kept] for name in arrays})
    task = draw_all(segments, "within")
    pairs = phone_pairs(task, {"base": abx_error(task, features, by="mean")})
    expected = slow_pairs(items_of(segments, features, "any"), slow_mean, across=False)
    assert len(pairs) == 6
    for pair in pairs:
        orders = [expected[order] for order in (tuple(pair.phones), tuple(pair.phones)[::-1]) if order in expected]
        assert pair.values == {"base": pytest.approx(np.mean(orders))}
        assert len(orders) == (1 if "o" in pair.phones else 2)
        for phone, number in zip(pair.phones, pair.instances, strict=True):
            sayers = (0, 1) if "o" in pair.phones else (0, 1, 2)
            assert number == sum(
                segments.symbols[segments.phones[row]] == phone and segments.speakers[row] in sayers
                for row in range(len(segments))
            )


def test_instances_of_a_speaker_who_says_both_once_are_not_compared() -> None:
    """Nothing of them is an X."""
    clips = [[Phone(symbol, 0.1 * at, 0.1 * (at + 1)) for at, symbol in enumerate(said)] for said in ("abcc", "aab")]
    segments = cut_segments(clips, [20, 15], ["s", "t"], [0, 1])
    features = [np.random.default_rng(clip).standard_normal((20, 4)).astype(np.float32) for clip in range(2)]
    task = draw_all(segments, "within")
    pairs = phone_pairs(task, {"base": abx_error(task, features, by="mean")})
    assert {"".join(pair.phones): pair.instances for pair in pairs} == {"ab": (2, 1), "ac": (1, 2), "bc": (1, 2)}


@pytest.mark.parametrize(("way", "theirs"), [*zip(WAYS, BY_FASTABX, strict=True)])
def test_equals_what_fastabx_gave(way: tuple[AbxSpeakers, AbxContext], theirs: float) -> None:
    """On any Python. It computes in single precision."""
    segments, features = spoken(9, 3, np.random.default_rng(3))
    assert abx_error(draw_all(segments, *way), features, by="dtw").value == pytest.approx(theirs, abs=1e-6)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="fastabx needs Python 3.12")
@pytest.mark.parametrize(("speakers", "context"), WAYS)
def test_equals_fastabx(speakers: AbxSpeakers, context: AbxContext) -> None:
    """The same items in fastabx give the same error."""
    pytest.importorskip("fastabx", reason="fastabx is not installed: pip install fastabx")
    segments, features = spoken(9, 3, np.random.default_rng(3))
    theirs = fastabx_error(items_of(segments, features, context), across=speakers == "across")
    assert abx_error(draw_all(segments, speakers, context), features, by="dtw").value == pytest.approx(theirs, abs=1e-6)


def fastabx_error(items: Sequence[Item], *, across: bool) -> float:
    """By fastabx itself, aggregated as its `zerospeech_abx` does."""
    import polars as pl
    import torch
    from fastabx import Dataset, InMemoryAccessor, Score, Task

    ends = np.cumsum([len(item[3]) for item in items])
    indices = {
        row: (int(end - len(item[3])), int(end)) for row, (end, item) in enumerate(zip(ends, items, strict=True))
    }
    frames = torch.from_numpy(np.concatenate([item[3] for item in items]))
    labels = pl.DataFrame(
        {name: [str(item[at]) for item in items] for at, name in enumerate(("phone", "speaker", "context"))}
    )
    data = Dataset(labels=labels, accessor=InMemoryAccessor(indices, frames, torch.device("cpu")))
    task = Task(data, on="phone", by=["context"] + ["speaker"] * (not across), across=["speaker"] if across else None)
    return float(Score(task, "angular").collapse(levels=["context", "speaker"]))


def test_dtw_of_padded_stretches_is_that_of_each() -> None:
    """Lengths from 1 to 12 in one call, one stretch of silence (zeros) among them."""
    rng = np.random.default_rng(0)
    one = [rng.standard_normal((length, 4)).astype(np.float32) for length in (5, 1, 12, 3, 3)]
    other = [np.zeros((2, 4), np.float32), *(rng.standard_normal((n, 4)).astype(np.float32) for n in (7, 1, 4))]
    slow = [[slow_dtw(left, right) for right in other] for left in one]
    np.testing.assert_allclose(dtw_distances(one, other), slow, atol=1e-5)


def test_features_that_say_nothing_are_at_chance_and_equal_ones_exactly() -> None:
    """Noise gives 0.5, give or take; constant features give 0.5, as every comparison is a tie."""
    segments, features = spoken(20, 4, np.random.default_rng(1))
    task = draw_all(segments, "across")
    noise = [
        np.random.default_rng(clip).standard_normal(one.shape).astype(np.float32) for clip, one in enumerate(features)
    ]
    assert abx_error(task, noise, by="mean").value == pytest.approx(0.5, abs=0.05)
    assert abx_error(task, [np.ones_like(one) for one in features], by="dtw").value == 0.5


def test_cells_are_bounded_and_drawn_by_the_generator() -> None:
    """At most so many segments and speakers; the same generator, the same task."""
    segments, features = spoken(40, 8, np.random.default_rng(2))
    tasks = [
        draw_task(segments, "across", np.random.default_rng(seed), num_groups=40, max_items=3, max_speakers=2)
        for seed in (0, 0, 1)
    ]
    assert tasks[0].num_triplets <= 3**3 * tasks[0].num_cells
    assert tasks[0].num_cells <= 6 * 8 * 2 < draw_all(segments, "across").num_cells
    values = [abx_error(task, features, by="mean").value for task in tasks]
    assert values[0] == values[1] != values[2]
    assert values[0] == pytest.approx(abx_error(draw_all(segments, "across"), features, by="mean").value, abs=0.08)


def test_drawing_groups_says_how_far_the_error_wanders() -> None:
    """The spread of a bootstrap by the sums of one corpus is that among many corpora of other speakers."""
    values, spreads = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        segments, features = spoken(10, 10, rng, spread=0.8)
        centres = np.random.default_rng(99).standard_normal((3, 6))
        phones = segments.phones
        for row in range(len(segments)):  # the same phones in all corpora, only the speakers are new
            place = slice(segments.first_frames[row], segments.first_frames[row] + segments.num_frames[row])
            of_speaker = np.random.default_rng([seed, int(segments.speakers[row])]).standard_normal((3, 6))
            noise = 0.8 * rng.standard_normal((segments.num_frames[row], 6))
            features[segments.clips[row]][place] = centres[phones[row]] + 0.9 * of_speaker[phones[row]] + noise
        sums = abx_error(draw_all(segments, "across"), features, by="mean")
        values.append(sums.value)
        weights = rng.multinomial(10, np.full(10, 0.1), size=400)
        spreads.append(np.nanstd((weights @ sums.numerators) / (weights @ sums.denominators)))
    assert 0.8 < np.mean(spreads) / np.std(values) < 1.3


@pytest.mark.parametrize(("speakers", "context"), WAYS)
def test_a_triplet_counts_once_for_each_of_its_groups(speakers: AbxSpeakers, context: AbxContext) -> None:
    """Weighed by loops: 1, and (weight - 1) for each group that it stands in, however often."""
    segments, features = spoken(9, 3, np.random.default_rng(3))
    task = draw_all(segments, speakers, context)
    weights = np.random.default_rng(0).multinomial(9, np.full(9, 1 / 9))
    whole = 0.0
    for table in task.tables:
        for block in table.blocks:
            for x, a, b in product(table.rows[block.x], table.columns[block.a], range(len(table.columns))):
                in_groups = {int(segments.groups[one]) for one in (x, a, table.columns[b])}
                whole += (x != a) * block.weights[b] * (1 + sum(weights[group] - 1 for group in in_groups))
    assert abx_error(task, features, by="mean").denominators @ weights == pytest.approx(whole)


def test_one_speaker_no_pair_and_no_number_are_said() -> None:
    """In words that the page can show."""
    segments, features = spoken(3, 1, np.random.default_rng(0))
    with pytest.raises(NotMeasured, match="by one speaker"):
        draw_all(segments, "across")
    with pytest.raises(NotMeasured, match="more minutes"):
        draw_all(spoken(3, 3, np.random.default_rng(0), symbols="a")[0], "within")
    features[1][0] = np.nan
    with pytest.raises(NotMeasured, match="no finite numbers"):
        abx_error(draw_all(segments, "within"), features, by="dtw")


def test_phones_seen_once_and_without_a_frame_are_left_out_and_counted() -> None:
    """They are still the context of their neighbours; a silence is none."""
    phones = [Phone("a", 0.0, 0.1), Phone("q", 0.1, 0.2), Phone("b", 0.2, 0.201), Phone("a", 0.4, 0.5)]
    segments = cut_segments([phones, None], [25, 25], ["s", "s"], [0, 1])
    assert segments.left_out == {"no frame in it": 1, "a phone that is seen once": 1}
    assert segments.symbols == ("a",)
    assert segments.first_frames.tolist() == [0, 20]  # centres at 12.5 ms and 412.5 ms
    assert segments.num_frames.tolist() == [5, 5]
    assert len(set(segments.contexts.tolist())) == 2
