"""Whose the clips of a pool are: what `prepare` wrote passes; anything else is named, before the work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl.dataset.layout import CLIPS
from runyoro_ssl.donors.lines import check_lines, clip_lines
from runyoro_ssl.donors.pools import open_pools
from runyoro_ssl.errors import DatasetError

Spoil = Callable[[dict[str, Any]], object]


def _make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_every_clip_has_its_line(donor: Path) -> None:
    """Of the training split, in its order."""
    pools = open_pools([donor], 16_000)
    check_lines(pools)
    lines = [line for _, line in clip_lines(pools[0])]
    assert [line.id for line in lines] == pools[0].column("id")
    assert all(line.speaker in line.audio_filepath for line in lines if line.speaker)
    assert all("snr_db" in line.measures for line in lines)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda line: line.pop("audio_filepath"), "line 3: audio_filepath is missing"),
        (lambda line: line.update(offset="abc"), "line 3: offset is 'abc': input should be a valid number"),
        (lambda line: line.update(offset=10**400), "line 3: offset is 1000000.*finite"),
        (lambda line: line.update(gain=None), "line 3: gain is None"),
        (lambda line: line.update(speaker=["a"]), r"line 3: speaker is \['a'\]"),
        (lambda line: line.update(measures=[1]), "line 3: measures is"),
        (lambda line: line.update(id="another"), "line 3: clip another, the dataset has"),
    ],
)
def test_an_absurd_line_is_named(donor: Path, tmp_path: Path, spoil: Spoil, said: str) -> None:
    """With the value seen, and what to do."""
    shutil.copytree(donor, tmp_path / "pool")
    lines = [json.loads(line) for line in (donor / CLIPS).read_text().splitlines()]
    spoil(lines[2])
    (tmp_path / "pool" / CLIPS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DatasetError, match=f"{said}.*prepare the pool again"):
        check_lines(open_pools([tmp_path / "pool"], 16_000))


@pytest.mark.parametrize(
    ("replace", "said"),
    [
        (lambda path: path.write_text("[" * 100_000), "line 1: it is .*recursion"),
        (lambda path: path.write_bytes(b"\xff\n"), "cannot be read"),
        (lambda path: path.write_text(""), "has 0 lines for"),
        (_make_pipe, "there is no such file"),
    ],
)
def test_no_lines_at_all(donor: Path, tmp_path: Path, replace: Callable[[Path], object], said: str) -> None:
    """Nobody waits for a pipe."""
    shutil.copytree(donor, tmp_path / "pool")
    replace(tmp_path / "pool" / CLIPS)
    with pytest.raises(DatasetError, match=said):
        check_lines(open_pools([tmp_path / "pool"], 16_000))
