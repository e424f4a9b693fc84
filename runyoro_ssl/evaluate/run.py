"""The evaluation, readable top to bottom: which clips, what of them, what that measures, what it means."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain

import numpy as np

from runyoro_ssl.bars import progress
from runyoro_ssl.evaluate.candidates import (
    ModelChoice,
    Sides,
    best_by_loss,
    checkpoints,
    interpolations,
    last_averaged,
    measure_candidates,
)
from runyoro_ssl.evaluate.choice import ChosenModel, choose, kept_else
from runyoro_ssl.evaluate.compared.of_features import FeatureMeasures
from runyoro_ssl.evaluate.compared.of_fit import measure_fit
from runyoro_ssl.evaluate.compared.of_labels import LabelMeasures, Labels, read_labels
from runyoro_ssl.evaluate.examples import HeardUnit, heard_units
from runyoro_ssl.evaluate.families import choose_families, dataset_for
from runyoro_ssl.evaluate.heard.clips import HeldOut
from runyoro_ssl.evaluate.heard.material import HeardMaterial, gather
from runyoro_ssl.evaluate.mixtures import check_alike
from runyoro_ssl.evaluate.record import (
    ADAPTED,
    BASE,
    BY_LOSS,
    TO_KEEP,
    Evaluation,
    Judgement,
    KeepableModel,
    ModelMeasure,
    Speech,
)
from runyoro_ssl.evaluate.request import EvaluationRequest
from runyoro_ssl.evaluate.verdict import judge

THE_SAME = Judgement(
    "no evidence",
    "Both models are the same: every feature agrees to the last digit, so there is nothing to compare.",
    ("their weights are the same where both have them",),
    ("another --base, or another --adapted",),
)


def options(request: EvaluationRequest) -> list[ModelChoice]:
    """The models that could be kept, of those that were asked for.

    Raises:
        EvaluationError: A run has none, or too few; models of other shapes are to be mixed.
    """
    found = checkpoints(request.run) if request.run else []
    found += interpolations(request.base, request.adapted, request.shares)
    if request.last:
        found.append(last_averaged(request.run or request.adapted, request.last))
    for option in found:
        if len(option.parts) > 1:
            check_alike(option.parts)
    return found


@dataclass(frozen=True)
class EvaluationOutcome:
    """What an evaluation found, and the adapted model's units, to be heard."""

    evaluation: Evaluation
    units: list[HeardUnit]
    choices: list[ModelChoice]
    """The models that could be kept."""


def evaluate(request: EvaluationRequest) -> EvaluationOutcome:
    """Compare two models on held-out speech; with others that could be kept, if they are asked for.

    Raises:
        RunyoroError: A model or a dataset cannot be read, or does not suit the other; no clip is left.
    """
    started, could_be_kept = time.monotonic(), options(request)
    heard = choose_families(request)
    found = _read_labels(request, heard["fit"])
    models = {BASE: request.base, ADAPTED: request.adapted}
    material = gather(
        *(models, heard["fit"], request.cache, request.hardware),
        others=_others(heard),
        with_context=request.with_context,
    )
    features = FeatureMeasures(material)
    labels = LabelMeasures(material, found, features.own_layers)
    measures = list(_watched(chain(measure_fit(material, heard), features.all(), labels.all())))
    held_out = heard["fit"]
    curves = [*features.curves(), *labels.curves()]
    verdict = judge(measures, minutes=held_out.seconds / 60, num_codes=material.num_codes)
    if _are_the_same(material):
        verdict = THE_SAME
    kept = kept_else(measures, verdict)
    request.cache.release(material.features_of(*(name for name in material.subjects if name != kept)))
    sides = Sides(
        models,
        heard,
        labels.labels,
        request.cache,
        request.hardware,
        material,
        measures,
        kept,
        features.layers[ADAPTED],
    )
    beside = list(measure_candidates(could_be_kept, sides))
    request.cache.release(material.features_of(kept))
    candidates, choice = [one.model for one in beside], choose(kept, beside)
    evaluation = Evaluation(
        base=request.base_name or request.base.resolve().name,
        adapted=request.adapted.resolve().name,
        speech=describe(held_out),
        verdict=verdict,
        measures=measures,
        curves=curves,
        candidates=candidates,
        best=_best(candidates, measures, choice),
        why_kept=choice.why if candidates else "",
        left_out={
            **_left_out(material, measures, heard),
            **features.left_out,
            **labels.labels.left_out,
            **labels.left_out,
        },
        versions={name: version(name) for name in ("torch", "transformers", "scikit-learn")}
        | {"python": platform.python_version()},
        seconds=round(time.monotonic() - started, 1),
        pairs=labels.pairs,
    )
    units = heard_units(features.units_of_b, held_out, labels.labels.phones)
    ends = [ModelChoice(name, "checkpoint", None, [(folder, 1.0)]) for name, folder in models.items()]
    return EvaluationOutcome(evaluation, units, [*could_be_kept, *ends])


