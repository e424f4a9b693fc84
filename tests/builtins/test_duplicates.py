"""Near-duplicates: copies are found whatever was done to them; what only sounds alike is kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from runyoro_ssl.builtins.duplicates.filter import DuplicateFilter
from runyoro_ssl.builtins.duplicates.landmarks import peaks
from runyoro_ssl.plugin.spec import Candidate, Utterance

RATE = 16_000


@pytest.fixture(scope="module")
def clips(bantu: Path) -> list[np.ndarray]:
    """Every 6th real clip."""
    return [sf.read(path, dtype="float32")[0] for path in sorted(bantu.rglob("*.flac"))[::6]]


def judged(clips: Sequence[np.ndarray], min_overlap: float = 0.4) -> list[str | None]:
    """What the filter says of a corpus."""
    judge = DuplicateFilter(min_overlap)
    candidates = []
    for number, clip in enumerate(clips):
        utterance = Utterance(f"{number}", "", "", None, None, 0.0, np.asarray(clip, np.float32), RATE)
        measured = judge.measure(utterance)
        candidates.append(Candidate(f"{number}", "", "", None, None, 0.0, len(clip), RATE, measured))
    return judge.select(candidates)


def through(container: str, subtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function that encodes at a low rate and decodes."""

    def code(clip: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        with sf.SoundFile(file, "w", RATE, 1, format=container, subtype=subtype, compression_level=0.9) as writer:
            writer.write(clip)
        file.seek(0)
        return np.asarray(sf.read(file, dtype="float32")[0])

    return code


def telephone(clip: np.ndarray) -> np.ndarray:
    """300 to 3400 Hz."""
    spectrum = np.fft.rfft(soxr.resample(clip, RATE, 8_000))
    hz = np.linspace(0, 4_000, len(spectrum))
    spectrum[(hz < 300) | (hz > 3_400)] = 0
    return np.asarray(soxr.resample(np.fft.irfft(spectrum), 8_000, RATE), np.float32)


def noisy(clip: np.ndarray) -> np.ndarray:
    """Noise at 20 dB."""
    noise = np.random.default_rng(0).normal(size=len(clip))
    return np.asarray(clip + noise * np.sqrt(np.mean(clip**2)) / 10, np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda clip: clip,
        lambda clip: clip / 10,
        lambda clip: clip * 2,
        telephone,
        noisy,
        through("MP3", "MPEG_LAYER_III"),
        through("OGG", "OPUS"),
    ],
    ids=["as it is", "softer", "louder", "telephone", "noise", "mp3", "opus"],
)
def test_changed_and_differently_cut_copy_is_found(
    clips: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Two thirds of an earlier clip from an odd sample on, then other speech: of 20 at least 19, and no original."""
    earlier, other = clips[0::2], clips[1::2]
    chosen = [number for number, clip in enumerate(earlier) if len(clip) > 3 * RATE][::3][:20]
    assert len(chosen) == 20
    copies = []
    for number in chosen:
        clip, tail = earlier[number], other[number]
        start, third = len(clip) // 5 + 777, len(clip) // 3
        gain = np.sqrt(np.mean(clip**2) / np.mean(tail**2))
        copies.append(change(np.concatenate([clip[start : start + 2 * third], gain * tail[:third]])))
    found = judged([*earlier, *copies])
    assert found[: len(earlier)] == [None] * len(earlier)
    assert found[len(earlier) :].count("near-duplicate") >= len(copies) - 1


def test_only_the_identical_pair_of_the_real_corpus_is_found(bantu: Path) -> None:
    """Of 931 clips by 7 voices one is dropped, and its samples are those of another."""
    paths = sorted(bantu.rglob("*.flac"))
    found = judged([sf.read(path, dtype="float32")[0] for path in paths])
    dropped = [number for number, reason in enumerate(found) if reason]
    assert len(dropped) == 1
    one, other = (sf.read(paths[number])[0] for number in (dropped[0], dropped[0] - 1))
    assert np.corrcoef(one, other)[0, 1] > 0.999


def test_overlap_decides(clips: list[np.ndarray]) -> None:
    """A clip of which a quarter is known stays, unless a tenth is asked for."""
    first, second = (next(clip for clip in part if len(clip) > 6 * RATE) for part in (clips, clips[::-1]))
    mixed = np.concatenate([first[RATE : RATE * 3], second[: 6 * RATE]])
    assert judged([first, mixed]) == [None, None]
    assert judged([first, mixed], 0.1) == [None, "near-duplicate"]


def test_clip_that_repeats_itself_is_no_copy(clips: list[np.ndarray]) -> None:
    """Of what came before it there is nothing in it."""
    clip = next(clip for clip in clips if len(clip) > 5 * RATE)[: 5 * RATE]
    assert judged([np.concatenate([clip, clip]), clip]) == [None, "near-duplicate"]


def test_copy_of_a_dropped_clip_counts_only_as_a_copy_of_what_was_kept(clips: list[np.ndarray]) -> None:
    """The middle clip goes for its first half; the last has only its second half, which nobody kept."""
    first, second = [clip for clip in clips if len(clip) > 6 * RATE][:2]
    both = np.concatenate([first[: 5 * RATE], second[: 4 * RATE]])
    assert judged([first, both, second[: 4 * RATE]]) == [None, "near-duplicate", None]


def test_a_jingle_that_every_clip_holds_is_found_each_time(clips: list[np.ndarray]) -> None:
    """Hashes that are common through repetition still lead to the first clip that has them."""
    jingle = next(clip for clip in clips if len(clip) > 4 * RATE)[: 4 * RATE]
    corpus = [np.concatenate([clip[:RATE], jingle]) for clip in clips[:60]]
    assert judged(corpus) == [None, *["near-duplicate"] * 59]


@pytest.mark.parametrize("num_samples", [0, 1, 700, RATE])
def test_clips_without_peaks_are_never_copies(num_samples: int) -> None:
    """Silence, however short, and beside real sound."""
    tone = np.sin(np.arange(3 * RATE) / np.linspace(5, 20, 3 * RATE))
    assert judged([np.zeros(num_samples), np.zeros(num_samples), tone]) == [None] * 3


def test_fingerprint_is_compact_and_does_not_depend_on_gain(clips: list[np.ndarray]) -> None:
    """Under 100 bytes a second; a quarter as loud has the same peaks."""
    found = peaks(clips[0], RATE)
    assert len(found) / (len(clips[0]) / RATE) > 5
    assert found.nbytes / (len(clips[0]) / RATE) < 100
    assert np.array_equal(peaks(clips[0] / 4, RATE), found)
