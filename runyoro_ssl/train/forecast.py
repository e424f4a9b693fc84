"""`invoke train --dry-run`: what a run would be, how long it would take, and whether it fits; nothing is written.

The time is that of a few real steps of the real model on the real clips, on this device. A base model that is not
here yet is fetched for it, as training would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from runyoro_ssl.bars import progress
from runyoro_ssl.config import Config
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.evaluate.heldout import validate_all
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.at_hand import free_memory
from runyoro_ssl.model.load import load_model_config
from runyoro_ssl.model.memory import BatchSettings, count_parameters, predict_memory
from runyoro_ssl.page.amounts import amount_of_time, plural, size
from runyoro_ssl.plugin.manager import Plugins
from runyoro_ssl.processes import gather_over_processes, sum_over_processes
from runyoro_ssl.train.checkpoints.resume import check_folder, choose
from runyoro_ssl.train.describe import summary_rows
from runyoro_ssl.train.disk_space import CheckpointSpace, Disk, disks, folder_bytes, num_checkpoints
from runyoro_ssl.train.download import missing_download
from runyoro_ssl.train.fitting import fit_run, gather_material, join
from runyoro_ssl.train.intervals import SAVE_SEC, Intervals
from runyoro_ssl.train.keeping import num_compared
from runyoro_ssl.train.loop import batches_of_steps
from runyoro_ssl.train.out_of_memory import explain_out_of_memory, to_begin, to_fit
from runyoro_ssl.train.pace import Pace, ends_at
from runyoro_ssl.train.run import explain_lost_process
from runyoro_ssl.train.setup import build_run, make_accelerator, try_first_batch
from runyoro_ssl.train.stopping import clock
from runyoro_ssl.train.training_run import TrainingRun
from runyoro_ssl.train.weights import check_way_to_train

log = get_logger()

MAX_UPDATES, MEASURE_SEC, AT_MOST_SEC = 5, 20.0, 120.0
"""Updates are measured, after the first, until there are so many or these have taken so long; where one takes minutes,
the first is enough."""
EVAL_SAMPLES = 4
"""Micro-batches of validation that are measured, from short clips to long ones."""


@dataclass(frozen=True)
class Forecast:
    """What a run would be: rows (what, value). `problem`: in a line why it does not fit; None: it does.

    `seconds`: how long it would take from where it starts; None where that was not measured.
    """

    title: str
    rows: list[list[str]]
    problem: str | None
    seconds: float | None
    is_main: bool


def forecast(config: Config, plugins: Plugins) -> Forecast:
    """Build a run as `train` would, take a few steps, and say what came of it.

    Raises:
        RunyoroError: As `train`, for whatever it would refuse.
    """
    try:
        check_folder(config)
    except ConfigError as error:  # nothing is written there; how long a new run takes can be said
        log.warning("a_new_run_needs_another_folder", because=str(error))
    processes = join(config.hardware)
    with explain_lost_process():
        check_way_to_train(config)
        return _forecast(config, plugins, processes)


def _forecast(config: Config, plugins: Plugins, processes: Any) -> Forecast:
    # What one process finds holds for all: they measure together, or none does.
    found = free_memory(config.hardware.device), missing_download(config.model)
    free, download = gather_over_processes(processes, found)[0]
    before = disks([download] if download else [])
    problems = [problem for disk in before if (problem := disk.problem())] or _too_large_to_load(config, free)
    if problems := gather_over_processes(processes, problems)[0]:
        return _conclude(config, _disk_rows(before), problems, None, is_main=processes.is_main_process)
    start = choose(config, processes, dry=True)
    material = gather_material(config, start)
    fitted = fit_run(config, material, start, processes)
    accelerator = make_accelerator(fitted.config.hardware)
    with explain_out_of_memory(config.hardware.device, to_begin(config)):
        run = build_run(fitted, material, plugins, accelerator, start)
    try_first_batch(run)
    return _as_planned(run, free)


def _as_planned(run: TrainingRun, free: int) -> Forecast:
    """The forecast of a run that could be built. `free`: bytes of memory. Its download, if any, lies on the disk."""
    intervals, peak = Intervals.of(run), _predicted_peak(run)
    # A run that would take more than there is could take the machine with it.
    pace = measure(run) if peak <= free and run.step < run.total_steps else None
    seconds = pace.seconds_left(intervals, run.step) if pace else None
    space = CheckpointSpace.of(run, by_clock=math.ceil((seconds or 0) / SAVE_SEC))
    needed = disks(space.needs(), reclaimed=space.superseded)
    problems = [_memory_problem(run.config, peak, free, to_fit(run.config, run.longest_sec))] if peak > free else []
    problems += [f"{problem}, or a lower --save-total-limit" for disk in needed if (problem := disk.problem())]
    by_steps = num_checkpoints(intervals, run.step)
    rows = [
        *summary_rows(run, pace.usual_step if pace else None),
        *_time_rows(run, pace),
        ["checkpoints in all", f"{by_steps} by steps, {size(space.checkpoint)} each"],
        ["memory free", f"{size(free)} ({run.accelerator.device.type}), of which {size(peak)} are needed"],
        ["dataset", f"{size(sum(map(folder_bytes, run.sources.folders)))}, already there"],
        *_disk_rows(needed),
    ]
    return _conclude(run.config, rows, problems, seconds, is_main=run.accelerator.is_main_process)


def _conclude(
    config: Config, rows: list[list[str]], problems: list[str], seconds: float | None, *, is_main: bool
) -> Forecast:
    problem = "; ".join(problems) or None
    verdict = ["fits", f"no: {problem}" if problem else "yes"]
    return Forecast(f"{config.train.output_dir}: what the run would be", [*rows, verdict], problem, seconds, is_main)


def measure(run: TrainingRun) -> Pace:
    """Take a few steps of a run, and a part of a validation. Its model is no longer what it was."""
    pace, started = Pace(), clock.now()
    main = run.accelerator.is_main_process
    advice = to_fit(run.config, run.longest_sec)
    with explain_out_of_memory(run.config.hardware.device, advice), progress("steps") as bar:
        task = bar.add_task("Measuring", total=min(MAX_UPDATES + 1, run.total_steps - run.step), visible=main)
        with closing(batches_of_steps(run)) as batches:
            for update in run.plan.updates(run.step):
                pace.begin_step()
                run.stepper.take(update, run.unreadable.leave_out(next(batches)), run.meter)
                pace.end_step()
                bar.advance(task)
                if sum_over_processes(run.accelerator, int(main and _is_enough(pace, clock.now() - started))):
                    break
        pace.validation_seconds = _measure_validation(run)
    return pace


def _is_enough(pace: Pace, seconds: float) -> bool:
    """The first step does not count: on a GPU, workers start and kernels are compiled in it."""
    return pace.num_measured >= MAX_UPDATES or pace.measured_seconds >= MEASURE_SEC or seconds >= AT_MOST_SEC


def _measure_validation(run: TrainingRun) -> float:
    """Seconds that a whole validation takes, from some of its micro-batches."""
    target = run.judged[0]
    apart = max(1, len(target.plan) // (EVAL_SAMPLES * run.accelerator.num_processes))
    some = replace(target, plan=target.plan[apart // 2 :: apart])
    started = clock.now()
    validate_all(run.accelerator, run.sharing.judged, [some], in_step=run.sharing.in_step)
    heard_seconds = some.num_samples / run.extractor.sampling_rate
    return float((clock.now() - started) * run.judged_seconds / heard_seconds)


def _time_rows(run: TrainingRun, pace: Pace | None) -> list[list[str]]:
    if pace is None:
        return [["time", "not measured" if run.step < run.total_steps else "nothing is left to train"]]
    seconds = pace.seconds_left(Intervals.of(run), run.step)
    speed = run.update_seconds / pace.usual_step
    compared = num_compared(run.config.train)
    of_target = run.judged[0].num_samples / run.extractor.sampling_rate / run.judged_seconds
    more = compared * of_target * pace.validation_seconds
    measured = plural(pace.num_measured, "step") if pace.num_measured else "the first step, which is the slowest"
    return [
        ["time", f"{amount_of_time(seconds)}: if it started now, until {ends_at(seconds)}"],
        [
            "step",
            f"{amount_of_time(pace.usual_step)}, {speed:.1f} audio s/s; measured on {measured}",
        ],
        ["each validation", amount_of_time(pace.validation_seconds)],
        *([["choosing the final model", f"{compared} more: {amount_of_time(more)}"]] if compared else []),
    ]


def _disk_rows(needed: Sequence[Disk]) -> list[list[str]]:
    return [["disk", f"{disk.words()} ({disk.folder})"] for disk in needed]


def _predicted_peak(run: TrainingRun) -> int:
    """Bytes that the run takes at most, by its own longest clip."""
    if run.memory is not None:
        return run.memory.predicted
    padded = run.extractor.return_attention_mask
    settings = BatchSettings.of(run.config, padded=padded, clip_seconds=run.longest_sec)
    settings = settings.shared(run.accelerator.num_processes, sharded=run.choice.way == "shards")
    return predict_memory(run.model.config, settings).peak


def _too_large_to_load(config: Config, free: int) -> list[str]:
    """Why not even the weights fit; nothing if they do."""
    may_hold_halves = config.adapter.kind == "lora" and config.hardware.device == "cuda"
    weights = (2 if may_hold_halves else 4) * count_parameters(load_model_config(config.model))
    return [_memory_problem(config, weights, free, to_begin(config))] if weights > free else []


def _memory_problem(config: Config, needed: int, free: int, advice: str) -> str:
    return (
        f"memory: the run takes {size(needed)}, {size(free)} is free on {config.hardware.device}; {advice}: "
        f"`invoke doctor --model-name-or-path {config.model.model_name_or_path}` says what fits"
    )
