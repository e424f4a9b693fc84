"""The training loop: every optimizer step, what is logged and saved between them, and the ways out.

What goes wrong on the way is dealt with by `recovery`; what is kept of the run is written by `saver`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rich.progress import TextColumn

from runyoro_ssl.bars import progress
from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.batches.loader import load_batches
from runyoro_ssl.batches.loading import ELSEWHERE, Loading
from runyoro_ssl.batches.plan import Update
from runyoro_ssl.disk.lock import FolderLock
from runyoro_ssl.errors import LoaderError, PluginError, TrainingError
from runyoro_ssl.evaluate.heldout import validate_all
from runyoro_ssl.logs import get_logger
from runyoro_ssl.processes import gather_over_processes, sum_over_processes
from runyoro_ssl.train.checkpoints.folder import find_healthy, set_aside_later, step_of
from runyoro_ssl.train.checkpoints.saver import Saver
from runyoro_ssl.train.checkpoints.snapshot import every_generator, snapshot
from runyoro_ssl.train.describe import run_for_loggers
from runyoro_ssl.train.intervals import Intervals, Schedule
from runyoro_ssl.train.loggers import Loggers
from runyoro_ssl.train.pace import Pace
from runyoro_ssl.train.recovery import Alarmed, Recovery, go_back
from runyoro_ssl.train.speed import Stopwatch
from runyoro_ssl.train.stopping import clock
from runyoro_ssl.train.stopping.clock import SleepWatch
from runyoro_ssl.train.stopping.ending import Ending, Stopping
from runyoro_ssl.train.stopping.hanging import named_if_it_hangs
from runyoro_ssl.train.training_run import TrainingRun

log = get_logger()

IN_BAR = (
    ("contrastive_loss", "loss {:.3f}"),
    ("accuracy", "accuracy {:.1%}"),
    ("soft_perplexity", "soft perplexity {:.0f}"),
    ("audio_seconds_per_second", "{:.1f} audio s/s"),
)
"""Numbers beside the bar, the most telling first."""


@dataclass
class Loop:
    """A run under way. Only the main process has a `lock`."""

    run: TrainingRun
    loggers: Loggers
    saver: Saver
    stopping: Stopping
    lock: FolderLock | None
    on_validation: Callable[[Path], None] = lambda _folder: None
    recovery: Recovery = field(init=False)
    schedule: Schedule = field(init=False)
    pace: Pace = field(default_factory=Pace)
    sleep: SleepWatch = field(default_factory=SleepWatch)
    saved_step: int = field(init=False)
    """Step of the last checkpoint that was asked for, or that the run went on from. Every process knows it."""
    pace_is_told: bool = False

    def __post_init__(self) -> None:
        self.recovery = Recovery(self.run, lambda: self.lock is None or self.lock.is_held())
        self.schedule = Schedule(self.run.accelerator, Intervals.of(self.run), lambda: self.saver.seconds)
        self.saved_step = self.run.step

    def run_to_the_end(self) -> Ending:
        """Take every optimizer step that is left; where an alarm asks for it, some of them again."""
        while True:
            try:
                return self._missed_validation() or self._steps()
            except Alarmed as alarmed:
                self.saver.settle()
                if alarmed.alarm.action == "stop":
                    self._give_up(alarmed)
                self._go_back(alarmed)

    def _steps(self) -> Ending:
        """The steps from where the run is to its end, or to what ends it before."""
        run, pace = self.run, self.pace
        watch = Stopwatch()
        with _training_bar(run) as advance, closing(batches_of_steps(run)) as batches:
            for update in run.plan.updates(run.step):
                pace.begin_step()
                with watch.waiting():
                    mine = self._next(batches)
                if isinstance(mine, Ending):
                    self._save()
                    return mine
                numbers = run.stepper.take(update, mine, run.meter)
                self.recovery.act(update.step)
                self.recovery.watch_memory(update.step)
                run.step, run.epoch = update.step, update.epoch
                run.count_heard(update)
                if run.plan.mix is not None and run.plan.mix.changes_at(run.step):
                    run.watch.hear_others()
                pace.end_step()
                due = self.schedule.due(run.step, saved_step=self.saved_step, step_seconds=pace.step_seconds)
                watch.audio_seconds += sum(batch.num_samples for batch in mine) / run.extractor.sampling_rate
                metrics: dict[str, float] = {}
                if due.log or pace.is_settled:
                    self._tell_pace()
                if due.log:
                    metrics = self._log(update, numbers, watch)
                advance(run.step, metrics)
                watch.pause()
                self.stopping.step_seconds = pace.step_seconds
                ending = self.stopping.asked()
                is_best = False
                # Not on the way out: a batch system that says stop gives seconds, and validation may take minutes.
                if ending is None and self.schedule.intervals.is_validated(run.step):
                    ending, is_best = self._validate()
                if ending or is_best or due.save:
                    self._save()
                if ending:
                    return ending
                watch.go_on()
        return Ending("finished")

    def _next(self, batches: Loading) -> list[TrainingBatch] | Ending:
        """This process's micro-batches of the next step; or why the run is to end, asked while they do not come.

        All processes wait until each has its own. If any will have none, all save what was learned and end.
        """
        accelerator = self.run.accelerator
        failure: LoaderError | PluginError | None = None
        mine: list[TrainingBatch] | None = None
        while True:
            try:
                if mine is None and batches.wait():
                    mine = self.run.unreadable.leave_out(next(batches))
            except (LoaderError, PluginError) as error:
                failure = error
            if not sum_over_processes(accelerator, int(mine is None)) and mine is not None:
                return mine
            if sum_over_processes(accelerator, int(failure is not None)):
                self._end_with(failure or LoaderError(ELSEWHERE))
            if (ending := self.stopping.asked()) is not None:
                return ending

    def _log(self, update: Update, numbers: Mapping[str, float], watch: Stopwatch) -> dict[str, float]:
        """The numbers since the last log line, to every backend."""
        self._look_at_folder()
        self.recovery.write_waiting()
        run = self.run
        metrics = run.meter.read("train") | {f"train/{name}": value for name, value in numbers.items()}
        speed, wait_share = watch.lap()
        metrics["train/audio_seconds_per_second"] = sum(gather_over_processes(run.accelerator, speed))
        metrics["train/data_wait_share"] = wait_share
        metrics |= run.hours_heard() | self.recovery.memory_numbers()
        if slept := self.sleep.lap():
            log.info("machine_slept", minutes=round(slept / 60), counted="in no time or speed")
            self.recovery.remember_sleep(update.step, slept)
        self.loggers.log(update.step, {"epoch": update.epoch, **metrics})
        self.schedule.logged()
        return metrics

    def _tell_pace(self) -> None:
        """Say once, when steps have been measured, how long the run takes, and what its intervals are in minutes."""
        if self.pace_is_told or not self.pace.num_measured:
            return
        self.pace_is_told = True
        if self.run.accelerator.is_main_process:
            log.info("pace", **self.pace.words(self.schedule.intervals, self.run.step))

    def _missed_validation(self) -> Ending | None:
        """The validation that belongs to where the run is, if it was stopped before that, or is just beginning."""
        run = self.run
        if run.watch.has_ended:
            return Ending("early")
        done = run.watch.validations.get("last", {}).get("step")
        if done == run.step or (done is not None and not self.schedule.intervals.is_validated(run.step)):
            return None
        return self._validate()[0]

    def _validate(self) -> tuple[Ending | None, bool]:
        """Measure held-out speech. Returns why to end the run, and whether this is its best model so far."""
        run, started = self.run, clock.now()
        try:
            metrics = validate_all(
                run.accelerator,
                run.sharing.judged,
                run.judged,
                is_stopped=lambda: self.stopping.asked() is not None,
                in_step=run.sharing.in_step,
            )
        except LoaderError as failure:
            self._end_with(failure)
        if metrics is None:
            return self.stopping.asked(), False
        self.pace.validation_seconds = clock.now() - started
        self._look_at_folder()
        self.loggers.log(run.step, {"epoch": run.epoch, **metrics})
        if not math.isfinite(metrics["eval/objective"]) and run.accelerator.is_main_process:
            log.warning(
                "validation_judged_nothing",
                step=run.step,
                because="no held-out clip could be read and masked, or its loss is no number",
                means="no model can be the best; the last will be the final one",
            )
        alarm = run.watch.judge_validation(run.step, metrics)
        ends = alarm is not None and alarm.action == "finish"
        if alarm is not None:
            self.recovery.report(alarm, run.step, "the run ends with its best model" if ends else "training goes on")
        if self.lock is not None:
            self.on_validation(run.config.train.output_dir)
        return Ending("early") if ends else None, run.watch.best_step == run.step

    def _end_with(self, failure: LoaderError | PluginError) -> NoReturn:
        """End the run, for nothing can be read any more; what was learned is saved first."""
        self._save()
        with suppress(TrainingError):  # it was said; why the run ends comes first
            self.saver.finish()
        raise failure

    def _save(self) -> None:
        """Have a checkpoint written, if there is none of this step. Every process calls it."""
        self.recovery.write_waiting()
        if self.saved_step == self.run.step:
            return
        self.saved_step, started = self.run.step, clock.now()
        generators = every_generator(self.run.accelerator)
        if self.run.accelerator.is_main_process or self.run.choice.way == "shards":
            self.saver.save(lambda: snapshot(self.run, generators))
        self.schedule.saved(held_up=clock.now() - started)

    def _go_back(self, alarmed: Alarmed) -> None:
        """Restore the last healthy checkpoint; the logs go on from there, too."""
        self._check_lock()
        self.run.accelerator.wait_for_everyone()
        done = go_back(self.run, behind=alarmed.alarm.behind)
        self.saved_step = self.run.step
        self.schedule.saved(held_up=0.0)
        self.recovery.report(alarmed.alarm, alarmed.step, done)
        self.loggers.reopen(run_for_loggers(self.run))

    def _look_at_folder(self) -> None:
        """If another run took the folder, as while this machine slept, save elsewhere and end: no line is mixed."""
        with named_if_it_hangs(f"the folder {self.run.config.train.output_dir}"):
            is_lost = self.lock is not None and not self.lock.is_held()
        if sum_over_processes(self.run.accelerator, int(is_lost)):
            self._save()
            self._check_lock()
            raise TrainingError("the process that writes has lost the folder of the run; see its message")

    def _check_lock(self) -> None:
        if self.lock is not None:
            self.lock.check()

    def _give_up(self, alarmed: Alarmed) -> NoReturn:
        """End the run. Its newest checkpoint is then a healthy one, if there is any."""
        output_dir, alarm = self.run.config.train.output_dir, alarmed.alarm
        self._check_lock()
        healthy = find_healthy(output_dir, at_most=alarm.behind)
        if self.run.accelerator.is_main_process and healthy is not None:
            set_aside_later(output_dir, step_of(healthy))
        kept = f"{healthy.name} is the last healthy checkpoint" if healthy else "no checkpoint was healthy"
        self.recovery.report(alarm, alarmed.step, f"stopped; {kept}")
        raise TrainingError(alarm.last_words())


def batches_of_steps(run: TrainingRun) -> Loading:
    """This process's micro-batches of each step that is left."""
    accelerator, hardware = run.accelerator, run.config.hardware
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    return load_batches(
        run.train_batches,
        (update.micro_batches[share] for update in run.plan.updates(run.step)),
        num_workers=hardware.dataloader_num_workers,
        pin_memory=hardware.device == "cuda",
        patience_sec=hardware.loader_patience_sec,
    )


@contextmanager
def _training_bar(run: TrainingRun) -> Iterator[Any]:
    """A bar over the run's steps; call what it yields with (step, metrics)."""
    with progress("steps", *(TextColumn(f"{{task.fields[numbers][{index}]}}") for index in range(len(IN_BAR)))) as bar:
        task = bar.add_task("Training", total=run.total_steps, completed=run.step, numbers=[""] * len(IN_BAR))
        bar.update(task, visible=run.accelerator.is_main_process)

        def advance(step: int, metrics: Mapping[str, float]) -> None:
            bar.update(task, completed=step)
            if metrics:
                bar.update(task, numbers=[words.format(metrics[f"train/{name}"]) for name, words in IN_BAR])

        yield advance
