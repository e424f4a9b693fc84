"""Are the defaults right? One setting changed at a time, on real speech: `python tests/recipe_runs.py SPEECH WORK`.

The base of in_miniature.py, which has heard Kinyarwanda and Swahili, goes on with Luganda: by the defaults, and with
one setting changed, from three seeds each. `evaluate` compares each with what the defaults gave from the same seed, on
Luganda by speakers whom none of them has heard, with phone alignments: the table of docs/recipe.md. Six hours on one
core; `--seed 0` makes the runs of that seed alone, so that several go side by side. What is in WORK already is not made
again, and the table is of what there is.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from miniature.stages import COST, HOW, evaluate, make_base, prepare_both, train
from safetensors.torch import load_file, save_file
from scipy.stats import t as student

from runyoro_ssl.evaluate.mixtures import average, interpolation, write_mixture
from runyoro_ssl.logs import print_table
from runyoro_ssl.model.source import WEIGHTS
from runyoro_ssl.train.checkpoints.averages import read_averages
from runyoro_ssl.train.checkpoints.folder import step_of

SEEDS = (0, 1, 2)
STEPS = 100
"""Of 60 s: 6,000 s are heard."""
DEFAULT = "default"
DROPOUTS = ("hidden_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop")
HUB = tuple(f"model.{name}=0.1" for name in DROPOUTS)
"""As the configuration of XLS-R on the hub has it."""
KEEPING = ("train.save_steps=10", "train.eval_steps=50", "train.save_total_limit=5", "train.ema_decay=0.95")
"""What the means are made of. It changes nothing of the run itself."""


def company(role: str, share: float) -> str:
    """The setting of two sources: the target, and the languages that the base has heard."""
    return f'train.sources=[{{path="target"}}, {{path="known", role="{role}", share={share}}}]'


CHANGED: dict[str, tuple[str, tuple[str, ...]]] = {
    "rate-3x": ("learning rate 1.5e-4, three times", ("train.learning_rate=1.5e-4",)),
    "rate-third": ("learning rate 1.7e-5, a third", ("train.learning_rate=1.7e-5",)),
    "cnn-1x": ("CNN at the whole rate, not a tenth", ("train.feature_encoder_lr_scale=1",)),
    "cnn-frozen": ("CNN frozen", ("train.freeze_feature_encoder=true",)),
    "cnn-alone": (
        "CNN alone, at the whole rate",
        ("train.train_only=feature_encoder", "train.feature_encoder_lr_scale=1"),
    ),
    "no-dropout": ("no dropout, no layer drop", tuple(f"model.{name}=0" for name in DROPOUTS)),
    "augmented": ("noise and speed", ('plugins.augmentations=["noise", "speed"]',)),
    "replay-5": ("5 % replay", (company("replay", 0.05),)),
    "replay-20": ("20 % replay", (company("replay", 0.2),)),
    "donor-1x": ("as much of the donors as of the target", (company("donor", 0.5),)),
    "donor-3x": ("three times as much", (company("donor", 0.75),)),
    "constant": ("rate constant after warm-up", ("train.constant_after_warmup=true",)),
    "no-warmup": ("no warm-up", ("train.warmup_steps=0",)),
    "long-warmup": ("three tenths of warm-up", ("train.warmup_steps=30",)),
    "gumbel-0.1": ("Gumbel temperature to 0.1", ("train.gumbel_temperature_end=0.1",)),
    "gumbel-0.5": ("Gumbel temperature 0.5 throughout", ("train.gumbel_temperature_start=0.5",)),
    "layer-decay": ("layer-wise decay 0.9", ("train.layer_decay=0.9",)),
    "adapters": ("adapters (LoRA)", ("adapter.kind=lora",)),
}
"""By the name of its models: its name in the table, and the settings that differ from the defaults."""
MADE = {
    "ema": "moving average, 0.95",
    "mean": "mean of the last five checkpoints, ten steps apart",
    "mixed-75": "75 % of it, 25 % of the base",
    "mixed-50": "half of it, half of the base",
}
"""What is made of the checkpoints of a default run, by the names of its models."""
MEASURES = {
    "phones.abx_within": ("ABX within, points", 100),
    "phones.abx_across": ("ABX across, points", 100),
    "phones.probe": ("probe, points", 100),
    "units.stability": ("steady units, points", 100),
    "fit.below_guessing": ("below guessing, nats", 1),
    "forgetting.below_guessing": ("the same on the base's languages", 1),
}
"""By key: its name in the table, and what it is multiplied by."""


def main() -> None:
    """Prepare, train, evaluate; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("speech", type=Path, help="the folder that holds bantu/ and more/, each with manifest.jsonl")
    parser.add_argument("work", type=Path)
    parser.add_argument("--seed", type=int, action="append", choices=SEEDS, help="make the runs of this seed alone")
    given = parser.parse_args()
    speech, work = given.speech.resolve(), given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    prepare_both(speech, work)
    base = make_base(work)
    for seed in given.seed or SEEDS:
        make_of_seed(work, base, seed)
    print_table(
        "Beside the defaults: mean and 95 % interval of the difference",
        ["changed", "seeds", "verdicts", *(words for words, _ in MEASURES.values()), "CPU min"],
        list(rows(work)),
    )


