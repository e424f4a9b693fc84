"""Which held-out clips are heard: some minutes, spread over speakers and recordings, none that a model has learned."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np

from runyoro_ssl.dataset.layout import TRAIN, VALIDATION
from runyoro_ssl.dataset.read import Clips, load_splits
from runyoro_ssl.errors import EvaluationError, TooLittleSpeechError
from runyoro_ssl.evaluate.heard.trained_on import trained_on
from runyoro_ssl.evaluate.judged import MIN_CLIP_SEC
from runyoro_ssl.model.draws import derive_seed

MIN_GROUPS = 16
"""Fewer speakers, or recordings, say too little of others, for half of them is reported: then what is in them is drawn
for the intervals."""
MANY_CLIPS = 400
"""Of a training split, that are looked at to choose some, evenly spread."""
GroupKind = Literal["speakers", "recordings", "clips"]


@dataclass(frozen=True)
class HeldOutClip:
    """A clip of a dataset's split, by its row; who speaks and in what language, where that is known."""

    row: int
    id: str
    recording: str
    speaker: str | None
    language: str | None
    num_samples: int
    crc32: int
    metadata: dict[str, Any] = field(default_factory=dict, compare=False)
    source: str = ""


@dataclass(frozen=True)
class HeldOut:
    """The clips that are heard.

    `groups`: int64 (N,), the group of each clip, 0 to `num_groups` - 1; `in_a`: bool (N,), True in the half of the
    groups that chooses layers and fits units, False in the half on which is reported.
    """

    clips: tuple[HeldOutClip, ...]
    waveforms: Clips
    sampling_rate: int
    groups: np.ndarray
    kind: GroupKind
    in_a: np.ndarray
    refused: int | None = 0
    """Clips left out, as a model was trained on them; None: not known, for `not_known`."""
    not_known: str = ""
    of_clips: int = 0
    """So many there are to choose from."""

    @property
    def samples(self) -> set[tuple[int, int]]:
        """The clips by length and checksum: the same for the same sound, whatever it is called."""
        return {(clip.num_samples, clip.crc32) for clip in self.clips}

    @property
    def num_groups(self) -> int:
        """How many groups there are."""
        return int(self.groups.max()) + 1

    @property
    def seconds(self) -> float:
        """Of all clips."""
        return sum(clip.num_samples for clip in self.clips) / self.sampling_rate

    def waveform(self, index: int) -> np.ndarray:
        """A clip: float32 (T,) in [-1, 1], unnormalised."""
        return self.waveforms.waveform(self.clips[index].row)

    def digest(self) -> str:
        """What these clips hold, for names in a cache."""
        return f"{derive_seed(*(f'{clip.num_samples}.{clip.crc32}' for clip in self.clips)):016x}"


def choose_clips(
    dataset: Path, *, sampling_rate: int, max_seconds: float, models: Sequence[Path] = (), seed: int = 0
) -> HeldOut:
    """Choose held-out clips of a dataset, speaker by speaker and recording by recording, until there is enough.

    Args:
        dataset: A folder of `prepare`.
        sampling_rate: That of the models, Hz.
        max_seconds: The last clip may exceed it.
        models: Folders of models; what their runs were trained on is refused.
        seed: Decides which clips of a recording come first.

    Raises:
        DatasetError: It is none, or of another rate.
        EvaluationError: All clips are too short, or a model was trained on each.
    """
    splits = load_splits(dataset, sampling_rate=sampling_rate)
    if VALIDATION not in splits:
        raise EvaluationError(f"{dataset}: it has no split {VALIDATION}, of clips that are held out; prepare it again")
    waveforms = Clips(splits[VALIDATION])
    found = list(_clips_of(splits[VALIDATION], waveforms))
    samples = {(clip.num_samples, clip.crc32) for clip in found}
    trained, not_known = trained_on(samples, models, sampling_rate, at_hand=dataset)
    left = [clip for clip in found if (clip.num_samples, clip.crc32) not in trained]
    long_enough = [clip for clip in left if clip.num_samples >= MIN_CLIP_SEC * sampling_rate]
    if not long_enough:
        why = "a model was trained on each" if not left else "each is shorter than a mask"
        raise TooLittleSpeechError(
            f"{dataset}: of its {len(found)} held-out clips none can be heard: {why}; give others with --data"
        )
    chosen = _spread(long_enough, round(max_seconds * sampling_rate), seed)
    refused = None if not_known else len(found) - len(left)
    held_out = _held_out(chosen, waveforms, sampling_rate)
    return replace(held_out, refused=refused, not_known=not_known, of_clips=len(long_enough))


