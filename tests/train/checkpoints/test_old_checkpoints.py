"""Checkpoints of the first version, which did not write its name into them, are still read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl import __version__
from runyoro_ssl.config import Config
from runyoro_ssl.disk.durable import seal
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.train.checkpoints.format import RENAMED, STATE
from runyoro_ssl.train.health.state import ADDED
from support.trainer import equal, metrics, run, weights

MakeConfig = Callable[..., Config]
VALIDATION = {
    "step": 4,
    "eval/loss": 4.80384371373384,
    "eval/contrastive_loss": 4.7480439453125,
    "eval/diversity_loss": 0.557997684213394,
    "eval/accuracy": 0.032,
    "eval/codevector_perplexity": 14.144074105171391,
    "eval/chance_loss": 4.5466591796875,
}
NEWER = ("version", "base_revision", "base_sha256", "machine", "num_averaged", "beside_sha256", "heard_samples")
"""What later versions have added to the state."""
OLD: dict[str, Any] = {
    "format": 2,
    "step": 6,
    "epoch": 1.2,
    "total_steps": 12,
    "num_updates": 6,
    "gumbel_temperature": 1.0650410894399627,
    "num_parts": 1,
    "scaler": None,
    "validations": {"last": VALIDATION, "first": {**VALIDATION, "step": 0}, "best": VALIDATION},
    "window": {
        "contrastive_loss": 1549.6865234375,
        "diversity_loss": 130.53855895996094,
        "num_correct": 9.0,
        "chance_loss": 1450.27099609375,
        "num_masked": 316.0,
        "code_mass": [[1.0, 2.0], [3.0, 4.0]],
    },
    "health": {
        "starts_at": 1.1356582031249998,
        "first_gap": 1.3183353843027454,
        "mean_gap": 1.0369615470353315,
        "updates_at_chance": 6,
        "usual_gap": None,
        "best_gap": 0.0,
        "num_codebooks": 2,
        "streaks": {"non_finite_update": 0, "codebook_in_use:1": 6, "below_chance": 0},
        "facts": [],
        "grad_norms": [9.252484321594238, 9.087823867797852],
        "spike_steps": [],
        "noted_step": None,
        "rollbacks": 0,
        "best_step": 4,
        "best_loss": 4.80384371373384,
        "best_at_chance": True,
        "validations_without_best": 0,
        "validation_collapsed": False,
    },
    "concerns": [],
    "unreadable": {"rows": []},
    "plan": {
        "batch_samples": 96000.0,
        "update_samples": 192000.0,
        "clips_per_batch": None,
        "batches_per_update": None,
        "num_lengths": 0,
    },
    "dataset_sha256": "e220139fc01bcfc149d26d86f571eae2ccc6165f6e783b3ca8979e1a46da56c8",
    "base_model": "facebook/wav2vec2-xls-r-300m",
    "config": {"model": {}, "masking": {}, "train": {}, "plugins": {}},
    "hardware": {},
}
"""trainer_state.json of step 6 of a run of version 0.1.0; settings left out."""


def rewrite(folder: Path, state: Mapping[str, Any]) -> None:
    """Give a checkpoint another state, as if it had been written so."""
    (folder / STATE).write_text(json.dumps(state, indent=2))
    (folder / "MANIFEST.json").unlink()
    seal(folder)


def in_old_shape(state: dict[str, Any]) -> dict[str, Any]:
    """What version 0.1.0 would have written of the same run: no version, and in `health` the best validation again."""
    first, best, health = state["validations"]["first"], state["validations"]["best"], state["health"]
    again = {
        "starts_at": first["eval/contrastive_loss"] - first["eval/chance_loss"],
        "best_step": best["step"],
        "best_loss": best["eval/objective"],
        "best_at_chance": best["eval/contrastive_loss"] - best["eval/chance_loss"] >= -0.02,
    }
    again |= {"usual_gap": None, "best_gap": 0.0}
    kept = {name: value for name, value in health.items() if name not in {*ADDED, "behind"}}
    older = {new: old for old, new in RENAMED.items()}
    validations = {
        kind: {older.get(name, name): value for name, value in numbers.items()}
        for kind, numbers in state["validations"].items()
    }
    old = {**state, "validations": validations, "health": {**kept, **again}}
    for name in NEWER:
        del old[name]
    assert old.keys() == OLD.keys()
    assert old["health"].keys() == OLD["health"].keys()
    return old


def test_run_of_the_first_version_is_resumed_to_the_bit(train_config: MakeConfig) -> None:
    """As if the same version had gone on."""
    settings = ("train.max_steps=6", "train.logging_steps=4", "model.layerdrop=0.5", 'plugins.augmentations=["noise"]')
    whole = run(train_config("whole", *settings)).output_dir
    parted = train_config("parted", *settings, "train.resume_from_checkpoint=last")
    out = parted.train.output_dir
    shutil.copytree(whole, out)
    for step in (4, 6):
        shutil.rmtree(out / f"checkpoint-{step}")
    for name in ("model.safetensors", "result.json"):
        (out / name).unlink()
    rewrite(out / "checkpoint-2", in_old_shape(json.loads((out / "checkpoint-2" / STATE).read_text())))
    run(parted)
    assert metrics(out) == metrics(whole)
    for name in (".", "checkpoint-4", "checkpoint-6"):
        assert equal(weights(out / name), weights(whole / name))
    ours, theirs = (json.loads((folder / "checkpoint-6" / STATE).read_text()) for folder in (out, whole))
    for name in ADDED:  # learned anew, from where the newer version goes on
        assert ours["health"].pop(name) is not None
        del theirs["health"][name]
    assert ours == theirs


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 1}, "it has format 1, this version reads 2"),
        ({"health": {**OLD["health"], "mood": "fine"}}, "its record of health differs in mood"),
        ({"version": "9.1.0", "format": 4}, "runyoro_ssl 9.1.0 wrote it.*it has format 4"),
    ],
)
def test_what_is_not_read_names_its_version(train_config: MakeConfig, change: dict[str, Any], complaint: str) -> None:
    """One line: which version wrote it, what is wrong, and what to do."""
    settings = ("train.max_steps=2", "train.resume_from_checkpoint=last")
    out = run(train_config("run", *settings)).output_dir
    rewrite(out / "checkpoint-2", {**OLD, **change})
    with pytest.raises(CheckpointError, match=complaint) as raised:
        run(train_config("run", *settings))
    said = str(raised.value)
    assert "version" in change or f"runyoro_ssl 0.1.0 or before wrote it, this is {__version__}" in said
    assert "resume with the version that wrote it, or start a new run with --model-name-or-path" in said
    assert "\n" not in said
