"""Built-in logging backends of `train`: console, jsonl, tensorboard, wandb."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal

from runyoro_ssl import hookimpl
from runyoro_ssl.errors import PluginError
from runyoro_ssl.logs import console

if TYPE_CHECKING:
    from runyoro_ssl.hookspecs import Register, Run


class ConsoleLogger:
    """One line for each logged step and each validation, above the progress bar."""

    SHOWN = (
        ("loss", "loss", "{:.4f}"),
        ("accuracy", "accuracy", "{:.1%}"),
        ("codevector_perplexity", "perplexity", "{:.0f}"),
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
        for stage, style in (("train", ""), ("eval", "bold")):
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
    """Appends every number to `metrics.jsonl` in the run's folder, one object a line: `step`, `epoch`, metrics.

    A resumed run first removes the lines past its checkpoint, so that each step stands there once.
    """

    file_name: str = "metrics.jsonl"
    _file: IO[str] | None = field(default=None, init=False, repr=False)

    def open(self, run: Run) -> None:
        """Open for appending, after `run.start_step`."""
        path = run.output_dir / self.file_name
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = "".join(line for line in lines if _step_of(line) <= run.start_step)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(kept, encoding="utf-8")
            temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line. A number JSON cannot hold is written as null."""
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        if self._file is not None:
            self._file.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")
            self._file.flush()

    def close(self, status: str) -> None:  # noqa: ARG002 - the backend's interface
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _step_of(line: str) -> float:
    """The step of a line; infinity for a line cut short by a crash, so that it goes."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class TensorBoardLogger:
    """Scalars for TensorBoard, in `tensorboard/` of the run's folder."""

    def open(self, run: Run) -> None:
        """Open a writer; curves past `run.start_step` of an earlier try are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        purge_step = run.start_step + 1 if run.start_step else None
        self._writer: Any = SummaryWriter(str(run.output_dir / "tensorboard"), purge_step=purge_step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write each number under its name."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self, status: str) -> None:  # noqa: ARG002 - the backend's interface
        """Flush and close."""
        self._writer.close()


@dataclass
class WandbLogger:
    """Weights & Biases. Offline unless `mode = "online"`: nothing leaves the machine without being asked."""

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
            project=self.project, name=run.name, config=dict(run.config), dir=str(run.output_dir), mode=self.mode
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the numbers of one step."""
        self._run.log(dict(metrics), step=step)

    def close(self, status: str) -> None:
        """Finish; a failed run is marked so."""
        self._run.finish(exit_code=0 if status == "finished" else 1)


@hookimpl
def runyoro_logging_backends(register: Register) -> None:
    """Register the four backends. wandb needs the extra of that name."""
    register("console", ConsoleLogger)
    register("jsonl", JsonlLogger)
    register("tensorboard", TensorBoardLogger)
    register("wandb", WandbLogger)
