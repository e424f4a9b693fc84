"""Damaged recordings and manifests: made, read in processes that may die, and counted.

The long form: `python tests/fuzzing.py --files 10000 --manifests 5000`. A file is made from (seed, number) alone, so
that one that does harm can be made again: `python tests/fuzzing.py --seed 0 --keep 4711`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pebble
from differential import (
    APE,
    FRAME_SEC,
    ID3V1,
    ID3V2,
    not_finalised,
    seconds_by_ffmpeg,
    size_unknown,
    size_wrapped,
    without_counts,
)

from runyoro_ssl.audio.decode import probe, stream
from runyoro_ssl.audio.pyav import OPEN_OPTIONS
from runyoro_ssl.errors import AudioError, ManifestError
from runyoro_ssl.prepare.manifest import read_manifest
from support.recordings import AV_FORMATS, SNDFILE_FORMATS, write_av, write_sndfile

MAX_FILE_SEC = 1.0
MAX_FILE_MB = 512
HANG_SEC = 30.0
"""After which a worker is ended: a hang, not a slow file on a busy machine."""
MAX_SEED_BYTES = 200_000
EXTENSIONS = ("wav", "mp3", "m4a", "raw", "amr", "opus")
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


@dataclass
class Findings:
    """What became of the files: counts by reason ("decoded" among them), and every breach of a promise."""

    outcomes: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)
    num_crashes: int = 0
    num_hangs: int = 0
    slowest_sec: float = 0.0
    peak_mb: int = 0


def write_seeds(folder: Path, real: Path | None = None) -> list[Path]:
    """Valid files to damage: every format we can write, and small real ones where they are at hand."""
    for name in AV_FORMATS:
        write_av(folder / name, 0.6)
    for name in SNDFILE_FORMATS:
        write_sndfile(folder / name, 0.6)
    written = sorted(folder.iterdir())
    found = sorted(path for path in real.rglob("*") if path.is_file()) if real else []
    return written + [path for path in found if 0 < path.stat().st_size < MAX_SEED_BYTES]


def damage(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to three kinds of damage."""
    kinds: list[Callable[[bytearray, bytes, random.Random], bytes | bytearray]] = [
        _flip, _cut, _splice, _edit_field, _edit_field, _repeat_chunk, _drop_chunk, _blank,
        _join, _tag, _leave_unfinished, _leave_unfinished,
    ]  # fmt: skip
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        damaged = bytearray(chance.choice(kinds)(damaged or bytearray(b"\0"), other, chance))
    return bytes(damaged)


def _join(content: bytearray, other: bytes, chance: random.Random) -> bytes:
    """Recordings joined by cat: itself some times, or another."""
    return bytes(content) * chance.randint(2, 3) if chance.random() < 0.7 else bytes(content) + other


def _tag(content: bytearray, _other: bytes, chance: random.Random) -> bytes:
    """Tags that programs put in front and behind."""
    return chance.choice((b"", ID3V2)) + bytes(content) + chance.choice((b"", APE, ID3V1, APE + ID3V1))


def _leave_unfinished(content: bytearray, _other: bytes, chance: random.Random) -> bytes | bytearray:
    """Sizes and counts as one who streams, or lost power, leaves them; or those that wrapped."""
    kinds = (not_finalised, size_unknown, size_wrapped, without_counts)
    return chance.choice(kinds)(bytes(content)) or content


