"""Are the defaults right? One setting changed at a time, on real speech: `python tests/recipe_runs.py SPEECH WORK`.

The base of in_miniature.py, which has heard Kinyarwanda and Swahili, goes on with Luganda: by the defaults, and with
one setting changed, from three seeds each. `evaluate` compares each with what the defaults gave from the same seed, on
Luganda by speakers whom none of them has heard, with phone alignments: the tables of docs/recipe.md. Six hours on one
core; `--seed 0` makes the runs of that seed alone, and `--changed NAME` those of one change, so that several go side by
side. What was found has a line each in WORK/found.jsonl: it is not made again, and the tables are of all lines, also of
those copied there from docs/recipe.jsonl or another machine. `--small` has a base of 3.3 M parameters, not 5.9 M, for
machines without fast bf16.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from miniature.stages import COST, HOW, evaluate, make_base, prepare_both, train
from safetensors.numpy import load_file as load_numpy
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
FOUND = "found.jsonl"
"""`base_parameters`, `model`, `seed`, `verdict`, `cpu_seconds` of its run (0 of what is made of another's), and
`differences` from the default of the seed (the default's from the base) by key: value, and both ends of the 95 %
interval over clips."""
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
    parser, names = argparse.ArgumentParser(description=__doc__), [*CHANGED, *MADE]
    parser.add_argument("speech", type=Path, help="the folder that holds bantu/ and more/, each with manifest.jsonl")
    parser.add_argument("work", type=Path)
    parser.add_argument("--seed", type=int, action="append", choices=SEEDS, help="make the runs of this seed alone")
    parser.add_argument("--changed", metavar="NAME", action="append", choices=names, help=f"of {', '.join(names)}")
    parser.add_argument("--small", action="store_true", help="the base has 3.3 M parameters")
    given = parser.parse_args()
    speech, work = given.speech.resolve(), given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    prepare_both(speech, work, small=given.small)
    base = make_base(work)
    for seed in given.seed or SEEDS:
        make_of_seed(work, base, seed, given.changed or names)
    for parameters in sorted({one["base_parameters"] for one in found(work)}):
        print_table(
            f"Beside the defaults, base of {parameters / 1e6:.1f} M parameters: mean difference and its 95 % interval",
            ["changed", "seeds", "verdicts", *(words for words, _ in MEASURES.values()), "CPU min"],
            list(rows([one for one in found(work) if one["base_parameters"] == parameters])),
        )


def make_of_seed(work: Path, base: Path, seed: int, names: Sequence[str]) -> None:
    """The model of the defaults, judged beside the base, and those of names, beside it."""
    default, how = models(work) / f"{DEFAULT}-{seed}", (*HOW, *HUB)
    train(default, base, "target", steps=STEPS, settings=(*how, *KEEPING), seed=seed)
    judge(work, base, DEFAULT, seed)
    for name in names:
        if is_found(work, name, seed):
            continue
        if name in MADE:
            make_means(work, base, seed)
        else:
            settings = (*how, *CHANGED[name][1])
            train(models(work) / f"{name}-{seed}", base, "target", steps=STEPS, settings=settings, seed=seed)
        judge(work, default, name, seed)


def judge(work: Path, beside: Path, name: str, seed: int) -> None:
    """Write a line of what `evaluate` finds of a model beside another, unless there is one."""
    if is_found(work, name, seed):
        return
    model = models(work) / f"{name}-{seed}"
    told = evaluate(work, beside, model)
    line = {
        "base_parameters": base_parameters(work),
        "model": name,
        "seed": seed,
        "verdict": told["verdict"]["kind"],
        "cpu_seconds": float((model / COST).read_text()) if (model / COST).exists() else 0.0,
        "differences": {
            one["key"]: [one["difference"], one["difference_interval"]["low"], one["difference_interval"]["high"]]
            for one in told["measures"]
            if one["key"] in MEASURES and one["difference_interval"]
        },
    }
    with (work / FOUND).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def found(work: Path) -> list[dict[str, Any]]:
    """What was found."""
    return [json.loads(line) for line in (work / FOUND).open(encoding="utf-8")] if (work / FOUND).exists() else []


def is_found(work: Path, name: str, seed: int) -> bool:
    """Whether there is a line of a model of this base."""
    wanted = base_parameters(work), name, seed
    return any((one["base_parameters"], one["model"], one["seed"]) == wanted for one in found(work))


def base_parameters(work: Path) -> int:
    """How many the base has."""
    return sum(one.size for one in load_numpy(work / "random" / WEIGHTS).values())


def models(work: Path) -> Path:
    """Their folder."""
    return work / "models"


def make_means(work: Path, base: Path, seed: int) -> None:
    """The means and mixtures of a default run, as plain models."""
    default = models(work) / f"{DEFAULT}-{seed}"
    checkpoints = sorted((work / "runs" / default.name).glob("checkpoint-*"), key=step_of)
    parts = {
        "mean": average(checkpoints[-5:]),
        "mixed-75": interpolation(base, default, 0.75),
        "mixed-50": interpolation(base, default, 0.5),
    }
    for name, of_models in parts.items():
        folder = models(work) / f"{name}-{seed}"
        if not folder.exists():
            folder.mkdir()
            write_mixture(of_models, folder)
    averaged = models(work) / f"ema-{seed}"
    if not averaged.exists():
        shutil.copytree(default, averaged)
        weights = load_file(default / WEIGHTS) | read_averages(checkpoints[-1])
        save_file(weights, averaged / WEIGHTS, metadata={"format": "pt"})


def rows(all_found: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """The default beside the base, then each change beside the default."""
    words = {DEFAULT: "the defaults, beside the base"} | {name: of for name, (of, _) in CHANGED.items()} | MADE
    for name, of in words.items():
        lines = [one for one in all_found if one["model"] == name]
        if lines:
            kinds = [str(one["verdict"]) for one in lines]
            verdicts = ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds)))
            cost = "" if name in MADE else f"{sum(one['cpu_seconds'] for one in lines) / 60:.0f}"
            yield [of, str(len(lines)), verdicts, *(cell(lines, key) for key in MEASURES), cost]


def cell(lines: Sequence[dict[str, Any]], key: str) -> str:
    """The mean difference of a measure, and its interval; a star where that does not hold 0."""
    measured = [MEASURES[key][1] * np.array(one["differences"][key]) for one in lines if key in one["differences"]]
    if not measured:
        return ""
    differences, low, high = np.transpose(measured)
    mean, half = float(differences.mean()), half_width(differences, (high - low) / 2)
    if not np.isfinite(half):
        return f"{mean:+.2f}"
    star = " *" if abs(mean) > half else ""
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f}){star}"


def half_width(differences: np.ndarray, within: np.ndarray) -> float:
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
