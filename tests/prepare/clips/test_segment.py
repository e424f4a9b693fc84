"""Cutting recordings: at pauses, nothing said is lost, no clip is too long, memory stays bounded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.audio.vad import WINDOW, WINDOW_SEC, speech_probabilities
from runyoro_ssl.errors import AudioError
from runyoro_ssl.prepare.clips import speech
from runyoro_ssl.prepare.clips.segment import Bounds, PauseSettings, cut_at_pauses, cut_evenly, cut_stream, take_bounds
from runyoro_ssl.prepare.clips.speech import SpeechTrack, track_speech

RATE = 16_000
SETTINGS = PauseSettings(
    min_duration_sec=2.0, max_duration_sec=15.0, vad_threshold=0.5, speech_pad_sec=0.2, max_pause_sec=1.0
)


def in_blocks(waveform: np.ndarray, size: int = 70_001) -> Iterator[np.ndarray]:
    """A stream of the waveform, in blocks that fit nothing."""
    for start in range(0, len(waveform), size):
        yield waveform[start : start + size]


def track_of(regions: list[tuple[float, float]], seconds: float, power: np.ndarray | None = None) -> SpeechTrack:
    """A recording in which somebody speaks from and to these seconds."""
    windows = round(seconds / WINDOW_SEC)
    found = np.zeros(windows, np.float32)
    for start, stop in regions:
        found[round(start / WINDOW_SEC) : round(stop / WINDOW_SEC)] = 0.9
    return SpeechTrack(found, np.full(windows, 0.01, np.float32) if power is None else power, windows * WINDOW, RATE)


def check_order_and_length(bounds: list[Bounds], track: SpeechTrack) -> None:
    """What holds for every recording."""
    assert all(0 <= start < stop <= track.num_samples for start, stop in bounds)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(bounds))
    assert all(stop - start <= SETTINGS.max_duration_sec * RATE for start, stop in bounds)


@pytest.mark.parametrize("seed", range(20))
def test_speech_is_kept_whole_and_long_pauses_are_left_out(seed: int) -> None:
    """Random talk of an hour: all speech of a second or more is in a clip, long pauses are not, clips have room."""
    rng = np.random.default_rng(seed)
    regions: list[tuple[float, float]] = []
    now = 0.0
    while now < 3500:
        now += float(rng.choice([0.15, 0.4, 2.0, 8.0])) + 0.1
        regions.append((now, now + float(rng.exponential(6.0)) + 0.3))
        now = regions[-1][1]
    track = track_of(regions, now + 3)
    bounds = cut_at_pauses(track, SETTINGS)
    check_order_and_length(bounds, track)
    kept = np.zeros(track.num_samples, bool)
    for start, stop in bounds:
        kept[start:stop] = True
    for begin, end in regions:
        if end - begin >= 1.0:
            assert kept[round((begin + 0.04) * RATE) : round((end - 0.04) * RATE)].all()
    for (_, end), (begin, _) in itertools.pairwise(regions):
        if begin - end > 7:
            assert not kept[round((end + 2.2) * RATE) : round((begin - 2.2) * RATE)].any()


@pytest.mark.parametrize("pad", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(("shortest", "longest"), [(5, 5), (15, 15), (1, 2), (0.1, 0.2), (2, 15), (14.8, 15)])
def test_any_limits_can_be_kept(shortest: float, longest: float, pad: float) -> None:
    """Also a minimum that is the maximum, and padding that would fill a clip."""
    rng = np.random.default_rng(round(10 * longest))
    edges = np.cumsum(rng.exponential(3.0, 60) + 0.1)
    track = track_of(list(zip(edges[::2], edges[1::2], strict=True)), edges[-1] + 1)
    bounds = cut_at_pauses(track, PauseSettings(shortest, longest, 0.5, pad, 1.0))
    assert bounds
    assert all(0 < stop - start <= longest * RATE for start, stop in bounds)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(bounds))


def test_equal_pauses_are_cut_in_the_middle() -> None:
    """An hour of words of a second with the same pause after each: clips are of half the maximum and more."""
    track = track_of([(2.0 * n, 2.0 * n + 1.36) for n in range(1800)], 3600)
    lengths = [stop - start for start, stop in cut_at_pauses(track, SETTINGS)]
    assert np.median(lengths) > 7 * RATE


def test_speech_without_pauses_is_cut_where_it_is_quietest() -> None:
    """Ten minutes without a pause: nothing is lost, and each cut falls into one of the dips of the level."""
    windows = round(600 / WINDOW_SEC)
    power = np.full(windows, 0.01, np.float32)
    dips = np.arange(300, windows, 100)
    for dip in dips:
        power[dip - 1 : dip + 2] = 1e-5
    bounds = cut_at_pauses(track_of([(0, 600)], 600, power), SETTINGS)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == windows * WINDOW
    assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))
    assert all(min(abs(stop // WINDOW - dips)) <= 2 for _, stop in bounds[:-1])
    assert all(stop - start >= 0.55 * 15 * RATE for start, stop in bounds[:-1])


def test_too_long_a_talk_is_cut_at_its_longest_pauses() -> None:
    """20 s with pauses of 0.2, 0.9 and 0.3 s: one cut, in the longest."""
    track = track_of([(1, 6), (6.2, 10), (10.9, 16), (16.3, 21)], 25)
    (first, second) = cut_at_pauses(track, SETTINGS)
    assert 10 < first[1] / RATE <= second[0] / RATE < 10.9


@pytest.mark.parametrize(("pause_sec", "num_clips"), [(0.3, 1), (0.9, 1), (1.1, 2), (3.0, 2)])
def test_talk_is_joined_over_pauses_up_to_the_limit(pause_sec: float, num_clips: int) -> None:
    """Of a second, here; both together would fit into a clip."""
    bounds = cut_at_pauses(track_of([(2, 6), (6 + pause_sec, 10 + pause_sec)], 20), SETTINGS)
    assert len(bounds) == num_clips


def test_short_speech_takes_in_silence_and_a_cough_is_left_out() -> None:
    """A second of speech alone becomes a clip of two; a third of a second becomes none."""
    ((start, stop),) = cut_at_pauses(track_of([(10, 11)], 30), SETTINGS)
    assert (stop - start) / RATE == pytest.approx(2.0, abs=0.1)
    assert stop - start >= 2 * RATE
    assert start < 10 * RATE < 11 * RATE < stop
    assert cut_at_pauses(track_of([(10, 10.3)], 30), SETTINGS) == []


def test_no_speech_gives_no_clip() -> None:
    """Nor does a recording of no length."""
    assert cut_at_pauses(track_of([], 60), SETTINGS) == []
    assert cut_at_pauses(track_of([], 0), SETTINGS) == []


@pytest.mark.parametrize("num_samples", [1, 99, 100, 101, 199, 200, 201, 250, 399, 400, 1234])
@pytest.mark.parametrize("block", [1, 37, 100, 1000])
def test_stream_is_cut_without_loss(num_samples: int, block: int) -> None:
    """Pieces of 100, in order, are the stream; none is longer, and only the last two are shorter."""
    waveform = np.arange(num_samples, dtype=np.float32)
    pieces = list(cut_stream(in_blocks(waveform, block), 100))
    np.testing.assert_array_equal(np.concatenate([piece.waveform for piece in pieces]), waveform)
    assert [piece.start for piece in pieces] == [int(piece.waveform[0]) for piece in pieces]
    assert all(len(piece.waveform) == 100 for piece in pieces[:-2])
    assert all(50 <= len(piece.waveform) <= 100 or num_samples < 100 for piece in pieces)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_parts_of_a_stream(block: int) -> None:
    """Each is what slicing gives, touching and far apart; the stream is read no further than the last needs."""
    waveform = np.arange(500, dtype=np.float32)
    bounds = [(0, 3), (3, 50), (120, 121), (121, 300), (450, 460)]
    read = in_blocks(waveform, block)
    taken = list(take_bounds(read, bounds))
    assert [place for place, _ in taken] == bounds
    for (start, stop), part in taken:
        np.testing.assert_array_equal(part, waveform[start:stop])
    assert sum(map(len, read)) == max(0, 500 - -(-460 // block) * block)


@pytest.mark.parametrize("num_samples", [1, 99, 100, 101, 200, 201, 1234])
def test_even_pieces_are_equal_and_whole(num_samples: int) -> None:
    """Pieces cover the clip, none is longer than the maximum, and they differ by a sample at most."""
    pieces = cut_evenly(num_samples, 100)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == num_samples
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(pieces))
    sizes = [stop - start for start, stop in pieces]
    assert max(sizes) <= 100
    assert max(sizes) - min(sizes) <= 1


def test_broken_stream_is_followed_as_far_as_it_goes() -> None:
    """What came before the error is heard, and the error is kept."""

    def broken() -> Iterator[np.ndarray]:
        yield np.zeros(RATE, np.float32)
        raise AudioError("unreadable", "here")

    track = track_speech(broken(), RATE)
    assert (track.num_samples, str(track.error)) == (RATE, "unreadable: here")


def test_stretches_change_little(bantu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heard in stretches of 10 s, in lanes, real speech is what silero itself hears in one long pass, but for edges."""
    import torch
    from silero_vad import load_silero_vad

    paths = sorted((bantu / "audio" / "lug").glob("*.flac"))[:12]
    waveform = np.concatenate([sf.read(path, dtype="float32")[0] for path in paths])
    waveform = waveform[: len(waveform) // WINDOW * WINDOW]
    monkeypatch.setattr(speech, "STRETCH_WINDOWS", 313)
    track = track_speech(in_blocks(waveform), RATE)
    expected = load_silero_vad().audio_forward(torch.from_numpy(waveform)[None], RATE)[0].numpy()
    assert len(track.speech) == len(expected)
    assert np.mean((track.speech > 0.5) != (expected > 0.5)) < 0.02
    power = np.mean(waveform.reshape(-1, WINDOW) ** 2, axis=1)
    np.testing.assert_allclose(track.power, power, rtol=1e-3, atol=1e-9)


def test_probabilities_tell_speech_from_silence_at_any_rate(bantu: Path) -> None:
    """Real speech is mostly speech, near-silence is not; at 8 kHz as at 16."""
    waveform = sf.read(next((bantu / "audio" / "lug").glob("*.flac")), dtype="float32")[0]
    silence = np.random.default_rng(0).normal(0, 1e-3, 5 * RATE).astype(np.float32)
    for rate, step in ((RATE, 1), (RATE // 2, 2)):
        assert np.mean(speech_probabilities(waveform[::step].copy(), rate) > 0.5) > 0.5
        assert np.mean(speech_probabilities(silence[::step].copy(), rate) > 0.5) < 0.05
    assert len(speech_probabilities(np.zeros(WINDOW + 1, np.float32))) == 2
    assert len(speech_probabilities(np.zeros(0, np.float32))) == 0
