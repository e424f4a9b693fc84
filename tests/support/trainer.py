"""The real trainer, in this process or in one of its own, which can be killed; and what it left."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from runyoro_ssl.config import Config, TrainConfig
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.torchaudio_compat import import_transformers
from runyoro_ssl.train.checkpoints.format import Snapshot, take_snapshot, verify_checkpoint
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.checkpoints.resume import choose
from runyoro_ssl.train.fitting import fit_run, gather_material, join
from runyoro_ssl.train.optim import build_optimizer
from runyoro_ssl.train.run import TrainResult, train
from runyoro_ssl.train.setup import build_run, make_accelerator
from runyoro_ssl.train.training_run import TrainingRun
from support.environments import environments
from support.forked import FORKED

import_transformers()
importlib.import_module("transformers.models.wav2vec2.modeling_wav2vec2")
"""Once, in the process that trainers are forked from."""

TIMES = ("train/audio_seconds_per_second", "train/data_wait_share", "train/memory_mib")
"""Logged numbers that no two runs share."""
ENDLESS = ("train.max_steps=100000", "train.save_steps=100000", "train.eval_steps=100000")
LONGEST_SEC = 600.0
"""That a whole run takes, of the long forms, on a machine that does something else besides."""
BEGUN = "begun"
SAVED = re.compile(r"checkpoint_saved +.*?step=(\d+)")

_begun: list[BaseProcess] = []


def run(config: Config, **told: Callable[[Path], None]) -> TrainResult:
    """Train in this process, as in one of its own: Accelerate would keep the precision of the first run.

    `told`: `on_validation` and `on_final` of `train`.
    """
    AcceleratorState._reset_state()
    return train(config, load_plugins(config), **told)


def build(config: Config) -> TrainingRun:
    """What a run works with, before its first step."""
    AcceleratorState._reset_state()
    processes = join(config.hardware)
    start = choose(config, processes)
    material = gather_material(config, start)
    fitted = fit_run(config, material, start, processes)
    accelerator = make_accelerator(fitted.config.hardware)
    return build_run(fitted, material, load_plugins(config), accelerator, start)


@dataclass(frozen=True)
class Trainer:
    """`runyoro-ssl train` with a configuration, into its output folder; log lines go to `log`."""

    config: Config
    log: Path

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.config.train.output_dir

    def start(self, *options: str) -> BaseProcess:
        """Begin, or go on."""
        return self._start(options, [{}])[0]

    def _start(self, options: Sequence[str], environments: Sequence[dict[str, str]]) -> Sequence[BaseProcess]:
        """A process for each environment, which is added to the usual one."""
        file = self.log.with_suffix(".toml")
        file.write_text(self.config.to_toml())
        arguments = ["--profile", "cpu-smoke", "--config", str(file), *options]
        self.log.touch()
        started = [FORKED.Process(target=_train, args=(arguments, str(self.log), more)) for more in environments]
        for process in started:
            process.start()
            _begun.append(process)
        return started

    def finish(self, *options: str) -> None:
        """Run to the end, which must be a good one."""
        process = self.start(*options)
        process.join(LONGEST_SEC)
        assert process.exitcode == 0, self.log.read_text()[-3000:]

    def finish_in_two(self, *options: str) -> None:
        """Run to the end in two processes, over gloo, as `torchrun` starts them."""
        self.finish_in(2, *options)

    def finish_in(self, num_processes: int, *options: str) -> None:
        """Run to the end in so many processes, over gloo, as `torchrun` starts them."""
        for process in self.start_in(num_processes, *options):
            process.join(LONGEST_SEC)
            assert process.exitcode == 0, self.log.read_text()[-3000:]

    def start_in(self, num_processes: int, *options: str) -> Sequence[BaseProcess]:
        """Begin, or go on, in so many processes."""
        return self._start(options, environments(num_processes))

    def time_whole(self) -> float:
        """Seconds of an undisturbed run, from where the trainer comes to its own code."""
        process = self.start()
        assert wait_until(lambda: self.times_begun() > 0, process)
        started = time.monotonic()
        process.join(LONGEST_SEC)
        assert process.exitcode == 0, self.log.read_text()[-3000:]
        return time.monotonic() - started

    def times_begun(self) -> int:
        """How often the trainer has come to its own code."""
        return self.log.read_text().splitlines().count(BEGUN) if self.log.exists() else 0

    def last_acknowledged(self) -> int:
        """The step of the last checkpoint that the trainer said was saved; 0 for none."""
        said = SAVED.findall(self.log.read_text()) if self.log.exists() else []
        return int(said[-1]) if said else 0

    def steps_logged(self) -> int:
        """The last step in metrics.jsonl."""
        return max((line["step"] for line in _whole_lines(self.out)), default=0)


def _train(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    """In the trainer's process: as from a shell."""
    from runyoro_ssl.__main__ import main

    os.environ |= environment
    os.setpgid(0, 0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["runyoro-ssl", "train", *arguments]
    print(BEGUN, flush=True)  # noqa: T201 - from here on, a signal meets the trainer's own code
    main()


def build_saveable(model: Path) -> tuple[Any, Any, Callable[[int], Snapshot]]:
    """A model, its feature extractor, and what makes a snapshot of a step, without training."""
    transformers = import_transformers()
    loaded = transformers.Wav2Vec2ForPreTraining.from_pretrained(model)
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(model)
    optimizer = build_optimizer(loaded, TrainConfig())
    for parameter in loaded.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return loaded, extractor, lambda step: take_snapshot(loaded, optimizer, {}, {"step": step, "concerns": []})


def kill(process: BaseProcess) -> None:
    """SIGKILL for a trainer and its workers."""
    assert process.pid is not None
    process.kill()
    with suppress(ProcessLookupError):  # before it has a group, it has no workers
        os.killpg(process.pid, signal.SIGKILL)
    process.join(20)


def end_all() -> None:
    """SIGKILL for every trainer that has not ended."""
    while _begun:
        process = _begun.pop()
        if process.is_alive():
            kill(process)


def wait_until(condition: Callable[[], bool], process: BaseProcess, *, timeout_sec: float = 60) -> bool:
    """Wait for a condition, or for the process to end first: then False."""
    end = time.monotonic() + timeout_sec
    while not condition():
        if not process.is_alive() or time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def damaged(out: Path) -> list[str]:
    """What is wrong with the checkpoints of a run."""
    found = [(folder.name, verify_checkpoint(folder)) for _, folder in list_checkpoints(out)]
    return [f"{name}: {problem}" for name, problem in found if problem]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights saved in a folder."""
    return load_file(folder / "model.safetensors")


def metrics(out: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, in which something must be, without what depends on the clock."""
    lines = _whole_lines(out)
    assert lines, f"{out}: nothing was logged"
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def _whole_lines(out: Path) -> list[dict[str, Any]]:
    """metrics.jsonl as far as there is any; a line being written is left out."""
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def cut_back(out: Path, step: int) -> None:
    """Make a finished run one that was killed after a step: later checkpoints and the final model are gone.

    Later numbers stay, as after a kill, but are spoiled: a run that does nothing is not taken for one that went on.
    """
    for number, folder in list_checkpoints(out):
        if number > step:
            shutil.rmtree(folder)
    (out / "model.safetensors").unlink()
    spoil_metrics(out, step)


def spoil_metrics(out: Path, step: int) -> None:
    """Make the numbers logged after a step wrong, so that they must be replaced."""
    lines = [{"step": line["step"], "spoiled": 1.0} if line["step"] > step else line for line in _whole_lines(out)]
    assert "spoiled" in lines[-1]
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights agree in every bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def worker_of(run: BaseProcess) -> psutil.Process:
    """The process that builds its batches."""
    children = psutil.Process(run.pid).children()
    return next(child for child in children if "resource_tracker" not in " ".join(child.cmdline()))


def check_saved(run: Trainer, process: BaseProcess, status: int, *, within_sec: float) -> None:
    """It ends by itself, with this status, and with all that was logged saved."""
    process.join(within_sec)
    assert process.exitcode == status, run.log.read_text()[-3000:]
    assert damaged(run.out) == []
    assert run.last_acknowledged() >= run.steps_logged() > 0
