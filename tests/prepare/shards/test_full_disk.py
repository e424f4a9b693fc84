"""A full disk: one line that says so, what is done stays, and with room the same command goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runyoro_ssl.errors import DatasetError
from support.disks import PAGE_BYTES, resize
from support.preparation import Preparation, contents, write_mixed_corpus


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 16 recordings."""
    return write_mixed_corpus(tmp_path_factory.mktemp("mixed") / "corpus", num_clips=16, num_long=0)


@pytest.fixture(scope="module")
def calm(manifest: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Preparation:
    """The corpus, prepared with room enough."""
    made = Preparation(manifest, tiny_model, tmp_path_factory.mktemp("calm"))
    made.here()
    return made


def size_of(folder: Path, pattern: str = "*") -> int:
    """Bytes that the files below a folder take on the disk."""
    files = [path for path in folder.rglob(pattern) if path.is_file()]
    return sum(-(-path.stat().st_size // PAGE_BYTES) * PAGE_BYTES for path in files)


@pytest.mark.parametrize("full", ["shards", "saving", "report"])
def test_full_disk(
    full: str,
    disk: Path,
    calm: Preparation,
    run_task: Callable[[str], tuple[int, str, str]],
) -> None:
    """While shards are made, while they are saved as a dataset, while its report is written."""
    cramped = replace(calm, folder=disk)
    shards, dataset = size_of(calm.store), size_of(calm.dataset, "*.arrow")
    room = {"shards": shards * 0.7, "saving": shards + dataset * 0.8, "report": shards + dataset + 8 * PAGE_BYTES}
    resize(disk, int(room[full]))
    command = cramped.task
    status, _, complaint = run_task(command)
    assert status == 1
    (line,) = [line for line in complaint.splitlines() if "error" in line]
    assert "No space left on device" in line
    assert "make room, and run the same again" in line
    assert not cramped.dataset.exists()
    before = cramped.shards()
    assert len(before) == len(calm.shards()) if full != "shards" else 0 < len(before) < len(calm.shards())
    assert cramped.leftovers() == []
    resize(disk, 1 << 26)
    status, _, complaint = run_task(command)
    assert status == 0, complaint
    assert before.items() <= cramped.shards().items()
    assert contents(cramped.dataset) == contents(calm.dataset)


def test_full_before_the_account(manifest: Path, tiny_model: Path, tmp_path: Path) -> None:
    """An Arrow file whose account finds no room is of no use, and goes: it would take the room that is missing."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "runyoro_full.py").write_text(
        "import errno, pathlib\n"
        "from runyoro_ssl import hookimpl\n"
        "def full(*_args, **_options):\n"
        "    raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "class Full:\n"
        "    def __call__(self, utterance):\n"
        "        pathlib.Path.write_text = full\n"
        "@hookimpl\ndef runyoro_manifest_filters(register):\n    register('full', Full)\n"
    )
    made = Preparation(manifest, tiny_model, tmp_path / "full")
    made.folder.mkdir()
    with pytest.raises(DatasetError, match="No space left on device"):
        made.here(f"plugins.dir={plugins}", 'plugins.filters=["full"]')
    assert made.leftovers() == []
