"""Built-in filters of single clips: duration, speech, silence, and what the signal's measures tell.

The figures are of 931 clips of clean read speech in three Bantu languages, 95 min, and of those with the fault added.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from runyoro_ssl import hookimpl
from runyoro_ssl.audio.measures import frame_powers, measure_utterance
from runyoro_ssl.audio.reasons import Reason

if TYPE_CHECKING:
    from runyoro_ssl.config import Config
    from runyoro_ssl.plugin.spec import Register, Utterance

SPEECH_PROBABILITY = 0.5
"""From here on a frame of the voice activity detector is speech."""


@dataclass(frozen=True)
class DurationFilter:
    """Filter that drops clips shorter than the minimum. Longer ones were cut before, so there is no maximum."""

    min_duration_sec: float

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the length with the minimum, in samples: an exact minimum passes."""
        minimum = round(self.min_duration_sec * utterance.sample_rate)
        return Reason.TOO_SHORT if utterance.num_samples < minimum else None


@dataclass(frozen=True)
class SilenceFilter:
    """Filter that drops clips with hardly any frame above a level: recorders left running, dead channels.

    A 25 ms frame is active when its RMS about its mean exceeds `threshold_dbfs` (dB re full scale): a dead channel with
    an offset is silent. A clip passes when at least `min_active_share` of its frames are active. Of the real clips none
    has less than 0.66.
    """

    threshold_dbfs: float = -55.0
    min_active_share: float = 0.05

    def __post_init__(self) -> None:
        _check("threshold_dbfs", self.threshold_dbfs, -200.0, 0.0)
        _check("min_active_share", self.min_active_share, 0.0, 1.0)

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the share of active frames with the minimum."""
        powers = frame_powers(utterance.waveform, utterance.sample_rate)
        active = np.mean(powers > 10.0 ** (self.threshold_dbfs / 10.0))
        return Reason.SILENCE if active < self.min_active_share else None


@dataclass(frozen=True)
class ClippingFilter:
    """Filter that drops clips whose samples sit at full scale: overdriven recordings.

    A sample is clipped when its magnitude is at least `level` of full scale.
    """

    level: float = 0.999
    max_clipped_share: float = 0.01

    def __post_init__(self) -> None:
        _check("level", self.level, 0.0, 1.0)
        _check("max_clipped_share", self.max_clipped_share, 0.0, 1.0)

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the share of clipped samples with the maximum."""
        wave = utterance.waveform
        if max(float(wave.max()), -float(wave.min())) < self.level:
            return None
        num_clipped = np.count_nonzero(np.abs(wave) >= self.level)
        return Reason.CLIPPING if num_clipped / utterance.num_samples > self.max_clipped_share else None


@dataclass(frozen=True)
class SpeechFilter:
    """Filter that drops clips with less speech than `min_share`, by the segmenter's figure or else by voice activity.

    Of the real clips none has less than 0.43; white noise has none.
    """

    min_share: float = 0.3

    def __post_init__(self) -> None:
        _check("min_share", self.min_share, 0.0, 1.0)

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the share of speech with the minimum."""
        share = utterance.speech_share
        if share is None:
            from runyoro_ssl.audio.vad import speech_probabilities

            probabilities = speech_probabilities(utterance.waveform, utterance.sample_rate)
            share = float(np.mean(probabilities >= SPEECH_PROBABILITY)) if len(probabilities) else 0.0
        return Reason.LITTLE_SPEECH if share < self.min_share else None


@dataclass(frozen=True)
class SnrFilter:
    """Filter that drops clips whose estimated signal-to-noise ratio is below `min_db`.

    No real clip is below 3 dB. White or pink noise added at 0 dB measures -3 to 3 dB, at 10 dB 7 to 13; babble measures
    4 dB more, for it pauses too.
    """

    min_db: float = 3.0

    def __post_init__(self) -> None:
        _check("min_db", self.min_db, -100.0, 100.0)

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the estimate with the minimum."""
        return Reason.NOISE if measure_utterance(utterance).snr_db < self.min_db else None


@dataclass(frozen=True)
class DcOffsetFilter:
    """Filter that drops clips whose mean is more than `max_share` of full scale away from zero: a broken sound card.

    The largest of the real clips is 0.003.
    """

    max_share: float = 0.02

    def __post_init__(self) -> None:
        _check("max_share", self.max_share, 0.0, 1.0)

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the magnitude of the mean with the maximum."""
        return Reason.DC_OFFSET if abs(measure_utterance(utterance).dc_offset) > self.max_share else None


@dataclass(frozen=True)
class HumFilter:
    """Filter that drops clips in which mains hum, 50 or 60 Hz with harmonics, stands out by more than `max_db`.

    Of the real clips 0.1 % exceed 20 dB, half exceed 8. Hum of four harmonics 20 dB below the speech measures 11 to
    35 dB, 10 dB below 20 to 44; a single line without harmonics measures a third of that, and passes.
    """

    max_db: float = 20.0

    def __post_init__(self) -> None:
        _check("max_db", self.max_db, 0.0, 200.0)

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the measure with the maximum."""
        return Reason.HUM if measure_utterance(utterance).hum_db > self.max_db else None


@dataclass(frozen=True)
class BandwidthFilter:
    """Filter that drops clips whose bandwidth is below `min_hz`; the default drops none, the report tells of them.

    Speech through 8 kHz measures 3750 to 4000 Hz, whatever its rate now, real clips at 16 kHz 4500 to 8000: 4250
    parts the two. Upsampling by linear interpolation leaves images above 4 kHz, and is not seen.
    """

    min_hz: float = 0.0

    def __post_init__(self) -> None:
        _check("min_hz", self.min_hz, 0.0, 200_000.0)

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the measure with the minimum."""
        return Reason.NARROW_BAND if measure_utterance(utterance).bandwidth_hz < self.min_hz else None


@dataclass(frozen=True)
class MusicFilter:
    """Filter that drops clips that are music more likely than `max_likelihood`.

    Of the real clips none exceeds 0.6; all of 150 synthetic pieces with chords do, and drums alone do not. Speech over
    such music does in 8 % of clips at 20 dB, 61 % at 10 dB, 97 % at 0 dB. No real music was at hand to measure.
    """

    max_likelihood: float = 0.6

    def __post_init__(self) -> None:
        _check("max_likelihood", self.max_likelihood, 0.0, 1.0)

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the measure with the maximum."""
        return Reason.MUSIC if measure_utterance(utterance).music > self.max_likelihood else None


def _check(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{option} is {value!r}, and must lie between {low:g} and {high:g}")


@hookimpl
def runyoro_manifest_filters(register: Register, config: Config) -> None:
    """Register the filters; the duration filter takes its minimum from the configuration."""
    register("duration", partial(DurationFilter, min_duration_sec=config.prepare.min_duration_sec))
    register("silence", SilenceFilter)
    register("clipping", ClippingFilter)
    register("speech", SpeechFilter)
    register("snr", SnrFilter)
    register("dc_offset", DcOffsetFilter)
    register("hum", HumFilter)
    register("bandwidth", BandwidthFilter)
    register("music", MusicFilter)
