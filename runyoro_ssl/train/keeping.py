"""Which model a finished run keeps: its best checkpoint, unless a mean or a mixture is better by `evaluate`'s rule.

Means of weights: Izmailov et al., 2018, arXiv 1803.05407; of the last checkpoints of a high rate: Sanyal et al., 2023,
arXiv 2306.03241. Mixtures with the base: Lin et al., 2025, arXiv 2502.12672. Each is written beside the checkpoints for
as long as it is heard, in one process. What a kill leaves of it goes with the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from runyoro_ssl.bars import progress
from runyoro_ssl.config import ModelConfig, TrainConfig
from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.disk.temporary import TEMPORARY
from runyoro_ssl.errors import CheckpointError, RunyoroError
from runyoro_ssl.evaluate.by_loss import as_validation, beside, measure_validation
from runyoro_ssl.evaluate.candidates import ModelChoice
from runyoro_ssl.evaluate.choice import choose
from runyoro_ssl.evaluate.heard.clips import HeldOut, choose_clips
from runyoro_ssl.evaluate.measures.fit import ClipFit
from runyoro_ssl.evaluate.mixtures import average, mixed
from runyoro_ssl.evaluate.record import KeepableModel
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.adapters import load_trained_weights
from runyoro_ssl.model.listener import load_listener
from runyoro_ssl.model.merging import plain_weights
from runyoro_ssl.model.source import WEIGHTS, model_folder
from runyoro_ssl.train.checkpoints.averages import read_averages
from runyoro_ssl.train.checkpoints.folder import step_of
from runyoro_ssl.train.checkpoints.format import checkpoint_of, verify_checkpoint
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.training_run import TrainingRun
from runyoro_ssl.train.tryout import give_back

log = get_logger()

ALL_SEC = 1e9
"""Of held-out speech: as much as validations hear."""
MENDABLE = (RunyoroError, OSError, SafetensorError)
"""What hinders one model alone: a checkpoint that is damaged, a base that is gone, a full disk."""

STOPPED = "the run was asked to stop; --resume-from-checkpoint last chooses again"


@dataclass(frozen=True)
class KeptModel:
    """The model that a run keeps, of several: its folder, for a while, and what is said of it.

    `numbers`: its validation. `candidates`: all that were measured, itself among them.
    """

    folder: Path
    option: ModelChoice
    why: str
    numbers: Mapping[str, float]
    candidates: Sequence[KeepableModel]


class StoppedChoosing(Exception):  # noqa: N818 - no error: the best checkpoint is in its place
    """The process was asked to stop."""


def num_compared(config: TrainConfig) -> int:
    """How many models are compared at the end, the best checkpoint among them; 0 where that is the final one anyway."""
    others = (config.ema_decay is not None) + bool(config.average_last) + len(config.interpolate)
    return 1 + others if others else 0


@contextmanager
def kept_model(run: TrainingRun, plain: Path, is_stopped: Callable[[], bool]) -> Iterator[KeptModel | None]:
    """Measure all that may be the final model beside a checkpoint, and hold the one to keep while the block lasts.

    A difference that is none for certain, or that another seed can make, keeps the checkpoint. None: nothing could be
    compared, or `is_stopped` said so, and the log says why. The run's model and optimizer are empty from here on.
    """
    _make_room(run)
    train, output_dir = run.config.train, run.config.train.output_dir
    kept = ModelChoice(plain.name, "checkpoint", step_of(plain), [(plain, 1.0)])
    with ExitStack() as stack, progress("clips") as bar:
        try:
            held_out = choose_clips(
                train.processed_dataset_path, sampling_rate=run.extractor.sampling_rate, max_seconds=ALL_SEC
            )
            means = [*_moving_average(run, stack), *_mean_of_last(output_dir, train.average_last)]
            _let_go(run)
            number = 1 + len(means) + len(train.interpolate)
            task = bar.add_task("Choosing the final model", total=number * len(held_out.clips))
            comparison = FinalComparison(run, held_out, lambda: bar.advance(task), is_stopped)
            comparison.measure(kept)
            kept, why = comparison.choose(kept, means)
            mixed_one, why_mixed = comparison.choose(kept, _interpolations(run, kept, plain))
            if mixed_one is not kept:
                kept, why = mixed_one, why_mixed
            folder = kept.parts[0][0]
            if len(kept.parts) > 1:
                folder = stack.enter_context(mixed(kept.parts, inside=output_dir))
        except (*MENDABLE, StoppedChoosing) as error:
            log.warning("final_model_not_compared", kept=plain.name, because=str(error) or STOPPED)
            found = None
        else:
            found = KeptModel(folder, kept, why, comparison.numbers(kept), comparison.found)
        yield found


@dataclass
class FinalComparison:
    """What was measured so far of the models that may be the final one.

    `on_clip` is called for each clip heard, and `is_stopped` asked: then `StoppedChoosing` is raised.
    """

    run: TrainingRun
    held_out: HeldOut
    on_clip: Callable[[], None]
    is_stopped: Callable[[], bool]
    fits: dict[str, list[ClipFit]] = field(default_factory=dict)
    found: list[KeepableModel] = field(default_factory=list)

    def measure(self, option: ModelChoice) -> None:
        """Hear a model; one is in memory at a time.

        Raises:
            RunyoroError, OSError: It cannot be made or loaded, or memory is short of it.
        """
        try:
            if len(option.parts) > 1:
                with mixed(option.parts, inside=self.run.config.train.output_dir) as folder:
                    fits = self._hear(folder)
            else:
                fits = self._hear(option.parts[0][0])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise CheckpointError(f"{option.name}: memory is short of it ({error})") from None
        finally:
            give_back(self.run.config.hardware.device)
        self.fits[option.name] = fits
        if not self.found:  # the first is what the others are compared with
            self.found.append(KeepableModel(option.name, option.kind, option.step, self._values(option, fits)))

    def _hear(self, folder: Path) -> list[ClipFit]:
        hardware = self.run.config.hardware.model_copy(update={"compile": False, "gradient_checkpointing": False})
        listener = load_listener(ModelConfig(model_name_or_path=str(folder)), hardware)
        return measure_validation(listener, self.run.judged[0].batches, self.held_out, self._clip_heard)

    def _clip_heard(self) -> None:
        self.on_clip()
        if self.is_stopped():
            raise StoppedChoosing

    def choose(self, kept: ModelChoice, others: Sequence[ModelChoice]) -> tuple[ModelChoice, str]:
        """The model to keep of one that was measured and others, by the rule of `evaluate`; and why."""
        judged = []
        for option in others:
            try:
                self.measure(option)
            except MENDABLE as error:
                log.warning("candidate_left_out", name=option.name, because=str(error))
                continue
            judged.append(beside(option, self.fits[option.name], self.fits[kept.name], self.held_out))
        self.found += [one.model for one in judged]
        chosen = choose(kept.name, judged)
        return next(option for option in (kept, *others) if option.name == chosen.name), chosen.why

    def numbers(self, option: ModelChoice) -> dict[str, float]:
        """The validation of a model that was measured."""
        found = as_validation(self.fits[option.name], self.run.model.config.diversity_loss_weight)
        return {**found, "step": option.step or 0}

    def _values(self, option: ModelChoice, fits: Sequence[ClipFit]) -> Mapping[str, float]:
        return beside(option, fits, fits, self.held_out).model.values


def _make_room(run: TrainingRun) -> None:
    """Give back what only training needs: moments, gradients, and the average, which the last checkpoint has."""
    run.optimizer.optimizer.state.clear()
    for parameter in run.model.parameters():
        parameter.grad = None
    run.average = run.stepper.after_step = None
    give_back(run.accelerator.device.type)


def _let_go(run: TrainingRun) -> None:
    """Give back the weights that were trained: all that is heard from here on is read from the disk."""
    if run.choice.way != "shards":
        for parameter in run.model.parameters():
            parameter.data = parameter.data.new_empty(0)


def _moving_average(run: TrainingRun, stack: ExitStack) -> list[ModelChoice]:
    """The moving average of the last checkpoint as a plain model, in a folder that goes with the stack."""
    if run.config.train.ema_decay is None:
        return []
    output_dir, name = run.config.train.output_dir, f"moving average at step {run.step}"
    newest = checkpoint_of(output_dir, run.step)
    try:
        if problem := verify_checkpoint(newest):
            raise CheckpointError(f"{newest}: {problem}")
        folder = Path(stack.enter_context(TemporaryDirectory(prefix=f"{TEMPORARY}average-", dir=output_dir)))
        run.model.save_pretrained(folder, state_dict=_plain_average(run, newest), safe_serialization=True)
        run.extractor.save_pretrained(folder)
    except MENDABLE as error:
        log.warning("candidate_left_out", name=name, because=str(error))
        return []
    return [ModelChoice(name, "average", run.step, [(folder, 1.0)])]


def _plain_average(run: TrainingRun, checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights of a plain model whose learning ones are those averaged; of adapters, their averages' product."""
    averages = read_averages(checkpoint)
    if run.base_sha256 is None:
        return load_file(checkpoint / WEIGHTS) | averages
    load_trained_weights(run.model, averages)
    own, merged = plain_weights(run.model)
    return {name: tensor.detach().to("cpu").contiguous() for name, tensor in own.items()} | merged


