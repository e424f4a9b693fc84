"""The way from planned clips to tensors: read, augment, collate, normalise, mask. This is what loader workers run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch.utils.data import Dataset

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.batches.lengths import Piece
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.errors import AudioError, DatasetError, PluginError, describe
from runyoro_ssl.model.draws import derive_generator
from runyoro_ssl.model.forward import num_frames
from runyoro_ssl.model.masking import Masks, make_masks
from runyoro_ssl.plugin.spec import Augmentation, Batch, Clip, Collator

if TYPE_CHECKING:
    from runyoro_ssl.config import MaskingConfig  # the bench runs where there is no pydantic

NORMALISATION_EPSILON = 1e-7
"""As transformers' Wav2Vec2FeatureExtractor."""


class Waveforms(Protocol):
    """The source of clips; in a run, runyoro_ssl.dataset.read.Clips.

    Raises:
        DatasetError, OSError, ValueError, IndexError: The clip cannot be read.
    """

    def num_samples(self, clip: int) -> int:
        """Length of the clip."""

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """A new float32 (T,) in [-1, 1], unnormalised: the clip, or a window of it."""


def place_of(clips: Waveforms, clip: int) -> tuple[str, int]:
    """The name of the dataset that a clip is of, where there are several, and its row there."""
    find: Callable[[int], tuple[str, int]] = getattr(clips, "place", lambda row: ("", row))
    return find(clip)


@dataclass(frozen=True)
class TrainingBatch:
    """A micro-batch ready for the model.

    Attributes:
        waveforms: float32 (B, T), normalised, zero-padded.
        attention_mask: bool (B, F), True at real frames; None when there is no padding to hide.
        masks: Time mask, masked positions and negatives.
        num_masked: Masked frames, the weight of this micro-batch in its update.
        clip_samples: Real audio samples of each clip.
        plan: Where in the run it stands, and its clips: those of them that could be read.
        unreadable: The other clips, by dataset row, each with why. Where none is left, the tensors are empty.
    """

    waveforms: torch.Tensor
    attention_mask: torch.Tensor | None
    masks: Masks
    num_masked: int
    clip_samples: tuple[int, ...]
    plan: MicroBatch
    unreadable: Mapping[int, str] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        """Number of real audio samples of the micro-batch."""
        return sum(self.clip_samples)

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch with its tensors on `device`, copied while the host goes on if they are pinned."""
        # Only then: MPS may read an unpinned source after it was freed (pytorch#189690).
        return self._each(lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))

    def pin_memory(self) -> TrainingBatch:
        """The same batch in page-locked memory."""
        return self._each(torch.Tensor.pin_memory)

    def split(self, num_parts: int) -> list[TrainingBatch]:
        """The batch in at most this many parts, by clips. Not for a batch on a device: it counts masked frames."""
        if num_parts == 1:
            return [self]
        rows = torch.arange(len(self.waveforms)).chunk(num_parts)
        return [self._rows(slice(int(part[0]), int(part[-1]) + 1)) for part in rows]

    def _rows(self, rows: slice) -> TrainingBatch:
        part = self._each(lambda tensor: tensor[rows])
        return replace(part, num_masked=int(part.masks.valid.sum()), clip_samples=self.clip_samples[rows])

    def _each(self, function: Callable[[torch.Tensor], torch.Tensor]) -> TrainingBatch:
        return replace(
            self,
            waveforms=function(self.waveforms),
            attention_mask=None if self.attention_mask is None else function(self.attention_mask),
            masks=self.masks.each(function),
        )


@dataclass(frozen=True)
class BatchBuilder(Dataset[TrainingBatch]):
    """The builder of TrainingBatches from MicroBatches. Every draw for a clip is keyed on (seed, epoch, clip).

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
        plan, waveforms, unreadable = self._waveforms(plan)
        if not waveforms:
            return _without_clips(plan, unreadable)
        batch = self._join(plan, waveforms)
        frames = num_frames(batch.num_samples, self.model_config)
        masks = self._masks(plan, frames)
        return TrainingBatch(
            waveforms=batch.waveforms,
            attention_mask=self._attention_mask(frames, masks.time_mask.shape[1]),
            masks=masks,
            num_masked=int(masks.valid.sum()),
            clip_samples=tuple(batch.num_samples.tolist()),
            plan=plan,
            unreadable=unreadable,
        )

    def read(self, plan: MicroBatch) -> Batch:
        """Read the clips of a micro-batch, cropped, augmented, collated and normalised: all but the masks."""
        plan, waveforms, _ = self._waveforms(plan)
        return self._join(plan, waveforms)

    def _waveforms(self, plan: MicroBatch) -> tuple[MicroBatch, list[torch.Tensor], dict[int, str]]:
        """Read a plan: what can be read of it, its waveforms, cropped and augmented, and why the other clips cannot."""
        pieces: list[Piece] = []
        waveforms: list[torch.Tensor] = []
        unreadable: dict[int, str] = {}
        for piece in plan.pieces:
            try:
                waveform = self._read_piece(plan, piece)
            except AudioError as error:
                unreadable[piece.clip] = str(error)
            else:
                pieces.append(piece)
                waveforms.append(self._augment(plan, piece, waveform))
        return replace(plan, pieces=tuple(pieces)), waveforms, unreadable

    def _read_piece(self, plan: MicroBatch, piece: Piece) -> torch.Tensor:
        """Read and crop one piece: float32 (T,) in [-1, 1]. Raises AudioError, whatever hinders."""
        crop = derive_generator(*self._key(plan.epoch, piece), "crop")
        try:
            start, stop = piece.window(self.clips.num_samples(piece.clip), plan.length, crop)
            waveform = self.clips.waveform(piece.clip, start, stop - start)
        except (DatasetError, OSError, ValueError, IndexError) as error:
            raise AudioError(Reason.UNREADABLE, f"{type(error).__name__}: {error}") from error
        if waveform.shape != (stop - start,) or not waveform.size:
            raise AudioError(Reason.SHORTER_THAN_STATED, f"{waveform.size} samples where {stop - start} were planned")
        return torch.from_numpy(waveform)

    def _augment(self, plan: MicroBatch, piece: Piece, waveform: torch.Tensor) -> torch.Tensor:
        """The waveform after every augmentation; at most the plan's length of it."""
        for name, augment in self.augmentations:
            with named_failure("augmentation", name, place_of(self.clips, piece.clip)):
                waveform = augment(waveform, derive_generator(*self._key(plan.epoch, piece), "augment", name))
        return waveform[: plan.length]

    def _join(self, plan: MicroBatch, waveforms: Sequence[torch.Tensor]) -> Batch:
        """Join waveforms into a batch: collated, padded to the plan's length, normalised."""
        batch = self._collate([Clip(*row) for row in zip(plan.clips, waveforms, strict=True)], self._keys(plan))
        if plan.length is not None:
            batch = replace(batch, waveforms=F.pad(batch.waveforms, (0, plan.length - batch.waveforms.shape[1])))
        return replace(batch, waveforms=normalize(batch)) if self.do_normalize else batch

    def _masks(self, plan: MicroBatch, frames: torch.Tensor) -> Masks:
        constant_frames = None
        if plan.length is not None:
            constant_frames = int(num_frames(torch.tensor(plan.length), self.model_config))
        return make_masks(
            frames.tolist(),
            self._keys(plan),
            self.masking,
            num_negatives=self.model_config.num_negatives,
            hidden_size=self.model_config.hidden_size,
            constant_frames=constant_frames,
        )

    def _keys(self, plan: MicroBatch) -> list[tuple[int | str, ...]]:
        return [self._key(plan.epoch, piece) for piece in plan.pieces]

    def _key(self, epoch: int, piece: Piece) -> tuple[int | str, ...]:
        if self.stage == "eval":
            return ("eval", piece.clip)
        heard = [piece.part, piece.repeat] if piece.repeat else [piece.part] if piece.part else []
        return (self.seed, epoch, piece.clip, *heard)

    def _collate(self, clips: Sequence[Clip], keys: Sequence[tuple[int | str, ...]]) -> Batch:
        name = type(self.collator).__name__
        with named_failure("collator", name, place_of(self.clips, clips[0].index)):
            batch = self.collator(clips, [derive_generator(*key, "collate") for key in keys])
            if batch.waveforms.shape != (len(clips), int(batch.num_samples.max())):
                raise ValueError(
                    f"waveforms {tuple(batch.waveforms.shape)} for num_samples {batch.num_samples.tolist()}"
                )
        return batch

    def _attention_mask(self, frames: torch.Tensor, width: int) -> torch.Tensor | None:
        """Group-norm models (wav2vec2-base) were trained without a mask: their feature extractor says so."""
        if not self.use_attention_mask or int(frames.min()) == width:
            return None
        return torch.arange(width)[None, :] < frames[:, None]


