"""`journal.jsonl`: what happened to a run, beside its checkpoints: starts, alarms and what was done, sleep.

It only grows: going back to an earlier checkpoint does not undo it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runyoro_ssl.disk.durable import flush

NAME = "journal.jsonl"
BEGUN, SLEPT = "begun", "slept"


def record(output_dir: Path, event: Mapping[str, Any]) -> None:
    """Append an event as a line, and have the disk hold it. A line cut short by a crash ends here."""
    path = output_dir / NAME
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("" if whole else "\n") + json.dumps(event) + "\n")
    flush(path)


def record_start(output_dir: Path, *, step: int, total_steps: int, learning_rate: float) -> None:
    """Append that the run starts, or goes on, from a step, and how many it has."""
    record(output_dir, {"event": BEGUN, "step": step, "total_steps": total_steps, "learning_rate": learning_rate})


def read(output_dir: Path) -> list[dict[str, Any]]:
    """The events so far; a line cut short by a crash is left out."""
    path = output_dir / NAME
    events = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        events += [event] if isinstance(event, dict) else []
    return events


def rollbacks_so_far(output_dir: Path, *, learning_rate: float) -> int:
    """How often the run went back since its learning rate was set to this one: older checkpoints do not know it."""
    count, rate = 0, None
    for event in [*read(output_dir), {"event": BEGUN, "learning_rate": learning_rate}]:
        if event.get("event") == BEGUN:
            count = count if event.get("learning_rate") in (rate, None) else 0
            rate = event.get("learning_rate")
        count = max(count, event.get("rollbacks", 0))
    return count
