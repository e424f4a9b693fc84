"""Units of speech: the frames of recordings in clusters, found by k-means; a recording as the units it goes through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runyoro_ssl.disk.durable import replacing
from runyoro_ssl.errors import EmbedError
from runyoro_ssl.evaluate.measures.units import MIN_FRAMES_A_UNIT, Sample, fit_units, nearest_units


class UnitSpan(NamedTuple):
    """Time that is of one unit."""

    start_sec: float
    end_sec: float
    unit: int


@dataclass(frozen=True)
class Units:
    """Centres float32 (K, H) of features of a layer. `model`: the key of the weights that gave these."""

    centres: np.ndarray
    layer: int
    model: str

    def label(self, features: np.ndarray) -> np.ndarray:
        """The nearest unit of each frame. float32 (F, H) -> int64 (F,)."""
        return nearest_units(self.centres, features)

    def save(self, path: Path) -> None:
        """Write them, so that other recordings can be labelled with the same."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, centres=self.centres, layer=np.int64(self.layer), model=self.model)

    @classmethod
    def load(cls, path: Path) -> Units:
        """Read what `save` wrote.

        Raises:
            EmbedError: It is no such file.
        """
        remedy = "give the ….centres.npz of an earlier call, or a number"
        try:
            with np.load(path, allow_pickle=False) as found:
                centres, layer = found["centres"].astype(np.float32), int(found["layer"])
                model = str(found["model"])
        except FileNotFoundError:
            raise EmbedError(f"--units {path}: no such file; {remedy}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EmbedError(f"--units {path} holds no units ({type(error).__name__}); {remedy}") from None
        if centres.ndim != 2 or not np.isfinite(centres).all():  # noqa: PLR2004 - (K, H)
            raise EmbedError(f"--units {path} holds no units (centres {centres.shape}); {remedy}")
        return cls(centres, layer, model)


def find_units(sample: Sample, num_units: int, layer: int, *, seed: int, model: str) -> Units:
    """Cluster frames by mini-batch k-means, as an evaluation does, and as HuBERT's units are found.

    Raises:
        EmbedError: There are too few frames for so many units.
    """
    if sample.num_shown < MIN_FRAMES_A_UNIT * num_units:
        raise EmbedError(
            f"--units {num_units}: {sample.num_shown} frames are too few, {MIN_FRAMES_A_UNIT} a unit are needed; give "
            f"more recordings, or at most {sample.num_shown // MIN_FRAMES_A_UNIT} units"
        )
    means = fit_units(sample.frames, np.random.default_rng(seed), num_units)
    return Units(means.cluster_centers_.astype(np.float32), layer, model)


def stretches(labels: np.ndarray, frame_sec: float, length_sec: float) -> Iterator[UnitSpan]:
    """Frames of one unit in a row as one stretch: int64 (F,) -> stretches that leave no gap, the last to the end."""
    bounds = [0, *(np.flatnonzero(np.diff(labels)) + 1), len(labels)]
    for begin, end in pairwise(bounds):
        end_sec = length_sec if end == len(labels) else end * frame_sec
        yield UnitSpan(float(begin * frame_sec), float(end_sec), int(labels[begin]))
