"""Clips as units: k-means on a layer of the base model, found on the target; kept block by block, by what was heard.

Features of a clip are set to mean 0 and deviation 1 over the clip: what is left then says less of voice and microphone
(van Niekerk et al., 2021, arXiv 2108.00917).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from runyoro_ssl.dataset.read import Clips
from runyoro_ssl.disk.durable import replacing
from runyoro_ssl.donors.similarity import collapse
from runyoro_ssl.errors import DonorsError
from runyoro_ssl.evaluate.grid import GRID
from runyoro_ssl.evaluate.heard.clips import HeldOut
from runyoro_ssl.evaluate.heard.subjects import MEL_BANDS, LogMel, Network
from runyoro_ssl.evaluate.measures.units import FITTED_ON, MIN_FRAMES_A_UNIT, Sample, fit_units, nearest_units
from runyoro_ssl.model.allocator import give_back_freed

UNITS_VERSION = 1
"""Raised when the same model and clips would give other units."""
BLOCK_CLIPS = 64
"""Clips whose units are kept in one file: what an interruption can lose."""
CENTRES = "centres.npy"


class FeatureSource(Protocol):
    """What gives features of a clip."""

    @property
    def key(self) -> str:
        """What they depend on."""

    @property
    def width(self) -> int:
        """H: how many there are of a frame."""

    def features(self, waveform: np.ndarray) -> np.ndarray:
        """Of a clip, float32 (T,) in [-1, 1]: float32 (F, H)."""


@dataclass(frozen=True)
class LayerFeatures:
    """A layer of a base model."""

    network: Network
    layer: int

    @property
    def key(self) -> str:
        """The model's, and the layer."""
        return f"{self.network.key}-layer-{self.layer}"

    @property
    def width(self) -> int:
        """That of the model."""
        return self.network.listener.hidden_size

    def features(self, waveform: np.ndarray) -> np.ndarray:
        """The hidden states of a clip.

        Raises:
            DonorsError: The model gives no numbers.
        """
        if self.network.listener.frames.count(len(waveform)) == 0:
            return np.zeros((0, self.network.listener.hidden_size), np.float32)
        states, _ = self.network.listener.hidden_states(self.network.prepare(waveform), [self.layer])
        features: np.ndarray = states[self.layer].numpy()
        if not np.isfinite(features).all():
            raise DonorsError(
                "the base model gives features that are no finite numbers: it is damaged; give another one"
            )
        return features


@dataclass(frozen=True)
class SpectralFeatures:
    """Log-mel spectra: no model."""

    spectra: LogMel

    @property
    def key(self) -> str:
        """The same for all."""
        return self.spectra.key

    @property
    def width(self) -> int:
        """Of bands."""
        return MEL_BANDS

    def features(self, waveform: np.ndarray) -> np.ndarray:
        """80 bands of each frame."""
        too_short = len(waveform) < GRID.receptive
        return np.zeros((0, MEL_BANDS), np.float32) if too_short else self.spectra.features(waveform)[0]


