"""A training run from its configuration to its final model: build, then run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runyoro_ssl.batches.bus_error import outlast_bus_errors
from runyoro_ssl.config import Config
from runyoro_ssl.disk.durable import sweep
from runyoro_ssl.disk.lock import FolderLock
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.logs import get_logger, print_table
from runyoro_ssl.model.source import RUN_FILE
from runyoro_ssl.plugin.manager import Plugins
from runyoro_ssl.plugin.spec import LoggingBackend
from runyoro_ssl.processes import is_lost_process, part
from runyoro_ssl.train.checkpoints.folder import bring_in, remove_old, runs_beside, set_aside_later
from runyoro_ssl.train.checkpoints.format import PREFIX
from runyoro_ssl.train.checkpoints.resume import Start, check_folder, choose
from runyoro_ssl.train.checkpoints.sharded_saver import saver_of
from runyoro_ssl.train.describe import run_for_loggers, summary_rows, write_run_files
from runyoro_ssl.train.disk_space import check_space
from runyoro_ssl.train.final import save_final_model
from runyoro_ssl.train.fitting import fit_run, gather_material, join
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.loggers import open_loggers
from runyoro_ssl.train.loop import Loop
from runyoro_ssl.train.out_of_memory import explain_out_of_memory, to_begin, to_go_on
from runyoro_ssl.train.run_lock import lock_run
from runyoro_ssl.train.setup import build_run, make_accelerator, try_first_batch
from runyoro_ssl.train.sharing.agreement import check_folder_is_shared
from runyoro_ssl.train.stopping.awake import keep_awake
from runyoro_ssl.train.stopping.clock import Deadline, process_started
from runyoro_ssl.train.stopping.ending import Ending, Stopping
from runyoro_ssl.train.stopping.signals import StopSignal
from runyoro_ssl.train.training_run import TrainingRun
from runyoro_ssl.train.weights import check_way_to_train

log = get_logger()


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    `first` is the validation of the model as it came, `last` the latest one, `best` that of the final model.
    """

    output_dir: Path
    start_step: int
    step: int
    total_steps: int
    ending: Ending
    first: dict[str, float]
    last: dict[str, float]
    best: dict[str, float]
    is_main: bool
    final_model: str = ""
    """What it is: a checkpoint's name, a mean, a mixture; where the run has ended, and in the main process alone."""

    @property
    def is_checkpoint(self) -> bool:
        """Whether the final model is that of a checkpoint."""
        return not self.final_model or self.final_model.startswith(PREFIX)


OnFolder = Callable[[Path], None]
"""Told of a run's folder, in the main process, while no other run may write there. What it raises ends the run."""


def _ignore(_folder: Path) -> None:
    """Nobody is to be told."""


def train(
    config: Config, plugins: Plugins, on_validation: OnFolder = _ignore, on_final: OnFolder = _ignore
) -> TrainResult:
    """Adapt the model of the configuration to its dataset.

    `on_validation` is called with the run's folder when the numbers of a validation are in it, between two steps;
    `on_final` when the final model is in it.

    Raises:
        RunyoroError: Something the user can mend; a run that had started keeps its checkpoints.
    """
    check_folder(config)
    processes = join(config.hardware)
    with ExitStack() as stack:
        stack.enter_context(explain_lost_process())
        stack.enter_context(outlast_bus_errors([source.path for source in config.train.every_source]))
        check_way_to_train(config)
        # Only the main process writes.
        lock = stack.enter_context(lock_run(config.train.output_dir)) if processes.is_main_process else None
        check_folder_is_shared(config.train.output_dir, processes)
        start = choose(config, processes)
        material = gather_material(config, start)
        fitted = fit_run(config, material, start, processes)
        accelerator = make_accelerator(fitted.config.hardware)
        with explain_out_of_memory(config.hardware.device, to_begin(config)):
            run = build_run(fitted, material, plugins, accelerator, start)
        start_step = run.step
        try_first_batch(run)
        check_space(run)
        backends = plugins.loggers() if lock is not None else []  # one that cannot be made leaves no run behind
        _begin(run, start)
        loop = _enter_loop(stack, run, backends, lock)
        loop.on_validation = on_validation
        ending, final_model = loop.run_to_the_end(), ""
        loop.saver.finish()
        loop.loggers.status = "finished" if ending.is_final else "stopped"
        if ending.is_final and lock is not None:
            lock.check()
            final_model = save_final_model(run, loop.stopping.is_asked_here)
            on_final(config.train.output_dir)
    part(accelerator)
    validations = {name: run.watch.validations.get(name, {}) for name in ("first", "last", "best")}
    return TrainResult(
        config.train.output_dir,
        start_step,
        run.step,
        run.total_steps,
        ending,
        is_main=accelerator.is_main_process,
        final_model=final_model,
        **validations,
    )


def _begin(run: TrainingRun, start: Start) -> None:
    """Put the output folder in order, and say what this run is."""
    config, output_dir = run.config.train, run.config.train.output_dir
    if run.accelerator.is_main_process:
        if (output_dir / RUN_FILE).exists():  # else what is hidden there is not of a run
            sweep(output_dir)
        if start.path is not None:
            bring_in(output_dir, start.path, run.step)
        set_aside_later(output_dir, run.step)
        remove_old(output_dir, config.save_total_limit)  # what a kill kept the last process from
        write_run_files(run, output_dir)
        journal.record_start(output_dir, step=run.step, total_steps=run.total_steps, learning_rate=config.learning_rate)
        print_table("Run", ["what", "value"], summary_rows(run))
        log.info(run.mask_summary.line())
        if config.resume_from_checkpoint and run.step == 0:
            _say_that_it_begins(output_dir)
        elif run.step:
            log.info("resumed", step=run.step)
    run.accelerator.wait_for_everyone()


def _say_that_it_begins(output_dir: Path) -> None:
    """What was to go on begins: as a job of a cluster does, the first time; or the folder's name has a mistake."""
    beside = [folder.name for folder in runs_beside(output_dir)]
    write = log.warning if beside else log.info
    write(
        "nothing_to_resume", output_dir=str(output_dir), starting="anew", **({"runs_beside": beside} if beside else {})
    )


def _enter_loop(
    stack: ExitStack, run: TrainingRun, backends: list[tuple[str, LoggingBackend]], lock: FolderLock | None
) -> Loop:
    """The loop, and around it what must end with it, whatever happens."""
    config = run.config
    stack.enter_context(explain_out_of_memory(config.hardware.device, to_go_on(config, run.longest_sec)))
    stack.enter_context(keep_awake(config.train.keep_awake))
    signals = stack.enter_context(StopSignal())
    saver = stack.enter_context(saver_of(run, lock))
    saver.furnish = partial(write_run_files, run)
    saver.on_first = partial(journal.record_saved, config.train.output_dir)
    deadline = Deadline(config.train.stop_after, started=process_started())
    stopping = Stopping(run.accelerator, signals, deadline, lambda: saver.seconds)
    loggers = stack.enter_context(open_loggers(backends, run_for_loggers(run)))
    return Loop(run, loggers, saver, stopping, lock)


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turn what torch says when another process of the run is gone into one line."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        raise TrainingError(
            "another process of this run has ended, or does not answer: its message says why; every checkpoint already "
            "written is kept: --resume-from-checkpoint last"
        ) from None
