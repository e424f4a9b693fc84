"""The journal of a run on a disk that is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from runyoro_ssl.train.health import journal


def test_a_line_that_could_not_be_flushed_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share that is full says so when it is flushed: who tries again finds the file as it was."""
    journal.record(tmp_path, {"step": 1})

    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journal, "flush", full)
        with pytest.raises(OSError, match="No space"):
            journal.record(tmp_path, {"step": 2})
    journal.record(tmp_path, {"step": 2})
    assert [event["step"] for event in journal.read(tmp_path)] == [1, 2]
