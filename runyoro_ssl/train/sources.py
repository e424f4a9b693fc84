"""The datasets that a run learns from, opened: their clips as one, their shares, and what must not be in two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, permutations
from pathlib import Path
from typing import Any

from runyoro_ssl.batches.mix import TARGET, Mix, MixedSource
from runyoro_ssl.config import SourceConfig, TrainConfig
from runyoro_ssl.config.source import Role, names, roles, shares
from runyoro_ssl.dataset.joined import JoinedClips
from runyoro_ssl.dataset.layout import TRAIN, VALIDATION
from runyoro_ssl.dataset.read import Clips, load_splits, name_clips, read_fingerprint
from runyoro_ssl.errors import DatasetError
from runyoro_ssl.model.draws import derive_seed

FEW_SEC = 60.0
"""Of each other source so much is judged at least, where less of the target is held out."""


MAX_PASSES = 1000
"""Over a source, in one over the target."""


@dataclass(frozen=True)
class OpenSource:
    """A dataset that a run learns from."""

    setting: SourceConfig
    name: str
    role: Role
    splits: Any
    sampling_rate: int

    @cached_property
    def clips(self) -> Clips:
        """Of the training split."""
        return Clips(self.splits[TRAIN])

    @cached_property
    def held_out(self) -> Clips:
        """Of the validation split."""
        return Clips(self.splits[VALIDATION])

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Samples of each clip of the training split."""
        return _lengths(self.splits[TRAIN])

    @cached_property
    def held_out_lengths(self) -> tuple[int, ...]:
        """Samples of each clip of the validation split."""
        return _lengths(self.splits[VALIDATION])

    @property
    def seconds(self) -> float:
        """Of the training split."""
        return sum(self.lengths) / self.sampling_rate

    def some_held_out(self, seconds: float) -> list[int]:
        """Clips of the validation split, the same in every run, until there is as much as this."""
        rows = sorted(range(len(self.held_out_lengths)), key=lambda row: derive_seed("held out", row))
        left, chosen = seconds * self.sampling_rate, []
        for row in rows:
            if left <= 0:
                break
            chosen.append(row)
            left -= self.held_out_lengths[row]
        return sorted(chosen)


def _lengths(split: Any) -> tuple[int, ...]:
    return tuple(split.with_format("numpy")["num_samples"][:].tolist())


@dataclass(frozen=True)
class Sources:
    """The datasets of a run, the target first, and the share of each in the audio while all are heard."""

    every: tuple[OpenSource, ...]
    shares: tuple[float, ...]

    @property
    def target(self) -> OpenSource:
        """The dataset over which an epoch is a pass."""
        return self.every[TARGET]

    @property
    def folders(self) -> list[Path]:
        """Where they are."""
        return [source.setting.path for source in self.every]

    @property
    def others(self) -> tuple[OpenSource, ...]:
        """The datasets that are heard beside it."""
        return self.every[TARGET + 1 :]

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Samples of each clip of the training splits, as `clips` numbers them."""
        return tuple(chain.from_iterable(source.lengths for source in self.every))

    def clips(self) -> Clips | JoinedClips:
        """The clips of the training splits."""
        if not self.others:
            return self.target.clips
        return JoinedClips([source.clips for source in self.every], [source.name for source in self.every])

    def mix(self) -> Mix | None:
        """The sources as the plan of a run sees them; None: there is one."""
        if not self.others:
            return None
        return Mix(
            tuple(
                MixedSource(len(source.lengths), share, source.setting.from_step, source.setting.until_step)
                for source, share in zip(self.every, self.shares, strict=True)
            )
        )

    def sizes(self) -> dict[str, int]:
        """Training clips of each, by its name, where there are several."""
        return {source.name: len(source.lengths) for source in self.every} if self.others else {}

    def words(self, source: OpenSource) -> str:
        """Whose something is, where there are several: ` of donor`."""
        return f" of {source.name}" if self.others else ""

    def name_clips(self, clips: Sequence[int]) -> list[str]:
        """Names of training clips, as `clips` numbers them: file@second where the dataset tells, else the row."""
        every = self.clips()
        if isinstance(every, Clips):
            return name_clips(self.target.setting.path, clips)
        folders = {source.name: source.setting.path for source in self.every}
        places = [every.place(clip) for clip in clips]
        return [f"{name}: {name_clips(folders[name], [row])[0]}" for name, row in places]

    @property
    def epoch_seconds(self) -> float:
        """Audio of an epoch in which all are heard."""
        return self.target.seconds / self.shares[TARGET]

    def judged_clips(self, source: OpenSource) -> list[int]:
        """Which clips of its validation split are judged: of the target all, of another at most as much."""
        if source is self.target:
            return list(range(len(source.held_out_lengths)))
        of_target = sum(self.target.held_out_lengths) / source.sampling_rate
        return source.some_held_out(max(of_target, FEW_SEC))


def open_sources(config: TrainConfig, *, sampling_rate: int) -> Sources:
    """Open every dataset of a configuration, for a model of this sampling rate (Hz).

    Raises:
        DatasetError: As `load_splits`, with the name of the source where there are several; or a clip that is held out
            of one is in what another trains on; or a source is far too small for its share.
    """
    settings = config.every_source
    found: list[OpenSource] = []
    for setting, name, role in zip(settings, names(settings), roles(settings), strict=True):
        with _named(name if len(settings) > 1 else None):
            splits = load_splits(setting.path, sampling_rate=sampling_rate)
        found.append(OpenSource(setting, name, role, splits, sampling_rate))
    parts = shares(settings, [source.seconds for source in found], config.source_temperature)
    _refuse_leaks(found)
    sources = Sources(tuple(found), tuple(parts))
    for source, share in zip(sources.every, sources.shares, strict=True):
        passes = share * sources.epoch_seconds / source.seconds
        if passes > MAX_PASSES:
            raise DatasetError(
                f"source {source.name}: with {share:.3g} of the audio, its {source.seconds:.0f} s would be heard "
                f"{passes:,.0f} times in each pass over {sources.target.name}; give it a smaller share"
            )
    return sources


def read_contents(config: TrainConfig) -> list[str]:
    """What each dataset of a configuration holds, as a digest, the target's first.

    Raises:
        DatasetError: One is not there; with the name of the source where there are several.
    """
    settings = config.every_source
    found: list[str] = []
    for setting, name in zip(settings, names(settings), strict=True):
        with _named(name if len(settings) > 1 else None):
            found.append(str(read_fingerprint(setting.path)["content_sha256"]))
    return found


@contextmanager
def _named(source: str | None) -> Iterator[None]:
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"source {source}: {error}" if source else str(error)) from None


def _refuse_leaks(sources: Sequence[OpenSource]) -> None:
    """Refuse clips that are held out of one dataset and trained on in another: their loss would tell nothing."""
    for judged, learned in permutations(sources, 2):
        held_out = {(length, judged.held_out.checksum(row)): row for row, length in enumerate(judged.held_out_lengths)}
        lengths = {length for length, _ in held_out}
        rows = (row for row, length in enumerate(learned.lengths) if length in lengths)
        both = [key for row in rows if (key := (learned.lengths[row], learned.clips.checksum(row))) in held_out]
        if both:
            example = judged.splits[VALIDATION].select_columns("id")[held_out[both[0]]]["id"]
            raise DatasetError(
                f"source {learned.name} trains on {len(both)} clips that are held out of {judged.name}, such as "
                f'"{example}": their loss would tell nothing; leave their recordings out of {learned.setting.path}, or '
                "prepare both as one dataset"
            )
