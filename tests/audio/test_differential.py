"""Every format in every state that recorders, streams and tools leave it in, against a plain decode by FFmpeg."""

from __future__ import annotations

from pathlib import Path

import pytest
from differential import FORMATS, compare

INTACT = ("plain", "no counts", "tags behind", "streamed", "size unknown", "zeros behind")
NOT_INTACT = {("amr", "tags behind"), ("au", "tags behind"), ("au", "zeros behind")}
"""Formats without a word for their end: what stands behind the audio is taken for more of it."""


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_lost_in_silence(tmp_path: Path, name: str) -> None:
    """The seconds of FFmpeg, or a flaw that says why not; an intact recording has none."""
    found = list(compare(tmp_path, [name]))
    assert len(found) > 5
    assert [f"{one.variant}: {one.by_ffmpeg} s, ours {one.seconds}" for one in found if not one.agrees] == []
    intact = [one for one in found if one.variant in INTACT and (name, one.variant) not in NOT_INTACT]
    assert {one.variant: one.flaw for one in intact if one.flaw} == {}