def _without_clips(plan: MicroBatch, unreadable: Mapping[int, str]) -> TrainingBatch:
    """A micro-batch of which no clip could be read."""
    rows = torch.empty(0, 0)
    places = rows.to(torch.int64)
    masks = Masks(rows.bool(), None, places, rows.bool(), places[..., None])
    return TrainingBatch(rows, None, masks, 0, (), plan, unreadable)


@contextmanager
def named_failure(kind: str, name: str, clip: tuple[str, int]) -> Iterator[None]:
    """Turn whatever plugin code raises into an error that says whose code it was, and on which clip."""
    try:
        yield
    except (Exception, SystemExit) as error:
        source, row = clip
        where = f"{row} of {source}" if source else f"{row}"
        raise PluginError(f'{kind} "{name}" failed on clip {where}: {describe(error)}') from error


def normalize(batch: Batch) -> torch.Tensor:
    """Bring each clip to zero mean and unit variance over its own samples, padding zero. float32 (B, T), in place."""
    for row, num_samples in zip(batch.waveforms.numpy(), batch.num_samples.tolist(), strict=True):
        clip = row[:num_samples]
        # Torch and BLAS add in an order that depends on the number of threads, which workers have fewer of.
        clip -= np.einsum("t->", clip) / num_samples
        clip *= 1 / np.sqrt(np.einsum("t,t->", clip, clip) / num_samples + NORMALISATION_EPSILON)
        row[num_samples:] = 0
    return batch.waveforms
