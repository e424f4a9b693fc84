"""Which model to keep: every checkpoint of a run, mixtures with the base, and means, by the same measures."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from runyoro_ssl.config import FittedHardware
from runyoro_ssl.disk.durable import new_folder
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.choice import Beside
from runyoro_ssl.evaluate.compared.of_features import FeatureMeasures
from runyoro_ssl.evaluate.compared.of_fit import measure_fit
from runyoro_ssl.evaluate.compared.of_labels import LabelMeasures, Labels
from runyoro_ssl.evaluate.heard.clips import HeldOut
from runyoro_ssl.evaluate.heard.features import FeatureCache
from runyoro_ssl.evaluate.heard.material import HeardMaterial, gather
from runyoro_ssl.evaluate.heard.subjects import key_of
from runyoro_ssl.evaluate.mixtures import average, interpolation, mixed, write_mixture
from runyoro_ssl.evaluate.record import ADAPTED, BASE, Judgement, KeepableModel, ModelMeasure, values_of
from runyoro_ssl.evaluate.verdict import FIT, judge
from runyoro_ssl.model.source import CONFIG, EXTRACTOR, WEIGHTS

ModelKind = Literal["checkpoint", "interpolation", "average"]
NUMBERED = re.compile(r"checkpoint-(\d+)")
NOTHING_NEW = Judgement("no evidence", "It has the weights of another model that was measured.")


@dataclass(frozen=True)
class Sides:
    """The base and the adapted model, as they were measured beside each other; with what others are to be measured.

    `kept`: which of them is kept where nothing is better. `layer`: at which geometry and units of models like the
    adapted one are measured. `heard`: the clips, by family.
    """

    folders: Mapping[str, Path]
    heard: Mapping[str, HeldOut]
    labels: Labels
    cache: FeatureCache
    hardware: FittedHardware
    material: HeardMaterial
    measures: Sequence[ModelMeasure]
    kept: str
    layer: int


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
            f"{100 * share:g} % adapted, {100 * (1 - share):g} % base",
            "interpolation",
            None,
            interpolation(base, adapted, share),
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


def measure_candidates(options: Sequence[ModelChoice], sides: Sides) -> Iterator[Beside]:
    """Measure each beside the model that is kept else, as the adapted model is beside its base.

    One of the same weights as another that was measured is not heard again: it is that model.
    """
    known: dict[str, KeepableModel] = {}
    for name in (ADAPTED, BASE):
        known[key_of(sides.folders[name])] = KeepableModel(name, "checkpoint", None, values_of(sides.measures, name))
    for option in options:
        with mixed(option.parts) if len(option.parts) > 1 else nullcontext(option.parts[0][0]) as folder:
            key = key_of(_end(option) or folder)
            if (same := known.get(key)) is not None:
                which = same.same_as or same.name
                model = KeepableModel(option.name, option.kind, option.step, same.values, same_as=which)
                yield Beside(model, (), NOTHING_NEW)
                continue
            found = _measure_beside(option, folder, sides)
        known[key] = found.model
        yield found


def _end(option: ModelChoice) -> Path | None:
    """The model that a mixture is, where all of it is of one; None where it is none."""
    shares = [(folder, share) for folder, share in option.parts if share]
    return shares[0][0] if len(shares) == 1 else None


def _measure_beside(option: ModelChoice, folder: Path, sides: Sides) -> Beside:
    heard = sides.heard
    others = {family: one for family, one in heard.items() if family != "fit"}
    own = gather({ADAPTED: folder}, heard["fit"], sides.cache, sides.hardware, others=others, with_context=False)
    fits = sides.material.fits.get(sides.kept)
    material = replace(
        own,
        features={BASE: sides.material.features[sides.kept], **own.features},
        fits={**({BASE: fits} if fits else {}), **own.fits},
    )
    features = FeatureMeasures(material, at=sides.layer)
    measures = [
        *LabelMeasures(material, sides.labels, features.own_layers).all(),
        *measure_fit(material, dict(heard)),
        *features.all(),
    ]
    sides.cache.release(own.features_of(ADAPTED))  # those of the model that is kept else are the next one's, too
    verdict = judge(measures, minutes=heard["fit"].seconds / 60, num_codes=material.num_codes)
    values = values_of(measures, ADAPTED)
    return Beside(KeepableModel(option.name, option.kind, option.step, values, verdict.kind), measures, verdict)


def best_by_loss(candidates: Sequence[KeepableModel], measures: Sequence[ModelMeasure]) -> str | None:
    """The name of the model with the least held-out loss beside that of guessing; None where no loss is known."""
    sides = [KeepableModel(name, "checkpoint", None, values_of(measures, name)) for name in (ADAPTED, BASE)]
    with_loss = [one for one in (*sides, *candidates) if FIT in one.values and one.same_as is None]
    return max(with_loss, key=lambda one: one.values[FIT]).name if with_loss else None


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