def _mean_of_last(output_dir: Path, number: int) -> list[ModelChoice]:
    """The mean of the last checkpoints of a run; none, where there are fewer that are intact."""
    if not number:
        return []
    intact = [(step, folder) for step, folder in list_checkpoints(output_dir) if verify_checkpoint(folder) is None]
    if len(intact) < number:
        because = f"of {number} checkpoints {len(intact)} are there"
        log.warning("candidate_left_out", name=f"mean of the last {number} checkpoints", because=because)
        return []
    steps, folders = zip(*intact[-number:], strict=True)
    name = f"mean of checkpoints {', '.join(map(str, steps))}"
    return [ModelChoice(name, "average", steps[-1], average(folders))]


def _interpolations(run: TrainingRun, kept: ModelChoice, plain: Path) -> list[ModelChoice]:
    """Mixtures of the model that is kept so far with the base model of the run."""
    shares = run.config.train.interpolate
    if not shares:
        return []
    what = "adapted" if kept.parts[0][0] == plain else f"of the {kept.name}"
    try:
        base = model_folder(run.base_model, run.base_revision, "config", "extractor", "weights")
    except RunyoroError as error:
        log.warning("candidate_left_out", name=f"mixtures with {run.base_model}", because=str(error))
        return []
    return [
        ModelChoice(
            f"{100 * share:g} % {what}, {100 * (1 - share):g} % base",
            "interpolation",
            kept.step,
            [(base, 1 - share), *((folder, share * part) for folder, part in kept.parts)],
        )
        for share in shares
    ]
