"""The page, from a report and its clips: what each part of the template is given."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runyoro_ssl.page.amounts import amount_of_time, clock, number, plural, share
from runyoro_ssl.page.charts import Histogram, Row, Tick, histogram, rows, seconds_by
from runyoro_ssl.page.pictures import audio_uri, mel_place, spectrogram_uri
from runyoro_ssl.prepare.page.accounting import account, headline, splits_of
from runyoro_ssl.prepare.page.examples import Example, choose_examples
from runyoro_ssl.prepare.page.summary import MEASURES, ClipSummary, column, measured

HERE = Path(__file__).parent
TEMPLATE = "page.html.jinja"
SCRIPT = "page.js"
MAX_PLAYER_SEC = 15.0
DEFAULT_RATE = 16_000
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
    clips: Sequence[ClipSummary],
    waveform_of: Callable[[int], np.ndarray],
    *,
    title: str,
) -> None:
    """Write the page of a corpus; the same arguments give the same bytes.

    `report` is the content of prepare_report.json; what it lacks is taken from the clips, or left out. `waveform_of(i)`
    gives clip i as float32 (T,) at report["sampling_rate"] Hz, and is asked only for the clips that are shown.
    """
    rate = int(report.get("sampling_rate", DEFAULT_RATE))
    path.write_text(_render(report, clips, waveform_of, rate=rate, title=title), encoding="utf-8", newline="\n")


def _render(
    report: Mapping[str, Any],
    clips: Sequence[ClipSummary],
    waveform_of: Callable[[int], np.ndarray],
    *,
    rate: int,
    title: str,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    house = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    house.filters |= {"time": amount_of_time, "clock": clock, "number": number}
    house.globals |= {"share": share, "plural": plural}
    worst, typical = choose_examples(clips)
    return house.get_template(TEMPLATE).render(
        title=title,
        rate=rate,
        tiles=headline(report, clips, rate),
        account=account(report, clips, rate),
        histograms=_histograms(clips, rate),
        bars_of=_bars(report, clips, rate),
        splits=splits_of(report, clips, rate),
        worst=[_card(example, clips[example.clip], waveform_of, rate) for example in worst],
        typical=[_card(example, clips[example.clip], waveform_of, rate) for example in typical],
        script_sha256=_script_digest(),
    )


def _script_digest() -> str:
    """What the page's content security policy allows to run: this script, and nothing that hides in the data."""
    # The template puts the file between the tags without its last line break, as jinja includes do.
    return base64.b64encode(hashlib.sha256((HERE / SCRIPT).read_text("utf-8").rstrip("\n").encode()).digest()).decode()


def _histograms(clips: Sequence[ClipSummary], rate: int) -> list[Histogram]:
    held_out = np.array([clip.split == "validation" for clip in clips], dtype=bool)
    seconds = np.array([clip.num_samples for clip in clips], dtype=np.float64) / rate
    drawn = [histogram("Duration", "s", "Seconds of each clip, as the model will read it.", seconds, held_out)]
    for name, hint in HINTS.items():
        measure = MEASURES[name]
        drawn.append(histogram(measure.label, measure.unit, hint, column(clips, name) * measure.scale, held_out))
    return drawn


def _bars(report: Mapping[str, Any], clips: Sequence[ClipSummary], rate: int) -> list[tuple[str, list[Row], str]]:
    """(Title, rows, remark) of speakers, languages and, where the report knows them, licences."""
    speakers = seconds_by((clip.speaker, clip.num_samples / rate) for clip in clips)
    languages = seconds_by((clip.language, clip.num_samples / rate) for clip in clips)
    licences = seconds_by((name, float(seconds)) for name, seconds in report.get("licences", {}).items())
    charts = [("Speakers", rows(speakers), _speaker_remark(speakers)), ("Languages", rows(languages), "")]
    return charts + ([("Licences", rows(licences), "")] if licences else [])


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


def _card(example: Example, clip: ClipSummary, waveform_of: Callable[[int], np.ndarray], rate: int) -> dict[str, Any]:
    """What the page shows of one clip."""
    waveform = waveform_of(example.clip)
    heard = waveform[: round(MAX_PLAYER_SEC * rate)]
    return {
        "clip": clip,
        "faults": example.faults,
        "measured": measured(clip),
        "end_sec": clip.offset_sec + clip.num_samples / rate,
        "duration_sec": clip.num_samples / rate,
        "heard_sec": len(heard) / rate,
        "is_whole": len(heard) == len(waveform),
        "audio": audio_uri(heard, rate),
        "spectrogram": spectrogram_uri(heard, rate),
        "x_ticks": _time_ticks(len(heard) / rate),
        "y_ticks": _frequency_ticks(rate),
    }


def _time_ticks(seconds: float) -> list[Tick]:
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5) if step * 8 >= min(seconds, MAX_PLAYER_SEC))
    return [Tick(round(100 * at / seconds, 3), f"{at:g}") for at in np.arange(0, seconds + 1e-9, step).round(1)]


def _frequency_ticks(rate: int) -> list[Tick]:
    shown = [hertz for hertz in TICKS_HZ if hertz <= rate / 2]
    places = mel_place(np.array(shown, dtype=np.float64), rate)
    return [Tick(round(100 * float(at), 3), f"{hz / 1000:g}") for hz, at in zip(shown, places, strict=True)]
