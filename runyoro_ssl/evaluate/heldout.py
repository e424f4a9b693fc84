"""Held-out loss during training: the same clips, masks and negatives every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from runyoro_ssl.bars import progress
from runyoro_ssl.batches.build import BatchBuilder, TrainingBatch
from runyoro_ssl.batches.forward import run_objective
from runyoro_ssl.batches.idle import idle_batch
from runyoro_ssl.batches.lengths import Piece
from runyoro_ssl.batches.loader import load_batches
from runyoro_ssl.batches.loading import ELSEWHERE, Loading
from runyoro_ssl.batches.micro_batches import MicroBatch, PlanSettings
from runyoro_ssl.batches.unreadable import Unreadable
from runyoro_ssl.config import MaskingConfig
from runyoro_ssl.dataset.read import Clips
from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.errors import LoaderError, TrainingError
from runyoro_ssl.evaluate.hearing import hear, remedy
from runyoro_ssl.evaluate.judged import ALIKE, FEW_SEC, MIN_CLIP_SEC, TOO_SHORT
from runyoro_ssl.evaluate.metrics import Meter
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.forward import num_frames
from runyoro_ssl.processes import sum_over_processes

log = get_logger()


@dataclass(frozen=True)
class Judged:
    """What is held out of a dataset. `stage`: how its numbers begin, `eval` of the target."""

    stage: str
    batches: BatchBuilder
    plan: list[MicroBatch]
    unreadable: Unreadable

    @classmethod
    def of(cls, stage: str, batches: BatchBuilder, plan: list[MicroBatch]) -> Judged:
        """None of its clips has been read yet."""
        source = stage.removeprefix("eval").removeprefix("/")
        name = f"{source}, held out" if source else ""
        num_clips = sum(len(batch.pieces) for batch in plan)
        return cls(stage, batches, plan, Unreadable(num_clips, 1.0, lambda row: (name, row)))

    @property
    def num_samples(self) -> int:
        """Audio of all its clips."""
        return sum(self.batches.clips.num_samples(clip) for batch in self.plan for clip in batch.clips)


def plan_validation(
    num_samples: Sequence[int],
    settings: PlanSettings,
    lengths: Sequence[int] = (),
    judged: Sequence[int] | None = None,
) -> list[MicroBatch]:
    """Plan a validation: all clips, or those `judged`, by length, in micro-batches as large as training's.

    With layer norms its numbers do not depend on their size. Where training keeps to a few `lengths` (ascending, in
    samples), so does this, and brings at most three shapes more: a clip is padded to the next one, never cropped, and
    what does not fill a micro-batch to the one after.
    """
    order = sorted(range(len(num_samples)) if judged is None else judged, key=lambda clip: (num_samples[clip], clip))
    batches: list[tuple[list[int], int | None]] = []
    if not lengths:
        for clip in order:
            if batches and (len(batches[-1][0]) + 1) * num_samples[clip] <= settings.batch_samples:
                batches[-1][0].append(clip)
            else:
                batches.append(([clip], None))
        return _numbered(batches)
    longest = num_samples[order[-1]]
    last = next((length for length in lengths if length >= longest), longest)
    for length in (*(length for length in lengths if length < last), last):
        fitting = [clip for clip in order if num_samples[clip] <= length]
        size = settings.clips_of(length)
        whole = len(fitting) if length == last else len(fitting) // size * size
        batches += [(fitting[start : min(start + size, whole)], length) for start in range(0, whole, size)]
        order = order[whole:]
    return _numbered(batches)


def _numbered(batches: Sequence[tuple[list[int], int | None]]) -> list[MicroBatch]:
    return [MicroBatch(0, index, tuple(map(Piece, clips)), length) for index, (clips, length) in enumerate(batches)]


def check_validation(clips: Clips, model_config: Any, *, sampling_rate: int) -> None:
    """Check, before the first step, that a validation split can tell a good model from a bad one.

    Lengths are known of every clip; some of those that are long enough, evenly spread, are heard.

    Raises:
        TrainingError: None of them can be judged: the run would train to its end, and no model of it could be chosen.
    """
    lengths = [clips.num_samples(clip) for clip in range(len(clips))]
    frames = num_frames(torch.tensor(lengths), model_config).tolist()
    long_enough = [clip for clip in range(len(clips)) if frames[clip] >= MaskingConfig().mask_time_length]
    heard = hear(clips, long_enough, sampling_rate)
    num_short = len(clips) - len(long_enough)
    advice = remedy(short=num_short > 0, alike=ALIKE in heard.bad.values())
    if not heard.good:
        raise TrainingError(
            f"the validation split cannot be judged: of {len(clips)} clips {num_short} are shorter than a mask, "
            f"{MIN_CLIP_SEC:g} s, and in none of {len(heard.rows)} others does anything change (silence, a tone, a "
            f"dead microphone), so no model could be chosen; {advice}; then others are held out"
        )
    if num_short or heard.bad:
        of = f"{len(clips)}" if len(heard.rows) == len(long_enough) else f"{len(heard.rows)} heard of {len(clips)}"
        short = [f"{TOO_SHORT}, {MIN_CLIP_SEC:g} s: {num_short}"] * (num_short > 0)
        log.warning(
            "validation_in_part_useless",
            clips=f"{num_short + len(heard.bad)} of {of}",
            because="; ".join([*short, *heard.reasons()]),
            advice=advice,
        )
    seconds = sum(lengths[clip] for clip in heard.good) / sampling_rate * len(long_enough) / len(heard.rows)
    if seconds < FEW_SEC:
        log.warning(
            "validation_is_small",
            seconds=round(seconds, 1),
            because=f"under {FEW_SEC:g} s, its loss hardly tells a gain from chance",
            advice="hold out more: `invoke prepare --overwrite --set prepare.validation_share=0.1`; or more audio",
        )


def validate_all(
    accelerator: Any,
    model: Any,
    every: Sequence[Judged],
    *,
    is_stopped: Callable[[], bool] = lambda: False,
    in_step: bool = False,
) -> dict[str, float] | None:
    """Measure what is held out of each dataset of a run, as `validate`; None if `is_stopped` said so."""
    metrics: dict[str, float] = {}
    for one in every:
        found = validate(
            accelerator,
            model,
            one.batches,
            one.plan,
            one.unreadable,
            is_stopped=is_stopped,
            in_step=in_step,
            stage=one.stage,
        )
        if found is None:
            return None
        metrics |= found
    return metrics


@torch.no_grad()
def validate(
    accelerator: Any,
    model: Any,
    builder: BatchBuilder,
    plan: Sequence[MicroBatch],
    unreadable: Unreadable | None = None,
    *,
    is_stopped: Callable[[], bool] = lambda: False,
    in_step: bool = False,
    stage: str = "eval",
) -> dict[str, float] | None:
    """Measure `<stage>/…` over a validation split; None if `is_stopped` said so.

    That is asked before each micro-batch, and while one does not come.
    The model is in evaluation mode meanwhile: no dropout, best codes. Clips that cannot be read are left out;
    `unreadable` remembers those it has told of. `in_step`: each process must run the model equally often.

    Raises:
        LoaderError: Batches cannot be built any more, in this process or another.
    """
    unreadable = unreadable or Unreadable(sum(len(batch.pieces) for batch in plan), max_share=1.0)
    mine = plan[accelerator.process_index :: accelerator.num_processes]
    model.eval()
    meter = Meter(accelerator, model.config)
    loading = load_batches(
        builder, ([one] for one in mine), num_workers=0, pin_memory=accelerator.device.type == "cuda"
    )
    try:
        with progress("batches", is_transient=True) as bar, closing(loading):
            task = bar.add_task("Validating", total=len(mine), visible=accelerator.is_main_process)
            for _ in range(0, len(plan), accelerator.num_processes):  # all processes ask equally often
                if is_stopped() or not _all_have(accelerator, loading, is_stopped):
                    return None
                batches = unreadable.leave_out(next(loading, []))
                for batch in batches or [idle_batch(model.config)] * in_step:
                    _measure(accelerator, model, batch, meter, divisible=not in_step)
                bar.advance(task)
    finally:
        model.train()
    meter.window = meter.take()
    return meter.read(stage, whole_set=True)


def _all_have(accelerator: Any, loading: Loading, is_stopped: Callable[[], bool]) -> bool:
    """Wait until every process has its next micro-batch. False if `is_stopped` said so before.

    Raises:
        LoaderError: One of them will have none, in every process.
    """
    while True:
        failure, lacks = None, True
        try:
            lacks = not loading.wait()
        except LoaderError as error:
            failure = error
        if not sum_over_processes(accelerator, int(lacks)):
            return True
        if sum_over_processes(accelerator, int(failure is not None)):
            raise failure or LoaderError(ELSEWHERE)
        if is_stopped():
            return False


def _measure(accelerator: Any, model: Any, batch: TrainingBatch, meter: Meter, *, divisible: bool) -> None:
    """Count a micro-batch, in halves where memory is short and they may be: the result is the same."""
    try:
        objective = run_objective(accelerator, model, batch.to(accelerator.device))
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(batch.waveforms) == 1 or not divisible:
            raise
        halves = batch.split(2)
    else:
        meter.add(objective, batch.num_masked)
        return
    for half in halves:
        _measure(accelerator, model, half, meter, divisible=True)
