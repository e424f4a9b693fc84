"""Built-in corpus filter that finds audio the corpus holds already, whatever codec, gain or cut it comes in.

Its cost grows with the corpus, not with its square: 100 h in 59,000 clips, made of 95 min with shifted peaks,
took 67 s and 1 GB on one core.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from runyoro_ssl import hookimpl
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.builtins.duplicates.landmarks import MAX_STEP, NUM_TARGETS, PEAK, hashes, peaks
from runyoro_ssl.plugin.spec import Because

if TYPE_CHECKING:
    from runyoro_ssl.plugin.spec import Candidate, Register, Utterance

CLOSEST = 4
"""A hash is compared with so many of the first in the corpus that are equal to it, and so many just before it: a jingle
that a thousand clips hold costs no more for each than one that ten hold."""
BLOCK_HASHES = 1 << 20
"""Clips are compared with all earlier ones in blocks of about so many hashes: 4 hours, 0.3 GB."""
BLOCK_CLIPS = 1 << 14
"""And of at most so many clips: their number within the block is a part of a sort key."""
CLIPS_AT_ONCE = 1 << 12
"""Clips whose hashes are made in one go."""
LOW_HALF = 0 if sys.byteorder == "little" else 1
MAX_OFFSET_STEP = 2
"""Frames by which the offsets of two matches may differ and still be one: peaks are found to a frame."""
MIN_MATCHES = 8
MAX_GAP = 96
"""Frames, 1.5 s, without a match that do not end a matched stretch: a pause has none."""
TAIL = 12
"""Frames that a hash reaches beyond its first peak, mostly."""
NUM_NAMED = 3
"""Originals that a drop names."""
Stretch = tuple[int, int, int]
"""Earlier clip, first frame, frame after the last."""


@dataclass(frozen=True)
class DuplicateFilter:
    """Corpus filter that drops clips of which at least `min_overlap` is in kept clips earlier in the manifest.

    `min_overlap` is a share of the time in which the clip has spectral peaks. Copies are found through these, see
    `landmarks`, wherever they were cut. Of the 931 real clips one is dropped, an exact copy that two texts name. Of
    480 clips two thirds of which were an earlier one, cut elsewhere, 479 are found, drawn afresh after the constants
    were set: as such, as MP3 at 24 kbit/s, Opus at 18, AAC at 26, telephone band, 20 dB softer, with noise at 20 dB.
    With noise at 10 dB 73 % are; amplified 20 dB into clipping, 67 %. At an overlap of 0.5, Opus falls to 93 %.
    """

    min_overlap: float = 0.4

    def __post_init__(self) -> None:
        if not 0.0 < self.min_overlap <= 1.0:
            raise ValueError(f"min_overlap is {self.min_overlap!r}, and must be above 0 and at most 1")

    def measure(self, utterance: Utterance) -> bytes:
        """Find the spectral peaks of a clip, about 70 bytes a second; it takes 0.1 ms a second."""
        return peaks(utterance.waveform, utterance.sample_rate).tobytes()

    def select(self, candidates: Sequence[Candidate]) -> list[str | None]:
        """Decide in manifest order: a copy of a dropped clip counts only as a copy of what was kept."""
        reasons: list[str | None] = [None] * len(candidates)
        landmarks = [np.frombuffer(clip.measured, PEAK) for clip in candidates]
        if not candidates:
            return reasons
        for clip, stretches in sorted(_repeated(landmarks).items()):
            kept = [stretch for stretch in stretches if reasons[stretch[0]] is None]
            whole = _union(_stretches(landmarks[clip]["frame"].astype(np.int64)))
            if _union([(start, stop) for _, start, stop in kept]) >= self.min_overlap * whole:
                reasons[clip] = Because(Reason.NEAR_DUPLICATE, _name_originals(candidates, kept, whole))
        return reasons


def find_copies(landmarks: Sequence[np.ndarray], num_earlier: int, min_overlap: float) -> dict[int, int]:
    """Find clips, from number `num_earlier` on, that share `min_overlap` of the shorter one with a clip before it.

    `landmarks`: the spectral peaks of each clip. Returns clip -> the one before that it shares most with.
    """
    lengths = [_union(_stretches(found["frame"].astype(np.int64))) for found in landmarks]
    copies = {}
    for clip, stretches in sorted(_repeated(landmarks).items()):
        parts: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for earlier, start, stop in stretches:
            if earlier < num_earlier <= clip:
                parts[earlier].append((start, stop))
        covered = {one: _union(part) / max(1, min(lengths[one], lengths[clip])) for one, part in parts.items()}
        most = max(covered, key=lambda one: covered[one], default=None)
        if most is not None and covered[most] >= min_overlap:
            copies[clip] = most
    return copies


def _name_originals(candidates: Sequence[Candidate], stretches: Sequence[Stretch], whole: int) -> str:
    """Of which clips one is a copy, and whose they are, most of it first; `whole` is its length in frames."""
    parts: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for earlier, start, stop in stretches:
        parts[earlier].append((start, stop))
    covered = {earlier: _union(part) for earlier, part in parts.items()}
    most = sorted(covered, key=lambda earlier: (-covered[earlier], earlier))
    named = [
        f"{min(1.0, covered[earlier] / max(1, whole)):.0%} is in {candidates[earlier].id} "
        f"({_of_whom(candidates[earlier])})"
        for earlier in most[:NUM_NAMED]
    ]
    return ", ".join([*named, f"and {len(most) - NUM_NAMED} more"] if len(most) > NUM_NAMED else named)


def _of_whom(candidate: Candidate) -> str:
    return f"speaker {candidate.speaker or 'not named'}"


def _repeated(landmarks: Sequence[np.ndarray]) -> dict[int, list[Stretch]]:
    """The stretches of each clip that an earlier clip holds too."""
    lengths = [int(found["frame"][-1]) + 1 if len(found) else 0 for found in landmarks]
    # One time line for the corpus, on which no hash reaches from one clip into the next.
    starts = np.cumsum([0, *(num_frames + MAX_STEP + 1 for num_frames in lengths)])
    index = _index(landmarks, starts)
    frames = index.view(np.uint32)[LOW_HALF::2]
    num_blocks = 1 + max(len(index) // BLOCK_HASHES, len(landmarks) // BLOCK_CLIPS)
    repeated: dict[int, list[Stretch]] = defaultdict(list)
    for start, stop in itertools.pairwise(starts[np.linspace(0, len(landmarks), num_blocks + 1).astype(int)]):
        here = _between(frames, start, stop)
        for later, earlier, matched in _alignments(*_pairs(index, here), starts):
            repeated[later] += [(earlier, *stretch) for stretch in _stretches(matched)]
    return repeated


def _index(landmarks: Sequence[np.ndarray], starts: np.ndarray) -> np.ndarray:
    """Every hash with the frame of its first peak as its lower half, sorted, uint64; made in place."""
    num_targets = NUM_TARGETS * (NUM_TARGETS - 1) // 2
    index = np.empty(num_targets * sum(map(len, landmarks)), np.uint64)
    size = 0
    for first in range(0, len(landmarks), CLIPS_AT_ONCE):
        some = landmarks[first : first + CLIPS_AT_ONCE]
        frames = np.concatenate([found["frame"] + start for found, start in zip(some, starts[first:], strict=False)])
        codes, frames = hashes(frames, np.concatenate([found["bin"] for found in some]))
        index[size : size + len(codes)] = codes.astype(np.uint64) << np.uint64(32) | frames.astype(np.uint64)
        size += len(codes)
    index = index[:size]
    index.sort()
    return index


def _between(frames: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The places of frames from `start` on and before `stop`."""
    found = [
        at + np.flatnonzero((part >= start) & (part < stop))
        for at in range(0, len(frames), BLOCK_HASHES)
        for part in (frames[at : at + BLOCK_HASHES],)
    ]
    return np.concatenate([np.empty(0, np.int64), *found])


