"""A quarter of an hour of radio, every second of it known; `python tests/radio.py SPEECH MODEL` is the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from radio import clips_of, prepare_day, radio_day


@pytest.mark.long
def test_radio_day(bantu: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Speech is kept, music and noise are left out, what was broadcast before is found, and nothing else is."""
    day = radio_day(clips_of(bantu), hours=0.25)
    figures = prepare_day(day, tmp_path, tiny_model)
    assert figures.speech_kept >= 0.95, figures
    assert figures.other_left_out >= 0.8, figures
    assert figures.repeats_found >= 0.95, figures
    assert figures.false_repeats < 0.01, figures
