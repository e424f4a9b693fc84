"""What a run leaves in its folder, made without training: its end, many logged steps, what happens on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conftest import build_tiny_model
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train.health import journal

NUM_ALARMS = 3
NUMBERS = {"step": 2.0, "eval/contrastive_loss": 1.0, "eval/accuracy": 0.5, "eval/hard_perplexity": 9.0}


def finished(
    folder: Path,
    base_model: str,
    revision: str | None = None,
    *,
    material: Mapping[str, Any] | None = None,
    settings: tuple[str, ...] = (),
    **overrides: int,
) -> Path:
    """What a finished run leaves for its card. `overrides`: of the model's configuration."""
    build_tiny_model(folder, **overrides)
    config = load_config(settings=[f"train.output_dir={folder}", *settings])
    (folder / "run.toml").write_text(config.to_toml())
    result = {
        "version": "7.8.9",
        "base_model": base_model,
        "base_revision": revision,
        "total_steps": 2,
        "train_hours": 1.5,
        "material": material,
        "validations": dict.fromkeys(("first", "last", "best"), NUMBERS),
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def log_steps(folder: Path, num_steps: int) -> Path:
    """A folder in which so many steps were logged, and twenty validations; nothing else is there."""
    folder.mkdir()
    (folder / "run.toml").write_text('[train]\nlanguage = "runyoro"\nlearning_rate = 1e-3\n')
    lines = []
    for step in range(1, num_steps + 1):
        numbers = {"contrastive_loss": 4.0 + 1 / step, "accuracy": 0.2, "grad_norm": 1 + step % 7 + 100 * (step == 50)}
        numbers |= {"soft_perplexity": 200.0, "chance_loss": 4.6, "learning_rate": 1e-4, "objective": 4.1}
        lines.append({"step": step, **{f"train/{name}": value for name, value in numbers.items()}})
        if step % max(1, num_steps // 20) == 0:
            held_out = {
                "contrastive_loss": 4.1 + 1 / step,
                "accuracy": 0.2,
                "hard_perplexity": 90.0,
                "chance_loss": 4.5,
            }
            lines.append({"step": step, **{f"eval/{name}": value for name, value in held_out.items()}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    journal.record_start(folder, step=0, total_steps=num_steps, learning_rate=1e-3)
    return folder


def add_events(folder: Path, step: int, total_steps: int) -> None:
    """A way back, sleep of the machine, and a resume: NUM_ALARMS events, after a step."""
    alarm = {
        "kind": "codebook_collapse",
        "step": step,
        "seen": "3.0 codes in use",
        "means": "little is left to tell apart",
    }
    journal.record(folder, {**alarm, "action": "go_back", "done": "went back to checkpoint-4", "try": "half the rate"})
    journal.record(folder, {"event": journal.SLEPT, "step": step + 1, "seconds": 5400})
    journal.record_start(folder, step=step + 1, total_steps=total_steps, learning_rate=1e-3)
