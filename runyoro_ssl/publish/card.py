"""The model card of a finished run: aggregates only, no names of files, machines or people."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from runyoro_ssl.config import ModelConfig
from runyoro_ssl.disk.durable import replace_file
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.evaluate.words import IN_WORDS, number, verdict
from runyoro_ssl.model.load import load_model_config
from runyoro_ssl.model.objective import Chance, chance
from runyoro_ssl.train.checkpoints.folder import RUN_FILE
from runyoro_ssl.train.final import RESULT

CARD = "README.md"


def write_model_card(output_dir: Path) -> None:
    """Write README.md beside the final model of a finished run, from what lies in the run's folder.

    Raises:
        TrainingError: The run has not finished, or the disk is full: the final model is there, and the card follows
            when the run is resumed.
    """
    try:
        result: dict[str, Any] = json.loads((output_dir / RESULT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainingError(
            f"{output_dir}: no {RESULT}, so that no model card can be written: finish the run with "
            "--resume-from-checkpoint last"
        ) from None
    try:
        replace_file(output_dir / CARD, _text(output_dir, result))
    except OSError as error:
        raise TrainingError(
            f"{output_dir / CARD}: the model card could not be written ({error}); the final model is there: make room, "
            "then --resume-from-checkpoint last"
        ) from None


def _text(output_dir: Path, result: dict[str, Any]) -> str:
    # As text: its secrets are not there, and loading it as a configuration asks for them.
    settings = tomllib.loads((output_dir / RUN_FILE).read_text(encoding="utf-8"))
    guessing = chance(load_model_config(ModelConfig(model_name_or_path=str(output_dir))))
    first, best = (result["validations"][name] for name in ("first", "best"))
    rows = "\n".join(
        f"| {label} | {number(name, first.get(f'eval/{name}'))} | {number(name, best.get(f'eval/{name}'))} |"
        for name, label in measures(guessing).items()
    )
    return f"""---
library_name: transformers
tags: [wav2vec2, self-supervised, continued-pretraining]
---
# {_name_of_base(result)}, adapted by continued pre-training

Language: {settings["train"].get("language", "not named")}. Pre-trained further on {result["train_hours"]:.2f} hours of
speech, without transcripts, by runyoro_ssl {result["version"]}:
{result["total_steps"]} optimizer steps, learning rate {settings["train"]["learning_rate"]:g},
mask probability {settings["masking"]["mask_time_prob"]:g}.{_adapters(result, settings)}
{_revision(result)}
```python
from transformers import Wav2Vec2ForPreTraining, Wav2Vec2Model
model = Wav2Vec2Model.from_pretrained("this folder")
```

Held-out recordings, the same masks and negatives before and after:

| measure | at the start | this model, step {best["step"]:.0f} |
|---|---|---|
{rows}

In a sentence: {verdict(first, best)}. A lower loss says that the model predicts this speech better. It does not
by itself say that a recogniser fine-tuned from it makes fewer errors.
"""


def _adapters(result: dict[str, Any], settings: dict[str, Any]) -> str:
    """Which weights learned, where not all did."""
    adapter = settings.get("adapter", {})
    if adapter.get("kind", "none") == "none":
        return ""
    share = result["trained_parameters"] / result["parameters"]
    return (
        f"\nLow-rank adapters (LoRA) of rank {adapter['rank']} learned, on {', '.join(adapter['targets'])},\n"
        f"and are merged into these weights. Besides learned: {', '.join(adapter['also']) or 'nothing'}; in all\n"
        f"{share:.1%} of the weights."
    )


def measures(guessing: Chance) -> dict[str, str]:
    """The measures that a card shows: label by name."""
    guessed = {
        "contrastive_loss": "",
        "chance_loss": f" ({guessing.loss:.3f} where all frames differ)",
        "accuracy": f" (guessing: 1 of {guessing.num_choices})",
        "hard_perplexity": "",
    }
    return {name: IN_WORDS[name] + by_guessing for name, by_guessing in guessed.items()}


def _name_of_base(result: dict[str, Any]) -> str:
    """The model of the hub that the run began from, by name.

    Only that is named: a path may name people, and one that is gone looks like the name of a model.
    """
    return str(result["base_model"]) if result.get("base_revision") else "a local wav2vec 2.0 checkpoint"


def _revision(result: dict[str, Any]) -> str:
    """Where exactly the base model is to be had."""
    if not (revision := result.get("base_revision")):
        return ""
    return f"\nThe base model is {result['base_model']} at revision `{revision}`.\n"
