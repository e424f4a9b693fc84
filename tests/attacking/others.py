"""Clocks and owners that cannot be, names that nobody gives, and others who work in the same folders."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from attacking.absurd import NAMES
from attacking.command import Command, start
from attacking.part import MIX, TRAINING, Draw, Part, await_phase, nap, phases_of
from attacking.place import DONE, FOREIGN, RUN, Place

OUTPUTS = dict.fromkeys((*TRAINING, "prepare", "evaluate", "donors", "convert", "hear"), "--output-dir")
OUTPUTS |= {"manifest": "--output", "embed": "--output", "publish": "--run"}
"""What names the place of what a task makes."""
THEIRS = ("others", "others/thesis", "others/link", "others/nothing", "dataset", "pool", "pool/train", "model")
TIMES = (0, 1, 2**31, 2**33, 4_102_444_800, -1)
READ: dict[str, tuple[str, ...]] = dict.fromkeys((*TRAINING, "evaluate"), ("dataset",))
READ |= {"prepare": ("corpus",), "embed": ("corpus",), "convert": (FOREIGN,), "hear": (FOREIGN, "dataset")}
READ |= {f"train{MIX}": ("dataset", "pool", "replay"), f"resume{MIX}": ("pool",), f"evaluate{MIX}": ("replay",)}
READ["donors"] = ("dataset", "pool")
"""What a task reads, that others may take away."""
LOCK = {"host": "elsewhere", "pid": 1, "since": "2999-01-01 00:00:00+00:00", "boot": "another", "beat": "000000000001"}


def draw_clocks(chance: Draw, task: str) -> Part | None:
    """Files of the future or of 1970; a lock of another boot, host or time."""
    if chance.random() < 0.5 or task not in TRAINING:
        seconds, part = chance.choice(TIMES), chance.choice(("", RUN, "dataset", DONE))
        return Part("clocks", f"times of {part or 'all'} are {seconds}", before=partial(_touch, name=part, at=seconds))
    changed = chance.sample(sorted(LOCK), chance.randrange(1, len(LOCK)))
    here: dict[str, object] = {"host": os.uname().nodename, "pid": os.getpid()}
    here["since"] = time.strftime("%Y-%m-%d %H:%M:%S+00:00")
    here["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record = LOCK | {name: value for name, value in here.items() if name not in changed}
    return Part(
        "clocks",
        f"run.lock with another {', '.join(sorted(changed))}",
        before=partial(_leave_lock, record=record),
        touches=(RUN,),
    )


def _touch(place: Place, *, name: str, at: int) -> None:
    for path in (place.folder / name).rglob("*"):
        if not path.is_symlink() and place.log not in path.parents:
            os.utime(path, (at, at))


def _leave_lock(place: Place, *, record: dict[str, object]) -> None:
    place.run.mkdir(exist_ok=True)
    (place.run / "run.lock").write_text(json.dumps(record) + "\n")


def draw_names(chance: Draw, task: str) -> Part | None:
    """An odd name for the output, the dataset, a recording, or a speaker's folder; or one that others have."""
    ways = [*_ways(task, chance.choice(NAMES), chance.choice(THEIRS))]
    return chance.choice(ways) if ways else None


def _ways(task: str, name: str, theirs: str) -> Iterator[Part]:
    if flag := OUTPUTS.get(task):
        words = [f"{flag}={name}"]
        yield Part("names", f"{words[0]!r}", words=words, touches=(name,), keeps=False)  # it is elsewhere
    if task in ("donors", "convert", "hear"):
        words = ["--output-dir", theirs, *["--overwrite"] * (task == "donors")]
        yield Part("names", f"--output-dir {theirs} is there", words=words, keeps=False)
    if task in ("runs", "publish"):
        yield Part("names", f"a run {name!r}", before=partial(_copy, source=DONE, name=name), touches=(name,))
    if task == "donors":
        copy, words = partial(_copy, source="pool", name=name), [f"--pool={name}"]
        yield Part("names", f"a pool {name!r}", before=copy, words=words, touches=(name,), keeps=False)
    if task == "manifest":
        yield Part("names", f"a folder and a recording {name!r}", before=partial(_rename_recording, name=name))
    if task in ("train", "resume"):
        words = [f"--processed-dataset-path={name}"]
        yield Part("names", f"the dataset is {name!r}", before=partial(_link, name=name), words=words, touches=(name,))