@dataclass(frozen=True)
class Ear:
    """The units that clips are heard in. `folder`: where units of clips are kept."""

    source: FeatureSource
    centres: np.ndarray
    folder: Path

    @property
    def num_units(self) -> int:
        """How many there are."""
        return len(self.centres)

    def units(
        self, clips: Clips, rows: Sequence[int], keys: Sequence[tuple[int, int]], on_clip: Callable[[int], object]
    ) -> Iterator[np.ndarray]:
        """The units of clips, without repeats: uint16 (U,) each, in order. Heard where they are not kept yet.

        Args:
            clips: Where they are.
            rows: Which.
            keys: Number of samples and checksum of each, by which they are found again, whatever dataset has them.
            on_clip: Called with the number of samples of each.
        """
        for start in range(0, len(rows), BLOCK_CLIPS):
            block, of_block = rows[start : start + BLOCK_CLIPS], keys[start : start + BLOCK_CLIPS]
            path = self.folder / f"{_digest(of_block)}.npz"
            found = self._read(path, len(block))
            if found is None:
                found = []
                for row, (num_samples, _) in zip(block, of_block, strict=True):
                    features = standardised(self.source, clips.waveform(row))
                    found.append(collapse(nearest_units(self.centres, features)).astype(np.uint16))
                    give_back_freed()
                    on_clip(num_samples)
                with replacing(path) as temporary, temporary.open("wb") as file:
                    starts = np.cumsum([0, *map(len, found)])
                    np.savez(file, units=np.concatenate(found), starts=starts)
            else:
                on_clip(sum(num_samples for num_samples, _ in of_block))
            yield from found

    def _read(self, path: Path, num_clips: int) -> list[np.ndarray] | None:
        """Units that are there and whole."""
        kept = _kept(path)
        units, starts = kept.get("units"), kept.get("starts")
        if units is None or starts is None or units.dtype != np.uint16 or units.ndim != 1:
            return None
        if starts.shape != (num_clips + 1,) or not np.issubdtype(starts.dtype, np.integer):
            return None
        in_order = starts[0] == 0 and (np.diff(starts) >= 0).all() and starts[-1] == len(units)
        return np.split(units, starts[1:-1]) if in_order and units.max(initial=0) < self.num_units else None


def open_ear(
    source: FeatureSource,
    target: HeldOut,
    *,
    num_units: int,
    seed: int,
    cache_dir: Path,
    on_clip: Callable[[int], object],
) -> Ear:
    """Find the units of a target, on the half that is compared with; or those that were kept.

    Raises:
        DonorsError: It is too little for so many units.
    """
    rows = [clip for clip, in_a in zip(target.clips, target.in_a, strict=True) if in_a]
    heard = [(clip.num_samples, clip.crc32) for clip in rows]
    words = f"{source.key}\0{_digest(heard)}\0{num_units}\0{seed}\0{UNITS_VERSION}"
    folder = cache_dir / f"units-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
    path = folder / CENTRES
    centres = _kept(path).get("")
    if centres is not None and centres.shape == (num_units, source.width) and _are_numbers(centres):
        on_clip(sum(num_samples for num_samples, _ in heard))
        return Ear(source, centres, folder)
    sample = Sample(FITTED_ON, np.random.default_rng(seed))
    for clip in rows:
        sample.show(standardised(source, target.waveforms.waveform(clip.row)))
        on_clip(clip.num_samples)
    if sample.num_shown < MIN_FRAMES_A_UNIT * num_units:
        raise DonorsError(
            f"--num-units {num_units}: half of the target that is heard has {sample.num_shown} frames, and a unit "
            f"takes {MIN_FRAMES_A_UNIT}; give more speech, or at most {sample.num_shown // MIN_FRAMES_A_UNIT} units"
        )
    means = fit_units(sample.frames, np.random.default_rng(seed), num_units)
    centres = means.cluster_centers_.astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, centres)
    return Ear(source, centres, folder)


def standardised(source: FeatureSource, waveform: np.ndarray) -> np.ndarray:
    """Features of a clip, float32 (T,) in [-1, 1]: float32 (F, H), mean 0 and deviation 1 over its frames."""
    features = source.features(waveform)
    if len(features) == 0:
        return features
    return np.asarray((features - features.mean(0)) / (features.std(0) + 1e-5), np.float32)


def _kept(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, or one by none; nothing where it is not there, or not whole: it is made again."""
    if not path.is_file():
        return {}
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"": found}
        with found:
            return dict(found)
    except Exception:  # noqa: BLE001 - numpy, zipfile and zlib raise a dozen types for a damaged file
        return {}


def _are_numbers(centres: np.ndarray) -> bool:
    return centres.dtype == np.float32 and bool(np.isfinite(centres).all())


def _digest(keys: Sequence[tuple[int, int]]) -> str:
    """What clips hold, as a name."""
    return hashlib.sha256(repr([(int(length), int(crc32)) for length, crc32 in keys]).encode()).hexdigest()[:24]
