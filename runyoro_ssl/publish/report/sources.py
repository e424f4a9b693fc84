"""The sources of a run on several, as its page shows them: what was heard of each, and how its held-out loss went."""

from __future__ import annotations

from contextlib import suppress

from pydantic import ValidationError

from runyoro_ssl.config import SourceConfig
from runyoro_ssl.config.source import Role, names, roles
from runyoro_ssl.page.amounts import amount_of_time, figure, share
from runyoro_ssl.page.lines import Style
from runyoro_ssl.publish.report.curves import LoggedAs, Picture
from runyoro_ssl.publish.report.found import FoundRun

STYLES: tuple[Style, ...] = ("second", "first", "third", "fourth")
"""Of their curves: the target's is that of held-out speech in the other pictures."""
HEADER = ["source", "role", "of what was heard", "time heard", "held-out loss before", "now"]


def rows_of_sources(run: FoundRun) -> list[list[str]]:
    """A row for each source, as `HEADER`; none where there is one source."""
    sources = _sources(run)
    heard = {name: (_values(run, f"train/hours/{name}") or [0.0])[-1] for name, _ in sources}
    whole = sum(heard.values())
    return [
        [
            name,
            role,
            share(heard[name], whole) if whole else "",
            amount_of_time(3600 * heard[name]),
            *(figure(value, "nats") for value in _losses(run, _stage(number, name))),
        ]
        for number, (name, role) in enumerate(sources)
    ]


def picture_of_sources(run: FoundRun) -> list[Picture]:
    """Their held-out losses, beside each other; none where there is one source."""
    sources = _sources(run)
    if not sources:
        return []
    curves: list[LoggedAs] = [
        (f"{_stage(number, name)}/contrastive_loss", name, style, True)
        for number, ((name, _), style) in enumerate(zip(sources, STYLES, strict=False))
    ]
    left_out = len(sources) - len(curves)
    hint = "Held-out speech of each source. That of a replay shows what the model forgets: it should not rise."
    more = f" {left_out} more are in the table." if left_out else ""
    return [Picture("Loss by source", "nats per hidden frame", hint + more, tuple(curves), "nats")]


def _sources(run: FoundRun) -> list[tuple[str, Role]]:
    """Name and role of each; empty where there is one."""
    found: list[SourceConfig] = []
    with suppress(ValidationError, TypeError):
        found = [SourceConfig(**one) for one in run.settings.get("train", {}).get("sources", [])]
    return list(zip(names(found), roles(found), strict=True)) if len(found) > 1 else []


def _stage(number: int, name: str) -> str:
    return f"eval/{name}" if number else "eval"


def _losses(run: FoundRun, stage: str) -> list[float | None]:
    """The first and the last held-out loss of a source."""
    values = _values(run, f"{stage}/contrastive_loss")
    return [values[0], values[-1]] if values else [None, None]


def _values(run: FoundRun, name: str) -> list[float]:
    """What was logged under this name, in order."""
    return run.logged[name][1].tolist() if name in run.logged else []