def _watched(measures: Iterable[ModelMeasure]) -> Iterator[ModelMeasure]:
    """The same, counted on a bar: some take a while."""
    with progress("measures", is_transient=True) as bar:
        task = bar.add_task("Measuring", total=None)
        for measure in measures:
            yield measure
            bar.advance(task)


def _are_the_same(material: HeardMaterial) -> bool:
    """Whether base and adapted model give the very same features; and loss, where both have one."""
    base, adapted = (material.features[name]["none"] for name in (BASE, ADAPTED))
    if base.widths != adapted.widths:
        return False
    losses = [[clip.loss for clip in material.fits[name]["fit"]] for name in (BASE, ADAPTED) if name in material.fits]
    last = base.num_layers - 1
    pairs = zip(base.clips(last), adapted.clips(last), strict=True)
    return all(np.array_equal(*pair) for pair in pairs) and all(of == losses[0] for of in losses)


def _best(candidates: list[KeepableModel], measures: list[ModelMeasure], choice: ChosenModel) -> dict[str, str]:
    if not candidates:
        return {}
    by_loss = best_by_loss(candidates, measures)
    return {**({BY_LOSS: by_loss} if by_loss else {}), TO_KEEP: choice.name}


def _read_labels(request: EvaluationRequest, held_out: HeldOut) -> Labels:
    data, phones = dataset_for(request), request.alignments
    return read_labels(data, held_out, alignments=phones, tier=request.tier, transcripts=request.transcripts)


def _others(heard: dict[str, HeldOut]) -> dict[str, HeldOut]:
    return {family: held_out for family, held_out in heard.items() if family != "fit"}


def describe(held_out: HeldOut) -> Speech:
    """What was heard, in numbers."""
    speakers = {clip.speaker for clip in held_out.clips} - {None}
    return Speech(
        len(held_out.clips),
        held_out.seconds,
        len({clip.recording for clip in held_out.clips}),
        len(speakers),
        held_out.kind,
        held_out.num_groups,
        held_out.refused,
        sorted({clip.language for clip in held_out.clips if clip.language}),
    )


def _left_out(material: HeardMaterial, measures: list[ModelMeasure], heard: dict[str, HeldOut]) -> dict[str, str]:
    """What could not be measured, and why."""
    made = {measure.key for measure in measures}
    found = {f"fit of {name}": why for name, why in material.why_no_fit.items()}
    not_known = list(dict.fromkeys(one.not_known for one in heard.values() if one.not_known))
    if not_known:
        remedy = "begin in the folder where it was trained, or put the dataset where its run.toml says"
        found["whether a model was trained on what was heard"] = f"{'; '.join(not_known)}: {remedy}"
    if "forgetting" not in heard:
        found["forgetting"] = "no speech of another language was given (--other-data)"
    if "units.speaker_information" not in made:
        found["what a unit tells of the speaker"] = "fewer than two speakers are known in the half that is reported"
    return found
