"""From planned clips to tensors: read, augment, collate, normalise, mask. This is what loader workers run."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from runyoro_ssl.errors import PluginError
from runyoro_ssl.hookspecs import Clip
from runyoro_ssl.train.masking import Masks, make_masks
from runyoro_ssl.train.model import num_frames
from runyoro_ssl.train.random import derive_generator

if TYPE_CHECKING:
    from runyoro_ssl.config import MaskingConfig
    from runyoro_ssl.hookspecs import Augmentation, Batch, Collator
    from runyoro_ssl.train.plan import MicroBatch

NORMALISATION_EPSILON = 1e-7
"""As transformers' Wav2Vec2FeatureExtractor."""


class Waveforms(Protocol):
    """Where clips come from; in a run, runyoro_ssl.prepare.reading.Clips."""

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """A new float32 (T,) in [-1, 1], unnormalised: the clip, or a window of it."""


@dataclass(frozen=True)
class TrainingBatch:
    """A micro-batch ready for the model.

    Attributes:
        waveforms: float32 (B, T), normalised, zero-padded.
        attention_mask: bool (B, F), True at real frames; None when there is no padding to hide.
        masks: Time mask, masked positions and negatives.
        num_masked: Masked frames, the weight of this micro-batch in its update.
        num_samples: Real audio samples.
        plan: Where in the run it stands.
    """

    waveforms: torch.Tensor
    attention_mask: torch.Tensor | None
    masks: Masks
    num_masked: int
    num_samples: int
    plan: MicroBatch

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            waveforms=self.waveforms.to(device),
            attention_mask=None if self.attention_mask is None else self.attention_mask.to(device),
            masks=self.masks.to(device),
        )


@dataclass(frozen=True)
class BatchBuilder(Dataset[TrainingBatch]):
    """Builds the TrainingBatch of a MicroBatch. Every draw for a clip is keyed on (seed, epoch, clip).

    `stage` "eval" takes the clip alone as key: the masks and negatives of a clip are then the same in every
    validation of every run.
    """

    clips: Waveforms
    model_config: Any
    masking: MaskingConfig
    collator: Collator
    augmentations: tuple[tuple[str, Augmentation], ...]
    do_normalize: bool
    use_attention_mask: bool
    seed: int
    stage: Literal["train", "eval"] = "train"

    def __getitem__(self, plan: MicroBatch) -> TrainingBatch:
        batch = self.read(plan)
        frames = num_frames(batch.num_samples, self.model_config)
        masks = make_masks(
            frames.tolist(),
            self._keys(plan),
            self.masking,
            num_negatives=self.model_config.num_negatives,
            hidden_size=self.model_config.hidden_size,
        )
        return TrainingBatch(
            waveforms=batch.waveforms,
            attention_mask=self._attention_mask(frames),
            masks=masks,
            num_masked=int(masks.valid.sum()),
            num_samples=int(batch.num_samples.sum()),
            plan=plan,
        )

    def read(self, plan: MicroBatch) -> Batch:
        """The clips augmented, collated and normalised: all but the masks."""
        keys = self._keys(plan)
        clips = [Clip(clip, self._waveform(clip, key)) for clip, key in zip(plan.clips, keys, strict=True)]
        batch = self._collate(clips, keys)
        return replace(batch, waveforms=normalize(batch)) if self.do_normalize else batch

    def _keys(self, plan: MicroBatch) -> list[tuple[int | str, ...]]:
        return [self._key(plan.epoch, clip) for clip in plan.clips]

    def _key(self, epoch: int, clip: int) -> tuple[int | str, ...]:
        return (self.seed, epoch, clip) if self.stage == "train" else ("eval", clip)

    def _waveform(self, clip: int, key: tuple[int | str, ...]) -> torch.Tensor:
        """float32 (T,) in [-1, 1], augmented."""
        waveform = torch.from_numpy(self.clips.waveform(clip))
        for name, augment in self.augmentations:
            with named_failure("augmentation", name, clip):
                waveform = augment(waveform, derive_generator(*key, "augment", name))
        return waveform

    def _collate(self, clips: Sequence[Clip], keys: Sequence[tuple[int | str, ...]]) -> Batch:
        name = type(self.collator).__name__
        with named_failure("collator", name, clips[0].index):
            batch = self.collator(clips, [derive_generator(*key, "collate") for key in keys])
            if batch.waveforms.shape != (len(clips), int(batch.num_samples.max())):
                raise ValueError(
                    f"waveforms {tuple(batch.waveforms.shape)} for num_samples {batch.num_samples.tolist()}"
                )
        return batch

    def _attention_mask(self, frames: torch.Tensor) -> torch.Tensor | None:
        """Group-norm models (wav2vec2-base) were trained without a mask: their feature extractor says so."""
        longest = int(frames.max())
        if not self.use_attention_mask or int(frames.min()) == longest:
            return None
        return torch.arange(longest)[None, :] < frames[:, None]


@contextmanager
def named_failure(kind: str, name: str, clip: int) -> Iterator[None]:
    """Plugin code may raise anything; the user needs to know whose."""
    try:
        yield
    except Exception as error:
        raise PluginError(f'{kind} "{name}" failed on clip {clip}: {type(error).__name__}: {error}') from error


def _leave_signals_to_the_trainer(_worker: int) -> None:
    """Ctrl-C goes to the whole process group; the trainer finishes its step, and for that needs its workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def normalize(batch: Batch) -> torch.Tensor:
    """Each clip to zero mean and unit variance over its own samples, padding zero. float32 (B, T), in place."""
    for row, num_samples in zip(batch.waveforms.numpy(), batch.num_samples.tolist(), strict=True):
        clip = row[:num_samples]
        # Torch and BLAS add in an order that depends on the number of threads, which workers have fewer of.
        clip -= np.einsum("t->", clip) / num_samples
        clip *= 1 / np.sqrt(np.einsum("t,t->", clip, clip) / num_samples + NORMALISATION_EPSILON)
        row[num_samples:] = 0
    return batch.waveforms


def load_batches(builder: BatchBuilder, plan: Iterable[MicroBatch], *, num_workers: int) -> Iterator[TrainingBatch]:
    """Batches in the plan's order, built by `num_workers` processes, or by this one if 0."""
    loader: DataLoader[TrainingBatch] = DataLoader(
        builder,
        batch_size=None,
        sampler=plan,
        num_workers=num_workers,
        # fork after torch has started its threads can hang; spawn is what macOS does anyway.
        multiprocessing_context="spawn" if num_workers else None,
        worker_init_fn=_leave_signals_to_the_trainer,
    )
    try:
        yield from loader
    except PluginError as error:
        # From a worker it comes with the worker's traceback; its own line is the last.
        raise PluginError(
            str(error).strip().splitlines()[-1].removeprefix("runyoro_ssl.errors.PluginError: ")
        ) from None
