"""The logging backends of a run: opened, called and closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from runyoro_ssl.errors import describe
from runyoro_ssl.logs import get_logger
from runyoro_ssl.plugin.spec import LoggingBackend, Run
from runyoro_ssl.train.stopping.hanging import named_if_it_hangs

log = get_logger()


class Loggers:
    """The enabled logging backends. One that raises is disabled with one warning; the run goes on."""

    def __init__(self, backends: list[tuple[str, LoggingBackend]]) -> None:
        self._backends = backends
        self.status: Literal["finished", "stopped", "failed"] = "failed"

    def open(self, run: Run) -> None:
        """Tell every backend that the run starts."""
        self._each(lambda backend: backend.open(run))

    def reopen(self, run: Run) -> None:
        """Tell every backend that the run went back: what came after this step is no longer part of it."""
        self._each(lambda backend: backend.close("rolled back"))
        self.open(run)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand the numbers of a step to every backend."""
        self._each(lambda backend: backend.log(step, metrics))

    def close(self) -> None:
        """Tell every backend how the run ended."""
        self._each(lambda backend: backend.close(self.status))

    def _each(self, call: Callable[[LoggingBackend], None]) -> None:
        for name, backend in list(self._backends):
            try:
                with named_if_it_hangs(f'the logging backend "{name}"'):
                    call(backend)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code; a logger must not cost the run
                self._backends = [pair for pair in self._backends if pair[1] is not backend]
                log.warning("logger_disabled", logger=name, error=describe(error))


@contextmanager
def open_loggers(backends: list[tuple[str, LoggingBackend]], run: Run) -> Iterator[Loggers]:
    """Open logging backends, and close them however the run ends."""
    loggers = Loggers(backends)
    loggers.open(run)
    try:
        yield loggers
    finally:
        loggers.close()
