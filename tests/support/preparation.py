"""What tests of resuming share: a corpus of many shards, `invoke prepare` in its own process, and ways to end it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile as sf

from conftest import ROOT
from runyoro_ssl.audio.synth import write_corpus
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.prepare.shards.store import LOCK, SETTINGS
from runyoro_ssl.resolve import load_config

NUM_WORKERS = 2
SHARD_SEC = 15
SUFFIXES = ("wav", "flac", "ogg", "mp3")


def write_mixed_corpus(folder: Path, *, num_clips: int, num_long: int) -> Path:
    """Synthetic speech in four formats, `num_long` recordings of 18 s and more among it. Returns the manifest."""
    write_corpus(folder, num_clips=num_clips + 7 * num_long, num_voices=4, num_words=6, clip_sec=2.5)
    waves = [(path.parent.name, sf.read(path, dtype="float32")[0]) for path in sorted(folder.rglob("*.wav"))]
    shutil.rmtree(folder)
    folder.mkdir()
    clips, rest = waves[:num_clips], waves[num_clips:]
    longs = [(f"guest{n}", np.concatenate([wave for _, wave in rest[7 * n : 7 * n + 7]])) for n in range(num_long)]
    rows = []
    for index, (speaker, wave) in enumerate(clips + longs):
        name = f"{index:03d}.{SUFFIXES[index % 4]}"
        sf.write(folder / name, wave, 16_000)
        rows.append({"audio_filepath": name, "duration": len(wave) / 16_000, "speaker": speaker})
    order = np.random.default_rng(0).permutation(len(rows))
    return write_lines(folder / "manifest.jsonl", [rows[index] for index in order])


def write_lines(manifest: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a manifest."""
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def read_lines(manifest: Path) -> list[dict[str, Any]]:
    """Its rows."""
    return [json.loads(line) for line in manifest.read_text().splitlines()]


@dataclass(frozen=True)
class Preparation:
    """`invoke prepare` of a manifest into `folder/dataset`."""

    manifest: Path | str
    model: Path
    folder: Path
    options: tuple[str, ...] = ()

    @property
    def dataset(self) -> Path:
        """What it makes."""
        return self.folder / "dataset"

    @property
    def store(self) -> Path:
        """Where its shards are."""
        return self.folder / "dataset.shards"

    @property
    def command(self) -> list[str]:
        """The command line."""
        return [
            *(sys.executable, "-m", "invoke", "prepare", "--profile", "cpu-smoke", "--segment", "fixed"),
            *("--manifest-path", str(self.manifest), "--output-dir", str(self.dataset)),
            *("--model-name-or-path", str(self.model), "--num-workers", str(NUM_WORKERS)),
            *("--set", f"prepare.shard_seconds={SHARD_SEC}", *self.options),
        ]

    @property
    def task(self) -> str:
        """The same for `run_task`: what follows `invoke`."""
        return " ".join(self.command[self.command.index("prepare") :])

    @contextmanager
    def started(self, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """The running command, in a session of its own; nothing of it outlives the block."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(self.command, cwd=ROOT, start_new_session=True, **{**quiet, **options}) as process:
            try:
                yield process
            finally:
                end_group(process)

    def run(self, *more: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The command, from start to end."""
        return subprocess.run(
            [*self.command, *more], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False, **options
        )

    def here(self, *settings: str, overwrite: bool = False) -> dict[str, Any]:
        """The same in this process; returns the report."""
        config = load_config(
            profile="cpu-smoke",
            settings=["prepare.segment=fixed", f"prepare.shard_seconds={SHARD_SEC}", *settings],
            flags={
                "hardware": {"num_workers": NUM_WORKERS},
                "model": {"model_name_or_path": str(self.model)},
                "prepare": {"manifest_path": self.manifest, "output_dir": self.dataset},
            },
        )
        return prepare(config, load_plugins(config), overwrite=overwrite).report

    def shards(self) -> dict[str, tuple[int, int]]:
        """Every finished shard, with inode and time of its account."""
        found = {}
        for path in self.store.glob(f"{16 * '[0-9a-f]'}/{32 * '[0-9a-f]'}.json"):
            stat = path.stat()
            found[path.stem] = (stat.st_ino, stat.st_mtime_ns)
        return found

    def leftovers(self) -> list[str]:
        """What stands beside the dataset and is neither it, nor a shard that serves it, nor the lock."""
        inside = [path for path in self.store.rglob("*") if path.is_file() or path.parent == self.store]
        names = [str(path.relative_to(self.store)) for path in inside if not is_kept(path)]
        return names + [path.name for path in self.folder.iterdir() if path not in (self.dataset, self.store)]


def is_kept(path: Path) -> bool:
    """Whether a path below the store is of those that stay."""
    if path.is_dir():
        return len(path.name) == 16
    whole = path.suffix == ".arrow" and path.with_suffix(".json").exists()
    return path.name in (LOCK, SETTINGS) or (not path.name.startswith(".") and path.suffix == ".json") or whole


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def end_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL for a process and all it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(10)


def end_main(process: subprocess.Popen[str]) -> None:
    """SIGKILL for a process alone. Its children must end by themselves, and soon."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait(10)
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == [], "workers outlive their parent"


def end_worker(process: subprocess.Popen[str]) -> None:
    """SIGKILL for one worker; the rest goes on."""
    if workers := workers_of(process):
        workers[-1].kill()


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a process has started to work, and that have not ended."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie is one, too
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], *, timeout_sec: float = 60) -> bool:
    """Wait for a condition, or for the process to end first: then False."""
    end = time.monotonic() + timeout_sec
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
