"""How often the verdict of `invoke evaluate` is wrong: planted cases, many times each.

`python tests/verdicts.py WORK --repetitions 200`. Synthetic speech, whose phones are known, and a small model that was
trained on it. Each repetition hears other held-out clips, and is judged twice: without its phones, and with them. Two
models that do not differ (halves of the same speech, other seeds, a little noise on the weights) may leave "no
evidence" in 5 % of the repetitions; a model that collapsed, one trained on white noise and one that knows twenty clips
by heart, of the base's own language or of the target, may never be said to have helped, or to fit better. A model that
was trained longer is to be found better.
What is in WORK already is not made again: a run that was stopped goes on, and a rule that was changed judges what was
measured.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from runyoro_ssl.audio.synth import SAMPLE_RATE, write_corpus
from runyoro_ssl.config import HardwareConfig
from runyoro_ssl.evaluate.heard.features import FeatureCache
from runyoro_ssl.evaluate.record import Evaluation, JudgementKind, read_evaluation, write_evaluation
from runyoro_ssl.evaluate.request import EvaluationRequest
from runyoro_ssl.evaluate.run import evaluate
from runyoro_ssl.evaluate.verdict import judge
from runyoro_ssl.logs import print_table
from runyoro_ssl.model.listener import to_listen
from runyoro_ssl.torchaudio_compat import import_transformers

KINDS: tuple[str, ...] = get_args(JudgementKind)
SHAPE: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "conv_dim": (64,) * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 64,
    "codevector_dim": 64,
    "proj_codevector_dim": 64,
    "layerdrop": 0.0,
}
HOT = (
    *("train.feature_encoder_lr_scale=1.0", "train.gumbel_temperature_start=1.0", "health.spike_factor=50.0"),
    "hardware.update_seconds=20",
)
"""A small model learns in minutes so."""
BASE_STEPS, MORE_STEPS, LONG_STEPS = 300, 60, 600
HIGH_RATE = 3e-3
"""From random weights; for longer it would lose codes."""
SEEDS = 6
CODEBOOKS = 2
NOISE = 0.002
"""Of each weight's own spread."""
BY_HEART_CLIPS = 20


SHOWN = {"phones.abx_within": "ABX", "phones.probe": "probe", "fit.below_guessing": "loss"}
"""Of which differences the mean is told: points, and nats."""


@dataclass(frozen=True)
class PlantedCase:
    """Two models, chosen for each repetition, and what may be said of them without labels, and with them."""

    name: str
    choose: Callable[[np.random.Generator], tuple[Path, Path]]
    allowed: tuple[str, ...]
    allowed_with_labels: tuple[str, ...]


