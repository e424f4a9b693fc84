"""Measures of a clip's signal: level, noise, clipping, DC offset, hum, bandwidth, music. Pure numpy.

Computed for every clip of `prepare`, so it looks at a 32 ms frame every 128 ms, in blocks that stay in the cache:
0.06 ms of one core for a second of a 15 s clip at 16 kHz, 0.08 ms for one of a 6 s clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

FRAME_SEC, HOP_SEC = 0.032, 0.128
BLOCK_FRAMES = 64
"""Half as many took 30 % longer, twice as many 45 %, beside other work."""
BAND_HZ = 250.0
"""Width of the bands in which noise and bandwidth are judged."""
LEVEL_FRAME_SEC, ACTIVE_DBFS = 0.025, -55.0
CLIPPED_LEVEL = 0.999
"""Magnitude from which a sample counts as clipped, as share of full scale."""
SPEECH_HZ = (250.0, 4000.0)
"""Where speech and noise are weighed: hum is below, and telephone speech has nothing above."""
NOISE_PERCENTILE = 10.0
NOISE_BIAS = 1.9
"""Mean of steady noise over its 10th percentile, in a band of 250 Hz and frames of 32 ms."""
BANDWIDTH_DB = 50.0
"""A band counts when its loud frames come this near to those of the loudest band."""
TONE_HZ = (950.0, 4050.0)
"""Below, the harmonics of a speaking voice move by less than a bin in 300 ms, like those of an instrument."""
STEADY_FRAMES = 3
"""Frames (288 ms with the first and the last) over which a spectral peak must hold still to be a tone."""
MODULATION_HZ = (2.5, 7.0)
"""The rate of syllables."""
HUM_RATE_HZ = 2000
HUM_FRAME_SEC, HUM_HOP_SEC = 0.512, 1.024
HUM_BASES_HZ = (50.0, 60.0)
HUM_HARMONICS, HUM_LINES = 6, 3
"""Of the harmonics, as many as stand out most are averaged."""
HUM_FLOOR_DB = -70.0
"""Hum counts from here on, in dB re the clip's level: a line 30 dB above digital silence disturbs nobody."""
TINY = 1e-12


@dataclass(frozen=True)
class Measures:
    """The signal of one clip in numbers, all of them finite, whatever the clip.

    `level_dbfs` is that of 25 ms frames, each without its mean: an offset is no sound. `active_share` is the share of
    them above -55 dBFS. `snr_db` compares the mean power of 250 Hz bands up to
    4 kHz with their quiet frames (-20 to 80). `hum_db` is how far 50 or 60 Hz and their harmonics stand above
    their neighbourhood. `music` is a likelihood, 0 to 1.
    """

    level_dbfs: float
    peak_dbfs: float
    snr_db: float
    clipped_share: float
    dc_offset: float
    hum_db: float
    bandwidth_hz: float
    music: float
    active_share: float


class Sound(Protocol):
    """Anything with a waveform: an utterance, which filters see."""

    @property
    def waveform(self) -> np.ndarray:
        """The samples, float32 (T,)."""
        ...

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        ...


def measure_utterance(utterance: Sound) -> Measures:
    """Measure the waveform of an utterance, as `measure` does."""
    return measure(utterance.waveform, utterance.sample_rate)


def measure(waveform: np.ndarray, sample_rate: int) -> Measures:
    """Measure a mono waveform float32 (T,) in [-1, 1] at `sample_rate` Hz.

    The last answer is kept for as long as the same read-only array is asked about, as the waveform of an utterance is:
    filters and report share one analysis.
    """
    if waveform.flags.writeable:
        return _measure(waveform, sample_rate)
    return _measure_once(_SameArray(waveform), sample_rate)


class _SameArray:
    """A key for a cache that compares by identity, and keeps its array alive, so that the identity stays its own."""

    def __init__(self, waveform: np.ndarray) -> None:
        self.waveform = waveform

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameArray) and other.waveform is self.waveform

    def __hash__(self) -> int:
        return id(self.waveform)


@lru_cache(maxsize=1)
def _measure_once(same: _SameArray, sample_rate: int) -> Measures:
    return _measure(same.waveform, sample_rate)