def make_of_seed(work: Path, base: Path, seed: int) -> None:
    """All models of a seed, each evaluated beside what the defaults give."""
    default = train(
        work / "models" / f"{DEFAULT}-{seed}", base, "target", steps=STEPS, settings=(*HOW, *HUB, *KEEPING), seed=seed
    )
    evaluate(work, base, default)
    make_means(work, base, seed)
    for name in MADE:
        evaluate(work, default, work / "models" / f"{name}-{seed}")
    for name, (_, settings) in CHANGED.items():
        changed = train(
            work / "models" / f"{name}-{seed}",
            base,
            "target",
            steps=STEPS,
            settings=(*HOW, *HUB, *settings),
            seed=seed,
        )
        evaluate(work, default, changed)


def make_means(work: Path, base: Path, seed: int) -> None:
    """The means and mixtures of a default run, as plain models."""
    default = work / "models" / f"{DEFAULT}-{seed}"
    checkpoints = sorted((work / "runs" / default.name).glob("checkpoint-*"), key=step_of)
    parts = {
        "mean": average(checkpoints[-5:]),
        "mixed-75": interpolation(base, default, 0.75),
        "mixed-50": interpolation(base, default, 0.5),
    }
    for name, of_models in parts.items():
        folder = work / "models" / f"{name}-{seed}"
        if not folder.exists():
            folder.mkdir()
            write_mixture(of_models, folder)
    averaged = work / "models" / f"ema-{seed}"
    if not averaged.exists():
        shutil.copytree(default, averaged)
        weights = load_file(default / WEIGHTS) | read_averages(checkpoints[-1])
        save_file(weights, averaged / WEIGHTS, metadata={"format": "pt"})


def rows(work: Path) -> Iterator[list[str]]:
    """The default beside the base, then each change beside the default."""
    words = {DEFAULT: "the defaults, beside the base"} | {name: of for name, (of, _) in CHANGED.items()} | MADE
    for name, of in words.items():
        models = [work / "models" / f"{name}-{seed}" for seed in SEEDS]
        told = [
            evaluate(work, work, model)
            for model in models
            if (work / "evaluations" / model.name / "evaluation.json").exists()
        ]
        if told:
            kinds = [str(one["verdict"]["kind"]) for one in told]
            verdicts = ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds)))
            costs = [float((model / COST).read_text()) for model in models if (model / COST).exists()]
            cost = "" if name in MADE else f"{sum(costs) / 60:.0f}"
            yield [of, str(len(told)), verdicts, *(cell(told, key) for key in MEASURES), cost]


def cell(told: Sequence[dict[str, Any]], key: str) -> str:
    """The mean difference of a measure, and its interval; a star where that does not hold 0."""
    times = MEASURES[key][1]
    measured = [one for each in told for one in each["measures"] if one["key"] == key and one["difference_interval"]]
    if not measured:
        return ""
    differences = times * np.array([one["difference"] for one in measured])
    within = [times * (one["difference_interval"]["high"] - one["difference_interval"]["low"]) / 2 for one in measured]
    mean, half = float(differences.mean()), half_width(differences, within)
    star = " *" if abs(mean) > half else ""
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f}){star}"


def half_width(differences: np.ndarray, within: Sequence[float]) -> float:
    """Half of a 95 % interval of the mean of several seeds: other clips, and other seeds, together.

    `within`: half the interval of each, by clips. The clips are the same for each seed, so that these are not made
    smaller by taking several; what seeds make, is. Without a second seed it is not known.
    """
    number = len(differences)
    if number < 2:
        return float("inf")
    between = student.ppf(0.975, number - 1) * differences.std(ddof=1) / np.sqrt(number)
    return float(np.hypot(np.mean(within), between))


if __name__ == "__main__":
    main()