def main() -> None:
    """Make the models, judge them, print a table; every evaluation is kept in WORK/evaluations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=2.0)
    given = parser.parse_args()
    given.work = given.work.resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    cases = make_cases(given.work)
    cache = FeatureCache(given.work / "features", max_bytes=1 << 28)
    found: dict[str, list[Evaluation]] = {case.name: [] for case in cases}
    for repetition in range(given.repetitions):
        for case in cases:
            found[case.name].append(measured(case, given.work, repetition, given.minutes, cache))
    columns = ["planted", "judged", *KINDS, "not allowed", *SHOWN.values()]
    print_table(f"{given.repetitions} repetitions", columns, table(cases, found))


def measured(case: PlantedCase, work: Path, repetition: int, minutes: float, cache: FeatureCache) -> Evaluation:
    """The two models of a case, on the held-out clips of a repetition, with their phones."""
    folder = work / "evaluations" / case.name.replace(" ", "-") / str(repetition)
    if (known := read_evaluation(folder)) is not None:
        return known
    base, adapted = case.choose(np.random.default_rng(repetition))
    request = EvaluationRequest(
        base=base,
        adapted=adapted,
        data=work / "target",
        other_data=None,
        alignments=work / "phn",
        transcripts=False,
        max_minutes=minutes,
        cache=cache,
        hardware=to_listen(HardwareConfig()),
        seed=repetition,
        with_context=False,  # spectra and random weights judge nothing
    )
    evaluation = evaluate(request).evaluation
    folder.mkdir(parents=True)
    write_evaluation(evaluation, folder)
    return evaluation


def say(evaluation: Evaluation, *, with_labels: bool) -> str:
    """The verdict, by the rule of now."""
    measures = [one for one in evaluation.measures if with_labels or not one.is_labelled]
    num_codes = SHAPE["num_codevectors_per_group"] * CODEBOOKS
    return judge(measures, minutes=evaluation.speech.seconds / 60, num_codes=num_codes).kind


def table(cases: Sequence[PlantedCase], found: Mapping[str, Sequence[Evaluation]]) -> list[list[str]]:
    """How often each verdict was given, by case, how often one that is not allowed, and mean differences."""
    rows = []
    for case in cases:
        for with_labels, allowed in ((False, case.allowed), (True, case.allowed_with_labels)):
            told = Counter(say(one, with_labels=with_labels) for one in found[case.name])
            wrong = sum(count for kind, count in told.items() if kind not in allowed)
            sizes = [mean_difference(found[case.name], key) for key in SHOWN]
            how = "with phones" if with_labels else "without"
            rows.append([case.name, how, *(str(told[kind]) for kind in KINDS), str(wrong), *sizes])
    return rows


def mean_difference(evaluations: Sequence[Evaluation], key: str) -> str:
    """The mean difference of a measure, and its spread over repetitions."""
    found = [measure for one in evaluations if (measure := one.get(key)) and measure.difference is not None]
    scale = 100 if found and found[0].unit == "%" else 1
    values = [scale * one.difference for one in found if one.difference is not None]
    return f"{np.mean(values):+.2f} (sd {np.std(values):.2f})" if values else "-"


def make_cases(work: Path) -> list[PlantedCase]:
    """Every model that is needed, and the cases made of them."""
    start = make_start(work)
    base = train(work, "base", start, "first", BASE_STEPS, rate=HIGH_RATE)
    short = train(work, "short", start, "first", BASE_STEPS // 3, rate=HIGH_RATE)
    halves = [train(work, f"half{half}", base, f"half{half}", MORE_STEPS) for half in range(2)]
    seeds = [train(work, f"seed{seed}", base, "target", MORE_STEPS, seed=seed) for seed in range(SEEDS)]
    longer = train(work, "longer", base, "target", LONG_STEPS)
    on_noise = train(work, "on-noise", base, "noise", LONG_STEPS)
    by_heart = train(work, "by-heart", base, "twenty", 4 * LONG_STEPS)
    by_heart_known = train(work, "by-heart-known", base, "twenty-known", 4 * LONG_STEPS)
    collapsed = collapse(work, base)

    def other_seed(generator: np.random.Generator) -> tuple[Path, Path]:
        one, other = generator.choice(SEEDS, 2, replace=False)
        return seeds[one], seeds[other]

    def halves_in_turn(generator: np.random.Generator) -> tuple[Path, Path]:
        one = int(generator.integers(2))
        return halves[one], halves[1 - one]

    no_difference, no_praise = ("no evidence",), ("no evidence", "hurt")
    return [
        PlantedCase("halves of the same speech", halves_in_turn, no_difference, no_difference),
        PlantedCase("another seed", other_seed, no_difference, no_difference),
        PlantedCase("noise on the weights", lambda draw: (base, noisy(work, base, draw)), no_difference, no_difference),
        PlantedCase("collapsed", lambda _: (base, collapsed), no_praise, no_praise),
        PlantedCase("trained on white noise", lambda _: (base, on_noise), no_praise, no_praise),
        PlantedCase("twenty known clips by heart", lambda _: (base, by_heart_known), no_praise, no_praise),
        PlantedCase("twenty clips by heart", lambda _: (base, by_heart), no_praise, no_praise),
        PlantedCase("trained on the target", lambda _: (base, longer), ("fits better",), ("fits better", "helped")),
        PlantedCase("from a third of the training", lambda _: (short, longer), ("fits better",), ("helped",)),
        PlantedCase("from random weights", lambda _: (start, longer), ("fits better",), ("helped",)),
    ]


def make_start(work: Path) -> Path:
    """Random weights, and the speech that is learned from."""
    start = work / "start"
    if not start.exists():
        torch.manual_seed(0)
        transformers = import_transformers()
        transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**SHAPE)).save_pretrained(start)
        transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(start)
    make_recordings(work)
    for name in ("first", "half0", "half1", "noise", "twenty", "twenty-known", "target"):
        if not (work / name).exists():
            prepare(work, name, share="0.45" if name == "target" else "0.1")
    return start


def make_recordings(work: Path) -> None:
    """Two languages of the synthesiser, with the phones of the target; halves, twenty clips, and white noise."""
    audio = work / "audio"
    size: dict[str, Any] = {"num_clips": 400, "num_voices": 20, "num_words": 20, "clip_sec": 4.0}
    for name, seed in (("first", 1), ("target", 2)):
        if (audio / name).exists():
            continue
        for clip, spoken in write_corpus(audio / name, seed=seed, **size).items():
            file = (work / ("phn" if name == "target" else "phn-of-first") / clip).with_suffix(".phn")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{one.start_sec:.4f} {one.end_sec:.4f} {one.symbol}\n" for one in spoken))
    if not (audio / "noise").exists():
        write_noise(audio / "noise")
    for name, few in (("target", "twenty"), ("first", "twenty-known")):
        for index, path in enumerate(sorted((audio / name).rglob("*.wav"))):
            if name == "target":
                put(path, audio / f"half{index % 2}" / path.parent.name)
            if index < BY_HEART_CLIPS + 4:
                put(path, audio / few / ("held" if index >= BY_HEART_CLIPS else "learned"))


def prepare(work: Path, name: str, *, share: str) -> None:
    """A prepared dataset of a folder of recordings, of which a share is held out."""
    call(work, "manifest", "--audio-dir", f"audio/{name}", "--speaker-from", "folder", "--output", f"{name}.jsonl")
    more = ["--set", 'plugins.filters=["duration"]', "--set", f"prepare.validation_share={share}"]
    options = ["--model-name-or-path", "start", "--manifest-path", f"{name}.jsonl", "--output-dir", name]
    call(work, "prepare", *options, *more)


def write_noise(folder: Path) -> None:
    """White noise of two microphones."""
    import soundfile as sf

    generator = np.random.default_rng(0)
    for microphone in ("a", "b"):
        (folder / microphone).mkdir(parents=True)
        for clip in range(60):
            noise = 0.1 * generator.standard_normal(5 * SAMPLE_RATE)
            sf.write(folder / microphone / f"{clip}.wav", noise, SAMPLE_RATE)


def put(path: Path, folder: Path) -> None:
    """Copy a file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / path.name)


