"""Evaluations made by hand, of plausible numbers: one with every family, one where most was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from runyoro_ssl.evaluate.record import (
    SUBJECTS,
    Better,
    Evaluation,
    Interval,
    Judgement,
    KeepableModel,
    LayerCurve,
    MeasureFamily,
    ModelMeasure,
    PhonePair,
    Speech,
)
from runyoro_ssl.publish.report.units import UnitClip, UnitExample

RATE = 16_000
HALF = 6
SPEECH = Speech(118, 601.5, 40, 12, "speakers", 12, refused=3, languages=("nyo",))

Row = tuple[str, str, MeasureFamily, str, Better, tuple[float, ...], float, float]
"""Key, words, family, unit, better; values of the subjects; half the width of their intervals, of the difference's."""
ROWS: tuple[Row, ...] = (
    ("fit.contrastive_loss", "contrastive loss", "fit", "nats", "lower", (3.83, 3.60), 0.09, 0.04),
    ("fit.accuracy", "accuracy", "fit", "%", "higher", (0.22, 0.27), 0.02, 0.012),
    ("fit.hard_perplexity", "codes in use", "fit", "", "higher", (84.0, 91.0), 6.0, 9.0),
    ("forgetting.contrastive_loss", "loss in another language", "forgetting", "nats", "lower", (3.7, 3.84), 0.1, 0.05),
    ("memory.gap", "heard less unheard", "memory", "nats", "lower", (0.02, 0.05), 0.03, 0.04),
    ("geometry.rank", "effective rank", "geometry", "", "higher", (14.2, 15.1, 21.0, 4.0), 1.1, 0.8),
    ("geometry.davies_bouldin", "Davies-Bouldin index", "geometry", "", "lower", (1.91, 1.86, 1.7, 2.6), 0.06, 0.07),
    ("units.bitrate", "bitrate", "units", "bits/s", "neither", (96.0, 101.0, 140.0, 60.0), 4.0, 3.0),
    ("units.stability", "units that stay under noise", "units", "%", "higher", (0.61, 0.63, 0.4, 0.3), 0.02, 0.03),
    ("units.speaker", "what units tell of the speaker", "units", "bits", "lower", (0.31, 0.28, 0.6, 0.5), 0.04, 0.05),
    ("retrieval.mean", "mean reciprocal rank", "retrieval", "", "higher", (0.71, 0.74, 0.52, 0.3), 0.04, 0.05),
    ("phones.abx_within", "ABX error within", "phones", "%", "lower", (0.407, 0.404, 0.342, 0.44), 0.02, 0.018),
    ("phones.probe", "linear phone probe", "phones", "%", "higher", (0.272, 0.275, 0.367, 0.17), 0.02, 0.017),
    ("text.cer_10", "letters wrong, 10 min", "text", "%", "lower", (0.52, 0.49, 0.66, 0.8), 0.04, 0.035),
    ("change.cka", "likeness of base and adapted", "change", "", "neither", (1.0, 0.92), 0.0, 0.01),
)


def measure(row: Row) -> ModelMeasure:
    """A measure with its intervals."""
    key, words, family, unit, better, values, half, half_difference = row
    by_subject = dict(zip(SUBJECTS, values, strict=False))
    difference = values[1] - values[0]
    return ModelMeasure(
        *(key, words, family, unit, better, by_subject),
        intervals={name: Interval(value - half, value + half) for name, value in by_subject.items()},
        difference=difference,
        difference_interval=Interval(difference - half_difference, difference + half_difference),
        layers=dict.fromkeys(by_subject, 7) if family in ("geometry", "units", "phones") else {},
        is_labelled=family in ("phones", "text"),
        source="Garrido et al., 2023" if key == "geometry.rank" else "",
        num_groups=HALF if family not in ("fit", "forgetting") else SPEECH.num_groups,
    )


