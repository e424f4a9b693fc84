"""The model card of a finished run: aggregates only, no names of files, machines or people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runyoro_ssl import __version__

if TYPE_CHECKING:
    from runyoro_ssl.config import Config
    from runyoro_ssl.train.setup import RunSetup

SHOWN = (
    ("contrastive_loss", "contrastive loss, nats per masked frame (guessing: 4.615)"),
    ("accuracy", "accuracy, 1 of 101"),
    ("codevector_perplexity", "codevector perplexity"),
)


def write_model_card(config: Config, run: RunSetup, first: Mapping[str, float], last: Mapping[str, float]) -> None:
    """Write README.md beside the final model."""
    base = config.model.model_name_or_path
    base = "a local wav2vec 2.0 checkpoint" if Path(base).exists() else base
    hours = sum(run.plan.num_samples) / run.extractor.sampling_rate / 3600
    rows = "\n".join(f"| {label} | {first[f'eval/{name}']:.4f} | {last[f'eval/{name}']:.4f} |" for name, label in SHOWN)
    text = f"""---
library_name: transformers
tags: [wav2vec2, self-supervised, continued-pretraining]
---
# {base}, adapted by continued pre-training

Pre-trained further on {hours:.2f} hours of speech, without transcripts, by runyoro_ssl {__version__}:
{run.total_steps} optimizer steps, learning rate {config.train.learning_rate:g},
mask probability {config.masking.mask_time_prob:g}.

```python
from transformers import Wav2Vec2ForPreTraining, Wav2Vec2Model
model = Wav2Vec2Model.from_pretrained("this folder")
```

Held-out recordings, the same masks and negatives before and after:

| measure | at the start | at the end |
|---|---|---|
{rows}

A lower held-out loss says that the model predicts this speech better. It does not by itself say that a recogniser
fine-tuned from it makes fewer errors.
"""
    (config.train.output_dir / "README.md").write_text(text, encoding="utf-8")
