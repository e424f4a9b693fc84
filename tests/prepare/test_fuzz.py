"""Damaged input, the short form; tests/fuzzing.py has the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzing import MAX_FILE_MB, fuzz_files, fuzz_manifests, write_seeds


@pytest.mark.usefixtures("fresh_workers")
def test_damaged_recordings(tmp_path: Path) -> None:
    """Each decodes to finite samples or has its reason, within a second and 512 MB; none crashes or hangs."""
    findings = fuzz_files(write_seeds(tmp_path), 400, seed=1)
    assert findings.breaches == []
    assert findings.outcomes["decoded"] > 40
    assert findings.outcomes["unreadable"] > 40
    assert findings.peak_mb < MAX_FILE_MB


def test_damaged_manifests() -> None:
    """Entries, or one line that says what is wrong."""
    findings = fuzz_manifests(1_000, seed=1)
    assert findings.breaches == []
    assert findings.outcomes["read"] > 50
    assert findings.outcomes["refused"] > 300
