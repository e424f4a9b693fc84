"""Which model to keep by held-out loss alone, as at the end of a run: on the clips and masks of its validations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from runyoro_ssl.batches.build import BatchBuilder
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.evaluate.candidates import ModelChoice
from runyoro_ssl.evaluate.choice import Beside
from runyoro_ssl.evaluate.compared.of_fit import measure_fit
from runyoro_ssl.evaluate.heard.clips import HeldOut
from runyoro_ssl.evaluate.heard.material import HeardMaterial
from runyoro_ssl.evaluate.measures.fit import ClipFit, measure_masked
from runyoro_ssl.evaluate.metrics import Totals
from runyoro_ssl.evaluate.record import ADAPTED, BASE, KeepableModel, values_of
from runyoro_ssl.evaluate.verdict import judge
from runyoro_ssl.model.listener import Listener


def measure_validation(
    listener: Listener, builder: BatchBuilder, held_out: HeldOut, on_clip: Callable[[], object]
) -> list[ClipFit]:
    """Measure a model on held-out clips one by one, with the masks and negatives of a run's validations.

    A clip that cannot be read counts nothing.
    """
    config, found = listener.model.config, []
    none = np.zeros((config.num_codevector_groups, config.num_codevectors_per_group))
    for clip in held_out.clips:
        batch = builder[MicroBatch.of([clip.row])]
        if batch.num_masked:
            batch = batch.to(torch.device(listener.hardware.device))
            found.append(measure_masked(listener.model, batch.waveforms, batch.masks, listener.autocast()))
        else:
            found.append(ClipFit(0.0, 0.0, 0.0, 0.0, none, none))
        on_clip()
    return found


def as_validation(fits: Sequence[ClipFit], diversity_loss_weight: float) -> dict[str, float]:
    """The numbers that a validation has, `eval/…`, of clips that were measured one by one."""
    totals = Totals(code_mass=torch.from_numpy(sum(one.hard for one in fits)))
    for one in fits:
        totals.contrastive_loss += one.loss
        totals.num_correct += one.num_correct
        totals.chance_loss += one.chance_loss
        totals.num_masked += one.num_masked
    return totals.means("eval", diversity_loss_weight, whole_set=True)


def beside(option: ModelChoice, fits: Sequence[ClipFit], kept: Sequence[ClipFit], held_out: HeldOut) -> Beside:
    """A model beside the one that is kept else, by the rule of the verdict: of both, what was measured is their fit."""
    material = HeardMaterial(held_out, (), fits={BASE: {"fit": [*kept]}, ADAPTED: {"fit": [*fits]}})
    measures = list(measure_fit(material, {"fit": held_out}))
    verdict = judge(measures, minutes=held_out.seconds / 60, num_codes=material.num_codes)
    values = values_of(measures, ADAPTED)
    return Beside(KeepableModel(option.name, option.kind, option.step, values, verdict.kind), measures, verdict)
