"""What the measures are made of: features and fits of every subject, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from runyoro_ssl.bars import progress
from runyoro_ssl.config import FittedHardware
from runyoro_ssl.evaluate.heard.clips import HeldOut
from runyoro_ssl.evaluate.heard.features import FeatureCache, Features
from runyoro_ssl.evaluate.heard.subjects import LogMel, Network, Subject, open_network
from runyoro_ssl.evaluate.measures.fit import ClipFit, measure_clip
from runyoro_ssl.evaluate.perturb import Perturbation
from runyoro_ssl.evaluate.record import ADAPTED, BASE, LOG_MEL, RANDOM
from runyoro_ssl.model.allocator import give_back_freed

CHANGES: tuple[Perturbation, ...] = ("noise", "speed")
CHANGED_SEC = 240.0
"""Of the clips that are heard with noise and at another speed, too: as much of either half."""


@dataclass
class HeardMaterial:
    """Features by subject and perturbation, and fits by subject and by what was heard.

    `changed`: the held-out clips, by index, that were heard changed, too.
    """

    held_out: HeldOut
    changed: tuple[int, ...]
    features: dict[str, dict[Perturbation, Features]] = field(default_factory=dict)
    fits: dict[str, dict[str, list[ClipFit]]] = field(default_factory=dict)
    why_no_fit: dict[str, str] = field(default_factory=dict)

    @property
    def num_codes(self) -> int:
        """Of the adapted model's codebooks together; 0 where it has none."""
        fits = self.fits.get(ADAPTED, {}).get("fit", [])
        return fits[0].hard.size if fits else 0

    def features_of(self, *names: str) -> list[Features]:
        """All features of some subjects."""
        return [one for name in names for one in self.features[name].values()]

    @property
    def subjects(self) -> tuple[str, ...]:
        """All of which there are features."""
        return tuple(self.features)


def changed_clips(held_out: HeldOut) -> tuple[int, ...]:
    """Clips of both halves, in turn over groups, that last `CHANGED_SEC` together."""
    lengths = np.array([clip.num_samples for clip in held_out.clips]) / held_out.sampling_rate
    chosen: list[int] = []
    for half in (True, False):
        turn = {
            int(index): int(np.sum(held_out.groups[:index] == held_out.groups[index])) for index in range(len(lengths))
        }
        order = sorted(np.flatnonzero(held_out.in_a == half), key=lambda index: (turn[int(index)], int(index)))
        taken = np.cumsum(lengths[order]) - lengths[order]
        chosen += [int(index) for index, before in zip(order, taken, strict=True) if before < CHANGED_SEC / 2]
    return tuple(sorted(chosen))


def gather(
    models: dict[str, Path],
    held_out: HeldOut,
    cache: FeatureCache,
    hardware: FittedHardware,
    *,
    others: dict[str, HeldOut] | None = None,
    with_context: bool = True,
    fits_of: Sequence[str] | None = None,
) -> HeardMaterial:
    """Compute, or find, all that is needed of the models, by name, one after the other: one is in memory at a time.

    `others`: further clips of which the fit is measured, by family. `with_context`: log-mel and random weights, too.
    `fits_of`: the models whose fit is measured; None: all. Whoever is done with features releases them.

    Raises:
        EvaluationError: A model cannot be read.
    """
    material = HeardMaterial(held_out, changed_clips(held_out))
    heard = {"fit": held_out, **(others or {})}
    clips = len(held_out.clips) + len(CHANGES) * len(material.changed)
    fits = sum(len(one.clips) for one in heard.values())
    total = (len(models) + 2 * with_context) * clips + len(models) * fits
    with progress("clips", is_transient=True) as bar:
        task = bar.add_task("Listening", total=total)

        def step() -> None:
            bar.advance(task)
            give_back_freed()  # clips are of all lengths: what one has freed suits no other, and the heap grows

        for name, subject in _subjects(models, held_out.sampling_rate, hardware, with_context=with_context):
            bar.update(task, description=f"Listening: {name}")
            material.features[name] = {
                how: cache.get(subject, held_out, how, indices, on_clip=step)
                for how, indices in _parts(held_out, material.changed)
            }
            if isinstance(subject, Network) and name != RANDOM and (fits_of is None or name in fits_of):
                _measure_fits(material, subject, heard, step)
            del subject  # before the next is loaded
    return material


def _parts(held_out: HeldOut, changed: Sequence[int]) -> list[tuple[Perturbation, Sequence[int]]]:
    return [("none", range(len(held_out.clips))), *((how, changed) for how in CHANGES)]


def _measure_fits(
    material: HeardMaterial, network: Network, heard: dict[str, HeldOut], step: Callable[[], object]
) -> None:
    if network.head is None:
        material.why_no_fit[network.name] = "it has no pre-training head: without quantizer and projections, no loss"
        return
    found: dict[str, list[ClipFit]] = {}
    for family, held_out in heard.items():
        found[family] = []
        for index, clip in enumerate(held_out.clips):
            found[family].append(measure_clip(network, held_out.waveform(index), clip.id))
            step()
    material.fits[network.name] = found


def _subjects(
    models: dict[str, Path], sampling_rate: int, hardware: FittedHardware, *, with_context: bool
) -> Iterator[tuple[str, Subject]]:
    for name, folder in models.items():
        yield name, open_network(name, folder, hardware)
    if with_context:
        yield LOG_MEL, LogMel(sampling_rate)
        shape = models.get(ADAPTED) or models[BASE]
        yield RANDOM, open_network(RANDOM, shape, hardware, is_random=True)
