"""The bytes of a download as they come: shown by a bar; a rate with which it would take hours is said once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.progress import Progress, TaskID

from runyoro_ssl.hub.place import amount
from runyoro_ssl.logs import get_logger

log = get_logger()

JUDGED_AFTER_SEC = 60.0
SLOW_SEC = 2 * 3600.0
"""A download that takes longer is slow."""


@dataclass
class Arrival:
    """What has come of `num_bytes`, and since when."""

    num_bytes: int
    bar: Progress
    task: TaskID
    started: float = field(default_factory=time.monotonic)
    have: int = 0
    fresh: int = 0
    """Of them, those that came since the start."""
    was_said: bool = False

    def advance(self, num_bytes: int, *, is_fresh: bool = True) -> None:
        """Count bytes that have come: now, or at an earlier try; less than 0 where they are lost."""
        self.have += num_bytes
        self.fresh += num_bytes * is_fresh
        self.bar.advance(self.task, num_bytes)
        spent = time.monotonic() - self.started
        if self.was_said or spent < JUDGED_AFTER_SEC:
            return
        self.was_said = True
        rate = max(self.fresh, 1) / spent
        left_sec = (self.num_bytes - self.have) / rate
        if left_sec > SLOW_SEC:
            log.warning(
                "slow",
                rate=f"{amount(rate)} a second",
                left=f"{left_sec / 3600:.0f} h",
                advice="Ctrl-C at any time keeps what has come; or bring the folder that `invoke doctor --fetch` names "
                "at a place with a better network",
            )
