"""What a task may replace: what such a task wrote. Whatever else is there is refused, and is as it was."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.audio.synth import write_corpus
from runyoro_ssl.disk.durable import write_jsonl
from runyoro_ssl.disk.ours import is_json_lines_of, is_json_of, refuse_foreign
from runyoro_ssl.embed.write import is_written_here
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.page.render import is_page
from runyoro_ssl.prepare import scan

RunTask = Callable[[str], tuple[int, str, str]]
THESIS = b"Chapter 1\n"


@pytest.mark.parametrize("content", [THESIS, b"{", b"[1]", b'{"other": 1}\n', b"\xff\xfe\x00", b"3\n"])
def test_what_is_no_file_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    """Text, half a JSON, JSON of something else, no text."""
    path = tmp_path / "thesis"
    path.write_bytes(content)
    for is_ours in (is_json_of("rows"), is_json_lines_of("audio_filepath"), is_page):
        with pytest.raises(ConfigError, match=r"thesis is there and is not ours, so that it is not replaced; give an"):
            refuse_foreign(path, is_ours, "ours", "--output")
    assert path.read_bytes() == content


def test_what_is_ours_or_empty_or_absent_may_be_replaced(tmp_path: Path) -> None:
    """An empty file is what `mktemp` leaves."""
    path = tmp_path / "one"
    refuse_foreign(path, is_json_of("rows"), "ours", "--json")
    path.touch()
    refuse_foreign(path, is_json_of("rows"), "ours", "--json")
    path.write_text('{"rows": []}')
    refuse_foreign(path, is_json_of("rows"), "ours", "--json")
    path.write_text('{"audio_filepath": "a.wav"}\n{')
    refuse_foreign(path, is_json_lines_of("audio_filepath"), "ours", "--output")


@pytest.mark.parametrize("name", ["features.npz", "features.parquet", "units.csv", "units.TextGrids"])
def test_features_of_others_are_refused(tmp_path: Path, name: str) -> None:
    """Arrays, tables and texts that something else has written."""
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, weights=np.zeros(3))
    else:
        path.write_bytes(THESIS)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is not what embed writes"):
        refuse_foreign(path, is_written_here, "what embed writes", "--output")
    assert path.read_bytes() == before


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("manifest --audio-dir . --overwrite --output thesis.txt", "thesis.txt"),
        ("manifest --audio-dir . --overwrite --output m.jsonl", "m.rejected.jsonl"),
        ("bench --data --json thesis.txt", "thesis.txt"),
        ("doctor --check --device cpu --json thesis.txt", "thesis.txt"),
        ("evaluate --adapted {model} --output-dir .", "report.html"),
        ("evaluate --adapted {model} --output-dir .", "evaluation.json"),
    ],
)
def test_no_task_replaces_what_is_not_its_own(command: str, name: str, tiny_model: Path, run_task: RunTask) -> None:
    """Not even with --overwrite; and nothing was done by then."""
    Path(name).write_bytes(THESIS)
    status, _, err = run_task(command.format(model=tiny_model))
    assert (status, f"{name} is there and is not" in " ".join(err.split())) == (1, True), err
    assert Path(name).read_bytes() == THESIS


@pytest.mark.usefixtures("empty_folder")
def test_a_manifest_that_could_not_be_written_is_not_in_its_own_way(
    monkeypatch: pytest.MonkeyPatch, run_task: RunTask
) -> None:
    """A full disk leaves no list of what was rejected, for which the next call would ask to be told --overwrite."""
    Path("audio").mkdir()
    write_corpus(Path("audio"), num_clips=2, num_voices=1, num_words=2, clip_sec=2.0, seed=0)
    with monkeypatch.context() as full:
        full.setattr(scan, "write_jsonl", partial(_write_unless_full, write_jsonl))
        status, _, err = run_task("manifest --audio-dir audio --output m.jsonl")
    assert (status, "No space left" in err) == (1, True), err
    assert not list(Path().glob("m*"))
    assert run_task("manifest --audio-dir audio --output m.jsonl")[0] == 0


def _write_unless_full(write: Callable[..., None], path: Path, lines: Iterable[object]) -> None:
    if path.name == "m.jsonl":
        raise OSError(errno.ENOSPC, "No space left on device", str(path))
    write(path, lines)
