"""`evaluate`: whether an adapted model is better than its base, on held-out speech, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyoro_ssl.commands.closing import close
from runyoro_ssl.commands.compared import adapted_folder, base_folder, hardware_for, hub_name
from runyoro_ssl.commands.given import own_options, resolve
from runyoro_ssl.commands.own import EvaluateOptions
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.logs import print_lines, print_table, table_width

if TYPE_CHECKING:
    from runyoro_ssl.evaluate.examples import HeardUnit
    from runyoro_ssl.evaluate.record import Evaluation
    from runyoro_ssl.publish.report.units import UnitExample


SHOWN_OF_CANDIDATES = (
    *("phones.abx_within", "phones.probe", "text.cer", "fit.below_guessing", "geometry.effective_rank"),
    *("geometry.davies_bouldin", "units.stability", "retrieval.dtw", "forgetting.below_guessing"),
)
"""What the table of models that could be kept shows; evaluation.json has all."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, and the folder that holds it."""

    evaluation: Evaluation
    folder: Path
    features: Path
    """Where features are kept for another evaluation."""
    features_bytes: int
    kept: Path | None = None
    """Where the best was saved."""


def evaluate(**given: Any) -> Evaluated:
    """Compare a base and an adapted model on held-out speech.

    Args:
        **given: The options of the task, by name (`runyoro-ssl evaluate --help`), and any setting of `hardware`.

    Raises:
        RunyoroError: Something that you can mend.
    """
    options = own_options(EvaluateOptions, given)
    shares, last = _shares(options.interpolate), _last(options.average)
    if options.save_best and options.save_best.exists():
        raise ConfigError(f"--save-best {options.save_best} is there; give another folder, or remove it")
    if options.save_best and not (options.run or shares or last):
        raise ConfigError("--save-best needs something to choose from: --run, --interpolate or --average")
    if options.tier and not options.alignments:
        raise ConfigError(f"--tier {options.tier} is of alignments; give their folder as --alignments")
    config = resolve("evaluate", given)
    from runyoro_ssl.evaluate.candidates import save_best
    from runyoro_ssl.evaluate.heard.features import FeatureCache
    from runyoro_ssl.evaluate.record import TO_KEEP, write_evaluation
    from runyoro_ssl.evaluate.request import EvaluationRequest
    from runyoro_ssl.evaluate.run import evaluate as compare
    from runyoro_ssl.model.extractor import load_sampling_rate
    from runyoro_ssl.publish.report.write import write_report

    adapted = adapted_folder(options, is_given=bool(given.get("adapted")))
    folder = options.output_dir or adapted
    _check_folders(folder, options.cache_dir)
    for name, data in (("--data", options.data), ("--other-data", options.other_data)):
        if data is not None and not data.is_dir():
            raise ConfigError(f"{name} {data}: no such dataset; give the folder that `invoke prepare` has written")
    base = base_folder(options.base, adapted)
    cache = FeatureCache(options.cache_dir)
    request = EvaluationRequest(
        base,
        adapted,
        options.data,
        options.other_data,
        options.alignments,
        options.transcripts,
        options.max_minutes,
        cache,
        hardware_for(config, adapted),
        options.seed,
        base_name=hub_name(options.base, adapted),
        tier=options.tier,
        run=options.run,
        shares=shares,
        last=last,
    )
    outcome = compare(request)
    evaluation = outcome.evaluation
    folder.mkdir(parents=True, exist_ok=True)
    write_evaluation(evaluation, folder)
    units = [_example(unit, load_sampling_rate(str(adapted))) for unit in outcome.units]
    write_report(folder, evaluation=evaluation, units=units, with_audio=not options.no_audio, dataset=options.data)
    if options.save_best:
        save_best(outcome.choices, evaluation.best[TO_KEEP], options.save_best)
    _write_cards(folder, adapted, options.save_best, evaluation)
    return Evaluated(evaluation, folder, cache.folder, cache.size, options.save_best)


def _check_folders(folder: Path, cache_dir: Path) -> None:
    """Check that what is found can be written there, and replaces nothing foreign, before it is looked for."""
    from runyoro_ssl.disk.ours import is_json_of, refuse_foreign, refuse_unwritable
    from runyoro_ssl.evaluate.record import EVALUATION
    from runyoro_ssl.page.render import is_page
    from runyoro_ssl.publish.report.write import REPORT_PAGE

    refuse_unwritable(folder, "--output-dir")
    refuse_unwritable(cache_dir, "--cache-dir")
    refuse_foreign(folder / EVALUATION, is_json_of("verdict", "measures"), "an evaluation", "--output-dir")
    refuse_foreign(folder / REPORT_PAGE, is_page, "a page of ours", "--output-dir")


