"""Built-in corpus filters that cap how much one speaker or one recording gives."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runyoro_ssl import hookimpl
from runyoro_ssl.audio.reasons import Reason

if TYPE_CHECKING:
    from runyoro_ssl.config import Config
    from runyoro_ssl.plugin.spec import Candidate, Register, Utterance


TOLERANCE_SEC = 1e-6
"""For the rounding of sums."""


@dataclass(frozen=True)
class CapFilter:
    """Keeps at most `max_minutes` of the clips that agree in `field`; clips that have none there are not capped.

    The clips of a group are taken in the order of a hash of (seed, clip id), until the first that does not fit. So the
    choice depends neither on the order of the manifest nor on other groups; a clip that is added can push out about as
    much as it lasts, and brings none back.
    """

    field: str
    reason: str
    max_minutes: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.max_minutes < math.inf:
            raise ValueError(f"max_minutes is {self.max_minutes!r}, and must be a number of minutes above 0")

    def measure(self, utterance: Utterance) -> None:
        """Measure nothing: the samples do not matter."""

    def select(self, candidates: Sequence[Candidate]) -> list[str | None]:
        """Give the reason for every clip that no longer fits."""
        taken_sec: dict[str, float] = defaultdict(float)
        reasons: list[str | None] = [None] * len(candidates)
        for index in sorted(range(len(candidates)), key=lambda index: self._rank(candidates[index])):
            clip = candidates[index]
            group = getattr(clip, self.field)
            if group is None:
                continue
            taken_sec[group] += clip.num_samples / clip.sample_rate
            if taken_sec[group] > self.max_minutes * 60.0 + TOLERANCE_SEC:
                reasons[index] = self.reason
        return reasons

    def _rank(self, clip: Candidate) -> bytes:
        return hashlib.sha256(f"{self.seed}:{clip.id}".encode()).digest()


@hookimpl
def runyoro_manifest_filters(register: Register, config: Config) -> None:
    """Register both caps; they draw with the seed of `prepare`."""
    seed = config.prepare.seed

    def speaker_cap(max_minutes: float = 60.0) -> CapFilter:
        return CapFilter("speaker", Reason.SPEAKER_CAP, max_minutes, seed)

    def recording_cap(max_minutes: float = 30.0) -> CapFilter:
        return CapFilter("recording", Reason.RECORDING_CAP, max_minutes, seed)

    register("speaker_cap", speaker_cap)
    register("recording_cap", recording_cap)