def choose_trained(
    dataset: Path, *, sampling_rate: int, max_seconds: float, seed: int = 0, of_clips: int = MANY_CLIPS
) -> HeldOut:
    """Choose clips of the other split, that is trained on, of `of_clips` that are spread evenly over it.

    Raises:
        DatasetError: It is none, or of another rate.
    """
    split = load_splits(dataset, sampling_rate=sampling_rate)[TRAIN]
    some = split.select(range(0, len(split), -(-len(split) // of_clips)))
    waveforms = Clips(some)
    found = [clip for clip in _clips_of(some, waveforms) if clip.num_samples >= MIN_CLIP_SEC * sampling_rate]
    return _held_out(_spread(found, round(max_seconds * sampling_rate), seed), waveforms, sampling_rate)


def _held_out(chosen: Sequence[HeldOutClip], waveforms: Clips, sampling_rate: int) -> HeldOut:
    groups, kind = _group(chosen)
    return HeldOut(tuple(chosen), waveforms, sampling_rate, groups, kind, _halve(chosen, groups))


def _clips_of(split: Any, waveforms: Clips) -> Iterator[HeldOutClip]:
    table = split.select_columns([name for name in split.column_names if name != "audio"])
    for row, columns in enumerate(table):
        metadata: dict[str, Any] = {}
        with suppress(ValueError, TypeError):
            metadata = json.loads(columns.get("metadata") or "{}")
        yield HeldOutClip(
            row,
            str(columns.get("id") or row),
            str(columns.get("recording") or columns.get("id") or row),
            columns.get("speaker"),
            columns.get("language"),
            waveforms.num_samples(row),
            waveforms.checksum(row),
            metadata if isinstance(metadata, dict) else {},
            str(columns.get("source") or ""),
        )


def _spread(clips: Sequence[HeldOutClip], max_samples: int, seed: int) -> list[HeldOutClip]:
    """Clips in turn from every speaker, and of each from every recording, until they last as long as wanted."""
    speakers: dict[str, dict[str, list[HeldOutClip]]] = defaultdict(lambda: defaultdict(list))
    for clip in sorted(clips, key=lambda clip: derive_seed(seed, "evaluate", clip.id)):
        speakers[clip.speaker or ""][clip.recording].append(clip)
    in_turn = _in_turn([_in_turn(list(recordings.values())) for recordings in speakers.values()])
    chosen, taken = [], 0
    for clip in in_turn:
        if taken >= max_samples:
            break
        chosen.append(clip)
        taken += clip.num_samples
    return sorted(chosen, key=lambda clip: clip.row)


def _in_turn(lists: Sequence[Sequence[HeldOutClip]]) -> list[HeldOutClip]:
    return [clip for clip in chain.from_iterable(zip_longest(*lists)) if clip is not None]


def _group(clips: Sequence[HeldOutClip]) -> tuple[np.ndarray, GroupKind]:
    """The group of each clip: its speaker, its recording or itself, the first of which there are enough."""
    by_kind: dict[GroupKind, list[str | None]] = {
        "speakers": [clip.speaker for clip in clips],
        "recordings": [clip.recording for clip in clips],
    }
    for kind, names in by_kind.items():
        if None not in names and len(set(names)) >= MIN_GROUPS:
            return np.unique(np.array(names), return_inverse=True)[1], kind
    return np.arange(len(clips)), "clips"


def _halve(clips: Sequence[HeldOutClip], groups: np.ndarray) -> np.ndarray:
    """Whether each clip is in the first half: whole groups, the largest first, each into the half that has less.

    Where clips are drawn, whole recordings, if there are two: what is fitted to one half has not heard the other.
    """
    recordings = np.unique(np.array([clip.recording for clip in clips]), return_inverse=True)[1]
    if len(set(groups.tolist())) == len(clips) and recordings.max() > 0:
        groups = recordings
    sizes = np.bincount(groups, weights=[clip.num_samples for clip in clips])
    in_a = np.zeros(len(sizes), dtype=bool)
    seconds = [0.0, 0.0]
    for group in np.argsort(-sizes, kind="stable"):
        half = int(seconds[1] < seconds[0])
        in_a[group] = half == 0
        seconds[half] += sizes[group]
    return np.asarray(in_a[groups])
