"""The metadata of a model card, as the hub knows it: made of a run's facts; checked without asking the hub."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from huggingface_hub import CardData, EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from runyoro_ssl.evaluate.record import ADAPTED, Evaluation
from runyoro_ssl.evaluate.words import IN_WORDS
from runyoro_ssl.publish.facts import UNNAMED, Facts
from runyoro_ssl.publish.languages import code_of
from runyoro_ssl.publish.licences import LICENCES, OTHER, UNKNOWN

TAG = "runyoro_ssl"
"""By which a model of the hub is known as one of this toolkit."""
TAGS = ("wav2vec2", "speech", "self-supervised", "continued-pretraining", TAG)
TASK = "feature-extraction"
"""What a pre-trained encoder does; `pipeline_tag` of the hub's list of tasks."""
RELATION = "finetune"
RELATIONS = ("adapter", "merge", "quantized", "finetune")
"""What the hub knows a model to be of its base model. Weights that were trained on are a finetune, adapters merged."""
LANGUAGE = re.compile(r"[a-z]{2,3}|multilingual|code")
SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")
HELD_OUT = "held-out speech"
MEASURED = ("contrastive_loss", "accuracy", "hard_perplexity")
METRICS = {"phones.probe": "accuracy", "text.cer": "cer"}
"""Measures that the hub has a name of its own for; others go by ours."""


def metadata_of(facts: Facts, licence: str | None, *, which: str | None = None) -> ModelCardData:
    """The metadata of a run's card. What is not known is left out. `which`: of the run, if not its final model."""
    code = None if facts.language == UNNAMED else code_of(facts.language)
    base = facts.base_model
    results = list(_results(facts, which))
    return ModelCardData(
        license=licence,
        language=code,
        library_name="transformers",
        pipeline_tag=TASK,
        base_model=base,
        datasets=facts.hub_datasets or None,
        tags=list(TAGS),
        model_name=name_of(facts) if results else None,
        eval_results=results or None,
        base_model_relation=RELATION if base else None,
    )


def name_of(facts: Facts) -> str:
    """A name for the model, of its language and its base model."""
    base = (facts.base_model or "wav2vec2").rpartition("/")[2]
    return base if facts.language == UNNAMED else f"{base}, {facts.language}"


def _results(facts: Facts, which: str | None) -> Iterator[EvalResult]:
    """The measures of the model, of its evaluation if there is one; else of its run, if it is its final model."""
    if facts.evaluation is not None:
        yield from _of_evaluation(facts.evaluation, which or ADAPTED, facts.hub_dataset)
    elif which is None:
        best = facts.result["validations"]["best"]
        for name in MEASURED:
            yield from _result(name, IN_WORDS[name], best.get(f"eval/{name}"), facts.hub_dataset)


def _of_evaluation(evaluation: Evaluation, name: str, dataset: str | None) -> Iterator[EvalResult]:
    values = evaluation.values_of(name)
    for measure in evaluation.measures:
        scale = 100.0 if measure.unit == "%" else 1.0
        unit = f", {measure.unit}" if measure.unit else ""
        found = measure.intervals.get(name)
        between = f" (95 %: {scale * found.low:.4g} to {scale * found.high:.4g})" if found else ""
        value = scale * values[measure.key] if measure.key in values else None
        yield from _result(measure.key, f"{measure.words}{unit}{between}", value, dataset)


def _result(key: str, words: str, value: float | None, dataset: str | None) -> Iterator[EvalResult]:
    """One result; none where nothing was measured."""
    if value is not None and math.isfinite(value):
        yield EvalResult(
            task_type=TASK,
            dataset_type=dataset or "private",
            dataset_name=HELD_OUT,
            metric_type=METRICS.get(key, key.rpartition(".")[2]),
            metric_name=words,
            metric_value=round(value, 6),
        )


def find_fault(data: CardData) -> str | None:
    """What the hub would not understand in metadata, whoever wrote it: field, value, what is accepted; None if nothing.

    As the hub's documentation of model cards and licences has it; the hub's own check is asked when it is sent.
    """
    if data.get("license") == OTHER and not data.get("license_name"):
        return "license is other, which asks for its name as license_name"
    tags = data.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return f'tags is "{tags}", expected a list of words'
    for field, (is_right, expected) in FIELDS.items():
        for value in _listed(data.get(field)):
            if not is_right(value):
                return f'{field} is "{value}", expected {expected}'
    return None


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _is_name(name: Any) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


FIELDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "license": ((*LICENCES, OTHER, UNKNOWN).__contains__, "a name of the hub's, such as apache-2.0, or other"),
    "language": (lambda code: LANGUAGE.fullmatch(str(code)), "a code of two or three letters, such as nyo"),
    "base_model": (_is_name, "a name on the hub: org/name"),
    "base_model_relation": (RELATIONS.__contains__, f"one of {', '.join(RELATIONS)}"),
    "datasets": (_is_name, "names on the hub: org/name"),
    "pipeline_tag": (lambda tag: SLUG.fullmatch(str(tag)), "small letters and dashes"),
    "library_name": (lambda name: SLUG.fullmatch(str(name)), "small letters and dashes"),
}
"""What the hub takes in each field, and how that is said."""
