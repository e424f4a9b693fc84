"""Built-in collators of `train`: pad to the longest clip, or crop to the shortest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runyoro_ssl import hookimpl

if TYPE_CHECKING:
    import torch

    from runyoro_ssl.plugin.spec import Batch, Clip, Register


@dataclass(frozen=True)
class PaddedCollator:
    """Collator that zero-pads every clip to the longest: keeps all audio. Buckets by length keep the padding small."""

    def __call__(self, clips: Sequence[Clip], _generators: Sequence[torch.Generator]) -> Batch:
        """Pad. Clips of any lengths -> (B, max T)."""
        return _pad([clip.waveform for clip in clips])


@dataclass(frozen=True)
class CroppedCollator:
    """Collator that crops every clip at a random place to the shortest, as fairseq does: attention needs no mask."""

    def __call__(self, clips: Sequence[Clip], generators: Sequence[torch.Generator]) -> Batch:
        """Crop. Clips of any lengths -> (B, min T)."""
        import torch

        size = min(len(clip.waveform) for clip in clips)
        crops = []
        for clip, generator in zip(clips, generators, strict=True):
            start = int(torch.randint(len(clip.waveform) - size + 1, (), generator=generator))
            crops.append(clip.waveform[start : start + size])
        return _pad(crops)


def _pad(waveforms: Sequence[torch.Tensor]) -> Batch:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from runyoro_ssl.plugin.spec import Batch

    num_samples = torch.tensor([len(waveform) for waveform in waveforms])
    return Batch(pad_sequence(list(waveforms), batch_first=True), num_samples)


@hookimpl
def runyoro_collators(register: Register) -> None:
    """Register the collators."""
    register("padded", PaddedCollator)
    register("cropped", CroppedCollator)
