"""The evaluation, readable top to bottom: which clips, what of them, what that measures, what it means."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from runyoro_ssl.config import FittedHardware
from runyoro_ssl.errors import DatasetError, EvaluationError, TooLittleSpeechError
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
from runyoro_ssl.evaluate.heard.clips import HeldOut, check_dataset_is_that_of, choose_clips, choose_trained, dataset_of
from runyoro_ssl.evaluate.heard.features import FeatureCache
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
from runyoro_ssl.evaluate.verdict import judge
from runyoro_ssl.hub.known import SAMPLING_RATE
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.source import load_sampling_rate

log = get_logger()

MIN_CLIPS = 4
"""Two of either half."""
THE_SAME = Judgement(
    "no evidence",
    "Both models are the same: every measure agrees to the last digit, so there is nothing to compare.",
    ("their weights are the same where both have them",),
    ("another --base, or another --adapted",),
)
TRAINED_SEC = 150.0
"""Of the clips that the adapted model was trained on, to see whether it knows them by heart."""
OTHER_SHARE = 0.5
"""Of the minutes that are heard, so many of another language."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What is compared, on what.

    Attributes:
        base, adapted: Folders of models, as transformers writes them.
        data: A prepared dataset whose held-out split is heard; None: that of the adapted model's run.
        other_data: One of another language, to see what is forgotten.
        alignments: A folder of phone alignments of its recordings; None: there are none.
        transcripts: Whether the text of its manifest is used.
        max_minutes: Of held-out speech.
        cache: Where features are kept.
        hardware: Where models compute, and in what.
        seed: Decides which clips of a recording come first.
        base_name: Of the base on the hub; None: that of its folder.
        run: A run of which every checkpoint is measured, too; None: none.
        shares: Of the adapted model in mixtures with the base that are measured, too.
        last: So many of the run's last checkpoints are averaged, and that is measured, too; 0: none.
    """

    base: Path
    adapted: Path
    data: Path | None
    other_data: Path | None
    alignments: Path | None
    transcripts: bool
    max_minutes: float
    cache: FeatureCache
    hardware: FittedHardware
    seed: int = 0
    base_name: str | None = None
    run: Path | None = None
    shares: tuple[float, ...] = ()
    last: int = 0


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
    heard = _choose(request)
    found = _read_labels(request, heard["fit"])
    models = {BASE: request.base, ADAPTED: request.adapted}
    material = gather(models, heard["fit"], request.cache, request.hardware, others=_others(heard))
    features = FeatureMeasures(material)
    log.info("measuring", layer=features.layers[BASE], of=material.features[BASE]["none"].num_layers - 1)
    labels = LabelMeasures(material, found, features.own_layers)
    measures: list[ModelMeasure] = [*measure_fit(material, heard), *features.all(), *labels.all()]
    held_out = heard["fit"]
    curves = list(features.curves())
    verdict = judge(measures, minutes=held_out.seconds / 60, num_codes=material.num_codes)
    if _are_the_same(measures):
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
            **_left_out(request, material, measures, heard),
            **features.left_out,
            **labels.labels.left_out,
            **labels.left_out,
        },
        versions={name: version(name) for name in ("torch", "transformers", "scikit-learn")}
        | {"python": platform.python_version()},
        seconds=round(time.monotonic() - started, 1),
    )
    units = heard_units(features.units_of_b, held_out, labels.labels.phones)
    ends = [ModelChoice(name, "checkpoint", None, [(folder, 1.0)]) for name, folder in models.items()]
    return EvaluationOutcome(evaluation, units, [*could_be_kept, *ends])


def _are_the_same(measures: list[ModelMeasure]) -> bool:
    """Whether base and adapted model give the very same features: then nothing differs, to the last digit."""
    told = {one.key: one.difference for one in measures if one.difference is not None}
    return told.get("geometry.uniformity") == 0.0 and not any(told.values())


def _best(candidates: list[KeepableModel], measures: list[ModelMeasure], choice: ChosenModel) -> dict[str, str]:
    if not candidates:
        return {}
    by_loss = best_by_loss(candidates, measures)
    return {**({BY_LOSS: by_loss} if by_loss else {}), TO_KEEP: choice.name}


def _choose(request: EvaluationRequest) -> dict[str, HeldOut]:
    """The clips that are heard, by family: held-out ones; of another language; such as were trained on."""
    rate = _sampling_rate(request)
    data = _data(request)
    models = (request.base, request.adapted)
    seconds = 60 * request.max_minutes
    held_out = choose_clips(data, sampling_rate=rate, max_seconds=seconds, models=models, seed=request.seed)
    if len(held_out.clips) < MIN_CLIPS <= held_out.of_clips:
        raise TooLittleSpeechError(
            f"--max-minutes {request.max_minutes:g} is of {len(held_out.clips)} clips, which are too few to tell "
            f"anything; give more, there are {held_out.of_clips} clips"
        )
    if len(held_out.clips) < MIN_CLIPS:
        raise TooLittleSpeechError(
            f"{data}: {len(held_out.clips)} held-out clips are too few to tell anything; hold out more with "
            "`invoke prepare --overwrite --set prepare.validation_share=0.1`, or give other data with --data"
        )
    heard = {"fit": held_out}
    if request.other_data is not None:
        heard["forgetting"] = _other_language(request.other_data, held_out, request)
    own = dataset_of(request.adapted)
    if (
        own is not None and data.resolve() == own.resolve()
    ):  # clips from elsewhere say nothing of what it knows by heart
        try:
            trained = choose_trained(own, sampling_rate=rate, max_seconds=TRAINED_SEC, seed=request.seed)
        except DatasetError as error:
            log.warning("trained_clips_not_heard", because=str(error))
        else:
            if len(trained.clips) >= MIN_CLIPS:
                heard["memory"] = trained
    return heard


def _sampling_rate(request: EvaluationRequest) -> int:
    """That of both models, Hz."""
    rates = {load_sampling_rate(str(folder)) for folder in (request.base, request.adapted)}
    if len(rates) > 1:
        raise EvaluationError(
            f"{request.base} and {request.adapted} take other rates: {sorted(rates)} Hz; give two alike"
        )
    rate = rates.pop()
    if rate != SAMPLING_RATE:
        raise EvaluationError(
            f"{request.adapted} takes {rate} Hz; what is compared here are models of {SAMPLING_RATE} Hz"
        )
    return rate


def _other_language(dataset: Path, held_out: HeldOut, request: EvaluationRequest) -> HeldOut:
    """Clips of another language, none of which is among the held-out ones."""
    found = choose_clips(
        dataset,
        sampling_rate=held_out.sampling_rate,
        max_seconds=OTHER_SHARE * 60 * request.max_minutes,
        models=(request.base, request.adapted),
        seed=request.seed,
    )
    if len(found.clips) < MIN_CLIPS:
        raise EvaluationError(f"{dataset}: too few held-out clips; give another --other-data, or none")
    if shared := held_out.samples & found.samples:
        raise EvaluationError(
            f"--other-data {dataset}: {len(shared)} of its clips are heard as --data, too; give speech of another "
            "language, or none"
        )
    return found


def _data(request: EvaluationRequest) -> Path:
    if request.data is not None:
        return request.data
    model = next((one for one in (request.adapted, request.base) if dataset_of(one) is not None), None)
    if model is None:
        raise EvaluationError(f"{request.adapted} is no run that tells its dataset; give a prepared one with --data")
    data = dataset_of(model) or Path()
    if not data.is_dir():
        raise EvaluationError(f"{model}: the dataset of its run, {data}, is not there; give a prepared one with --data")
    check_dataset_is_that_of(model)
    return data


def _read_labels(request: EvaluationRequest, held_out: HeldOut) -> Labels:
    return read_labels(_data(request), held_out, alignments=request.alignments, transcripts=request.transcripts)


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


def _left_out(
    request: EvaluationRequest, material: HeardMaterial, measures: list[ModelMeasure], heard: dict[str, HeldOut]
) -> dict[str, str]:
    """What could not be measured, and why."""
    made = {measure.key for measure in measures}
    found = {f"fit of {name}": why for name, why in material.why_no_fit.items()}
    not_known = list(dict.fromkeys(one.not_known for one in heard.values() if one.not_known))
    if not_known:
        remedy = "begin in the folder where it was trained, or put the dataset where its run.toml says"
        found["whether a model was trained on what was heard"] = f"{'; '.join(not_known)}: {remedy}"
    if request.other_data is None:
        found["forgetting"] = "no speech of another language was given (--other-data)"
    if "units.speaker_information" not in made:
        found["what a unit tells of the speaker"] = "fewer than two speakers are known in the half that is reported"
    return found
