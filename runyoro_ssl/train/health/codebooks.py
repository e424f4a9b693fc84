"""Whether codebooks lose the codes that they had in use: next to all of them, or most; and since when."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runyoro_ssl.config import HealthConfig
from runyoro_ssl.train.health import alarms
from runyoro_ssl.train.health.alarms import Alarm
from runyoro_ssl.train.health.state import NUM_LEVELS, HealthState, sustained

if TYPE_CHECKING:
    from runyoro_ssl.evaluate.metrics import UpdateNumbers  # which imports torch

TOGETHER = "together"
CLEARLY = 2
"""Times a threshold from which a codebook is believed to be in use."""
LEAST_HELD = 20
"""Updates that show what a codebook of random weights has in use; `patience` of them do, where a model came trained."""
STEADY = 0.6
"""Share of the last levels under which codes are being lost. Levels are medians: in 670 updates of healthy small
models, of three clips each, which differ by half, one was under it at most."""
NUM_NEAR = 10
"""Levels: those that a level is compared with, and those among which a higher one belongs to the same fall."""
HIGHER = 1.1
"""Times a level from which another one is higher, and not just another draw of clips."""


class Codebooks:
    """The judge of the codes in use, in each codebook and in all together."""

    def __init__(self, config: HealthConfig, state: HealthState, *, came_trained: bool) -> None:
        self._config, self._state, self._came_trained = config, state, came_trained
        self._learned, self._recent = state.learned, state.recent

    def judge(self, numbers: UpdateNumbers) -> Alarm | None:
        """Judge an update, and remember it."""
        self._learned.num_codebooks = len(numbers.perplexities)
        found = [*self._gone(numbers), *self._lost(numbers)]
        self._remember(numbers)
        return found[0] if found else None

    def judge_validation(self, codes: float) -> bool:
        """Whether a validation has lost most codes that one had before. If not, no codebook has: it uses others now.

        In training, `codes` are counted softly: they fall, too, when a model becomes sure of its choices.
        """
        learned, recent = self._learned, self._recent
        if codes < self._left * learned.codes_validated:
            return True
        learned.codes_validated = max(learned.codes_validated, codes)
        for name, used in recent.codes.items():
            if recent.streaks.get(f"codes_lost:{name}"):
                recent.streaks[f"codes_lost:{name}"] = 0
                learned.codes_held[name] = self._level(used)
        return False

    def are_being_lost(self) -> bool:
        """Whether codes in use are fewer than a little before, or most of those that were ever held are gone."""
        return any(
            self._level(used)
            < max(STEADY * self._highest_near(name), self._left * self._learned.codes_held.get(name, 0))
            for name, used in self._recent.codes.items()
        )

    def in_use(self) -> tuple[float, float]:
        """Codes in use in training, all codebooks together: now, and at most a little before."""
        return self._level(self._recent.codes.get(TOGETHER, [0.0])), self._highest_near(TOGETHER)

    def fall_began(self, name: str | None = None) -> int | None:
        """The last step before the codes in use, of a codebook or of any, began to become fewer; None: not known.

        Where they do not, it is that of the last level: a fall that begins there is not seen yet.
        """
        if name is None:
            return min(filter(None, (self.fall_began(each) for each in self._recent.codes)), default=None)
        levels = self._recent.levels
        if not levels:
            return None
        began, highest = levels[-1][0], min(levels[-1][1][name], self._level(self._recent.codes[name]))
        before = 0
        for step, level in reversed(levels):
            before += 1
            if level[name] > HIGHER * highest:
                began, highest, before = step, level[name], 0
            elif before > NUM_NEAR:
                break
        return began

    @property
    def _left(self) -> float:
        """Share of the codes in use under which most are lost."""
        return 1 - self._config.max_lost_codes

    def _gone(self, numbers: UpdateNumbers) -> Iterator[Alarm]:
        """A codebook that was in use and has next to no code; one that came unused has time, as random weights have."""
        config, recent = self._config, self._recent
        for codebook, value in enumerate(numbers.perplexities, 1):
            in_use = value >= CLEARLY * config.min_group_perplexity
            used = self._state.learn(f"codebook_in_use:{codebook}", seen=in_use, patience=config.patience)
            used = used or self._came_trained
            low = value < config.min_group_perplexity
            collapsed = recent.count(f"codebook_collapse:{codebook}", seen=low and used)
            unused = recent.count(f"codebook_never_used:{codebook}", seen=low and not used)
            if collapsed >= config.patience:
                behind = self.fall_began(str(codebook))
                yield alarms.codebook_collapse(numbers, config, codebook=codebook, in_a_row=collapsed, behind=behind)
            elif unused >= config.chance_patience:
                yield alarms.codebook_never_used(numbers, config, codebook=codebook, in_a_row=unused)

    def _lost(self, numbers: UpdateNumbers) -> Iterator[Alarm]:
        """Codebooks, or all together, that have lost most of the codes that they held."""
        for name, value in _series(numbers):
            held = self._learned.codes_held.get(name, 0.0)
            in_a_row = self._recent.count(f"codes_lost:{name}", seen=value < self._left * held)
            if in_a_row >= self._config.patience:
                which = "all codebooks together have" if name == TOGETHER else f"codebook {name} has"
                yield alarms.codes_lost(
                    self._config, which=which, codes=value, held=held, in_a_row=in_a_row, behind=self.fall_began(name)
                )

    def _remember(self, numbers: UpdateNumbers) -> None:
        learned, recent, patience = self._learned, self._recent, self._config.patience
        enough = patience if self._came_trained else max(patience, LEAST_HELD)
        for name, value in _series(numbers):
            used = recent.codes[name] = [*recent.codes.get(name, []), value][-max(patience, LEAST_HELD) :]
            if len(used) >= enough:
                learned.codes_held[name] = max(learned.codes_held.get(name, 0.0), sustained(used))
        due = not recent.levels or numbers.step >= recent.levels[-1][0] + patience
        if due and all(len(used) >= patience for used in recent.codes.values()):
            now = {name: self._level(used) for name, used in recent.codes.items()}
            recent.levels = [*recent.levels, (numbers.step, now)][-NUM_LEVELS:]

    def _level(self, used: list[float]) -> float:
        """Codes in use as they are, whatever the clips of one update."""
        return statistics.median(used[-self._config.patience :])

    def _highest_near(self, name: str) -> float:
        return max((level[name] for _, level in self._recent.levels[-NUM_NEAR:]), default=0.0)


def _series(numbers: UpdateNumbers) -> Iterator[tuple[str, float]]:
    """Codes in use by what is judged: each codebook by its number, and all together."""
    for codebook, value in enumerate(numbers.perplexities, 1):
        yield str(codebook), value
    yield TOGETHER, sum(numbers.perplexities)
