"""What an evaluation found: the content of evaluation.json, and what its table, its page and the model card take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from runyoro_ssl.disk.durable import replace_file
from runyoro_ssl.errors import EvaluationError

EVALUATION = "evaluation.json"
VERSION = 1
BASE, ADAPTED, LOG_MEL, RANDOM = SUBJECTS = ("base", "adapted", "log-mel", "random")
"""What is measured: the two models, log-mel spectra, and random weights of the same shape."""
MeasureFamily = Literal["fit", "forgetting", "memory", "geometry", "units", "retrieval", "phones", "text", "change"]
BY_LOSS, TO_KEEP = "held-out loss", "to keep"
"""The keys of `Evaluation.best`."""
OF_OTHER_SPEECH: tuple[MeasureFamily, ...] = ("forgetting", "memory")
"""What was measured on other clips than the held-out ones."""
Better = Literal["lower", "higher", "neither"]
JudgementKind = Literal["helped", "fits better", "no evidence", "hurt"]


@dataclass(frozen=True)
class Interval:
    """Where a value lies, with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True)
class ModelMeasure:
    """One measure of all that is compared.

    Attributes:
        key: `family.name`, e.g. `fit.contrastive_loss`.
        words: Its name for people.
        unit: "nats", "%", "bits/s", or nothing. Shares are stored as shares; "%" says how they are shown.
        better: Which way is good; "neither" where it only says that something changed.
        values: By subject; a subject of which it could not be measured is absent.
        intervals: The same, with 95 % confidence.
        difference: Adapted less base, on the same clips.
        difference_interval: Where that lies: a paired bootstrap.
        layers: At which layer each subject was measured; empty where that has no meaning.
        is_labelled: It needs phones or text: only such a measure can say that recognition gets easier.
        source: Who proposed it.
        num_groups: How many speakers, recordings or clips were drawn for its intervals: those of the half that is
            reported, or that have labels; 0: too few, and it has none.
    """

    key: str
    words: str
    family: MeasureFamily
    unit: str
    better: Better
    values: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    difference: float | None = None
    difference_interval: Interval | None = None
    layers: Mapping[str, int] = field(default_factory=dict)
    is_labelled: bool = False
    source: str = ""
    num_groups: int = 0


@dataclass(frozen=True)
class LayerCurve:
    """A measure by layer, by subject: the first value is that of layer 0, the input of the first layer.

    `at`: the layers of the values, of a subject of which not every layer was measured.
    """

    key: str
    words: str
    unit: str
    better: Better
    values: Mapping[str, Sequence[float]]
    at: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class PhonePair:
    """How often two phones are taken for each other: the ABX error within speakers of both orders, by subject.

    `instances`: how many of either phone were compared.
    """

    phones: Sequence[str]
    values: Mapping[str, float]
    instances: Sequence[int]


@dataclass(frozen=True)
class Judgement:
    """What the measures say, by a written rule."""

    kind: JudgementKind
    sentence: str
    reasons: Sequence[str] = ()
    """Why, a sentence for each measure that decided."""
    would_settle: Sequence[str] = ()
    """What would make it clearer: how many more minutes, which labels."""
    although: Sequence[str] = ()
    """What was found besides, which speaks for another verdict or for none."""


@dataclass(frozen=True)
class KeepableModel:
    """A model that could be kept: a checkpoint, or a mixture; its measures by key.

    `verdict`: on it beside the model that is kept else. `same_as`: the name of the model that has the same weights.
    """

    name: str
    kind: Literal["checkpoint", "interpolation", "average"]
    step: int | None
    values: Mapping[str, float]
    verdict: JudgementKind | None = None
    same_as: str | None = None


@dataclass(frozen=True)
class Speech:
    """What was heard.

    `intervals_over`: what was drawn again and again for the intervals: "speakers", "recordings" or "clips"; they hold
    for others of that kind only.
    """

    clips: int
    seconds: float
    recordings: int
    speakers: int
    intervals_over: Literal["speakers", "recordings", "clips"]
    num_groups: int
    refused: int | None = 0
    """Clips left out, as one of the models was trained on them; None: that could not be checked."""
    languages: Sequence[str] = ()


@dataclass(frozen=True)
class Evaluation:
    """All that an evaluation found. Names, no paths: it may be shown to others."""

    base: str
    adapted: str
    speech: Speech
    verdict: Judgement
    measures: Sequence[ModelMeasure]
    curves: Sequence[LayerCurve] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Measures that could not be made, and why."""
    candidates: Sequence[KeepableModel] = ()
    best: Mapping[str, str] = field(default_factory=dict)
    """The name of the model with the least "held-out loss", and of that "to keep" by the written rule."""
    why_kept: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """How long it took."""
    pairs: Sequence[PhonePair] = ()
    """Of phones, where there are labels: of base and adapted model."""
    version: int = VERSION

    @property
    def drawn(self) -> str:
        """What was drawn for the intervals on the held-out speech, such as "20 to 40 speakers"; "" for none."""
        of_it = (one.num_groups for one in self.measures if one.num_groups and one.family not in OF_OTHER_SPEECH)
        numbers = sorted(set(of_it))
        span = dict.fromkeys([*numbers[:1], *numbers[-1:]])
        return f"{' to '.join(map(str, span))} {self.speech.intervals_over}" if numbers else ""

    def get(self, key: str) -> ModelMeasure | None:
        """A measure by its key; None where it was not made."""
        return next((measure for measure in self.measures if measure.key == key), None)

    def values_of(self, name: str) -> Mapping[str, float]:
        """The measures by key of a subject, or of a model that could be kept; empty where neither is so named."""
        return values_of(self.measures, name) or next((one.values for one in self.candidates if one.name == name), {})


def values_of(measures: Sequence[ModelMeasure], name: str) -> dict[str, float]:
    """The value of each measure of a subject, by key; of change, which is of two models, none."""
    return {one.key: one.values[name] for one in measures if name in one.values}


def write_evaluation(evaluation: Evaluation, folder: Path) -> Path:
    """Write evaluation.json, whole or not at all."""
    path = folder / EVALUATION
    replace_file(path, json.dumps(asdict(evaluation), indent=2, allow_nan=False) + "\n")
    return path


def read_evaluation(folder: Path) -> Evaluation | None:
    """Read the evaluation.json of a folder; None where there is none.

    Raises:
        EvaluationError: It is damaged, or of another version.
    """
    path = folder / EVALUATION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise EvaluationError(f"{path}: cannot be read ({error}); remove it, and run invoke evaluate again") from None
    try:
        return _from_json(found)
    except (KeyError, TypeError, ValueError):
        raise EvaluationError(
            f"{path}: version {found.get('version') if isinstance(found, dict) else None}, this one reads {VERSION}; "
            "run invoke evaluate again"
        ) from None


def _from_json(found: dict[str, Any]) -> Evaluation:
    if found["version"] != VERSION:
        raise ValueError(found["version"])
    measures = [
        ModelMeasure(
            **{
                **one,
                "intervals": {name: Interval(**interval) for name, interval in one["intervals"].items()},
                "difference_interval": one["difference_interval"] and Interval(**one["difference_interval"]),
            }
        )
        for one in found["measures"]
    ]
    return Evaluation(
        **{
            **found,
            "speech": Speech(**found["speech"]),
            "verdict": Judgement(**found["verdict"]),
            "measures": measures,
            "curves": [LayerCurve(**one) for one in found["curves"]],
            "candidates": [KeepableModel(**one) for one in found["candidates"]],
            "pairs": [PhonePair(**one) for one in found.get("pairs", ())],
        }
    )
