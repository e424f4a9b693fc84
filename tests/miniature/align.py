"""Phone alignments of read Luganda, by a monophone model that is trained on the very recordings (flat start).

Luganda is written nearly as it is spoken, so letters give phones. Three states a phone, mixtures of diagonal Gaussians
on MFCC, Viterbi training: the first passes of the Montreal Forced Aligner (McAuliffe et al., 2017). The labels are made
of spectra, so they favour spectra: what beats log-mel on them does so with a handicap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runyoro_ssl.audio.synth import SAMPLE_RATE

HOP_SEC, FRAME_MIDDLE = 0.01, 0.0075
"""A frame of 25 ms begins every 10 ms: what it tells changes half-way between the middles of two."""
FRAME = 400
STATES = 3
SILENCE = "sil"
MIXTURES = (1, 1, 1, 2, 2, 4, 4, 8, 8, 8)
"""Gaussians a state, in each pass."""
FEWEST, MOST = 50, 5000
"""Frames of a Gaussian, at least; of a state, at most."""
BATCH = 64
SOUNDS = re.compile(r"ng'|ny|ky|gy|[abcdefgijklmnoprstuvwyz]")
ALIKE = {"gy": "j", "ky": "c", "r": "l"}
"""Written otherwise, spoken alike: r and l are one sound, which its neighbours colour."""


def phones_of(text: str) -> list[list[str]] | None:
    """The phones of each word; None where it is not spelled in Luganda's letters. Long sounds count once."""
    words = re.sub(r"[^\w' ]", " ", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")).split()
    found = []
    for word in words:
        bare = re.sub(r"(?<!ng)'", "", word)
        sounds = SOUNDS.findall(bare)
        if "".join(sounds) != bare:
            return None
        spoken = [ALIKE.get(sound, sound) for sound in sounds]
        found.append([sound for index, sound in enumerate(spoken) if index == 0 or sound != spoken[index - 1]])
    return found or None


@dataclass
class Utterance:
    """MFCC with changes, float32 (T, 39); its states; which of them may be skipped."""

    features: np.ndarray
    states: np.ndarray
    optional: np.ndarray


def mfcc(waveform: np.ndarray) -> np.ndarray:
    """13 cepstra of 40 log-mel bands every 10 ms, their first and second changes, normalised: float32 (T, 39)."""
    from scipy.fft import dct

    emphasised = np.diff(waveform, prepend=waveform[:1])
    cepstra = dct(log_mel(emphasised, round(HOP_SEC * SAMPLE_RATE)), norm="ortho")[:, :13]
    change = _change(cepstra)
    found = np.concatenate([cepstra, change, _change(change)], axis=1)
    return np.asarray((found - found.mean(0)) / (found.std(0) + 1e-5), np.float32)


def log_mel(waveform: np.ndarray, hop: int) -> np.ndarray:
    """40 log-mel bands from 60 to 7,600 Hz, of frames of 25 ms: float64 (T, 40)."""
    from transformers.audio_utils import mel_filter_bank, spectrogram

    filters = mel_filter_bank(FRAME // 2 + 1, 40, 60.0, 7600.0, SAMPLE_RATE)
    bands = spectrogram(
        waveform, np.hamming(FRAME), FRAME, hop, center=False, power=2.0, mel_filters=filters, log_mel="log"
    )
    return np.asarray(bands).T


def _change(values: np.ndarray) -> np.ndarray:
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    return np.asarray((padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10)


def align(
    waveforms: Sequence[np.ndarray], words: Sequence[list[list[str]]]
) -> Iterator[list[tuple[float, float, str]]]:
    """Phones of each recording with their times, in seconds: (start, end, phone); silences, too."""
    names = [SILENCE, *sorted({phone for one in words for word in one for phone in word})]
    spoken = [
        _utterance(waveform, one, {name: place for place, name in enumerate(names)})
        for waveform, one in zip(waveforms, words, strict=True)
    ]
    paths = [_evenly(one) for one in spoken]
    for mixtures in MIXTURES:
        model = _fit(spoken, paths, STATES * len(names), mixtures)
        paths = _best_paths(spoken, model)
    for one, path, waveform in zip(spoken, paths, waveforms, strict=True):
        found = list(_segments(one.states[path], path, names))
        yield [*found, (found[-1][1], max(found[-1][1], len(waveform) / SAMPLE_RATE), SILENCE)]


def _utterance(waveform: np.ndarray, words: list[list[str]], places: dict[str, int]) -> Utterance:
    """Words in turn; before, between and after them a silence that may be skipped."""
    silence = [STATES * places[SILENCE] + state for state in range(STATES)]
    states, optional = [silence[1]], [True]
    for word in words:
        for phone in word:
            states += [STATES * places[phone] + state for state in range(STATES)]
            optional += [False] * STATES
        states.append(silence[1])
        optional.append(True)
    return Utterance(mfcc(waveform), np.array(states), np.array(optional))


def _evenly(one: Utterance) -> np.ndarray:
    """Each state as long: the flat start. Half a second of silence at either end, as such recordings have."""
    frames, number = len(one.features), len(one.states)
    edge = min(25, max(0, (frames - number) // 4))
    inner = np.flatnonzero(~one.optional)
    middle = inner[np.arange(frames - 2 * edge) * len(inner) // (frames - 2 * edge)]
    return np.concatenate([np.zeros(edge, np.int64), middle, np.full(edge, number - 1)])


def _fit(spoken: Sequence[Utterance], paths: Sequence[np.ndarray], num_states: int, mixtures: int) -> list[object]:
    """A mixture of diagonal Gaussians for each state, of the frames that the paths gave it."""
    from sklearn.mixture import GaussianMixture

    frames = np.concatenate([one.features for one in spoken])
    states = np.concatenate([one.states[path] for one, path in zip(spoken, paths, strict=True)])
    generator = np.random.default_rng(0)
    found: list[object] = []
    for state in range(num_states):
        own = frames[states == state]
        if len(own) < FEWEST:
            own = np.concatenate([own, frames[generator.choice(len(frames), FEWEST)]])
        own = own[generator.permutation(len(own))[:MOST]]
        number = max(1, min(mixtures, len(own) // FEWEST))
        found.append(
            GaussianMixture(number, covariance_type="diag", reg_covar=0.01, max_iter=20, random_state=0).fit(own)
        )
    return found


def _best_paths(spoken: Sequence[Utterance], model: Sequence[object]) -> list[np.ndarray]:
    order = np.argsort([len(one.features) for one in spoken])
    paths: dict[int, np.ndarray] = {}
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        for index, path in zip(chosen, _viterbi([spoken[index] for index in chosen], model), strict=True):
            paths[int(index)] = path
    return [paths[index] for index in range(len(spoken))]


def _log_likelihoods(frames: np.ndarray, model: Sequence[object]) -> np.ndarray:
    """Of all frames under all states, float32 (N, states): one product for all Gaussians."""
    means = np.concatenate([one.means_ for one in model])  # type: ignore[attr-defined]  # scikit-learn has no types
    precisions = np.concatenate([1 / one.covariances_ for one in model])  # type: ignore[attr-defined]
    weights = np.concatenate([np.log(one.weights_) for one in model])  # type: ignore[attr-defined]
    constant = weights + 0.5 * (np.log(precisions).sum(1) - frames.shape[1] * np.log(2 * np.pi))
    constant -= 0.5 * (means**2 * precisions).sum(1)
    each = (frames**2) @ (-0.5 * precisions.T) + frames @ (means * precisions).T + constant
    sizes = [len(one.weights_) for one in model]  # type: ignore[attr-defined]
    return np.asarray(np.logaddexp.reduceat(each, np.cumsum([0, *sizes[:-1]]), axis=1), np.float32)


def _viterbi(batch: Sequence[Utterance], model: Sequence[object]) -> list[np.ndarray]:
    """The best path of each: to stay, to go on, or to skip a silence."""
    longest, most = max(len(one.features) for one in batch), max(len(one.states) for one in batch)
    emitted = np.full((longest, len(batch), most), -1e9, np.float32)
    may_skip = np.full((len(batch), most), -1e9, np.float32)
    score = np.full((len(batch), most), -1e9, np.float32)
    for row, one in enumerate(batch):
        found = _log_likelihoods(one.features, model)
        emitted[: len(found), row, : len(one.states)] = found[:, one.states]
        may_skip[row, 2 : len(one.states)][one.optional[1:-1]] = 0
        score[row, :2] = emitted[0, row, :2]
    came = np.zeros((longest, len(batch), most), np.int8)
    ends = [len(one.features) - 1 for one in batch]
    last: dict[int, np.ndarray] = {row: score[row].copy() for row, end in enumerate(ends) if end == 0}
    for time in range(1, longest):
        step = np.full_like(score, -1e9)
        step[:, 1:] = score[:, :-1]
        skip = np.full_like(score, -1e9)
        skip[:, 2:] = score[:, :-2] + may_skip[:, 2:]
        choices = np.stack([score, step, skip])
        came[time] = choices.argmax(0)
        score = choices.max(0) + emitted[time]
        last |= {row: score[row].copy() for row, end in enumerate(ends) if end == time}
    paths = []
    for row, one in enumerate(batch):
        number = len(one.states)
        place = number - 1 if last[row][number - 1] >= last[row][number - 2] else number - 2
        path = np.zeros(ends[row] + 1, np.int64)
        for time in range(ends[row], -1, -1):
            path[time] = place
            place -= int(came[time, row, place])
        paths.append(path)
    return paths


def _segments(states: np.ndarray, path: np.ndarray, names: Sequence[str]) -> Iterator[tuple[float, float, str]]:
    """Runs of one phone. A phone said twice in a row is two: its place in the path tells."""
    phone_places = (states // STATES) * 100_000 + (path - states % STATES)
    starts = np.flatnonzero(np.diff(phone_places, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(states)], strict=True):
        yield start * HOP_SEC + FRAME_MIDDLE, end * HOP_SEC + FRAME_MIDDLE, names[states[start] // STATES]


def write_phn(segments: Sequence[tuple[float, float, str]], path: Path) -> None:
    """Lines of start, end and phone, in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{start:.4f} {end:.4f} {phone}\n" for start, end, phone in segments))
