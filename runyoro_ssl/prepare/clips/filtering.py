"""Filters asked about one clip, and the error that names the one that misbehaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runyoro_ssl.errors import PluginError, describe
from runyoro_ssl.plugin.spec import Because, CorpusFilter, Filter, Utterance
from runyoro_ssl.redaction import redact

Result = TypeVar("Result")


@dataclass(frozen=True)
class FilterAnswers:
    """What filters say of a clip.

    `reason` is the first of an enabled filter, with its `detail`; `drop_reasons` are all, by filter; `measured` is what
    corpus filters want to know.
    """

    reason: str | None
    detail: str = ""
    drop_reasons: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipFilters:
    """The filters of a preparation, in order, with their names.

    `trial` is that of a dry run, else "": every filter is then asked about every clip, `others`, which are not enabled,
    too. It is a hash of what is asked.
    """

    filters: tuple[tuple[str, Filter], ...] = ()
    corpus_filters: tuple[tuple[str, CorpusFilter], ...] = ()
    others: frozenset[str] = frozenset()
    trial: str = ""

    def __call__(self, utterance: Utterance) -> FilterAnswers:
        """Ask the filters about a clip.

        Raises:
            PluginError: A filter raised, or returned something that is no reason; with its name, the clip, the line.
        """
        drop_reasons: dict[str, str] = {}
        first: str | None = None
        for name, filter_ in self.filters:
            reason = call_filter(name, utterance.id, lambda filter_=filter_: filter_(utterance))  # type: ignore[misc]
            if reason is None:
                continue
            drop_reasons[name] = checked_reason(name, utterance.id, reason)
            if first is None and name not in self.others:
                first = drop_reasons[name]
                if not self.trial:
                    break
        if first is not None and not self.trial:
            return FilterAnswers(first, detail_of(first))
        measured = {
            name: call_filter(name, utterance.id, lambda filter_=filter_: _storable(filter_.measure(utterance)))  # type: ignore[misc]
            for name, filter_ in self.corpus_filters
        }
        return FilterAnswers(first, detail_of(first), drop_reasons, measured)


def _storable(measured: Any) -> Any:
    """What a shard gives back of a measurement: bytes, or a JSON value. TypeError for anything else."""
    return measured if isinstance(measured, bytes) else json.loads(json.dumps(measured))


def call_filter(name: str, clip: str, call: Callable[[], Result]) -> Result:
    """Call plugin code; if it raises, a PluginError names the filter, the clip and the place."""
    try:
        return call()
    except MemoryError:  # of this clip: its file is dropped
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code; name it, the clip and the place
        raise PluginError(
            f'filter "{name}" failed on {clip}: {describe(error)}; mend it, or leave it out of plugins.filters'
        ) from None


def checked_reason(name: str, clip: str, reason: Any) -> str:
    """The reason a filter gave, without secrets.

    Raises:
        PluginError: It is no string.
    """
    if not isinstance(reason, str):
        raise PluginError(
            f'filter "{name}" returned {reason!r} for {clip}; it must return the reason to drop the clip, a string, '
            "or None to keep it"
        )
    said, detail = str(redact(str(reason))), detail_of(reason)
    return Because(said, str(redact(detail))) if detail else said


def detail_of(reason: str | None) -> str:
    """What a reason tells beside its category; "" if it is a plain one."""
    return reason.detail if isinstance(reason, Because) else ""
