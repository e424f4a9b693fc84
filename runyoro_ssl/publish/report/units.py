"""Units to hear and to see: what a model takes for one sound."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile as sf

from runyoro_ssl.page.amounts import number
from runyoro_ssl.page.pictures import audio_uri, spectrogram_uri

MAX_UNITS = 24
MAX_CLIPS = 6
"""Of a unit."""
MAX_CLIP_SEC = 5.0
"""With these, a page has at most 24 x 6 x 5 s of sound: 5 MB."""
GAP_SEC = 0.05
"""Of silence between the clips of a picture."""


@dataclass(frozen=True)
class UnitExample:
    """A unit, and where it was heard.

    Attributes:
        unit: Its number.
        words: What is to be said of it, e.g. how often it comes, or which phone it mostly is.
        clips: WAV files of stretches that were given this unit, mono.
        spectrogram: A PNG; where it is empty, the clips are drawn, one after the other.
    """

    unit: int
    words: str
    clips: Sequence[bytes]
    spectrogram: bytes = b""


@dataclass(frozen=True)
class ShownUnit:
    """A unit as data URIs; `clips` is empty where no voice may be on the page."""

    name: str
    words: str
    clips: Sequence[tuple[str, str]]
    picture: str


def shown_units(examples: Sequence[UnitExample], *, with_audio: bool) -> list[ShownUnit]:
    """The first MAX_UNITS examples with their first MAX_CLIPS clips. Without audio, the pictures are left."""
    return [_show(example, with_audio=with_audio) for example in examples[:MAX_UNITS]]


def _show(example: UnitExample, *, with_audio: bool) -> ShownUnit:
    heard = [_read(clip) for clip in example.clips[:MAX_CLIPS]]
    rate = heard[0][1] if heard else 16_000
    waveform = _joined([each for each, _ in heard], rate)
    clips = [
        (f"{number(len(each) / one_rate, 2)} s", audio_uri(each, one_rate)) for each, one_rate in heard if with_audio
    ]
    picture = spectrogram_uri(waveform, rate) if len(waveform) else ""
    if example.spectrogram:
        picture = f"data:image/png;base64,{base64.b64encode(example.spectrogram).decode('ascii')}"
    return ShownUnit(f"Unit {example.unit}", example.words, clips, picture)


def _read(clip: bytes) -> tuple[np.ndarray, int]:
    """The first channel of a WAV file, float32 (T,), at most MAX_CLIP_SEC, and its rate."""
    waveform, rate = sf.read(io.BytesIO(clip), dtype="float32", always_2d=True)
    return waveform[: round(MAX_CLIP_SEC * rate), 0], int(rate)


def _joined(waveforms: Sequence[np.ndarray], rate: int) -> np.ndarray:
    gap = np.zeros(round(GAP_SEC * rate), np.float32)
    parts = [part for waveform in waveforms for part in (waveform, gap)][:-1]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)
