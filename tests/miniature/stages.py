"""Stages of trials on real speech: datasets, a base, a model that is continued, what `evaluate` finds of it."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile as sf

from miniature.align import align, phones_of, write_phn
from miniature.start import build_model, learn_units
from runyoro_ssl.audio.synth import SAMPLE_RATE
from runyoro_ssl.train.checkpoints.folder import step_of

BASE_STEPS, BASE_RATE = 500, 3e-4
HOW = (
    *("hardware.precision=auto", "hardware.batch_seconds=30", "hardware.plan_seconds=30", "hardware.update_seconds=60"),
    *("train.eval_steps=50", "train.save_steps=50", "train.logging_steps=10"),
)
FILTERS = 'plugins.filters=["duration","silence","clipping","duplicates"]'
COST = "cpu_seconds.txt"
"""In a model's folder: what its run took."""


def prepare_both(speech: Path, work: Path, *, small: bool = False) -> None:
    """A model with random weights; the base's languages and the target's, as prepared datasets; the target's phones."""
    lines: dict[str, list[dict[str, object]]] = {"known": [], "target": []}
    for part in ("bantu", "more"):
        for line in (speech / part / "manifest.jsonl").read_text().splitlines():
            row = json.loads(line)
            row["audio_filepath"] = str(speech / part / row["audio_filepath"])
            lines["target" if row["language"] == "lug" else "known"].append(row)
    if not (work / "random").exists():
        build_model(work / "random", small=small)
    for name, chosen in lines.items():
        if not (work / name).exists():
            (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
            share = "0.1" if name == "target" else "0.05"
            options = ["--model-name-or-path", "random", "--manifest-path", f"{name}.jsonl", "--output-dir", name]
            call(work, "prepare", *options, *sets(FILTERS, f"prepare.validation_share={share}"))
    if not (work / "phn").exists():
        align_all(lines["target"], speech, work / "phn")


def align_all(lines: list[dict[str, object]], speech: Path, folder: Path) -> None:
    """Align every recording whose text is spelled in the letters of Luganda."""
    waveforms, words, paths = [], [], []
    for row in lines:
        phones = phones_of(str(row.get("text") or ""))
        waveform, rate = sf.read(str(row["audio_filepath"]), dtype="float32")
        if phones is not None and rate == SAMPLE_RATE and len(waveform) > 3.5 * 160 * sum(map(len, phones)):
            waveforms.append(waveform)
            words.append(phones)
            paths.append((folder / Path(str(row["audio_filepath"])).relative_to(speech)).with_suffix(".phn"))
    for path, segments in zip(paths, align(waveforms, words), strict=True):
        write_phn(segments, path)


def make_base(work: Path) -> Path:
    """Units of spectra first, then contrastive learning."""
    start = work / "models" / "start"
    if not start.exists():
        right = learn_units(work / "random", work / "known", start)
        sys.stdout.write(f"masked units named right: {right:.1%}\n")
    rate = f"train.learning_rate={BASE_RATE}"
    return train(work / "models" / "base", start, "known", steps=BASE_STEPS, settings=(*HOW, rate))


def train(folder: Path, base: Path, data: str, *, steps: int, settings: Sequence[str], seed: int = 0) -> Path:
    """A model that is continued on a dataset; its last checkpoint, as a plain folder."""
    work, name = folder.parent.parent, folder.name
    if not folder.exists():
        out = work / "runs" / name
        shutil.rmtree(out, ignore_errors=True)  # an unfinished one
        options = ["--model-name-or-path", str(base), "--processed-dataset-path", data, "--output-dir", str(out)]
        cost = call(work, "train", *options, "--max-steps", str(steps), *sets(*settings, f"train.seed={seed}"))
        newest = max(out.glob("checkpoint-*"), key=step_of)
        folder.mkdir(parents=True)
        for file in ("model.safetensors", "config.json", "preprocessor_config.json"):
            shutil.copyfile(newest / file, folder / file)
        (folder / COST).write_text(f"{cost:.0f}\n")
    return folder


def evaluate(work: Path, base: Path, model: Path) -> dict[str, Any]:
    """What `evaluate` finds: the content of evaluation.json."""
    out = work / "evaluations" / model.name
    if not (out / "evaluation.json").exists():
        options = ["--base", str(base), "--adapted", str(model), "--data", "target", "--alignments", "phn"]
        call(work, "evaluate", *options, "--other-data", "known", "--max-minutes", "15", "--output-dir", str(out))
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return found


def sets(*settings: str) -> list[str]:
    """Options of settings."""
    return [word for one in settings for word in ("--set", one)]


def call(work: Path, *words: str) -> float:
    """Run a task of the toolkit in the folder of work. Returns the seconds of processor that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "runyoro_ssl", *words], cwd=work, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
