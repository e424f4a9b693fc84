"""Files looked into, in workers: how long each recording really is, or why it is none."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from runyoro_ssl.audio.decode import AudioInfo, probe
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.bars import progress
from runyoro_ssl.builtins.executors.processes import ProcessExecutor
from runyoro_ssl.config import Config
from runyoro_ssl.errors import AudioError, ManifestError
from runyoro_ssl.prepare.hours import Drawing, nothing_fits
from runyoro_ssl.prepare.lines import FilePart
from runyoro_ssl.prepare.sniff import AUDIO_EXTENSIONS, check_present, is_sound, pointer, read_head, what_else
from runyoro_ssl.prepare.workers import opened, run_ordered, still_alive, stop_watch, why_lost

IN_FLIGHT = 8
"""Files sent out for each worker: none waits for work."""

Found = AudioInfo | AudioError


@dataclass(frozen=True)
class _Probe:
    """Measures a file in a worker; what can be mended about it comes back as the AudioError it is."""

    max_recording_sec: float
    time_limit_sec: float

    def __call__(self, path: Path) -> Found:
        try:
            str(path).encode()
            still_alive(self.time_limit_sec)
            return look_into(path, self._decode)
        except UnicodeEncodeError:
            return AudioError(Reason.FILE_NAME, "rename the file")
        except AudioError as error:
            return error
        finally:
            stop_watch()

    def _decode(self, path: Path) -> AudioInfo:
        on_block = partial(still_alive, self.time_limit_sec)
        return probe(path, max_seconds=self.max_recording_sec, on_block=on_block)


def look_into(path: Path, decode: Callable[[Path], AudioInfo]) -> AudioInfo:
    """Tell what a file is: by its first bytes, if its name is not that of a recording; then by decoding it.

    Raises:
        AudioError: It is no recording, or one that cannot be used.
    """
    with suppress(OSError):  # told by the decoder in its own words
        check_present(path)
    is_named_so = path.suffix.lower() in AUDIO_EXTENSIONS
    if not is_named_so:
        _refuse_others(path)
    before = _state(path)
    try:
        info = decode(path)
    except AudioError as error:
        raise _better_told(error, path, is_named_so=is_named_so) from None
    after = _state(path)
    if before and after and before != after:
        grown = f"from {before[0]} to {after[0]} bytes (run invoke manifest again when it is whole)"
        return replace(info, flaws=(*info.flaws, AudioError(Reason.CHANGED, grown)))
    return info


def _refuse_others(path: Path) -> None:
    """Raise AudioError for a file that is no recording by its first bytes."""
    head = read_head(path)
    if words := pointer(head):
        raise AudioError(Reason.PLACEHOLDER, words)
    if words := what_else(head):
        raise AudioError(Reason.NOT_AUDIO, words)
    # Without an extension it may have been a voice note.
    if path.suffix and (state := _state(path)) and state[0] == 0:
        raise AudioError(Reason.NOT_AUDIO, "0 bytes")


def _better_told(error: AudioError, path: Path, *, is_named_so: bool) -> AudioError:
    """A refusal of the decoders, as a person would put it who has looked at the file."""
    if error.reason != Reason.UNREADABLE:
        return error
    head = read_head(path)
    if words := pointer(head):
        return AudioError(Reason.PLACEHOLDER, words)
    if not is_named_so and not is_sound(head):
        return AudioError(Reason.NOT_AUDIO, error.detail)
    return error


def _state(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written to: its size and time."""
    with suppress(OSError):
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    return None


def probe_all(files: Iterable[Path], config: Config, *, total: int | None = None) -> Iterator[tuple[Path, Found]]:
    """Look into every file in a worker; one that kills its worker comes back with that as its error.

    `total` is how many there are at most, if they are no list.
    """
    total = len(files) if isinstance(files, list) else total
    num_workers = min(config.hardware.num_workers, max(1, total or 1))
    measure = _Probe(config.prepare.max_recording_sec, config.prepare.time_limit_sec)
    with progress("files") as bar, opened(ProcessExecutor(num_workers)) as executor:
        task = bar.add_task("Reading recordings", total=total)
        for done in run_ordered(executor, measure, files, in_flight=IN_FLIGHT * num_workers):
            bar.advance(task)
            yield done.item, done.result or why_lost(done, config.prepare.time_limit_sec)


def probe_drawn(parts: Sequence[FilePart], config: Config) -> tuple[dict[Path, Found], set[str]]:
    """Look into the files of the recordings that `prepare.max_hours` draws, and into hardly any other.

    Returns what was found of each file that was looked into, and the recordings that were drawn.

    Raises:
        ManifestError: No recording is so short.
    """
    recordings: dict[str, list[FilePart]] = defaultdict(list)
    of_file: dict[Path, list[FilePart]] = defaultdict(list)
    for part in parts:
        recordings[part.recording].append(part)
        of_file[part.path].append(part)
    max_hours = config.prepare.max_hours or math.inf
    drawing = Drawing({name: its[0].speaker for name, its in recordings.items()}, max_hours, config.prepare.seed)
    awaited = {name: len(its) for name, its in recordings.items()}
    seconds = dict.fromkeys(recordings, 0.0)
    found: dict[Path, Found] = {}
    wanted = unique(part.path for name in drawing.wanted() for part in recordings[name])
    for path, one in probe_all(wanted, config, total=len(of_file)):
        found[path] = one
        for part in of_file[path]:
            seconds[part.recording] += _length_sec(part, one)
            awaited[part.recording] -= 1
            if awaited[part.recording] == 0:
                drawing.tell(part.recording, seconds[part.recording])
    lengths = [length for length in seconds.values() if length]
    if lengths and not drawing.chosen:
        raise ManifestError(nothing_fits(max_hours, lengths))
    return found, drawing.chosen


def unique(paths: Iterable[Path]) -> Iterator[Path]:
    """Each path once, as soon as it comes."""
    seen: set[Path] = set()
    for path in paths:
        if path not in seen:
            seen.add(path)
            yield path


def _length_sec(part: FilePart, found: Found) -> float:
    """The seconds of a part, as a manifest has them; none of one that cannot be used."""
    try:
        return round(part.length_sec(found.duration_sec), 6) if isinstance(found, AudioInfo) else 0.0
    except AudioError:
        return 0.0
