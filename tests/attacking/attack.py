"""An attack: a task with one or two parts, drawn by a number; carried out, and judged."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from attacking.command import Command, Ended, start, wait
from attacking.part import MIX, TRAINING, Part
from attacking.place import DONE, MARK, MINE, MIXED, PLAIN, Place, picture, set_up

if TYPE_CHECKING:
    from attacking.part import Draw

Family = Callable[["Draw", str], Part | None]
"""Draws a part for a task; None where it has none."""
WEIGHTS = {"train": 5, "resume": 7, "prepare": 3, "manifest": 2, "evaluate": 2, "embed": 1, "runs": 2, "publish": 1}
WEIGHTS |= {"doctor": 1, "donors": 4, "convert": 2, "hear": 1}
WEIGHTS |= {f"train{MIX}": 3, f"resume{MIX}": 4, f"evaluate{MIX}": 1, f"publish{MIX}": 1}
REPEATED = (*TRAINING, "donors", "convert")
"""Tasks that must go on to what an undisturbed one makes."""
GRACE_SEC = 20


@dataclass(frozen=True)
class Attack:
    """What is tried, and where."""

    number: int
    task: str
    parts: Sequence[Part]
    place: Place

    @property
    def family(self) -> str:
        """The families of its parts."""
        return " + ".join(sorted({part.family for part in self.parts}))

    @property
    def what(self) -> str:
        """In words."""
        return f"{self.task}: {' & '.join(part.what for part in self.parts)}"

    @property
    def keeps(self) -> bool:
        """Whether nothing of it changes what is learned."""
        return self.task in REPEATED and all(part.keeps for part in self.parts)

    @property
    def kind(self) -> str:
        """Of the run that is there."""
        return MIXED if self.task.endswith(MIX) else PLAIN

    @property
    def is_unheard(self) -> bool:
        """Whether what is said does not come into a file, whole."""
        return any(part.streams or part.what.startswith("RLIMIT_FSIZE") for part in self.parts)

    @property
    def is_free(self) -> bool:
        """Whether options may have named another place to write to."""
        return any(part.family in ("options", "names") for part in self.parts)

    @property
    def touched(self) -> set[str]:
        """Names in the place that may change."""
        from attacking.judge import outputs

        return {*outputs(self.task), *(name for part in self.parts for name in part.touches)}


def draw_attack(number: int, seed: int, folder: Path, families: Mapping[str, Family]) -> Attack:
    """The attack of that number; nothing but number and seed decides."""
    chance = random.Random(f"{seed} {number}")  # noqa: S311 - chance, not secrecy
    task = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    wanted, parts = 2 if chance.random() < 0.25 else 1, list[Part]()
    while len(parts) < wanted:
        part = families[chance.choice(sorted(families))](chance, task)
        if part is not None and part.family not in [other.family for other in parts]:
            parts.append(part)
    return Attack(number, task, parts, Place(folder / str(number)))


def words_of(place: Place, task: str) -> list[str]:
    """The command line of a task."""
    at, mix = place.folder, task.endswith(MIX)
    if task in TRAINING:
        return place.train(resume=task.startswith("resume"), mix=mix)
    return {
        "prepare": place.prepare(),
        "donors": place.donors(),
        "convert": place.convert(),
        "hear": [*place.convert(), "--data", f"{at}/dataset"],
        "manifest": ["manifest", "--audio-dir", f"{at}/corpus", "--output", f"{at}/new.jsonl"],
        "evaluate": [
            *("evaluate", "--adapted", f"{at}/{DONE}", "--base", f"{at}/model", "--data", f"{at}/dataset"),
            *("--output-dir", f"{at}/evaluation", "--cache-dir", str(at / "tmp/cache"), "--no-audio"),
        ],
        "embed": ["embed", next(map(str, sorted((at / "corpus").rglob("*.wav")))), "--model", f"{at}/{DONE}"],
        "runs": ["runs", "--folder", str(at)],
        "publish": ["publish", "--run", f"{at}/{DONE}", "--repo-id", "someone/something", "--dry-run"],
        "doctor": ["doctor", "--model-name-or-path", f"{at}/model"],
    }[task.removesuffix(MIX)]


def carry_out(attack: Attack, seeds: Place, *, limit_sec: float) -> tuple[Ended, list[str]]:
    """Do it. Returns how the command ended, and everything that is wrong with it."""
    from attacking import judge

    has_run = not attack.task.startswith("train")
    place = set_up(seeds, attack.place.folder, kind=attack.kind, has_run=has_run)
    with ExitStack() as stack:
        for part in attack.parts:
            if part.before:
                part.before(place)
            if part.around:
                stack.enter_context(part.around(place))
        command = _command(attack)
        before, had_history = picture(place.folder, without=(*MINE, MARK)), any(place.run.glob("checkpoint-*"))
        damaged = judge.damaged(place)
        process = start(command)
        for part in attack.parts:
            if part.during:
                part.during(place, command, process)
        ended = _wait(command, process, limit_sec, attack)
    found = _problems(*(attack, seeds, ended, before), damaged=damaged, had_history=had_history, limit_sec=limit_sec)
    return ended, [*found]


def _command(attack: Attack) -> Command:
    """The command line with all that its parts say of it."""
    place, environment = attack.place, attack.place.environment()
    words = words_of(attack.place, attack.task)
    streams: dict[int, str] = {}
    limits: list[tuple[int, int]] = []
    for part in attack.parts:
        words += part.words
        limits += part.limits
        streams |= part.streams(place) if part.streams else {}
        for name, value in part.environment.items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value.replace("PLACE", str(place.folder))
    return place.command(
        words,
        "first",
        environment=environment,
        streams=streams,
        limits=limits,
        umask=next((part.umask for part in attack.parts if part.umask is not None), 0o022),
        is_fresh=any(part.is_fresh for part in attack.parts),
    )


def _wait(command: Command, process: BaseProcess, limit_sec: float, attack: Attack) -> Ended:
    """Wait for the end. A run of very many steps is asked to end at the limit, and must."""
    process.join(limit_sec)
    if process.is_alive() and attack.task in TRAINING and "checkpoint_saved" in command.said and not attack.keeps:
        with suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGTERM)
    return wait(command, process, limit_sec=GRACE_SEC if process.is_alive() else 1)


def _problems(
    attack: Attack,
    seeds: Place,
    ended: Ended,
    before: dict[str, str],
    *,
    damaged: set[str],
    had_history: bool,
    limit_sec: float,
) -> Iterator[str]:
    """First how it ended; then what it left; then whether it goes on."""
    from attacking import judge

    yield from judge.judge(attack, ended, is_saved=any(part.saves for part in attack.parts) and attack.keeps)
    yield from judge.judge_surroundings(attack, before)
    if not attack.keeps:
        return
    yield from judge.judge_checkpoints(attack.place, ended, before=damaged)
    if ended.status == 0:
        yield from judge.judge_made(attack, ended, seeds)
        return
    had_history |= any(attack.place.run.glob("checkpoint-*"))
    again = attack.place.command(words_of(attack.place, attack.task.replace("train", "resume")), "again")
    went_on = wait(again, start(again), limit_sec=limit_sec)
    yield from judge.judge_going_on(attack, went_on, seeds, had_history=had_history)
