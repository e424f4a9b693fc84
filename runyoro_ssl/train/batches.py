"""From planned clips to tensors: read, augment, collate, normalise, mask. This is what loader workers run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, tee
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch.utils.data import DataLoader, Dataset

from runyoro_ssl.errors import PluginError, TrainingError
from runyoro_ssl.hookspecs import Clip
from runyoro_ssl.train.masking import Masks, make_masks
from runyoro_ssl.train.model import num_frames
from runyoro_ssl.train.prefetch import prefetch
from runyoro_ssl.train.random import derive_generator

if TYPE_CHECKING:
    from runyoro_ssl.config import MaskingConfig
    from runyoro_ssl.hookspecs import Augmentation, Batch, Collator
    from runyoro_ssl.train.lengths import Piece
    from runyoro_ssl.train.plan import MicroBatch

NORMALISATION_EPSILON = 1e-7
"""As transformers' Wav2Vec2FeatureExtractor."""


class Waveforms(Protocol):
    """Where clips come from; in a run, runyoro_ssl.prepare.reading.Clips."""

    def num_samples(self, clip: int) -> int:
        """Length of the clip."""

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
        clip_samples: Real audio samples of each clip.
        plan: Where in the run it stands.
    """

    waveforms: torch.Tensor
    attention_mask: torch.Tensor | None
    masks: Masks
    num_masked: int
    clip_samples: tuple[int, ...]
    plan: MicroBatch

    @property
    def num_samples(self) -> int:
        """Real audio samples."""
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
        constant_frames = None
        if plan.length is not None:
            constant_frames = int(num_frames(torch.tensor(plan.length), self.model_config))
        frames = num_frames(batch.num_samples, self.model_config)
        masks = make_masks(
            frames.tolist(),
            self._keys(plan),
            self.masking,
            num_negatives=self.model_config.num_negatives,
            hidden_size=self.model_config.hidden_size,
            constant_frames=constant_frames,
        )
        return TrainingBatch(
            waveforms=batch.waveforms,
            attention_mask=self._attention_mask(frames, masks.time_mask.shape[1]),
            masks=masks,
            num_masked=int(masks.valid.sum()),
            clip_samples=tuple(batch.num_samples.tolist()),
            plan=plan,
        )

    def read(self, plan: MicroBatch) -> Batch:
        """The clips cropped, augmented, collated and normalised: all but the masks."""
        keys = self._keys(plan)
        clips = [
            Clip(piece.clip, self._waveform(piece, plan.length, key))
            for piece, key in zip(plan.pieces, keys, strict=True)
        ]
        batch = self._collate(clips, keys)
        if plan.length is not None:
            batch = replace(batch, waveforms=F.pad(batch.waveforms, (0, plan.length - batch.waveforms.shape[1])))
        return replace(batch, waveforms=normalize(batch)) if self.do_normalize else batch

    def _keys(self, plan: MicroBatch) -> list[tuple[int | str, ...]]:
        return [self._key(plan.epoch, piece) for piece in plan.pieces]

    def _key(self, epoch: int, piece: Piece) -> tuple[int | str, ...]:
        if self.stage == "eval":
            return ("eval", piece.clip)
        return (self.seed, epoch, piece.clip, *([piece.part] if piece.part else []))

    def _waveform(self, piece: Piece, length: int | None, key: tuple[int | str, ...]) -> torch.Tensor:
        """float32 (T,) in [-1, 1], cropped and augmented; at most `length` samples."""
        start, stop = piece.window(self.clips.num_samples(piece.clip), length, derive_generator(*key, "crop"))
        waveform = torch.from_numpy(self.clips.waveform(piece.clip, start, stop - start))
        for name, augment in self.augmentations:
            with named_failure("augmentation", name, piece.clip):
                waveform = augment(waveform, derive_generator(*key, "augment", name))
        return waveform[:length]

    def _collate(self, clips: Sequence[Clip], keys: Sequence[tuple[int | str, ...]]) -> Batch:
        name = type(self.collator).__name__
        with named_failure("collator", name, clips[0].index):
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


def load_batches(
    builder: BatchBuilder, groups: Iterable[Sequence[MicroBatch]], *, num_workers: int, pin_memory: bool = False
) -> Generator[list[TrainingBatch]]:
    """The batches of each group, in order, built while the group before is used.

    They are built by `num_workers` processes, or, if that is 0, by a thread of this one. Close the iterator to end
    them early.
    """
    return prefetch(_build_groups(builder, groups, num_workers=num_workers, pin_memory=pin_memory))


def _build_groups(
    builder: BatchBuilder, groups: Iterable[Sequence[MicroBatch]], *, num_workers: int, pin_memory: bool
) -> Generator[list[TrainingBatch]]:
    for_loader, for_sizes = tee(groups)
    loader: DataLoader[TrainingBatch] = DataLoader(
        builder,
        batch_size=None,
        sampler=chain.from_iterable(for_loader),
        num_workers=num_workers,
        # fork after torch has started its threads can hang; spawn is what macOS does anyway.
        multiprocessing_context="spawn" if num_workers else None,
        worker_init_fn=_leave_signals_to_the_trainer,
        generator=torch.Generator(),  # its own draw must not disturb the training thread's
    )
    batches = iter(loader)
    try:
        for group in for_sizes:
            made = [next(batches) for _ in group]
            yield [batch.pin_memory() for batch in made] if pin_memory else made
    except PluginError as error:
        # From a worker it comes with the worker's traceback; its own line is the last.
        raise PluginError(
            str(error).strip().splitlines()[-1].removeprefix("runyoro_ssl.errors.PluginError: ")
        ) from None
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
            raise
        raise TrainingError(
            "a process that builds batches died, perhaps for lack of memory: use --dataloader-num-workers 0, then "
            "--resume-from-checkpoint last"
        ) from None
    finally:
        if num_workers:
            # An error's traceback would keep the iterator, and with it workers that ignore SIGTERM, beyond the exit.
            batches._shutdown_workers()  # type: ignore[attr-defined]  # noqa: SLF001 - the loader has no public end
