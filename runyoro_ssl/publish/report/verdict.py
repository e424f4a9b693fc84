"""The first thing that the page says: the verdict of an evaluation, or that there is none yet, and how to get one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runyoro_ssl.evaluate.record import Evaluation, JudgementKind
from runyoro_ssl.publish.changes import warning_of_log_mel
from runyoro_ssl.publish.report.found import FoundRun

USUAL_PLACE = ("models", "ssl")
IN_A_WORD: Mapping[JudgementKind, tuple[str, str]] = {
    "helped": ("It helped", "good"),
    "fits better": ("It fits better", "open"),
    "no evidence": ("No evidence", "open"),
    "hurt": ("It hurt", "bad"),
}
"""What stands over the sentence, and the class of its mark."""


@dataclass(frozen=True)
class Opening:
    """The head of the page: a word, a sentence, why, what else, what would settle it; or a command for a verdict."""

    word: str
    mark: str
    sentence: str
    reasons: Sequence[str] = field(default=())
    although: Sequence[str] = field(default=())
    would_settle: Sequence[str] = field(default=())
    command: str = ""
    warning: str = ""


def opening(run: FoundRun | None, evaluation: Evaluation | None, folder: Path) -> Opening:
    """What the page begins with."""
    if evaluation is not None:
        verdict = evaluation.verdict
        word, mark = IN_A_WORD[verdict.kind]
        sentence, warning = _sentence(verdict.sentence), warning_of_log_mel(evaluation)
        return Opening(
            *(word, mark, sentence, verdict.reasons, verdict.although, verdict.would_settle), warning=warning
        )
    if run is None:
        return Opening(
            "Not judged yet", "open", "Nothing is known of this model yet: no run and no evaluation lies here."
        )
    if run.is_running:
        said = (
            "The run is under way. Its curves say how the training goes; whether it helps is asked when it has ended."
        )
        return Opening("Not judged yet", "open", said, command=judging(folder))
    said = (
        "Nobody has asked yet whether it helped. The curves below say how the training went; a lower loss is a good "
        "sign, and no proof. A comparison with the base model takes some minutes, and needs no transcripts:"
    )
    return Opening("Not judged yet", "open", said, command=judging(folder))


def judging(folder: Path) -> str:
    """The command that judges a run: it knows its base."""
    return f"invoke evaluate --adapted {shlex.quote(named(folder))}"


def named(folder: Path) -> str:
    """A run's folder as it is told to others: the usual place and its name, and no other path."""
    return "/".join([*(USUAL_PLACE if folder.parent.parts[-2:] == USUAL_PLACE else ()), folder.name])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}." if text else ""
