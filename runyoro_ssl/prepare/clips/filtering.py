"""Ask the filters about a clip, and say which of them misbehaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runyoro_ssl.errors import PluginError, describe
from runyoro_ssl.plugin.spec import CorpusFilter, Filter, Utterance
from runyoro_ssl.redaction import redact

Result = TypeVar("Result")


@dataclass(frozen=True)
class Verdict:
    """The first reason to drop a clip, if any; all of them, if the judge is thorough; what corpus filters measured."""

    reason: str | None
    objections: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """The filters, in order, with their names. `thorough` ones ask every filter, even after the first objection."""

    filters: tuple[tuple[str, Filter], ...] = ()
    corpus_filters: tuple[tuple[str, CorpusFilter], ...] = ()
    thorough: bool = False

    def __call__(self, utterance: Utterance) -> Verdict:
        """Judge a clip.

        Raises:
            PluginError: A filter raised, or returned something that is no reason; with its name, the clip, the line.
        """
        objections: dict[str, str] = {}
        for name, judge in self.filters:
            reason = call_filter(name, utterance.id, lambda judge=judge: judge(utterance))  # type: ignore[misc]
            if reason is None:
                continue
            objections[name] = checked_reason(name, utterance.id, reason)
            if not self.thorough:
                return Verdict(objections[name])
        measured = {
            name: call_filter(name, utterance.id, lambda judge=judge: _kept(judge.measure(utterance)))  # type: ignore[misc]
            for name, judge in self.corpus_filters
        }
        return Verdict(next(iter(objections.values()), None), objections, measured)


def _kept(measured: Any) -> Any:
    """What a shard gives back of it: bytes, or a JSON value. TypeError for anything else."""
    return measured if isinstance(measured, bytes) else json.loads(json.dumps(measured))


def call_filter(name: str, clip: str, call: Callable[[], Result]) -> Result:
    """What the call gives; a PluginError that names the filter, the clip and the place if it raises."""
    try:
        return call()
    except MemoryError:  # of this clip: its file is dropped
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code; name it, the clip and the place
        raise PluginError(
            f'filter "{name}" failed on {clip}: {describe(error)}; mend it, or leave it out of plugins.filters'
        ) from None


def checked_reason(name: str, clip: str, reason: Any) -> str:
    """The reason, without secrets, if it is one."""
    if not isinstance(reason, str):
        raise PluginError(
            f'filter "{name}" returned {reason!r} for {clip}; it must return the reason to drop the clip, a string, '
            "or None to keep it"
        )
    return str(redact(reason))