def _flip(content: bytearray, _other: bytes, chance: random.Random) -> bytearray:
    for _ in range(2 ** chance.randint(0, 8)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return content


def _cut(content: bytearray, _other: bytes, chance: random.Random) -> bytearray:
    return content[: chance.randrange(len(content))]


def _splice(content: bytearray, other: bytes, chance: random.Random) -> bytes:
    return bytes(content[: chance.randrange(len(content))]) + other[chance.randrange(len(other)) :]


def _edit_field(content: bytearray, _other: bytes, chance: random.Random) -> bytearray:
    """An extreme number in the header, or behind a four-letter tag anywhere."""
    tags = [at + 4 for at in range(min(len(content), 65_536) - 8) if content[at : at + 4].isalpha()]
    at = chance.choice(tags) if tags and chance.random() < 0.5 else chance.randrange(min(256, len(content)))
    width, order = chance.choice("BHIQ"), chance.choice("<>")
    size = struct.calcsize(width)
    at = min(at + chance.choice((0, 0, 4, 8, 12, 16)), max(0, len(content) - size))
    content[at : at + size] = struct.pack(order + width, chance.choice(EXTREMES) % 2 ** (8 * size))
    return content


def _chunk(content: bytearray, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(content))
    return start, min(len(content), start + 2 ** chance.randint(0, 14))


def _repeat_chunk(content: bytearray, _other: bytes, chance: random.Random) -> bytearray:
    start, stop = _chunk(content, chance)
    return content[:stop] + content[start:stop] * chance.randint(1, 8) + content[stop:]


def _drop_chunk(content: bytearray, _other: bytes, chance: random.Random) -> bytearray:
    start, stop = _chunk(content, chance)
    return content[:start] + content[stop:]


def _blank(content: bytearray, _other: bytes, chance: random.Random) -> bytearray:
    start, stop = _chunk(content, chance)
    content[start:stop] = bytes([chance.choice((0, 255))]) * (stop - start)
    return content


@cache
def _content(path: Path) -> bytes:
    return path.read_bytes()


def make(seeds: Sequence[Path], seed: int, number: int) -> bytes:
    """Damaged file `number` of a run."""
    chance = random.Random(f"{seed} {number}")  # noqa: S311 - chance, not secrecy
    return damage(_content(chance.choice(seeds)), _content(chance.choice(seeds)), chance)


def examine(seeds: Sequence[Path], seed: int, number: int) -> tuple[str, list[str], float, int]:
    """Runs in a worker: read one damaged file both ways. Returns (outcome, breaches, CPU seconds, peak MB so far)."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"a.{EXTENSIONS[number % len(EXTENSIONS)]}"
        path.write_bytes(make(seeds, seed, number))
        (outcome, first_sec), (other, second_sec) = _timed(probe, path), _timed(_stream_all, path)
        lost = _outcome(_lose_nothing, path) if outcome == "decoded" else outcome
    breaches = [f"file {number}: {found}" for found in {outcome, other, lost} if found.startswith("breach")]
    return outcome, breaches, max(first_sec, second_sec), _peak_mb()


def _peak_mb() -> int:
    """Most that was resident in this process. On Linux not by getrusage, which starts with the parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak_kb,) = re.findall(r"VmHWM:\s*(\d+)", status.read_text())
        return int(peak_kb) >> 10
    unit = 1 << (20 if sys.platform == "darwin" else 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def _timed(use: Callable[[Path], object], path: Path) -> tuple[str, float]:
    started = time.process_time()
    return _outcome(use, path), time.process_time() - started


def _outcome(use: Callable[[Path], object], path: Path) -> str:
    try:
        use(path)
    except AudioError as error:
        return error.reason if error.reason and "\n" not in str(error) else f"breach: a reason like {error!r}"
    except Exception as error:  # noqa: BLE001 - any other is what we look for
        return f"breach: {error!r}"
    return "decoded"


def _stream_all(path: Path) -> None:
    for block in stream(path, sample_rate=16_000):
        if block.dtype != np.float32 or block.ndim != 1 or not np.isfinite(block).all():
            raise AssertionError(f"a block of {block.dtype} {block.shape} that is not finite float32 (T,)")


def _lose_nothing(path: Path) -> None:
    """Raise if FFmpeg, with the same decoders, gives more seconds, and no flaw says why."""
    ours, theirs = probe(path), seconds_by_ffmpeg(path, OPEN_OPTIONS)
    if ours.flaw is None and theirs is not None and ours.duration_sec < theirs - FRAME_SEC - 0.02 * theirs:
        raise AssertionError(f"{ours.duration_sec:.2f} s, FFmpeg gives {theirs:.2f} s, and no flaw says why")


def warm_up() -> None:
    """Pay for imports before the first file is timed; decoders complain to stderr from C."""
    import runyoro_ssl.audio.pyav  # noqa: F401

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def fuzz_files(seeds: Sequence[Path], num_files: int, *, seed: int = 0, num_workers: int = 1) -> Findings:
    """Read `num_files` damaged files. A crash or a hang costs its file and is counted."""
    import multiprocessing

    findings = Findings()
    context = multiprocessing.get_context("spawn")
    with pebble.ProcessPool(num_workers, initializer=warm_up, context=context) as pool:
        futures = [pool.schedule(examine, args=[seeds, seed, number], timeout=HANG_SEC) for number in range(num_files)]
        for number, future in enumerate(futures):
            try:
                outcome, breaches, seconds, peak_mb = future.result()
            except pebble.ProcessExpired as error:
                findings.num_crashes += 1
                outcome, breaches, seconds, peak_mb = "crash", [f"file {number}: {error}"], 0.0, 0
            except FutureTimeoutError:
                findings.num_hangs += 1
                outcome, breaches, seconds, peak_mb = "hang", [f"file {number}: over {HANG_SEC} s"], 0.0, 0
            if seconds > MAX_FILE_SEC:
                breaches.append(f"file {number}: {seconds:.2f} s")
            if peak_mb > max(MAX_FILE_MB, findings.peak_mb):
                breaches.append(f"file {number}: {peak_mb} MB")
            findings.outcomes[outcome] += 1
            findings.breaches += breaches
            findings.slowest_sec = max(findings.slowest_sec, seconds)
            findings.peak_mb = max(findings.peak_mb, peak_mb)
    return findings


LINE = {
    "audio_filepath": "a.wav",
    "duration": 2.5,
    "offset": 1,
    "speaker": "Akiiki",
    "text": "Oraire ota?",
    "other": [1],
}
VALUES = (
    "null", "true", "[]", "{}", '""', '"\\u0000"', '"\\ud800"', "-1", "0", "1e999", "-0.0", "NaN", "Infinity",
    "1" * 5_000, "1e-400", '"abc"', '"2.5"', '"\\n"', '"é\u2028"', "[" * 3_000,
    '{"a":' * 3_000, '"' + "x" * 10_000 + '"', "2.5 3",
)  # fmt: skip


def make_manifest(seed: int, number: int) -> bytes:
    """Damaged manifest `number` of a run."""
    chance = random.Random(f"{seed} {number}")  # noqa: S311 - chance, not secrecy
    lines = []
    for _ in range(chance.randint(1, 4)):
        values = {key: json.dumps(value) for key, value in LINE.items()}
        if chance.random() < 0.7:
            values[chance.choice(sorted(values))] = chance.choice(VALUES)
        pairs = [f'"{key}": {value}' for key, value in values.items() if chance.random() < 0.97]
        lines.append("{" + ", ".join(pairs) + "}")
    content = chance.choice(("\n", "\n", "\r\n", "\r", "\u2028", "")).join(lines).encode()
    return content if chance.random() < 0.4 else damage(content, b'\xef\xbb\xbf{"audio_filepath"\0', chance)


def fuzz_manifests(num_manifests: int, *, seed: int = 0) -> Findings:
    """Read damaged manifests: entries, or a ManifestError of one line."""
    findings = Findings()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "m.jsonl"
        for number in range(num_manifests):
            path.write_bytes(make_manifest(seed, number))
            try:
                outcome = "read" if read_manifest(path) else "empty"
            except ManifestError as error:
                outcome = "refused" if "\n" not in str(error) else f"breach: {error!r}"
            except Exception as error:  # noqa: BLE001 - any other is what we look for
                outcome = f"breach: {error!r}"
            if outcome not in {"read", "refused"}:
                findings.breaches.append(f"manifest {number}: {outcome}")
            findings.outcomes[outcome.split(":")[0]] += 1
    return findings


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=0, help="damaged recordings to read")
    parser.add_argument("--manifests", type=int, default=0, help="damaged manifests to read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--real", type=Path, help="a folder of real recordings, to damage as well")
    parser.add_argument("--keep", type=int, help="write this damaged file to fuzzed.bin and stop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seeds = write_seeds(Path(scratch), options.real)
        if options.keep is not None:
            Path("fuzzed.bin").write_bytes(make(seeds, options.seed, options.keep))
            return 0
        runs = (
            fuzz_files(seeds, options.files, seed=options.seed, num_workers=options.workers),
            fuzz_manifests(options.manifests, seed=options.seed),
        )
    for findings in runs:
        sys.stdout.write(json.dumps(vars(findings), indent=1) + "\n")
    return int(any(findings.breaches for findings in runs))


if __name__ == "__main__":
    sys.exit(main())
