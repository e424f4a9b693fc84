"""The settings of one of several datasets that a run learns from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from runyoro_ssl.setting import Section, setting

Role = Literal["target", "donor", "replay"]
REPLAY_SHARE = 0.05
"""Of a source of speech that the base model knows, where none is given: M2DS2, 2023, arXiv 2301.00304."""
ROUNDING = 1e-3
"""Shares may be so far from adding up to 1."""


class SourceConfig(Section):
    """A dataset of `prepare`, and how much of the audio that is heard is from it."""

    path: Path = setting(..., decides="nothing")
    """Its folder."""
    name: str | None = setting(None, decides="nothing", pattern=r"^\w[\w.-]*$")
    """As logs and tables call it. Not set: the name of its folder."""
    role: Role | None = setting(None, decides="run")
    """`target`: the speech to learn, on which the best model is chosen; `donor`: that of a language near it; `replay`:
    speech that the base model knows, against forgetting. Not set: the first is the target, the others are donors."""
    share: Annotated[float, Field(gt=0.0, lt=1.0)] | None = setting(None, decides="run")
    """Of the audio that is heard. Not set: 0.05 of a replay; of the others, what is left, by their hours and
    `train.source_temperature`."""
    from_step: NonNegativeInt = setting(0, decides="run")
    """Steps before it is heard."""
    until_step: PositiveInt | None = setting(None, decides="run")
    """Step after which it is not heard any more."""


def roles(sources: Sequence[SourceConfig]) -> list[Role]:
    """The role of each."""
    return [source.role or ("donor" if number else "target") for number, source in enumerate(sources)]


def names(sources: Sequence[SourceConfig]) -> list[str]:
    """The name of each: as given, or that of its folder; where that is taken, with the folder around it."""
    short = [source.name or _plain(source.path.name) for source in sources]
    return [
        source.name or (name if short.count(name) == 1 else _plain("-".join(source.path.parts[-2:])))
        for source, name in zip(sources, short, strict=True)
    ]


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "source"


def shares(sources: Sequence[SourceConfig], seconds: Sequence[float], temperature: float) -> list[float]:
    """The share of each in the audio that is heard, in sum 1. `seconds`: audio of each.

    What no share is given of divides what is left, in proportion to its seconds to the power of 1/temperature: 1 for as
    they are, more for more of the small ones, as XLS-R was trained (2, Babu et al., 2021, arXiv 2111.09296).
    """
    given = given_shares(sources)
    weights = [0.0 if share else size ** (1 / temperature) for share, size in zip(given, seconds, strict=True)]
    left, total = 1 - sum(share or 0.0 for share in given), sum(weights)
    found = [share or left * weight / total for share, weight in zip(given, weights, strict=True)]
    return [share / sum(found) for share in found]


def given_shares(sources: Sequence[SourceConfig]) -> list[float | None]:
    """The shares that do not follow from hours."""
    by_role = {"replay": REPLAY_SHARE}
    return [source.share or by_role.get(role) for source, role in zip(sources, roles(sources), strict=True)]


def in_words(sources: Sequence[SourceConfig]) -> list[str]:
    """What each is for a run that hears them: its role, its share where that does not follow from hours, its steps."""
    said: list[str] = []
    if len(sources) == 1:  # as none, where the dataset is given by itself
        return said
    for source, role, share in zip(sources, roles(sources), given_shares(sources), strict=True):
        parts = {"share": share, "from step": source.from_step, "until step": source.until_step}
        said.append(", ".join([role, *(f"{name} {value}" for name, value in parts.items() if value)]))
    return said


def find_contradiction(sources: Sequence[SourceConfig]) -> str | None:
    """What of several sources cannot be together, in words with advice; None where all can."""
    called, paths = names(sources), [source.path.resolve() for source in sources]
    first, *others = sources
    if roles(sources)[0] != "target" or first.from_step or first.until_step is not None:
        return f"the first, {called[0]}, is the target, heard at all steps: give it no role, from_step or until_step"
    if "target" in (source.role for source in others):
        return f"{called[0]} is the target, and only one can be; prepare all its recordings as one dataset"
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        return f"{twice} is there twice; leave one out, and raise its share"
    if again := next((name for name in called if called.count(name) > 1), None):
        return f'two are called "{again}"; give each a name of its own'
    for name, source in zip(called, sources, strict=True):
        if source.until_step is not None and source.until_step <= source.from_step:
            return f"{name} is never heard: from step {source.from_step} until {source.until_step}; raise the latter"
    return _wrong_sum(called, given_shares(sources)) if others else None


def _wrong_sum(called: Sequence[str], given: Sequence[float | None]) -> str | None:
    total = sum(share or 0.0 for share in given)
    said = ", ".join(f"{name} {share:g}" for name, share in zip(called, given, strict=True) if share)
    if None not in given and abs(total - 1) > ROUNDING:
        return f"the shares add up to {total:g} ({said}), not to 1; leave one of them out: it takes the rest"
    if None in given and total >= 1 - ROUNDING:
        rest = ", ".join(name for name, share in zip(called, given, strict=True) if not share)
        return f"the shares add up to {total:g} ({said}), and nothing is left for {rest}; lower one"
    return None
