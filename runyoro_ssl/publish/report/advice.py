"""What to try next, from what the run and the evaluation say: each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runyoro_ssl.evaluate.judged import FEW_SEC
from runyoro_ssl.evaluate.record import ADAPTED, TO_KEEP, Evaluation
from runyoro_ssl.page.amounts import amount_of_time, number
from runyoro_ssl.publish.changes import beaten_by_log_mel, change_of
from runyoro_ssl.publish.report.data import TrainedOn
from runyoro_ssl.publish.report.found import FoundRun

LITTLE_SEC = 3600.0
"""Less speech than this is little: published gains are of ten hours."""
LAST_PART = 0.9
"""A best model in this last tenth of a run means that it still learned."""
EARLY_PART = 0.5


@dataclass(frozen=True)
class Suggestion:
    """Something to try, and why."""

    what: str
    why: str


def suggestions(run: FoundRun | None, data: TrainedOn | None, evaluation: Evaluation | None) -> Sequence[Suggestion]:
    """What to try next, what would change most first. Never empty."""
    found = [
        *(_of_alarms(run) if run else ()),
        *(_of_length(run) if run and not run.is_running else ()),
        *(_of_data(data) if data else ()),
        *(_of_evaluation(evaluation) if evaluation else ()),
    ]
    if run and not evaluation:
        found.append(
            Suggestion("Have it judged, by the command at the top.", "Only a comparison says whether it helped.")
        )
    return found or [Suggestion("Nothing stands out.", "More speech of the language is what helps most, as a rule.")]


def _of_alarms(run: FoundRun) -> Iterator[Suggestion]:
    weighty = [one for one in run.course.shown if one.kind in ("went back", "stopped") and one.advice]
    if weighty:
        last = weighty[-1]
        yield Suggestion(last.advice, f"At step {number(last.step)} the run {_did(last.kind)}. {last.words}")


def _did(kind: str) -> str:
    return "was given up" if kind == "stopped" else "had to go back to an earlier checkpoint"


def _of_length(run: FoundRun) -> Iterator[Suggestion]:
    best, steps = run.best_step, run.logged.get("eval/contrastive_loss", ((), ()))[0]
    if best is None or len(steps) < 4 or not run.step:  # noqa: PLR2004 - of three validations, the best says nothing
        return
    if best >= LAST_PART * run.step:
        yield Suggestion(
            "Train longer: twice the --num-train-epochs or --max-steps, as a new run.",
            f"The best model is that of step {number(best)} of {number(run.step)}: it was still getting better.",
        )
    elif best <= EARLY_PART * run.step:
        yield Suggestion(
            "More recordings, or half the --learning-rate; a longer run will not help.",
            f"The best model is that of step {number(best)} of {number(run.step)}; held-out speech gained none later.",
        )


def _of_data(data: TrainedOn) -> Iterator[Suggestion]:
    if data.seconds is not None and data.seconds < LITTLE_SEC:
        yield Suggestion(
            "More speech of the language: radio, stories, conversations; or of a language close to it.",
            f"{amount_of_time(data.seconds)} is little: the gains that were published came from ten hours, larger ones "
            "with sixty hours of a related language besides.",
        )
    if data.speakers == 1:
        yield Suggestion(
            "Speech of other people.", "With one voice, the model may learn the voice instead of the language."
        )
    if data.held_out_seconds is not None and data.held_out_seconds < FEW_SEC:
        yield Suggestion(
            "Hold out more: invoke prepare --overwrite --set prepare.validation_share=0.1.",
            f"{amount_of_time(data.held_out_seconds)} of held-out speech hardly tell a gain from chance.",
        )


def _of_evaluation(evaluation: Evaluation) -> Iterator[Suggestion]:
    to_keep = evaluation.best.get(TO_KEEP)
    if to_keep and to_keep != ADAPTED:
        why = evaluation.why_kept
        yield Suggestion(
            f"Keep {to_keep}; invoke evaluate with --save-best FOLDER saves it.", f"{why[:1].upper()}{why[1:]}."
        )
    if any(measure.family == "forgetting" and change_of(measure) == "worse" for measure in evaluation.measures):
        yield Suggestion(
            "Mix it with its base: invoke evaluate --run … --interpolate 0.25,0.5,0.75,1.",
            "It forgot some of other languages; a mixture often keeps the gain and gives back what was lost.",
        )
    if beaten := beaten_by_log_mel(evaluation):
        yield Suggestion(
            "Begin with a larger base model, or one trained on more speech.",
            f"Plain log-mel spectra do better than both models on: {', '.join(beaten)}.",
        )
    kind = evaluation.verdict.kind
    if kind == "hurt" and to_keep in (None, ADAPTED):
        yield Suggestion(
            "Keep the base model; train anew with half the --learning-rate, or for a quarter of the steps.",
            "The adapted model is worse than what it began as.",
        )
    if kind in ("helped", "fits better"):
        yield Suggestion(
            "Use it: as the start of a recogniser, for features (invoke embed), for others (invoke publish).",
            "docs/after-training.md shows each, in a few lines.",
        )
    if kind != "hurt" and not any(measure.is_labelled for measure in evaluation.measures):
        yield Suggestion(
            "Label some minutes: transcripts for --transcripts, or phones (.phn, TextGrid, ELAN) for --alignments.",
            "Only labels say whether recognition gets easier.",
        )
