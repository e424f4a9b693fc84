"""Held-out loss during training: the same clips, masks and negatives every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from runyoro_ssl.logs import progress
from runyoro_ssl.train.batches import load_batches
from runyoro_ssl.train.metrics import Meter
from runyoro_ssl.train.plan import MicroBatch, PlanSettings
from runyoro_ssl.train.step import run_objective

if TYPE_CHECKING:
    from runyoro_ssl.train.batches import BatchBuilder


def plan_validation(num_samples: Sequence[int], settings: PlanSettings) -> list[MicroBatch]:
    """All clips by length, in micro-batches as large as training's. The result does not depend on their size."""
    order = sorted(range(len(num_samples)), key=lambda clip: (num_samples[clip], clip))
    batches: list[list[int]] = []
    for clip in order:
        if batches and (len(batches[-1]) + 1) * num_samples[clip] <= settings.batch_samples:
            batches[-1].append(clip)
        else:
            batches.append([clip])
    return [MicroBatch.of(clips, index=index) for index, clips in enumerate(batches)]


@torch.no_grad()
def validate(accelerator: Any, model: Any, builder: BatchBuilder, plan: Sequence[MicroBatch]) -> dict[str, float]:
    """`eval/…` over the validation split. The model is in evaluation mode meanwhile: no dropout, best codes."""
    model.eval()
    meter = Meter(accelerator, model.config)
    mine = plan[accelerator.process_index :: accelerator.num_processes]
    with progress("batches") as bar:
        task = bar.add_task("Validating", total=len(mine), visible=accelerator.is_main_process)
        for (batch,) in load_batches(builder, ([one] for one in mine), num_workers=0):
            meter.add(run_objective(accelerator, model, batch.to(accelerator.device)), batch.num_masked)
            bar.advance(task)
    model.train()
    return meter.read("eval", whole_set=True)
