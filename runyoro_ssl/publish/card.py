"""The model card of a finished run: aggregates only, no names of files, machines or people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runyoro_ssl import __version__
from runyoro_ssl.disk.durable import replace_file

if TYPE_CHECKING:
    from runyoro_ssl.train.training_run import TrainingRun

SHOWN = (
    ("contrastive_loss", "contrastive loss, nats per masked frame (guessing: 4.615)"),
    ("accuracy", "accuracy, 1 of 101"),
    ("codevector_perplexity", "codevector perplexity"),
)


def write_model_card(run: TrainingRun) -> None:
    """Write README.md beside the final model, which is that of the best validation."""
    config, first = run.config, run.validations["first"]
    best = run.validations.get("best") or run.validations["last"]
    hours = sum(run.plan.num_samples) / run.extractor.sampling_rate / 3600
    rows = "\n".join(f"| {label} | {first[f'eval/{name}']:.4f} | {best[f'eval/{name}']:.4f} |" for name, label in SHOWN)
    text = f"""---
library_name: transformers
tags: [wav2vec2, self-supervised, continued-pretraining]
---
# {_name_of_base(run.base_model)}, adapted by continued pre-training

Pre-trained further on {hours:.2f} hours of speech, without transcripts, by runyoro_ssl {__version__}:
{run.total_steps} optimizer steps, learning rate {config.train.learning_rate:g},
mask probability {config.masking.mask_time_prob:g}.

```python
from transformers import Wav2Vec2ForPreTraining, Wav2Vec2Model
model = Wav2Vec2Model.from_pretrained("this folder")
```

Held-out recordings, the same masks and negatives before and after:

| measure | at the start | this model, step {best["step"]:.0f} |
|---|---|---|
{rows}

A lower held-out loss says that the model predicts this speech better. It does not by itself say that a recogniser
fine-tuned from it makes fewer errors.
"""
    replace_file(config.train.output_dir / "README.md", text)


def _name_of_base(model_name_or_path: str) -> str:
    """A hub id, if the hub gave this model.

    Nothing else is named: a path may name people, and one that is gone looks like an id.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    local = "a local wav2vec 2.0 checkpoint"
    if Path(model_name_or_path).exists():
        return local
    try:
        downloaded = try_to_load_from_cache(model_name_or_path, "config.json")
    except HFValidationError:
        return local
    return model_name_or_path if isinstance(downloaded, str) else local
