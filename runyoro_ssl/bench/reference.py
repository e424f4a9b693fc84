"""What a user would otherwise run: transformers' own forward, masks and negatives, as its pre-training example does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from runyoro_ssl.bench.subjects import MASKING, NoiseClips
from runyoro_ssl.torchaudio_compat import import_transformers


class Reference:
    """The step of transformers' `run_wav2vec2_pretraining_no_trainer.py`, on the model it is given.

    Left out, in its favour: its rescaling of gradients, its gradient norm with one host sync a parameter, and reading
    clips as Python lists.
    """

    def __init__(self, model: Any, accelerator: Any) -> None:
        transformers = import_transformers()
        self._functions = transformers.models.wav2vec2.modeling_wav2vec2
        self._output = transformers.modeling_outputs.Wav2Vec2BaseModelOutput
        self._extractor = transformers.Wav2Vec2FeatureExtractor(
            return_attention_mask=model.config.feat_extract_norm == "layer"
        )
        self.model, self._accelerator = model, accelerator
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01)

    def collate(self, clips: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Normalise, pad, mask and draw negatives, on the device."""
        batch = self._extractor(clips, sampling_rate=16_000, padding=True, return_tensors="pt")
        size, width = batch["input_values"].shape
        frames = int(self.model._get_feat_extract_output_lengths(width))  # noqa: SLF001 - the example calls it too
        hidden = batch.get("attention_mask")
        if hidden is not None:
            hidden = self.model._get_feature_vector_attention_mask(frames, hidden)  # noqa: SLF001
        mask = self._functions._compute_mask_indices(  # noqa: SLF001
            (size, frames), MASKING.mask_time_prob, MASKING.mask_time_length, attention_mask=hidden, min_masks=2
        )
        negatives = self._functions._sample_negative_indices(  # noqa: SLF001
            (size, frames), self.model.config.num_negatives, mask_time_indices=mask
        )
        batch["mask_time_indices"], batch["sampled_negative_indices"] = torch.tensor(mask), torch.tensor(negatives)
        return {name: tensor.to(self._accelerator.device) for name, tensor in batch.items()}

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        """Forward, backward, AdamW."""
        with self._accelerator.autocast():
            loss = self.model(**batch).loss
        self._accelerator.backward(loss / batch["mask_time_indices"].sum())
        self.optimizer.step()
        self.optimizer.zero_grad()

    def epoch(self, clips: NoiseClips, *, batch_size: int, seed: int = 0) -> None:
        """One pass over the clips in random batches of a fixed number."""
        for rows in self._random_batches(len(clips.samples), batch_size, seed):
            self.step(self.collate([clips.waveform(row) for row in rows]))

    def objective(self, context: torch.Tensor, features: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of its forward for given outputs of the network, which is not run."""
        network, self.model.wav2vec2 = self.model.wav2vec2, _Given(self._output(context, features))
        try:
            with self._accelerator.autocast():
                loss: torch.Tensor = self.model(
                    None,
                    mask_time_indices=batch["mask_time_indices"],
                    sampled_negative_indices=batch["sampled_negative_indices"],
                ).loss
            return loss
        finally:
            self.model.wav2vec2 = network

    @staticmethod
    def _random_batches(num_clips: int, batch_size: int, seed: int) -> Iterator[list[int]]:
        order = np.random.default_rng(seed).permutation(num_clips).tolist()
        return (order[start : start + batch_size] for start in range(0, num_clips, batch_size))


class _Given(torch.nn.Module):
    """Stands in for the network, and gives what is known already."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self._output = SimpleNamespace(given=output)

    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        return self._output.given
