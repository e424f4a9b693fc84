"""Real runs on the CPU in each way to train, in processes of their own: the memory they took beside the prediction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

WITHIN = 0.15
LORA, EIGHT = "adapter.kind=lora", "train.optimizer=adamw-8bit"
CHECKPOINTING, EAGER, FP32, BF16 = (
    "hardware.gradient_checkpointing=true",
    "hardware.attention=eager",
    "hardware.precision=fp32",
    "hardware.precision=bf16",
)
MODELS: dict[str, dict[str, Any]] = {
    "6M": {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 896},
    "25M": {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 2048},
    "300M": {},
}
"""Shapes beside XLS-R's; 300M is XLS-R-300M's own."""
WIDTHS = {"6M": 256, "25M": 320, "300M": 512}
SECONDS = {"6M": 45, "25M": 45, "300M": 15}
"""Of a micro-batch."""
MICRO_BATCHES = {"6M": 1, "25M": 2, "300M": 1}
"""Of an update."""


@dataclass(frozen=True)
class MemoryTrial:
    """A run: the size of its model, and what is set besides."""

    model: str
    settings: tuple[str, ...] = ()

    def line(self) -> str:
        """As a person reads it."""
        short = (setting.partition(".")[2].removesuffix("=true") for setting in self.settings)
        return f"{self.model:>5}  {SECONDS[self.model]} s  {' '.join(short) or 'plain'}"


TRIALS = [
    *(MemoryTrial("6M", way) for way in ((), (BF16,), (CHECKPOINTING,), (BF16, CHECKPOINTING))),
    *(MemoryTrial("6M", way) for way in ((EAGER,), (BF16, EAGER), (LORA,), (BF16, LORA))),
    *(MemoryTrial("6M", way) for way in ((LORA, CHECKPOINTING), (EIGHT,), (EIGHT, LORA, EAGER))),
    *(MemoryTrial("25M", way) for way in ((), (BF16,), (CHECKPOINTING,), (LORA,), (BF16, LORA, CHECKPOINTING))),
    *(MemoryTrial("25M", way) for way in ((EIGHT, CHECKPOINTING), (EIGHT, BF16, LORA))),
    *(MemoryTrial("300M", way) for way in ((CHECKPOINTING,), (BF16, CHECKPOINTING), (EIGHT, CHECKPOINTING))),
    *(MemoryTrial("300M", way) for way in ((LORA, CHECKPOINTING), (LORA, BF16))),
]


@dataclass(frozen=True)
class Taken:
    """Bytes that a run was predicted to take at its peak, and took: resident, with all libraries."""

    predicted: int
    measured: int

    @property
    def difference(self) -> float:
        """Of the measured from the predicted, as a share of the latter."""
        return self.measured / self.predicted - 1


def save_model(folder: Path, size: str) -> Path:
    """A random model of a size, with dropout as XLS-R's config.json has it, and no layer drop."""
    if (folder / "model.safetensors").exists():
        return folder
    import torch

    from runyoro_ssl.bench.sizes import SIZES
    from runyoro_ssl.torchaudio_compat import import_transformers

    transformers = import_transformers()
    torch.manual_seed(0)
    shape = {**SIZES["xls-r-300m"], **MODELS[size], "conv_dim": (WIDTHS[size],) * 7, "layerdrop": 0.0}
    transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**shape)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


def save_dataset(folder: Path, model: Path) -> Path:
    """A prepared dataset of synthetic clips of up to 15 s."""
    if (folder / "dataset" / "fingerprint.json").exists():
        return folder / "dataset"
    from runyoro_ssl import manifest, prepare
    from runyoro_ssl.audio.synth import write_corpus

    write_corpus(folder / "corpus", num_clips=16, num_voices=4, num_words=6, clip_sec=12.0)
    manifest(audio_dir=folder / "corpus", output=folder / "manifest.jsonl", speaker_from=r"^([^/]+)/")
    prepare(
        manifest_path=folder / "manifest.jsonl",
        output_dir=folder / "dataset",
        model_name_or_path=str(model),
        segment="fixed",
        max_duration_sec=15.0,
        set={"plugins.filters": [], "prepare.keep_shards": False},
    )
    return folder / "dataset"


def settings_of(trial: MemoryTrial, model: Path, dataset: Path, out: Path) -> list[str]:
    """All settings of a run of two steps, in fp32 unless the trial says otherwise; freed memory is given back."""
    seconds = SECONDS[trial.model]
    return [
        f"model.model_name_or_path={model}",
        f"train.processed_dataset_path={dataset}",
        f"train.output_dir={out}",
        "train.max_steps=2",
        "hardware.keep_freed_memory=false",
        FP32,
        f"hardware.batch_seconds={seconds}",
        f"hardware.gradient_accumulation_steps={MICRO_BATCHES[trial.model]}",
        'plugins.loggers=["jsonl"]',
        *trial.settings,
    ]


def take(settings: list[str]) -> Taken:
    """Run in this process, and say what it took. A checkpoint is copied where memory is plentiful: here it is not."""
    from runyoro_ssl import train
    from runyoro_ssl.model.allocator import allow
    from runyoro_ssl.train import setup
    from runyoro_ssl.train.checkpoints import format as checkpoints

    with (
        mock.patch.object(checkpoints, "available_memory", return_value=0),
        mock.patch.object(setup, "allow", wraps=allow) as asked,
    ):
        train(profile="cpu-smoke", set=settings)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return Taken(asked.call_args.args[0].peak, kib << 10)


def take_apart(settings: list[str]) -> Taken:
    """Run in a process of its own."""
    command = [sys.executable, __file__, "--take", json.dumps(settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Taken(**json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """`python tests/memory_runs.py`: each run in a line; status 1 if any took 15 % more or less than predicted."""
    import argparse
    import shutil
    import tempfile

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=len(TRIALS))
    parser.add_argument("--first", type=int, default=1, help="number of the first run")
    parser.add_argument("--folder", type=Path, help="keeps dataset and models; used again")
    parser.add_argument("--take", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.take:
        print(json.dumps(vars(take(json.loads(options.take)))))  # noqa: T201 - for the process that asked
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="runyoro-memory-") as scratch:
        folder = options.folder or Path(scratch)
        for number, trial in enumerate(TRIALS[: options.runs], 1):
            if number < options.first:
                continue
            model = save_model(folder / trial.model, trial.model)
            out = folder / "run"
            shutil.rmtree(out, ignore_errors=True)
            taken = take_apart(settings_of(trial, model, save_dataset(folder, save_model(folder / "6M", "6M")), out))
            wrong += abs(taken.difference) > WITHIN
            sizes = f"predicted {taken.predicted >> 20:>6,} MiB, took {taken.measured >> 20:>6,}"
            print(f"{number:>2}. {trial.line():<58} {sizes}, {taken.difference:+.1%}", flush=True)  # noqa: T201
    print(f"{wrong} outside {WITHIN:.0%}")  # noqa: T201
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