def _pairs(index: np.ndarray, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames, int64, of equal hashes, the later one of each pair among those `here`; the index is sorted."""
    frames = index.view(np.uint32)[LOW_HALF::2]
    first = np.searchsorted(index, index[here] >> np.uint64(32) << np.uint64(32))
    later, earlier = [], []
    for step in range(CLOSEST):
        for other, apart in ((first + step, here - first >= CLOSEST), (here - 1 - step, True)):
            equal = (other >= first) & (other < here) & apart
            later.append(frames[here[equal]])
            earlier.append(frames[other[equal]])
    return np.concatenate(later).astype(np.int64), np.concatenate(earlier).astype(np.int64)


def _alignments(later: np.ndarray, earlier: np.ndarray, starts: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Clips that match at one offset: the later one, the earlier one, and the frames of the later one, ascending."""
    clip, other = (np.searchsorted(starts, frames, side="right") - 1 for frames in (later, earlier))
    apart = clip != other
    clip, later, earlier = clip[apart], later[apart], earlier[apart]
    if len(clip) == 0:
        return
    # Clip, offset and frame in one number sort quickest: 16, 32 and 16 bits.
    base = clip.min()
    keys = np.sort((clip - base) << 48 | (later - earlier) << 16 | (later - starts[clip]))
    edges = np.flatnonzero(np.diff(keys >> 16, prepend=-MAX_OFFSET_STEP - 1, append=1 << 62) > MAX_OFFSET_STEP)
    for run in np.flatnonzero(np.diff(edges) >= MIN_MATCHES):
        matches = keys[edges[run] : edges[run + 1]]
        which = int(matches[0] >> 48) + int(base)
        matched = np.sort(matches & 0xFFFF)
        at = int(starts[which] + matched[0] - (matches[0] >> 16 & 0xFFFFFFFF))
        yield which, int(np.searchsorted(starts, at, side="right")) - 1, matched


def _stretches(frames: np.ndarray) -> list[tuple[int, int]]:
    """(first, after the last) of ascending frames with no gap above `MAX_GAP`."""
    if len(frames) == 0:
        return []
    edges = np.flatnonzero(np.diff(frames) > MAX_GAP)
    firsts, lasts = frames[np.r_[0, edges + 1]], frames[np.r_[edges, len(frames) - 1]]
    return list(zip(firsts.tolist(), (lasts + TAIL).tolist(), strict=True))


def _union(stretches: Sequence[tuple[int, int]]) -> int:
    """Frames that at least one stretch covers."""
    total, reached = 0, 0
    for start, stop in sorted(stretches):
        total += max(0, stop - max(start, reached))
        reached = max(reached, stop)
    return total


@hookimpl
def runyoro_manifest_filters(register: Register) -> None:
    """Register the duplicate filter."""
    register("duplicates", DuplicateFilter)
