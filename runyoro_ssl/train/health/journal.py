"""`journal.jsonl`: what happened to a run, beside its checkpoints: starts, alarms and what was done, sleep.

It only grows: going back to an earlier checkpoint does not undo it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runyoro_ssl.disk.durable import flush, named_failure

NAME = "journal.jsonl"
BEGUN, SAVED, SLEPT = "begun", "saved", "slept"
TO_THE_BEGINNING = "the model as it came"
"""Where a run went back to that had no healthy checkpoint, in the words of an alarm."""
MAX_ROLLBACKS = 64
"""More often no learning rate can be halved."""
KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("event", "kind", "action", "seen", "means", "done", "try"), (str,)),
    **dict.fromkeys(("step", "total_steps", "rollbacks"), (int,)),
    **dict.fromkeys(("seconds", "learning_rate"), (int, float)),
}
"""What may stand under the names that are read again."""


def record(output_dir: Path, event: Mapping[str, Any]) -> None:
    """Append an event as a line, and have the disk hold it. A line cut short by a crash ends here.

    Raises OSError where the disk does not take it; nothing of it is left then.
    """
    path = output_dir / NAME
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    num_bytes = path.stat().st_size if path.exists() else 0
    try:
        with named_failure(path), path.open("a", encoding="utf-8") as file:
            file.write(("" if whole else "\n") + json.dumps(event) + "\n")
        flush(path)
    except OSError:  # a share tells that it is full when it is flushed; who tries again would write the line twice
        with suppress(OSError):
            os.truncate(path, num_bytes)
        raise


def record_start(output_dir: Path, *, step: int, total_steps: int, learning_rate: float) -> None:
    """Append that the run starts, or goes on, from a step, and how many it has."""
    record(output_dir, {"event": BEGUN, "step": step, "total_steps": total_steps, "learning_rate": learning_rate})


def record_saved(output_dir: Path, step: int) -> None:
    """Append that a checkpoint of a step is there: the first of those that one process writes."""
    record(output_dir, {"event": SAVED, "step": step})


def read(output_dir: Path) -> list[dict[str, Any]]:
    """The events so far. A line that is none is left out: one cut short by a crash, or damaged, or not of this file."""
    path = output_dir / NAME
    events = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        events += [event] if isinstance(event, dict) and _is_sound(event) else []
    return events


def _is_sound(event: Mapping[str, Any]) -> bool:
    """Whether the values of an event are of the kinds that were written, and in their ranges."""
    known = [(name, event[name]) for name in KINDS.keys() & event.keys()]
    typed = all(isinstance(value, KINDS[name]) and not isinstance(value, bool) for name, value in known)
    numbers = [value for _, value in known if typed and not isinstance(value, str)]
    return typed and all(math.isfinite(value) and value >= 0 for value in numbers) and _in_range(event)


def _in_range(event: Mapping[str, Any]) -> bool:
    return int(event.get("rollbacks", 0)) <= MAX_ROLLBACKS


def step_kept(output_dir: Path) -> int:
    """The last step of which the journal tells that there was a checkpoint since the run was last at its beginning."""
    step = 0
    for event in read(output_dir):
        if event.get("event") == BEGUN:
            step = event.get("step", 0)
        elif event.get("event") == SAVED:
            step = max(step, event.get("step", 0))
        elif TO_THE_BEGINNING in event.get("done", ""):
            step = 0
    return step


def rollbacks_so_far(output_dir: Path, *, learning_rate: float) -> int:
    """How often the run went back since its learning rate was set to this one: older checkpoints do not know it."""
    count, rate = 0, None
    for event in [*read(output_dir), {"event": BEGUN, "learning_rate": learning_rate}]:
        if event.get("event") == BEGUN:
            count = count if event.get("learning_rate") in (rate, None) else 0
            rate = event.get("learning_rate")
        count = max(count, event.get("rollbacks", 0))
    return count