def _rename_recording(place: Place, *, name: str) -> None:
    recording = min((place.folder / "corpus").rglob("*.wav"))
    (place.folder / "corpus" / name).mkdir()
    recording.rename(place.folder / "corpus" / name / f"{name[:120]}.wav")


def _link(place: Place, *, name: str) -> None:
    (place.folder / "dataset").rename(place.folder / name)


def _copy(place: Place, *, source: str, name: str) -> None:
    shutil.copytree(place.folder / source, place.folder / name)


def draw_concurrency(chance: Draw, task: str) -> Part | None:
    """Folders that are renamed, removed or replaced meanwhile; a second start of the same."""
    phase, pause = chance.choice(phases_of(task)), chance.random()
    acts: dict[str, Callable[..., None]] = {"a second start": _start_twice}
    if task in TRAINING:
        acts |= {"run renamed": _rename_run, "run removed": _remove_run, "run renamed and back": _rename_and_back}
        acts |= {"run.lock removed": _unlock, "a checkpoint removed": _remove_checkpoint}
    for read in READ.get(task, ()):
        acts |= {f"{read} renamed": partial(_rename, name=read), f"{read} removed": partial(_remove, name=read)}
        if read not in ("corpus", FOREIGN):
            acts[f"{read} replaced"] = partial(_replace, name=read)
    name = chance.choice(sorted(acts))
    during = partial(_act, act=acts[name], phase=phase, pause=pause)
    touches = (RUN, f"{RUN}-rescued", "moved", "old", *READ.get(task, ()))
    keeps = name in ("a second start", "run renamed and back", "run.lock removed") or name.endswith(" renamed")
    keeps &= name != "run renamed"
    return Part("concurrency", f"{name} {phase} + {pause:.2f} s", during=during, keeps=keeps, touches=touches)


def _act(
    place: Place, command: Command, process: BaseProcess, *, act: Callable[..., None], phase: str, pause: float
) -> None:
    await_phase(phase, place, command, process, step=1)
    nap(process, pause * 0.3)
    if process.is_alive():
        act(place, command, process)


def _start_twice(place: Place, command: Command, process: BaseProcess) -> None:
    second = Command(command.words, command.folder, place.log / "second", command.environment)
    other = start(second)
    other.join(60)
    process.join(0)
    if other.exitcode not in (0, 1) or "Traceback" in second.said:
        (place.folder / "canary-ran").write_text(f"the second start ended with {other.exitcode}")


def _rename_run(place: Place, _command: Command, _process: BaseProcess) -> None:
    if place.run.exists():
        place.run.rename(place.folder / "moved")


def _rename_and_back(place: Place, command: Command, process: BaseProcess) -> None:
    _rename_run(place, command, process)
    nap(process, 0.3)
    if not place.run.exists() and (place.folder / "moved").exists():
        (place.folder / "moved").rename(place.run)


def _remove_run(place: Place, _command: Command, _process: BaseProcess) -> None:
    shutil.rmtree(place.run, ignore_errors=True)


def _unlock(place: Place, _command: Command, _process: BaseProcess) -> None:
    (place.run / "run.lock").unlink(missing_ok=True)


def _remove_checkpoint(place: Place, _command: Command, _process: BaseProcess) -> None:
    for path in sorted(place.run.glob("checkpoint-*"))[:1]:
        shutil.rmtree(path, ignore_errors=True)


def _rename(place: Place, _command: Command, process: BaseProcess, *, name: str) -> None:
    """For a while."""
    (place.folder / name).rename(place.folder / "old")
    nap(process, 1)
    (place.folder / "old").rename(place.folder / name)


def _remove(place: Place, _command: Command, _process: BaseProcess, *, name: str) -> None:
    (place.folder / name).rename(place.folder / "old")
    remove = shutil.rmtree if (place.folder / "old").is_dir() else Path.unlink
    remove(place.folder / "old")


def _replace(place: Place, _command: Command, _process: BaseProcess, *, name: str) -> None:
    """By one that is damaged."""
    (place.folder / name).rename(place.folder / "old")
    shutil.copytree(place.folder / "old", place.folder / name)
    arrow = next((place.folder / name / "train").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-500] + bytes(500))
