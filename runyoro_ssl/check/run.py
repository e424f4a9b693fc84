"""Every check, one after the other; one that fails is a row, and what the time does not suffice for is one, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from runyoro_ssl.check.agreement import check_blocks
from runyoro_ssl.check.curve import check_curve
from runyoro_ssl.check.finding import Finding, failed, not_done
from runyoro_ssl.check.kernels import check_kernels
from runyoro_ssl.check.learner import release
from runyoro_ssl.check.memory import check_cache, check_memory
from runyoro_ssl.check.resume import check_resume
from runyoro_ssl.check.room import tune
from runyoro_ssl.check.settings import CheckSettings
from runyoro_ssl.check.speed import check_speed
from runyoro_ssl.model.allocator import limit_program_caches

Check = Callable[[CheckSettings], Iterator[Finding]]
CHECKS: dict[str, Check] = {
    "blocks": check_blocks,
    "loss curve": check_curve,
    "resume": check_resume,
    "memory": check_memory,
    "cache": check_cache,
    "kernels": check_kernels,
    "speed": check_speed,
}
"""By name, what must be right before what may be slow."""
TIME_IS_UP = "time is up"


def run_checks(settings: CheckSettings, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Finding]:
    """The rows, as they are found. After `settings.minutes` nothing new is begun, and what was not is said."""
    deadline = clock() + 60 * settings.minutes
    limit_program_caches()  # as a run does
    tune(settings, settings.way)
    more = f"--minutes {2 * settings.minutes:g}"
    for name, check in CHECKS.items():
        if clock() >= deadline:
            yield not_done(name, "all of it", TIME_IS_UP, more)
            continue
        release(settings.device)
        try:
            with closing(_rows(check, settings)) as rows:
                for row in rows:
                    yield row
                    if clock() >= deadline:
                        yield not_done(name, "the rest, if there was more", TIME_IS_UP, more)
                        break
        except Exception as error:  # noqa: BLE001 - one check's failure is a finding, and the others go on
            yield failed(name, "all that is left of it", error)


def _rows(check: Check, settings: CheckSettings) -> Generator[Finding]:
    yield from check(settings)
