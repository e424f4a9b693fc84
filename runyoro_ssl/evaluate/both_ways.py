"""Whether a model was trained on clips of zero mean and unit variance, or as they are: it foretells one of them better.

No file of fairseq2 says which: its recipe for pre-training takes clips as they are unless told, its recipes for
fine-tuning normalise them. The user's own speech tells, and tells whether the weights are where they belong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from runyoro_ssl.bars import progress
from runyoro_ssl.config import FittedHardware
from runyoro_ssl.dataset.read import Clips
from runyoro_ssl.disk.durable import MANIFEST, seal, write_json
from runyoro_ssl.errors import ConvertError
from runyoro_ssl.evaluate.heard.subjects import Network, open_network
from runyoro_ssl.evaluate.hearing import hear
from runyoro_ssl.evaluate.measures.fit import ClipFit, measure_clip
from runyoro_ssl.foreign.note import NOTE, read_note
from runyoro_ssl.foreign.shape import EXTRACTOR_SETTINGS
from runyoro_ssl.model.source import EXTRACTOR

HEARD_SEC = 60.0
MIN_BELOW_GUESSING = 0.3
"""Nats. Scrambled weights guess. The weakest model tried that had learned anything, 5.9 M weights on another language,
was 0.5 below (docs/measurements.md)."""


@dataclass(frozen=True)
class BothWays:
    """Contrastive loss per masked frame, nats, of clips that are normalised, and as they are; and that of guessing."""

    normalised: float
    as_they_are: float
    guessing: float
    seconds: float

    @property
    def normalises(self) -> bool:
        """Which is foretold better."""
        return self.normalised <= self.as_they_are

    @property
    def below_guessing(self) -> float:
        """Of the better, nats."""
        return self.guessing - min(self.normalised, self.as_they_are)


def listen_both_ways(folder: Path, clips: Clips, hardware: FittedHardware, *, sampling_rate: int) -> BothWays:
    """Hear a minute of clips both ways, with the same masks and negatives.

    Raises:
        ConvertError: There is no speech to be heard.
    """
    good = hear(clips, range(len(clips)), sampling_rate).good
    chosen = _spread(clips, good, round(HEARD_SEC * sampling_rate))
    if not chosen:
        raise ConvertError("no clip of the dataset holds anything that a model could foretell; prepare speech")
    network = open_network("converted", folder, hardware)
    ways = [_with(network, normalizes=normalizes) for normalizes in (True, False)]
    fits: list[list[ClipFit]] = [[], []]
    with progress("clips", is_transient=True) as bar:
        for clip in bar.track(chosen, description="Listening"):
            waveform = clips.waveform(clip)
            for way, found in zip(ways, fits, strict=True):
                found.append(measure_clip(way, waveform, str(clip)))
    normalised, as_they_are = (_per_frame([fit.loss for fit in found], found) for found in fits)
    guessing = _per_frame([fit.chance_loss for fit in fits[0]], fits[0])
    return BothWays(normalised, as_they_are, guessing, sum(map(clips.num_samples, chosen)) / sampling_rate)


def settle(folder: Path, found: BothWays) -> None:
    """Have the feature extractor of a converted model do as it foretells better, and note what was found.

    Raises:
        ConvertError: It guesses, either way: it is no model of speech, or its weights are not where they belong.
    """
    if not found.below_guessing >= MIN_BELOW_GUESSING:  # of no numbers, neither holds
        raise ConvertError(
            f"{folder}: guesses on your speech ({found.normalised:.2f} nats on normalised clips, "
            f"{found.as_they_are:.2f} as they are; guessing is {found.guessing:.2f}): the file is damaged, or no model "
            "of speech that is pre-trained; download it anew"
        )
    write_json(folder / EXTRACTOR, {**EXTRACTOR_SETTINGS, "do_normalize": found.normalises})
    write_json(folder / NOTE, {**read_note(folder), "heard": asdict(found)})
    (folder / MANIFEST).unlink(missing_ok=True)  # it seals what was there before
    seal(folder)


def _with(network: Network, *, normalizes: bool) -> Network:
    return replace(network, listener=replace(network.listener, normalizes=normalizes))


def _spread(clips: Clips, rows: Sequence[int], num_samples: int) -> list[int]:
    """Some of the rows, evenly spread, that have about so many samples together."""
    total = sum(map(clips.num_samples, rows))
    return list(rows[:: max(1, -(-total // num_samples))])


def _per_frame(sums: Sequence[float], fits: Sequence[ClipFit]) -> float:
    return float(np.sum(sums) / np.sum([fit.num_masked for fit in fits]))
