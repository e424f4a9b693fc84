"""Write the corpus page, from the report and the clips of a preparation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from runyoro_ssl.dataset.layout import VALIDATION
from runyoro_ssl.page.amounts import share
from runyoro_ssl.page.axes import Tick
from runyoro_ssl.page.charts import Histogram, NamedBar, histogram, named_bars, seconds_by
from runyoro_ssl.page.pictures import audio_uri, mel_place, spectrogram_uri
from runyoro_ssl.page.render import render_page
from runyoro_ssl.prepare.accounts import ClipRecord
from runyoro_ssl.prepare.page.accounting import break_down, flaws_of, headline, splits_of, who_is_missing
from runyoro_ssl.prepare.page.dropped import Heard
from runyoro_ssl.prepare.page.examples import Example, choose_examples
from runyoro_ssl.prepare.page.measures import MEASURES, column, measured

TEMPLATE = Path(__file__).with_name("corpus.html.jinja")
CONTENTS = (
    ("account", "Account"),
    ("measures", "Measures"),
    ("voices", "Voices"),
    ("splits", "Splits"),
    ("worst", "Worst clips"),
    ("typical", "Typical clips"),
    ("dropped", "Dropped"),
)
MAX_PLAYER_SEC = 15.0
HINTS = {
    "snr_db": "How far speech stands above the background. Under 10 dB is noisy.",
    "level_dbfs": "Root mean square against full scale. The model sees every clip normalised.",
    "bandwidth_hz": "Up to where there is sound. About 4 kHz is telephone; 8 kHz is all a 16 kHz file can hold.",
}
"""The measures that are drawn as histograms."""
TICKS_HZ = (500, 1000, 2000, 4000, 8000, 16_000)


def write_page(
    path: Path,
    report: Mapping[str, Any],
    clips: Sequence[ClipRecord],
    waveform_of: Callable[[int], np.ndarray],
    *,
    title: str,
    dropped: Mapping[str, Sequence[Heard]] = MappingProxyType({}),
) -> None:
    """Write the page of a corpus; the same arguments give the same bytes.

    `report` is what `build_report` makes of the clips. `waveform_of(i)` gives clip i as float32 (T,) at the report's
    rate, and is asked only for the clips that are shown. `dropped` is what is to be heard for each reason.
    """
    rate = report["sampling_rate"]
    worst, typical = choose_examples(clips)
    page = render_page(
        TEMPLATE,
        title=title,
        kind="Prepared corpus",
        tiles=headline(report, clips),
        contents=CONTENTS,
        rate=rate,
        breakdown=break_down(report),
        flaws=flaws_of(report),
        histograms=_histograms(clips, rate),
        bars_of=_bars(clips, rate),
        missing=who_is_missing(report["absent"]),
        splits=splits_of(report),
        held_out_by=report["split_by"],
        split_warnings=report["split_warnings"],
        worst=[_card(example, clips[example.clip], waveform_of, rate) for example in worst],
        typical=[_card(example, clips[example.clip], waveform_of, rate) for example in typical],
        dropped=dropped,
    )
    path.write_text(page, encoding="utf-8", newline="\n")


def _histograms(clips: Sequence[ClipRecord], rate: int) -> list[Histogram]:
    held_out = np.array([clip.split == VALIDATION for clip in clips], dtype=bool)
    seconds = np.array([clip.num_samples for clip in clips], dtype=np.float64) / rate
    drawn = [
        histogram("Duration", "s", "Seconds of each clip, as the model will read it.", seconds, held_out, noun="clip")
    ]
    for name, hint in HINTS.items():
        measure = MEASURES[name]
        values = column(clips, name) * measure.scale
        drawn.append(histogram(measure.label, measure.unit, hint, values, held_out, noun="clip"))
    return drawn


def _bars(clips: Sequence[ClipRecord], rate: int) -> list[tuple[str, list[NamedBar], str]]:
    """(Title, bars, remark) of speakers, languages and, where some are known, licences."""
    speakers = seconds_by((clip.speaker, clip.num_samples / rate) for clip in clips)
    languages = seconds_by((clip.language, clip.num_samples / rate) for clip in clips)
    licences = seconds_by((clip.licence, clip.num_samples / rate) for clip in clips)
    drawn = [("Speakers", named_bars(speakers), _speaker_remark(speakers)), ("Languages", named_bars(languages), "")]
    return drawn + ([("Licences", named_bars(licences), "")] if licences.keys() - {None} else [])


def _speaker_remark(speakers: Mapping[str | None, float]) -> str:
    known = {name: seconds for name, seconds in speakers.items() if name is not None}
    if not known:
        return "No speaker is named in the manifest: the splits may share voices."
    (name, most), whole = next(iter(known.items())), sum(speakers.values())
    if len(speakers) == 1:
        return f"{name} is the only speaker: the model may learn the voice rather than the language."
    if most <= whole / 2:
        return ""
    return f"{name} speaks {share(most, whole)} of it: the model may learn this voice rather than the language."


def _card(example: Example, clip: ClipRecord, waveform_of: Callable[[int], np.ndarray], rate: int) -> dict[str, Any]:
    """What the page shows of one clip."""
    waveform = waveform_of(example.clip)
    played = waveform[: round(MAX_PLAYER_SEC * rate)]
    return {
        "clip": clip,
        "faults": example.faults,
        "measured": measured(clip),
        "end_sec": clip.offset_sec + clip.num_samples / rate,
        "duration_sec": clip.num_samples / rate,
        "played_sec": len(played) / rate,
        "is_whole": len(played) == len(waveform),
        "audio": audio_uri(played, rate),
        "spectrogram": spectrogram_uri(played, rate),
        "x_ticks": _time_ticks(len(played) / rate),
        "y_ticks": _frequency_ticks(rate),
    }


def _time_ticks(seconds: float) -> list[Tick]:
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5) if step * 8 >= min(seconds, MAX_PLAYER_SEC))
    return [Tick(round(100 * at / seconds, 3), f"{at:g}") for at in np.arange(0, seconds + 1e-9, step).round(1)]


def _frequency_ticks(rate: int) -> list[Tick]:
    shown = [hertz for hertz in TICKS_HZ if hertz <= rate / 2]
    places = mel_place(np.array(shown, dtype=np.float64), rate)
    return [Tick(round(100 * float(at), 3), f"{hz / 1000:g}") for hz, at in zip(shown, places, strict=True)]
