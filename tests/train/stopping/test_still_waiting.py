"""A disk that does not answer, and a logging backend that waits for its service, are named meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from runyoro_ssl.plugin.spec import Run
from runyoro_ssl.train.checkpoints import saver as saver_module
from runyoro_ssl.train.checkpoints.format import write_checkpoint
from runyoro_ssl.train.checkpoints.saver import Saver
from runyoro_ssl.train.loggers import Loggers
from runyoro_ssl.train.stopping import hanging
from support.trainer import build_saveable


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named soon."""
    monkeypatch.setattr(hanging, "TELL_SEC", 0.05)


class Service:
    """Something that answers when it has been complained of twice, or after ten seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers, self.num_complaints = threading.Event(), 0
        warning = hanging.log.warning

        def complain(*arguments: Any, **named: Any) -> Any:
            self.num_complaints += 1
            if self.num_complaints == 2:
                self.answers.set()
            return warning(*arguments, **named)

        monkeypatch.setattr(hanging, "log", type("Log", (), {"warning": staticmethod(complain)}))


@pytest.mark.parametrize("is_copy", [True, False])
def test_disk_that_hangs_is_named(
    is_copy: bool,  # noqa: FBT001 - a parameter
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the end of a save is waited for, in the background or not; then all is as ever."""
    service = Service(monkeypatch)
    loaded, extractor, snapshot = build_saveable(tiny_model)

    def wait_and_write(*arguments: Any) -> Any:
        assert service.answers.wait(10)
        return write_checkpoint(*arguments)

    monkeypatch.setattr(saver_module, "write_checkpoint", wait_and_write)
    taken = snapshot(1)
    taken.is_copy = is_copy
    with capture_logs() as logs, Saver(tmp_path, loaded, extractor, limit=0) as saver:
        saver.save(lambda: taken)
        saver.finish()
    assert [line["what"] for line in logs if line["event"] == "still_waiting"] == [
        f"a checkpoint to be written into {tmp_path}"
    ] * 2
    assert (tmp_path / "checkpoint-1").is_dir()


def test_logging_backend_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is the one that `plugins.loggers` has."""
    service = Service(monkeypatch)

    class Slow:
        def open(self, run: Run) -> None:
            """Ready at once."""

        def log(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002 - the interface
            """Wait for the service."""
            assert service.answers.wait(10)

        def close(self, status: str) -> None:
            """Ready at once."""

    loggers = Loggers([("slow", Slow())])
    with capture_logs() as logs:
        loggers.open(Run(tmp_path, "a run", {}, 0, 10))
        loggers.log(1, {})
    assert {line["what"] for line in logs} == {'the logging backend "slow"'}
