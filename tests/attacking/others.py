"""Clocks and owners that cannot be, names that nobody gives, and others who work in the same folders."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from attacking.absurd import NAMES
from attacking.command import Command, start
from attacking.part import PHASES, TRAINING, Draw, Part, await_phase, nap
from attacking.place import DONE, RUN, Place

TIMES = (0, 1, 2**31, 2**33, 4_102_444_800, -1)
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
    """An odd name for the output, the dataset, a recording, or a speaker's folder."""
    name = chance.choice(NAMES)
    flags = {"train": "--output-dir", "resume": "--output-dir", "prepare": "--output-dir", "manifest": "--output"}
    flags |= {"evaluate": "--output-dir", "embed": "--output", "runs": "--folder", "publish": "--run"}
    if task == "manifest" and chance.random() < 0.6:
        return Part("names", f"a folder and a recording {name!r}", before=partial(_rename_recording, name=name))
    if task in TRAINING and chance.random() < 0.5:
        words = [f"--processed-dataset-path={name}"]
        return Part("names", f"the dataset is {name!r}", before=partial(_link, name=name), words=words, touches=(name,))
    if task == "runs" or (task == "publish" and chance.random() < 0.5):
        return Part("names", f"a run {name!r}", before=partial(_copy_run, name=name), touches=(name,))
    if task not in flags:
        return None
    words = [f"{flags[task]}={name}"]
    keeps = False  # it is elsewhere
    return Part("names", f"{words[0]!r}", words=words, touches=(name,), keeps=keeps)


def _rename_recording(place: Place, *, name: str) -> None:
    recording = min((place.folder / "corpus").rglob("*.wav"))
    (place.folder / "corpus" / name).mkdir()
    recording.rename(place.folder / "corpus" / name / f"{name[:120]}.wav")


def _link(place: Place, *, name: str) -> None:
    (place.folder / "dataset").rename(place.folder / name)


def _copy_run(place: Place, *, name: str) -> None:
    shutil.copytree(place.done, place.folder / name)


def draw_concurrency(chance: Draw, task: str) -> Part | None:
    """Folders that are renamed, removed or replaced meanwhile; a second start of the same."""
    phase, pause = chance.choice(PHASES), chance.random()
    acts: dict[str, Callable[..., None]] = {"a second start": _start_twice}
    if task in TRAINING:
        acts |= {"run renamed": _rename_run, "run removed": _remove_run, "run renamed and back": _rename_and_back}
        acts |= {"dataset renamed": _rename_dataset, "dataset replaced": _replace_dataset, "run.lock removed": _unlock}
        acts |= {"a checkpoint removed": _remove_checkpoint}
    elif task in ("prepare", "evaluate", "embed"):
        acts |= {"dataset renamed": _rename_dataset, "corpus renamed": _rename_corpus}
    name = chance.choice(sorted(acts))
    during = partial(_act, act=acts[name], phase=phase, pause=pause)
    touches = (RUN, "moved", "dataset", "old", "corpus", *(f"{RUN}-{at}" for at in range(3)))
    keeps = name in ("a second start", "run renamed and back", "dataset renamed", "run.lock removed")
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


def _rename_dataset(place: Place, _command: Command, process: BaseProcess) -> None:
    if not (place.folder / "dataset").exists():
        return
    (place.folder / "dataset").rename(place.folder / "old")
    nap(process, 1)
    (place.folder / "old").rename(place.folder / "dataset")


def _replace_dataset(place: Place, _command: Command, _process: BaseProcess) -> None:
    (place.folder / "dataset").rename(place.folder / "old")
    shutil.copytree(place.folder / "old", place.folder / "dataset")
    arrow = next((place.folder / "dataset/train").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-500] + bytes(500))


def _rename_corpus(place: Place, _command: Command, process: BaseProcess) -> None:
    (place.folder / "corpus").rename(place.folder / "old")
    nap(process, 1)
    (place.folder / "old").rename(place.folder / "corpus")
