"""Which model to keep: every checkpoint of a run, mixtures with the base, and means, by the same measures."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from runyoro_ssl.config import FittedHardware
from runyoro_ssl.disk.durable import new_folder
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.compared.of_features import FeatureMeasures
from runyoro_ssl.evaluate.compared.of_fit import measure_fit
from runyoro_ssl.evaluate.heard.clips import HeldOut
from runyoro_ssl.evaluate.heard.features import FeatureCache
from runyoro_ssl.evaluate.heard.material import gather
from runyoro_ssl.evaluate.mixtures import average, interpolation, mixed, write_mixture
from runyoro_ssl.evaluate.record import ADAPTED, BASE, BY_LOSS, BY_OTHERS, KeepableModel, ModelMeasure
from runyoro_ssl.evaluate.verdict import CODES_KEPT
from runyoro_ssl.model.source import CONFIG, EXTRACTOR, WEIGHTS

ModelKind = Literal["checkpoint", "interpolation", "average"]
NUMBERED = re.compile(r"checkpoint-(\d+)")
LOSS, CODES = "fit.below_guessing", "fit.hard_perplexity"
OTHERS = {"geometry.effective_rank": 1, "geometry.davies_bouldin": -1, "units.stability": 1, "retrieval.dtw": 1}
"""What ranks candidates besides the loss, and which way is good: Whetten et al., 2025, arXiv 2501.05966, found the loss
to rank models badly, and ranks and clusters to follow what they are good for."""
FORGETTING = "forgetting.below_guessing"


@dataclass(frozen=True)
class ModelChoice:
    """A model that could be kept: its name, and of which models it is the weighted sum."""

    name: str
    kind: ModelKind
    step: int | None
    parts: Sequence[tuple[Path, float]]


def checkpoints(run: Path) -> list[ModelChoice]:
    """The checkpoints of a run, by step.

    Raises:
        EvaluationError: There is none.
    """
    found = [
        (int(match[1]), folder)
        for folder in run.iterdir()
        if (match := NUMBERED.fullmatch(folder.name)) and (folder / WEIGHTS).is_file()
    ]
    if not found:
        raise EvaluationError(f"{run}: no checkpoint is in it; give the folder of a run as --run")
    return [ModelChoice(folder.name, "checkpoint", step, [(folder, 1.0)]) for step, folder in sorted(found)]


def interpolations(base: Path, adapted: Path, shares: Sequence[float]) -> list[ModelChoice]:
    """Mixtures of base and adapted model."""
    return [
        ModelChoice(
            f"{share:g} adapted, {1 - share:g} base", "interpolation", None, interpolation(base, adapted, share)
        )
        for share in shares
    ]


def last_averaged(run: Path, number: int) -> ModelChoice:
    """The mean of the last checkpoints of a run.

    Raises:
        EvaluationError: There are fewer.
    """
    found = checkpoints(run)[-number:]
    if len(found) < number:
        raise EvaluationError(f"{run}: it has {len(found)} checkpoints, --average asks for {number}")
    return ModelChoice(
        f"mean of the last {number}", "average", found[-1].step, average([one.parts[0][0] for one in found])
    )


def measure_candidates(
    options: Sequence[ModelChoice],
    base: Path,
    heard: Mapping[str, HeldOut],
    cache: FeatureCache,
    hardware: FittedHardware,
) -> Iterator[KeepableModel]:
    """Measure each as the adapted model is measured; features at the base's layer."""
    for option in options:
        (first, _), *more = option.parts
        with mixed(option.parts) if more else nullcontext(first) as folder:
            others = {family: one for family, one in heard.items() if family != "fit"}
            models = {BASE: base, ADAPTED: folder}
            material = gather(
                models, heard["fit"], cache, hardware, others=others, with_context=False, fits_of=[ADAPTED]
            )
            measures = [
                *measure_fit(material, dict(heard), replicates=0),
                *FeatureMeasures(material, replicates=0).all(),
            ]
        values = {one.key: one.values[ADAPTED] for one in measures if ADAPTED in one.values}
        cache.release(material.features_of(ADAPTED))  # the base's are the next one's, too
        yield KeepableModel(option.name, option.kind, option.step, values)


def best(candidates: Sequence[KeepableModel], measures: Sequence[ModelMeasure]) -> dict[str, str]:
    """The name of the best by the loss, and by the other measures: the least mean place among those not collapsed.

    The base and the adapted model of the evaluation, whose measures are given, take part: none may be better.
    """
    if not candidates:
        return {}
    sides = {name: {one.key: one.values[name] for one in measures if name in one.values} for name in (BASE, ADAPTED)}
    every = [*(KeepableModel(name, "checkpoint", None, values) for name, values in sides.items()), *candidates]
    found: dict[str, str] = {}
    if with_loss := [one for one in every if LOSS in one.values]:
        found[BY_LOSS] = max(with_loss, key=lambda one: one.values[LOSS]).name
    least = CODES_KEPT * sides[BASE].get(CODES, 0.0)
    healthy = [one for one in every if one.name == BASE or one.values.get(CODES, np.inf) >= least]
    places = np.zeros(len(healthy))
    for key, sign in {**OTHERS, FORGETTING: 1}.items():
        if all(key in one.values for one in healthy):
            places += np.argsort(np.argsort([-sign * one.values[key] for one in healthy], kind="stable"))
    found[BY_OTHERS] = healthy[int(np.argmin(places))].name
    return found


def save_best(options: Sequence[ModelChoice], name: str, folder: Path) -> Path:
    """Save a candidate as a plain model: weights, settings, feature extractor."""
    option = next(one for one in options if one.name == name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as unfinished:
        (first, _), *more = option.parts
        if more:
            write_mixture(option.parts, unfinished)
        else:
            for file in (WEIGHTS, CONFIG, EXTRACTOR):
                shutil.copyfile(first / file, unfinished / file)
    return folder