def full_evaluation(**changed: Any) -> Evaluation:
    """Every family, curves by layer, checkpoints and mixtures of which different ones are best."""
    assert {row[2] for row in ROWS} == set(get_args(MeasureFamily))
    layers = np.arange(13)
    curve = {
        "base": (8 + 9 * np.sin(layers / 5)).tolist(),
        "adapted": (8 + 10 * np.sin(layers / 5)).tolist(),
        "random": (4 + layers * 0.1).tolist(),
        "log-mel": [21.0],
    }
    pairs = [
        PhonePair(("a", chr(98 + place)), {"base": 0.4 - 0.02 * place, "adapted": 0.3 - 0.01 * place}, (30, 9 + place))
        for place in range(14)
    ]
    facts: dict[str, Any] = {
        "base": "xls-r-tiny",
        "adapted": "runyoro-xls-r-tiny",
        "speech": SPEECH,
        "verdict": Judgement(
            "fits better",
            "it fits your speech better; whether it recognises better needs labels",
            ("The held-out loss fell by 0.23 nats, and the interval of that does not hold 0.", "Rank did not fall."),
            ("The phones of 20 more minutes, aligned.", "Ten minutes of transcripts."),
        ),
        "measures": [measure(row) for row in ROWS],
        "curves": [
            LayerCurve("geometry.rank", "effective rank", "", "higher", curve),
            LayerCurve("phones.abx_within", "ABX error within", "%", "lower", _shares(curve)),
            LayerCurve("units.stability", "units that stay under noise", "%", "higher", _shares(curve)),
        ],
        "left_out": {"text.cer_1": "one minute of transcripts is not there"},
        "candidates": [candidate(step) for step in range(100, 1001, 100)]
        + [
            KeepableModel(f"{part:g} adapted, {1 - part:g} base", "interpolation", None, candidate(500).values)
            for part in (0.25, 0.5, 0.75)
        ],
        "best": {"held-out loss": "checkpoint-900", "to keep": "checkpoint-400"},
        "versions": {"runyoro_ssl": "0.9", "torch": "2.13"},
        "seconds": 96.0,
        "pairs": pairs,
    }
    return Evaluation(**(facts | changed))


def bare_evaluation(**changed: Any) -> Evaluation:
    """A single measure without intervals; all else was left out."""
    only = ModelMeasure("fit.contrastive_loss", "contrastive loss", "fit", "nats", "lower", {"adapted": 3.6})
    facts: dict[str, Any] = {
        "base": "one",
        "adapted": "other",
        "speech": Speech(4, 21.0, 1, 0, "clips", 4),
        "verdict": Judgement("no evidence", "too little was heard to say anything"),
        "measures": [only],
        "left_out": {"geometry.rank": "under 1,000 frames were heard", "phones": "no alignments were given"},
    }
    return Evaluation(**(facts | changed))


def candidate(step: int) -> KeepableModel:
    """A checkpoint that fits better and better, and is richest half-way."""
    part = step / 1000
    values = {
        "fit.contrastive_loss": 3.83 - 0.25 * part,
        "geometry.rank": 14.0 + 6 * part - 7 * part**2,
        "geometry.davies_bouldin": 1.9 - 0.3 * part + 0.35 * part**2,
        "units.stability": 0.6 + 0.2 * part - 0.2 * part**2,
        "forgetting.contrastive_loss": 3.7 + 0.2 * part,
    }
    return KeepableModel(f"checkpoint-{step}", "checkpoint", step, values)


def unit_examples(count: int = 3) -> list[UnitExample]:
    """Units of a tone each, from two clips, that are two phones each, and rarely a third."""
    return [
        UnitExample(
            unit,
            f"{unit + 1} % of the speech",
            [
                UnitClip(tone(220.0 * (unit + 1)), RATE, "clip 7, at 1.25 s", 0.05, 0.15),
                UnitClip(tone(230.0), RATE, "clip 9", 0, 0.1),
            ],
            [("abcde"[unit % 5], 0.64), ("z", 0.25), ("y", 0.07), ("x", 0.04)],
        )
        for unit in range(count)
    ]


def tone(hertz: float, seconds: float = 0.2) -> np.ndarray:
    """A float32 (T,) of RATE Hz."""
    wave: np.ndarray = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(RATE * seconds)) / RATE)
    return wave.astype(np.float32)


def _shares(curve: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: [value / 40 for value in values] for name, values in curve.items()}


def hostile(evaluation: Evaluation, text: str) -> Evaluation:
    """The same with this for every name."""
    one = replace(evaluation.measures[0], words=text, key=f"fit.{text}", source=text, unit=text)
    return replace(
        evaluation,
        base=text,
        adapted=text,
        verdict=Judgement("hurt", text, (text,), (text,)),
        measures=[one, *(kept for kept in evaluation.measures if kept.family == "phones")],
        curves=[replace(evaluation.curves[0], words=text, unit=text)],
        left_out={text: text},
        pairs=[replace(pair, phones=(text, "a")) for pair in evaluation.pairs],
        candidates=[replace(one, name=text) for one in evaluation.candidates],
        best={text: text},
        versions={text: text},
        speech=replace(evaluation.speech, languages=(text,)),
    )
