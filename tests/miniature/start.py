"""A small model that has learned some speech: masked prediction of units of spectra, as HuBERT begins.

Contrastive learning from random weights needs hundreds of hours of audio before its features are better than spectra.
Prediction of 200 k-means units of log-mel frames and their changes (Hsu et al., 2021, arXiv 2106.07447) gets there in a
day of audio; contrastive learning then goes on from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from miniature.align import FRAME, log_mel
from runyoro_ssl.audio.synth import SAMPLE_RATE
from runyoro_ssl.dataset.read import Clips, load_splits
from runyoro_ssl.model.at_hand import bf16_gain
from runyoro_ssl.model.attention import use_fast_attention
from runyoro_ssl.model.forward import encode
from runyoro_ssl.torchaudio_compat import import_transformers

HOP = 320
SHAPE: dict[str, Any] = {
    "conv_dim": (128,) * 7,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "codevector_dim": 256,
    "proj_codevector_dim": 256,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "layerdrop": 0.0,
}
"""XLS-R's architecture, 5.9 M parameters."""
SMALL: dict[str, Any] = {"conv_dim": (64,) * 7, "hidden_size": 192, "intermediate_size": 768}
"""What differs in one of 3.3 M parameters: a step takes half as long, where bf16 is not fast."""
UNITS, STEPS, CLIPS, CROP = 200, 1140, 10, 6 * SAMPLE_RATE
"""1,140 steps of 10 crops of 6 s: 19 h of audio heard."""
FRAMES = (CROP - FRAME) // HOP + 1
RATE, WARMUP, HOLD = 1e-3, 100, 0.3
SPAN, MASKED = 10, 0.5
UNMASKED_WEIGHT = 0.5


def build_model(folder: Path, *, small: bool) -> None:
    """Save a model with random weights, and its feature extractor."""
    torch.manual_seed(0)
    transformers = import_transformers()
    config = transformers.Wav2Vec2Config(**SHAPE | (SMALL if small else {}))
    transformers.Wav2Vec2ForPreTraining(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)


def learn_units(model_dir: Path, data: Path, out: Path) -> float:
    """Train a model to predict units of masked frames; returns the share of masked frames that it gets right."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    clips = _load(data)
    units = _units([_spectra(clip) for clip in clips], generator)
    transformers = import_transformers()
    model = transformers.Wav2Vec2ForPreTraining.from_pretrained(model_dir)
    use_fast_attention(model)
    head = torch.nn.Linear(model.config.hidden_size, UNITS)
    weights = [*model.wav2vec2.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    is_faster, right = bf16_gain(model.config) > 1, 0.0
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP, max(0.05, (1 - step / STEPS) / (1 - HOLD)))
        waveforms, wanted = _batch(clips, units, generator)
        mask = _mask(generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_faster):
            hidden, _ = encode(model, waveforms, attention_mask=None, time_mask=mask, feature_mask=None)
            logits = head(hidden).float()
        parts = [
            torch.nn.functional.cross_entropy(logits[one], wanted[one], ignore_index=-100) for one in (mask, ~mask)
        ]
        optimizer.zero_grad()
        loss: torch.Tensor = parts[0] + UNMASKED_WEIGHT * parts[1]
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        right += 0.03 * ((logits.argmax(-1) == wanted)[mask].float().mean().item() - right)
    model.save_pretrained(out)
    transformers.Wav2Vec2FeatureExtractor.from_pretrained(model_dir).save_pretrained(out)
    return right


def _load(data: Path) -> list[np.ndarray]:
    """The clips of a dataset's training part, normalised."""
    clips = Clips(load_splits(data, sampling_rate=SAMPLE_RATE)["train"])
    found = [clips.waveform(row) for row in range(len(clips))]
    return [(one - one.mean()) / (one.std() + 1e-5) for one in found if len(one) >= 2 * SAMPLE_RATE]


def _spectra(clip: np.ndarray) -> np.ndarray:
    """40 log-mel bands and their changes over four frames: (F, 80)."""
    bands = log_mel(clip, HOP)
    bands -= bands.mean(0)
    padded = np.pad(bands, ((2, 2), (0, 0)), mode="edge")
    return np.concatenate([bands, padded[4:] - padded[:-4]], axis=1)


def _units(spectra: Sequence[np.ndarray], generator: np.random.Generator) -> list[np.ndarray]:
    from sklearn.cluster import MiniBatchKMeans

    frames = np.concatenate(spectra)
    sample = frames[generator.permutation(len(frames))[:200_000]]
    fitted = MiniBatchKMeans(UNITS, batch_size=10_000, n_init=3, random_state=0, max_iter=60).fit(sample)
    return [fitted.predict(one) for one in spectra]


def _batch(
    clips: Sequence[np.ndarray], units: Sequence[np.ndarray], generator: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops, float32 (B, T), and the units of their frames, int64 (B, F); -100 where a crop is shorter."""
    waveforms, wanted = np.zeros((CLIPS, CROP), np.float32), np.full((CLIPS, FRAMES), -100)
    for row, index in enumerate(generator.integers(len(clips), size=CLIPS)):
        first = int(generator.integers(max(1, (len(clips[index]) - CROP) // HOP + 1)))
        crop = clips[index][first * HOP : first * HOP + CROP]
        labels = units[index][first : first + (len(crop) - FRAME) // HOP + 1]
        waveforms[row, : len(crop)] = crop
        wanted[row, : len(labels)] = labels
    return torch.from_numpy(waveforms), torch.from_numpy(wanted)


def _mask(generator: np.random.Generator) -> torch.Tensor:
    """Spans of frames that are hidden: bool (B, F)."""
    mask = np.zeros((CLIPS, FRAMES), bool)
    for row in mask:
        for start in generator.integers(FRAMES - SPAN, size=round(MASKED * FRAMES / SPAN)):
            row[start : start + SPAN] = True
    return torch.from_numpy(mask)
