"""Built-in logging backends of `train`: console, jsonl, tensorboard, wandb, trackio."""

from __future__ import annotations

import errno
import importlib.util
import io
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import IO, TYPE_CHECKING, Any, Literal

from runyoro_ssl import hookimpl
from runyoro_ssl.disk.durable import keep_copy, replacing
from runyoro_ssl.errors import PluginError
from runyoro_ssl.logs import console, get_logger

if TYPE_CHECKING:
    from runyoro_ssl.plugin.spec import Register, Run

log = get_logger()

METRICS, TENSORBOARD = "metrics.jsonl", "tensorboard"
"""What the backends of these names write into a run's folder."""
TENSORBOARD_ROOM = 1 << 20
"""Bytes: what is written between two looks at the disk, many times over."""
WANDB_KEEPS_OUT = {"x_disable_meta": True, "disable_git": True, "disable_code": True, "console": "off"}
"""wandb would record the command line, the address of the git remote and the code: any may hold a token or a name."""
TRACKIO_SENDS_BY = (
    *("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID", "TRACKIO_DATASET_ID"),
    *("TRACKIO_WEBHOOK_URL", "TRACKIO_WRITE_TOKEN"),
)
"""Variables by which trackio sends what it logs, or part of it, elsewhere."""


class ConsoleLogger:
    """Backend that prints a line for each logged step and each validation, above the progress bar."""

    SHOWN = (
        ("contrastive_loss", "loss", "{:.4f}"),
        ("accuracy", "accuracy", "{:.1%}"),
        ("soft_perplexity", "soft perplexity", "{:.0f}"),
        ("hard_perplexity", "hard perplexity", "{:.0f}"),
        ("grad_norm", "grad norm", "{:.2f}"),
        ("learning_rate", "lr", "{:.1e}"),
        ("audio_seconds_per_second", "audio s/s", "{:.1f}"),
        ("data_wait_share", "data wait", "{:.1%}"),
    )

    def open(self, run: Run) -> None:
        """Remember the length of the run."""
        self._total_steps = run.total_steps

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print the numbers a person watches."""
        others = [name.removesuffix("/accuracy") for name in metrics if fnmatch(name, "eval/*/accuracy")]
        for stage, style in (("train", ""), ("eval", "bold"), *((other, "") for other in others)):
            shown = [
                f"{label} {form.format(metrics[f'{stage}/{name}'])}"
                for name, label, form in self.SHOWN
                if f"{stage}/{name}" in metrics
            ]
            if shown:
                line = f"step {step}/{self._total_steps} {stage:5} {'  '.join(shown)}"
                console.print(line, style=style, soft_wrap=True)

    def close(self, status: str) -> None:
        """Nothing to close."""


@dataclass
class JsonlLogger:
    """Backend that appends every number to `metrics.jsonl` in the run's folder: an object a line, by name.

    A resumed run first removes the lines past its checkpoint, so that each step stands there once; and those that are
    damaged, of which a copy is kept. When the disk is full, lines wait in memory until there is room.
    """

    file_name: str = METRICS
    _file: IO[bytes] | None = field(default=None, init=False, repr=False)
    _waiting: bytes = field(default=b"", init=False, repr=False)

    def open(self, run: Run) -> None:
        """Open for appending, after `run.start_step`."""
        path = run.output_dir / self.file_name
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() and not run.is_new else []
        steps = [_step_of(line) for line in lines]
        if None in steps[:-1]:  # the last one was only cut short
            kept = keep_copy(path)
            log.warning("metrics_damaged", path=str(path), lines=steps[:-1].count(None), copy=str(kept))
        left = [line for line, step in zip(lines, steps, strict=True) if step is not None and _is_done(run, step, line)]
        if left != lines[: len(left)]:
            with replacing(path) as temporary:
                temporary.write_bytes(b"".join(left))
        self._file = path.open("ab", buffering=0)
        self._file.truncate(sum(map(len, left)))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line. A number JSON cannot hold is written as null."""
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._waiting += json.dumps({"step": step, **finite}, allow_nan=False).encode() + b"\n"
        self._write()

    def close(self, status: str) -> None:  # noqa: ARG002 - the backend's interface
        """Close the file."""
        if self._file is not None:
            self._write()
            self._file.close()

    def _write(self) -> None:
        if self._file is None:
            return
        try:
            while self._waiting:
                self._waiting = self._waiting[self._file.write(self._waiting) :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise


def _step_of(line: bytes) -> int | None:
    """The step of a line; None where it is none of this file: cut short by a crash, or damaged."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return step if type(step) is int and line.endswith(b"\n") else None


def _is_done(run: Run, step: int, line: bytes) -> bool:
    """Whether a line is of the steps that were done, and no validation that follows."""
    follows = step == run.start_step and not run.is_validated and b'"eval/' in line
    return step <= run.start_step and not follows


class TensorBoardLogger:
    """Backend that writes scalars for TensorBoard, in `tensorboard/` of the run's folder.

    Its writer ends at the first failure, so while the disk is full, nothing is given to it; with room, all is.
    """

    def open(self, run: Run) -> None:
        """Open a writer; curves past `run.start_step` of an earlier try are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        if run.is_new:
            shutil.rmtree(run.output_dir / TENSORBOARD, ignore_errors=True)
        purge_step = None if run.is_new else run.start_step + 1
        self._folder = run.output_dir / TENSORBOARD
        self._writer: Any = SummaryWriter(str(self._folder), purge_step=purge_step)
        self._waiting: list[tuple[int, float, Mapping[str, float]]] = []

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write each number under its name, with the time of now."""
        self._waiting.append((step, time.time(), metrics))
        self._write()

    def _write(self) -> None:
        if shutil.disk_usage(self._folder).free < TENSORBOARD_ROOM:
            return
        for past, seconds, numbers in self._waiting:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, past, walltime=seconds)
        self._waiting.clear()

    def close(self, status: str) -> None:  # noqa: ARG002 - the backend's interface
        """Flush and close."""
        self._write()
        self._writer.close()


@dataclass
class WandbLogger:
    """Backend for Weights & Biases, offline unless `mode = "online"`: nothing leaves the machine unasked."""

    project: str = "runyoro-ssl"
    mode: Literal["offline", "online"] = "offline"

    def __post_init__(self) -> None:
        if importlib.util.find_spec("wandb") is None:
            raise PluginError("wandb is not installed; pip install -e '.[wandb]'")

    def open(self, run: Run) -> None:
        """Start a run, in the run's folder."""
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        self._run = wandb.init(
            project=self.project,
            name=run.name,
            config=dict(run.config),
            dir=str(run.output_dir),
            mode=self.mode,
            settings=WANDB_KEEPS_OUT,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the numbers of one step."""
        self._run.log(dict(metrics), step=step)

    def close(self, status: str) -> None:
        """Finish; a failed run is marked so."""
        self._run.finish(exit_code=0 if status == "finished" else 1)


@dataclass
class TrackioLogger:
    """Backend for trackio: into its database on this machine, unless `space_id` names a Space of the hub.

    trackio would also send what variables of the environment name (a Space, a server, a bucket, a webhook), ask the hub
    for the name of who is logged in, and record the machine's load: none of that is done. A run that goes on is a run
    of its own there, `NAME from step N`, in the group of the first: what lies past its checkpoint stays the other's.
    """

    project: str = "runyoro-ssl"
    space_id: str | None = None

    def __post_init__(self) -> None:
        if importlib.util.find_spec("trackio") is None:
            raise PluginError("trackio is not installed; pip install -e '.[trackio]'")

    def open(self, run: Run) -> None:
        """Start a run in the project."""
        for name in TRACKIO_SENDS_BY:
            os.environ.pop(name, None)
        import trackio
        from huggingface_hub import constants

        self._trackio: Any = trackio  # its functions have no types
        name = run.name if run.is_new else f"{run.name} from step {run.start_step}"
        was_offline = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = was_offline or self.space_id is None
        try:
            with redirect_stdout(io.StringIO()):  # it prints among the progress bars
                self._run: Any = trackio.init(
                    project=self.project,
                    name=name,
                    group=run.name,
                    config=dict(run.config),
                    space_id=self.space_id,
                    embed=False,
                    auto_log_gpu=False,
                    auto_log_cpu=False,
                )
        finally:
            constants.HF_HUB_OFFLINE = was_offline

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the numbers of one step; those that are none are left out."""
        self._run.log({name: value for name, value in metrics.items() if math.isfinite(value)}, step=step)

    def close(self, status: str) -> None:  # noqa: ARG002 - the backend's interface
        """Finish, when all is in the database."""
        with redirect_stdout(io.StringIO()):
            self._trackio.finish()


@hookimpl
def runyoro_logging_backends(register: Register) -> None:
    """Register the backends. wandb and trackio need the extras of their names."""
    register("console", ConsoleLogger)
    register("jsonl", JsonlLogger)
    register("tensorboard", TensorBoardLogger)
    register("wandb", WandbLogger)
    register("trackio", TrackioLogger)