def train(work: Path, name: str, base: Path, data: str, steps: int, *, rate: float = 1e-3, seed: int = 0) -> Path:
    """A model that is continued on a dataset, as a plain folder: no run tells what it was trained on."""
    folder = work / "models" / name
    if not folder.exists():
        out = work / "runs" / name
        shutil.rmtree(out, ignore_errors=True)  # an unfinished one
        settings = [f"train.seed={seed}", f"train.learning_rate={rate}", *HOT]
        options = ["--model-name-or-path", str(base), "--processed-dataset-path", data, "--output-dir", str(out)]
        sets = [word for one in settings for word in ("--set", one)]
        call(work, "train", *options, "--max-steps", str(steps), *sets)
        newest = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        folder.mkdir(parents=True)
        for file in ("model.safetensors", "config.json", "preprocessor_config.json"):
            shutil.copyfile(newest / file, folder / file)
    return folder


def collapse(work: Path, base: Path) -> Path:
    """The base with a codebook that gives every frame one code."""
    folder = work / "models" / "collapsed"
    if not folder.exists():
        shutil.copytree(base, folder)
        weights = load_file(folder / "model.safetensors")
        bias = weights["quantizer.weight_proj.bias"]
        bias[0] = bias[len(bias) // 2] = 1000.0
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def noisy(work: Path, base: Path, draw: np.random.Generator) -> Path:
    """The base with a little noise on every weight."""
    folder = work / "models" / "noisy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    generator = torch.Generator().manual_seed(int(draw.integers(2**31)))
    weights = load_file(folder / "model.safetensors")
    for tensor in weights.values():
        if tensor.numel() > 1:
            tensor.add_(NOISE * tensor.std() * torch.randn(tensor.shape, generator=generator))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def call(work: Path, *words: str) -> None:
    """Run a task of the toolkit in the folder of work."""
    subprocess.run([sys.executable, "-m", "runyoro_ssl", *words], cwd=work, check=True, capture_output=True)


if __name__ == "__main__":
    main()