def _measure(waveform: np.ndarray, sample_rate: int) -> Measures:
    if not len(waveform):
        waveform = np.zeros(1, np.float32)
    frame_power = frame_powers(waveform, sample_rate)
    power = float(np.mean(frame_power))
    peak = max(float(waveform.max()), -float(waveform.min()))
    dc_offset = float(waveform.mean())
    bands, steady_share = _spectral(waveform, sample_rate)
    return Measures(
        level_dbfs=_decibels(power),
        peak_dbfs=_decibels(peak**2),
        snr_db=_snr_db(bands),
        clipped_share=float(np.mean(np.abs(waveform) >= CLIPPED_LEVEL)) if peak >= CLIPPED_LEVEL else 0.0,
        dc_offset=dc_offset,
        hum_db=_hum_db(waveform, sample_rate, power),
        bandwidth_hz=_bandwidth_hz(bands, sample_rate),
        music=_music(steady_share, frame_power),
        active_share=float(np.mean(frame_power > 10.0 ** (ACTIVE_DBFS / 10.0))),
    )


def frame_powers(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mean square of each 25 ms about their mean, float32 (frames,). The last answer is kept, as `measure` does."""
    if waveform.flags.writeable:
        return _frame_powers(waveform, sample_rate)
    return _frame_powers_once(_SameArray(waveform), sample_rate)


@lru_cache(maxsize=1)
def _frame_powers_once(same: _SameArray, sample_rate: int) -> np.ndarray:
    return _frame_powers(same.waveform, sample_rate)


def _frame_powers(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    size = round(LEVEL_FRAME_SEC * sample_rate)
    frames = _frames(waveform, size, size) if len(waveform) >= size else waveform[None, :]
    power: np.ndarray = np.einsum("ft,ft->f", frames, frames) / frames.shape[1]
    power -= np.square(frames.mean(axis=1))
    power[power < 0.0] = 0.0
    return power


def _frames(waveform: np.ndarray, size: int, hop: int) -> np.ndarray:
    """A view (frames, size) of the first `size` of every `hop` samples; a shorter waveform is padded to one frame."""
    if len(waveform) < hop:
        waveform = np.pad(waveform, (0, hop - len(waveform)))
    return waveform[: len(waveform) // hop * hop].reshape(-1, hop)[:, :size]


def _decibels(power: float) -> float:
    return float(10.0 * np.log10(power + TINY))


def _spectral(waveform: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
    """Power of each 250 Hz band, float32 (frames, bands), and the share of the spectral peaks that hold still."""
    size = round(FRAME_SEC * sample_rate)
    frames = _frames(waveform, size, round(HOP_SEC * sample_rate))
    window = _window(size)
    bin_hz = sample_rate / size
    per_band = round(BAND_HZ / bin_hz)
    num_bands = size // 2 // per_band
    low, high = (round(hz / bin_hz) for hz in TONE_HZ)
    bands = np.empty((len(frames), num_bands), np.float32)
    peaks = []
    for start in range(0, len(frames), BLOCK_FRAMES):
        spectrum = np.fft.rfft(frames[start : start + BLOCK_FRAMES] * window)
        power = spectrum.real**2 + spectrum.imag**2
        in_bands = power[:, 1 : 1 + num_bands * per_band].reshape(len(power), num_bands, per_band)
        np.einsum("fbk->fb", in_bands, out=bands[start : start + BLOCK_FRAMES])
        peaks.append(_peaks(power[:, low:high]))
    return bands, _steady_share(np.concatenate(peaks))


@lru_cache(maxsize=8)
def _window(size: int) -> np.ndarray:
    """Hann, float32, of sum 1."""
    window = np.hanning(size)
    return np.asarray(window / window.sum(), np.float32)


def _peaks(power: np.ndarray) -> np.ndarray:
    """Local maxima, 4 dB above the mean of what is 3 bins (94 Hz) away on both sides, bool (frames, bins)."""
    inner = power[:, 3:-3]
    wide = (power[:, :-6] + power[:, 6:]) * np.float32(1.25)
    found: np.ndarray = (inner >= power[:, 2:-4]) & (inner > power[:, 4:-2]) & (inner > wide)
    return found


def _steady_share(peaks: np.ndarray) -> float:
    """The share of the peaks that stay within a bin over `STEADY_FRAMES` frames in a row."""
    num_starts = len(peaks) - STEADY_FRAMES + 1
    num_peaks = np.count_nonzero(peaks)
    if num_starts < 1 or num_peaks == 0:
        return 0.0
    near = peaks.copy()
    near[:, 1:] |= peaks[:, :-1]
    runs = near[:num_starts].copy()
    for later in range(1, STEADY_FRAMES):
        runs &= near[later : later + num_starts]
    steady = np.zeros_like(peaks)
    for later in range(STEADY_FRAMES):
        steady[later : later + num_starts] |= runs
    return float(np.count_nonzero(steady & peaks)) / num_peaks


def _music(steady_share: float, frame_power: np.ndarray) -> float:
    """Logistic in two features: peaks that hold still, and how little the level moves at the rate of syllables."""
    level = np.sqrt(frame_power)
    mean = float(level.mean())
    if mean <= 0.0:
        return 0.0
    spectrum = np.abs(np.fft.rfft(level / mean - 1.0)) ** 2
    hz = np.fft.rfftfreq(len(level), LEVEL_FRAME_SEC)
    syllabic = spectrum[(hz > MODULATION_HZ[0]) & (hz < MODULATION_HZ[1])].sum()
    modulation = np.sqrt(2.0 * syllabic) / len(level)
    return float(1.0 / (1.0 + np.exp(9.0 + 3.0 * modulation - 18.0 * np.sqrt(steady_share))))


def _snr_db(bands: np.ndarray) -> float:
    """Noise is what a band holds in its quiet frames: speech pauses there even where it goes on in others."""
    low, high = (round(hz / BAND_HZ) for hz in SPEECH_HZ)
    chosen = bands[:, low:high]
    total = float(chosen.mean(axis=0).sum())
    rank = int(NOISE_PERCENTILE / 100.0 * len(chosen))
    noise = NOISE_BIAS * float(np.partition(chosen, rank, axis=0)[rank].sum())
    return float(np.clip(10.0 * np.log10((max(total - noise, 0.0) + TINY) / (noise + TINY)), -20.0, 80.0))


def _bandwidth_hz(bands: np.ndarray, sample_rate: int) -> float:
    """Upper edge of the highest band whose loud frames are near those of the loudest band; 0 for silence."""
    loud = bands[:, 1:].max(axis=0)  # the lowest band may hold no more than a DC offset
    if loud.max() <= TINY:
        return 0.0
    highest = int(np.flatnonzero(loud >= loud.max() * 10.0 ** (-BANDWIDTH_DB / 10.0))[-1]) + 1
    return min((highest + 1) * BAND_HZ, sample_rate / 2)


def _hum_db(waveform: np.ndarray, sample_rate: int, power: float) -> float:
    """Rise of the lines over the median of their neighbourhood, for the base of which it is higher.

    A line counts by its quiet quarter of the frames: hum goes on where a voice at the same pitch pauses.
    """
    factor = max(1, round(sample_rate / HUM_RATE_HZ))
    rate = sample_rate / factor
    size, hop = round(HUM_FRAME_SEC * rate), round(HUM_HOP_SEC * rate)
    if len(waveform) < size * factor:
        return 0.0
    frames = _frames(waveform, size * factor, hop * factor)
    # The mean over neighbours has its zeros where decimation would fold onto 0 Hz.
    slow = frames.reshape(len(frames), size, factor) @ np.full(factor, 1 / factor, np.float32)
    at_line, around = _hum_bins(rate / size)
    spectrum = np.fft.rfft((slow - slow.mean()) * _window(size))[:, : around.max() + 1]
    rank = len(spectrum) // 4
    lines = np.partition(spectrum.real**2 + spectrum.imag**2, rank, axis=0)[rank]
    floor = max(power, 0.0) * 10.0 ** (HUM_FLOOR_DB / 10.0) + TINY
    beside = np.sort(lines[around], axis=1)[:, around.shape[1] // 2]
    rises = 10.0 * np.log10((lines[at_line].max(axis=1) + floor) / (beside + floor))
    clearest = np.sort(rises.reshape(len(HUM_BASES_HZ), -1), axis=1)[:, -HUM_LINES:]
    return float(clearest.mean(axis=1).max())


@lru_cache(maxsize=8)
def _hum_bins(bin_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Bins of each line (lines, 3), base by base, and those 8 to 20 Hz away (lines, bins)."""
    hz = np.outer(HUM_BASES_HZ, np.arange(1, HUM_HARMONICS + 1)).ravel()
    centres = np.rint(hz / bin_hz).astype(np.intp)[:, None]
    away = np.arange(round(8.0 / bin_hz), round(20.0 / bin_hz) + 1)
    return centres + np.arange(-1, 2), centres + np.concatenate([-away, away])
