"""What must hold whatever went wrong: how a command ends, what it says, what it leaves alone, what it keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from attacking.attack import Attack
from attacking.command import Ended
from attacking.part import MIX, TRAINING
from attacking.place import DONE, MADE, MARK, MINE, OTHERS, REFERENCE, RUN, Place, picture
from runyoro_ssl.train.checkpoints.format import verify_checkpoint
from support.trainer import SAVED, equal, weights

STATUSES = (0, 1, 128 + 1, 128 + 2, 128 + 10, 128 + 15, 128 + 24)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
BUG = re.compile(r"Traceback \(most recent call last\)|please report|Exception ignored|Fatal Python error")
PLACE = re.compile(r"[\w.~-]+/|\w\.\w|--\w|\"|:|=")
"""A file, an option or a value is named."""
NEXT = re.compile(r"; |, or |e\.g\. |\. [A-Z]|: |add |give |see |--help|again")
MOST_MIB = 3000
ANEW = "nothing_to_resume"


def judge(attack: Attack, ended: Ended, *, is_saved: bool) -> Iterator[str]:
    """What is wrong with how a command ended, and with what it said."""
    allowed = (*STATUSES, *(status for part in attack.parts for status in part.statuses))
    if ended.status is None:
        yield "did not end"
    elif ended.status not in allowed:
        yield f"status {ended.status}"
    if found := BUG.search(ended.said):
        yield f"says {found[0]!r}: {_last_line(ended)}"
    if found := CONTROL.search(ended.said):
        yield f"control character {found[0]!r}: {_around(ended.said, found.start())}"
    if ended.most_mib > MOST_MIB:
        yield f"{ended.most_mib:.0f} MiB"
    if ended.status == 1 and not attack.is_unheard:
        yield from _judge_error(ended)
    if is_saved:
        yield from _judge_saved(attack.place, ended)


def _judge_error(ended: Ended) -> Iterator[str]:
    """An error is one line that names something and says what to do."""
    errors = [line for line in ended.err.splitlines() if line.startswith("error ")]
    lines = [line for line in ended.err.splitlines() if line.strip()]
    if len(errors) != 1:
        yield f"{len(errors)} lines of error; the last line: {_last_line(ended)}"
    elif lines[-1] != errors[0]:
        yield f"words after the error: {lines[-1][:200]}"
    elif not (PLACE.search(errors[0]) and NEXT.search(errors[0])):
        yield f"an error without place or advice: {errors[0][:300]}"


def _judge_saved(place: Place, ended: Ended) -> Iterator[str]:
    """All that was logged is in a checkpoint."""
    if ended.status in (0, None):
        return
    steps = [int(step) for step in re.findall(r'^{"step": (\d+)', _text(place), re.MULTILINE)]
    saved = max((int(path.name.split("-")[1]) for path in place.run.glob("checkpoint-*")), default=0)
    if steps and max(steps) > saved and "make room, then --resume-from-checkpoint last" not in ended.said:
        yield f"steps up to {max(steps)} were logged, checkpoint-{saved} is the last"


def _text(place: Place) -> str:
    path = place.run / "metrics.jsonl"
    return path.read_text(errors="replace") if path.is_file() else ""


def damaged(place: Place) -> set[str]:
    """The names of checkpoints that are not whole."""
    found = set()
    for folder in place.run.glob("checkpoint-[0-9]*"):
        with suppress(OSError):
            if verify_checkpoint(folder):
                found.add(folder.name)
    return found


def judge_checkpoints(place: Place, ended: Ended, *, before: set[str]) -> Iterator[str]:
    """The last that was acknowledged is there, and all are whole that were not damaged before."""
    acknowledged = [int(step) for step in SAVED.findall(ended.said)]
    if acknowledged and not (place.run / f"checkpoint-{acknowledged[-1]}").is_dir():
        yield f"checkpoint-{acknowledged[-1]} was said to be saved, and is not there"
    for name in sorted(damaged(place) - before):
        yield f"{name} is damaged"


def judge_made(attack: Attack, ended: Ended, seeds: Place) -> Iterator[str]:
    """What ended well has made what an undisturbed one makes: a run its weights, other tasks their files."""
    if ended.status != 0:
        return
    if attack.task not in TRAINING:
        name = {"donors": "chosen/fingerprint.json", "convert": "converted/model.safetensors"}[attack.task]
        made, wanted = attack.place.made / name, seeds.folder / REFERENCE / name
        if not made.is_file() or made.read_bytes() != wanted.read_bytes():
            yield f"{made.name} is not as it would be undisturbed"
    elif not (attack.place.run / "model.safetensors").is_file():
        yield "ended well, and left no model"
    elif not equal(weights(attack.place.run), weights(seeds.folder / attack.kind / DONE)):
        yield "other weights than those of an undisturbed run"


def judge_going_on(attack: Attack, ended: Ended, seeds: Place, *, had_history: bool) -> Iterator[str]:
    """The same command, with no more going wrong, ends with what was to be made, or refuses in one line."""
    if ended.status not in (0, 1):
        yield f"going on: status {ended.status}: {_last_line(ended)}"
    if had_history and ANEW in ended.said:
        yield "going on: it began anew"
    if ended.status == 1 and attack.task not in TRAINING and "add --overwrite" not in ended.said:
        yield f"going on: {_last_line(ended)}"
    for problem in (*judge(attack, ended, is_saved=False), *judge_made(attack, ended, seeds)):
        yield f"going on: {problem}"


def judge_surroundings(attack: Attack, before: Mapping[str, str]) -> Iterator[str]:
    """Nothing of others was written, removed or run."""
    place, touched = attack.place, attack.touched
    if place.mark.exists():
        yield "the canary ran"
    after = picture(place.folder, without=(*MINE, MARK))
    for name in sorted(before.keys() | after.keys()):
        is_ours = name.split("/")[0] in touched and not name.startswith(OTHERS)
        is_ours |= attack.is_free and not name.startswith((OTHERS, "corpus", "model", "dataset", "pool", "replay"))
        if before.get(name) != after.get(name) and not is_ours:
            yield f"{name}: was {before.get(name)}, is {after.get(name)}"
            return


def outputs(task: str) -> Sequence[str]:
    """The names in a place that a task may change."""
    names: dict[str, tuple[str, ...]] = {
        "prepare": ("out", "out.shards"),
        "manifest": ("new.jsonl", "new.rejected.jsonl"),
    }
    names |= {"embed": ("features.npz",), **dict.fromkeys(("donors", "convert", "hear"), (MADE,))}
    return (RUN,) if task in TRAINING else names.get(task.removesuffix(MIX), (DONE, "evaluation"))


def _last_line(ended: Ended) -> str:
    lines = [line for line in ended.said.splitlines() if line.strip() and not line.startswith("bug")]
    return lines[-1][:200] if lines else "(nothing)"


def _around(text: str, at: int) -> str:
    return repr(text[max(0, at - 40) : at + 40])
