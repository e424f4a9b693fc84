"""Built-in augmentations of `train`: noise at a drawn SNR, speed, gain. All off unless named in the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runyoro_ssl import hookimpl

if TYPE_CHECKING:
    import torch

    from runyoro_ssl.plugin.spec import Register

SAMPLE_RATE = 16_000
"""The rate of every model with a pre-training head; `speed` only uses ratios of it."""


@dataclass(frozen=True)
class Noise:
    """Augmentation that adds white Gaussian noise to a share of the clips, at an SNR drawn uniformly, in dB."""

    min_snr_db: float = 5.0
    max_snr_db: float = 25.0
    probability: float = 0.5

    def __call__(self, waveform: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Add the noise. float32 (T,) -> (T,)."""
        import torch

        if torch.rand((), generator=generator) >= self.probability or not waveform.any():
            return waveform
        noise = torch.randn(waveform.shape, generator=generator)
        snr_db = self.min_snr_db + (self.max_snr_db - self.min_snr_db) * torch.rand((), generator=generator)
        ratio: torch.Tensor = torch.linalg.vector_norm(waveform) / torch.linalg.vector_norm(noise)
        return waveform + ratio * 10 ** (-snr_db / 20) * noise


@dataclass(frozen=True)
class Speed:
    """Augmentation that plays the clip at one of `factors`, drawn uniformly, tempo and pitch (Ko et al., 2015)."""

    factors: Sequence[float] = (0.9, 1.0, 1.1)

    def __call__(self, waveform: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Resample. float32 (T,) -> (T / factor,)."""
        import soxr
        import torch

        factor = self.factors[int(torch.randint(len(self.factors), (), generator=generator))]
        if factor == 1.0:
            return waveform
        played: torch.Tensor = torch.from_numpy(soxr.resample(waveform.numpy(), factor * SAMPLE_RATE, SAMPLE_RATE))
        return played


@dataclass(frozen=True)
class Gain:
    """Augmentation that scales by a gain drawn uniformly, in dB; a model that normalises its input cannot tell."""

    min_db: float = -6.0
    max_db: float = 6.0

    def __call__(self, waveform: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Scale. float32 (T,) -> (T,)."""
        import torch

        gain_db = self.min_db + (self.max_db - self.min_db) * float(torch.rand((), generator=generator))
        return waveform * 10 ** (gain_db / 20)


@hookimpl
def runyoro_augmentations(register: Register) -> None:
    """Register the augmentations."""
    register("noise", Noise)
    register("speed", Speed)
    register("gain", Gain)