def _write_cards(folder: Path, adapted: Path, kept: Path | None, evaluation: Evaluation) -> None:
    """The model card of a finished run, with what was found; and that of a model of it which was saved."""
    from runyoro_ssl.disk.durable import replace_file
    from runyoro_ssl.evaluate.record import ADAPTED, TO_KEEP
    from runyoro_ssl.model.source import RESULT_FILE
    from runyoro_ssl.publish.card import CARD, make_card, write_model_card

    if not (adapted / RESULT_FILE).is_file():
        return
    if folder == adapted:
        write_model_card(adapted)
    if kept is not None:
        which = evaluation.best[TO_KEEP]
        card = make_card(adapted, which=None if which == ADAPTED else which, evaluation=evaluation)
        replace_file(kept / CARD, card)


def _example(unit: HeardUnit, sampling_rate: int) -> UnitExample:
    """A unit as the page shows it."""
    from runyoro_ssl.publish.report.units import UnitClip, UnitExample

    clips = []
    for one in unit.stretches:
        words = f"clip {one.row}, at {one.at_sec:.2f} s"
        clips.append(UnitClip(one.waveform, sampling_rate, words, one.begin_sec, one.end_sec))
    return UnitExample(unit.unit, f"{100 * unit.share:.1f} % of the time", clips, unit.phones)


def _shares(text: str | None) -> tuple[float, ...]:
    """Of `0.25,0.5,1`."""
    try:
        shares = tuple(float(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        shares = (-1.0,)
    if not all(0 <= share <= 1 for share in shares):
        raise ConfigError(f'--interpolate is "{text}": shares from 0 to 1 are needed, such as 0.25,0.5,0.75')
    return shares


def _last(text: str | None) -> int:
    """Of `last-3`."""
    if text is None:
        return 0
    number = text.removeprefix("last-")
    if not number.isdigit() or int(number) < 2:  # noqa: PLR2004 - the mean of one is that one
        raise ConfigError(f'--average is "{text}": last-N is needed, such as last-3')
    return int(number)


def show(done: Evaluated, given: Mapping[str, Any]) -> None:  # noqa: ARG001 - as every task's
    """Print the verdict, the measures with their intervals, and what was made."""
    from runyoro_ssl.commands.measures_table import lay_out
    from runyoro_ssl.evaluate.record import EVALUATION

    evaluation = done.evaluation
    speech = evaluation.speech
    over = evaluation.drawn
    drawn = f"95 % intervals over {over}" if over else f"too few {speech.intervals_over} for intervals"
    title = f"{evaluation.adapted} beside {evaluation.base}: {speech.seconds / 60:.1f} min of held-out speech, {drawn}"
    for index, (columns, rows) in enumerate(lay_out(evaluation.measures, table_width())):
        print_table("" if index else title, columns, rows, whole=range(1, len(columns)))
    for what, why in evaluation.left_out.items():
        print_lines([f"left out: {what}: {why}"])
    if evaluation.candidates:
        _show_candidates(evaluation)
    verdict = evaluation.verdict
    from runyoro_ssl.publish.changes import warning_of_log_mel

    warning = filter(None, [warning_of_log_mel(evaluation)])
    print_lines([verdict.sentence, *warning, *(f"  because {reason}" for reason in verdict.reasons)])
    print_lines([f"  although {found}" for found in verdict.although])
    print_lines([f"  to settle it: {advice}" for advice in verdict.would_settle])
    from runyoro_ssl.page.amounts import size
    from runyoro_ssl.publish.card import CARD
    from runyoro_ssl.publish.report.write import REPORT_PAGE

    kept = [("the model to keep, saved", done.kept)] if done.kept else []
    if done.kept and not (done.kept / CARD).is_file():
        print_lines([f"{done.kept} has no {CARD}, as no run is known: `invoke publish` asks for one"])
    page = ("look at it and listen, in a browser", done.folder / REPORT_PAGE)
    features = ("features, kept for another evaluation", f"{done.features}, {size(done.features_bytes)}")
    close([("verdict", verdict.kind), page, ("every number", done.folder / EVALUATION), features, *kept])


def _show_candidates(evaluation: Evaluation) -> None:
    """Print what could be kept, base and adapted model among it, which of it is to be kept, and why."""
    from runyoro_ssl.commands.measures_table import NONE, lay_out_models
    from runyoro_ssl.evaluate.record import ADAPTED, BASE, BY_LOSS, TO_KEEP

    kinds = [measure for key in SHOWN_OF_CANDIDATES if (measure := evaluation.get(key))]
    models: dict[tuple[str, str], Mapping[str, float]] = {
        (name, NONE): evaluation.values_of(name) for name in (BASE, ADAPTED)
    }
    models |= {
        (one.name, f"is {one.same_as}" if one.same_as else one.verdict or NONE): one.values
        for one in evaluation.candidates
    }
    for columns, rows in lay_out_models(models, kinds, table_width()):
        print_table("What could be kept", columns, rows)
    by_loss = evaluation.best.get(BY_LOSS)
    print_lines([f"least held-out loss: {by_loss}"] if by_loss else [])
    print_lines([f"to keep: {evaluation.best.get(TO_KEEP)}; {evaluation.why_kept}"])
