"""`train`: a base model and a dataset to an adapted model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from runyoro_ssl import logs
from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.ending import end
from runyoro_ssl.commands.foreign import hear_first, with_folder
from runyoro_ssl.commands.given import own_options, resolve
from runyoro_ssl.commands.own import TrainOptions
from runyoro_ssl.config import TrainConfig
from runyoro_ssl.evaluate.words import IN_WORDS, LOSS, number, sources_beside, verdict
from runyoro_ssl.processes import SIGNAL_EXIT, in_words

if TYPE_CHECKING:
    from runyoro_ssl.train.forecast import Forecast
    from runyoro_ssl.train.run import TrainResult


@overload
def train(*, dry_run: Literal[True], **given: Any) -> Forecast: ...
@overload
def train(**given: Any) -> TrainResult: ...
def train(**given: Any) -> TrainResult | Forecast:
    """Adapt the base model to the prepared dataset.

    Args:
        **given: The options of the task, by name (`runyoro-ssl train --help`), and any setting of `train`, `model`,
            `masking`, `hardware`, `health` and `plugins`; `profile`, `config`, `set`.

    Returns:
        How the run ended, and the validations of its first, best and last model; with `dry_run`, what it would be.

    Raises:
        RunyoroError: Something that you can mend; a run that had started keeps its checkpoints.
    """
    from runyoro_ssl.plugin.manager import load_plugins

    options = own_options(TrainOptions, given)
    config = with_folder(resolve("train", given), may_make=not options.dry_run)
    plugins = load_plugins(config)
    if options.dry_run:
        from runyoro_ssl.train.forecast import forecast

        return forecast(config, plugins)
    hear_first(config, config.train.processed_dataset_path)
    # All of it now: in days, when the run has ended, another version may be installed.
    from runyoro_ssl.publish.report.keep import PageKeeper
    from runyoro_ssl.train.run import train as run_training

    keeper = PageKeeper()
    return run_training(config, plugins, on_validation=keeper.write_page, on_final=keeper.write_card_and_page)


def show(result: TrainResult | Forecast, given: Mapping[str, Any]) -> None:
    """Print how a run ended, or what it would be; what it made, and what comes next. May end with its status."""
    from runyoro_ssl.train.forecast import Forecast

    if not isinstance(result, Forecast):
        _show_end(result, given)
        return
    if result.is_main:
        logs.print_table(result.title, ["what", "value"], result.rows)
    if result.problem is not None:
        end(result.problem)
    if result.is_main:
        close(then=[("train", command("train", **{**given, "dry_run": None}))])


def _show_end(result: TrainResult, given: Mapping[str, Any]) -> None:
    """Print held-out speech before and after; of a run that was stopped, how to go on."""
    ending = result.ending
    saved = ", after saving" if result.step > result.start_step else "; there was nothing new to save"
    go_on = command(
        "train", output_dir=_unless_usual(result), resume_from_checkpoint="last", stop_after=given.get("stop_after")
    )
    where = f"step {result.step} of {result.total_steps}{saved}; go on: {go_on}"
    if ending.signal is not None:
        end(f"stopped by {in_words(ending.signal)} at {where}", status=SIGNAL_EXIT + ending.signal)
    if not result.is_main:
        return
    if ending.kind == "time" and result.step == result.start_step:
        end(f"--stop-after left no time for a single step, at {where} (with more time)")
    if ending.kind == "time":
        logs.get_logger().info("time_is_up", step=result.step, total_steps=result.total_steps)
        close(then=[("go on", go_on)])
        return
    if result.step == result.start_step:
        logs.get_logger().info("run_is_finished", step=result.step, nothing="is left to train")
    best = f"best objective, step {result.best.get('step', result.step)}"
    columns = ["held-out speech", "first", best if result.is_checkpoint else result.final_model, "last"]
    sides = (result.first, result.best or result.last, result.last)
    rows = [
        [words, *(number(name, side.get(f"eval/{name}")) for side in sides)]
        for name, words in IN_WORDS.items()
        if f"eval/{name}" in result.last
    ]
    rows += [
        [f"{name}: {IN_WORDS[LOSS]}", *(number(LOSS, side.get(f"eval/{name}/{LOSS}")) for side in sides)]
        for name in sources_beside(result.last)
    ]
    logs.print_table(f"{result.output_dir}", columns, rows)
    from runyoro_ssl.publish.card import CARD
    from runyoro_ssl.publish.report.write import REPORT_PAGE

    folder = result.output_dir
    close(
        [
            ("result", verdict(result.first, result.best or result.last)),
            ("model", folder),
            ("what it is and what it was made of", folder / CARD),
            *([("how it went, to look at", page)] if (page := folder / REPORT_PAGE).exists() else []),
            ("every number, as curves", f"tensorboard --logdir {shlex.quote(str(folder))}"),
            ("use it in Python", f'Wav2Vec2ForPreTraining.from_pretrained("{folder}")'),
        ],
        [("say whether it helped", command("evaluate", adapted=_unless_usual(result)))],
    )


def _unless_usual(result: TrainResult) -> Path | None:
    """The folder of a run, if it has to be given."""
    return None if result.output_dir == TrainConfig().output_dir else result.output_dir
