"""`runs`: the runs there are, or two of them beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.given import own_options
from runyoro_ssl.commands.own import RunsOptions
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.evaluate.words import IN_WORDS, number
from runyoro_ssl.logs import print_table
from runyoro_ssl.option import as_typed

if TYPE_CHECKING:
    from runyoro_ssl.publish.runs import RunRecord

MEASURES = ("contrastive_loss", "chance_loss", "accuracy", "hard_perplexity")


def runs(**given: Any) -> list[RunRecord]:
    """List the runs, how far they are and how good; or take two, to compare them.

    Args:
        **given: `folder`; or `one` and `other`, the folders of two runs.

    Raises:
        ConfigError: There is no run, or only one of two was given.
    """
    from runyoro_ssl.publish.runs import find_runs, read_run

    options = own_options(RunsOptions, given, alone=True)
    if options.one is None:
        found = find_runs(options.folder)
        if not found:
            raise ConfigError(f"{options.folder}: no run is in it, nor below it; give another as --folder")
        return found
    if options.other is None:
        raise ConfigError(f"{options.one} is one run: give another one beside it, to compare them")
    return [read_run(_find(given, options.folder)) for given in (options.one, options.other)]


def _find(given: Path, among: Path) -> Path:
    """The folder of a run, by its path, or by its name among the others."""
    from runyoro_ssl.model.source import RUN_FILE

    for folder in (given, among / given):
        if (folder / RUN_FILE).is_file():
            return folder
    raise ConfigError(f"{given} is no run: it has no {RUN_FILE}; {command('runs')} lists those there are")


def show(found: list[RunRecord], given: Mapping[str, Any]) -> None:
    """Print them as a table; two that are compared side by side."""
    if given.get("one"):
        _show_two(found)
        return
    from runyoro_ssl.publish.runs import differing, usual

    others, folder = differing(found), Path(given.get("folder") or RunsOptions().folder)
    rows = []
    for index, run in enumerate(found):
        unlike = [
            f"  {_short(name, others)} {_value(values[index])}"
            for name, values in others.items()
            if values[index] != usual(values)
        ]
        unlike += [f"  verdict: {run.verdict}"] if run.verdict else []
        course = _course(run, "contrastive_loss"), _course(run, "accuracy")
        rows.append(["\n".join([_name(run.folder, folder), *unlike]), run.state, _steps(run), *course])
    columns = ["run, and what is unlike the others", "state", "steps", "held-out loss", "accuracy"]
    print_table(f"Runs in {folder}; held-out speech first and best", columns, rows, whole=range(2, len(columns)))
    stopped = [run for run in found if run.state == "stopped"]
    close(
        then=[
            *((f"go on with {run.folder.name}", _go_on(run)) for run in stopped),
            *([("compare two", command("runs", found[0].folder, found[1].folder))] if len(found) > 1 else []),
        ]
    )


def _name(run: Path, folder: Path) -> str:
    """A run by its path in the folder that was looked through."""
    return str(run.relative_to(folder)) if run != folder and run.is_relative_to(folder) else str(run)


def _go_on(run: RunRecord) -> str:
    return command("train", output_dir=run.folder, resume_from_checkpoint="last")


def _show_two(found: Sequence[RunRecord]) -> None:
    """Settings that differ, and the measures of both."""
    from runyoro_ssl.publish.runs import differing

    names = [run.folder.name for run in found]
    rows = [["folder", *(str(run.folder) for run in found)], ["state", *(run.state for run in found)]]
    rows.append(["steps", *map(_steps, found)])
    if any(run.verdict for run in found):
        rows.append(["verdict, beside its base", *(run.verdict or "not evaluated" for run in found)])
    datasets = {run.dataset for run in found if run.dataset}
    if len(datasets) > 1:
        rows.append(["datasets", *["not the same: their losses cannot be compared"] * len(found)])
    rows += [[f"setting {name}", *map(_value, values)] for name, values in differing(found).items()]
    for kind in ("first", "best", "last"):
        sides = [run.validations.get(kind, {}) for run in found]
        if not any(sides):
            continue
        rows.append([f"{kind}: step", *(_step(side) for side in sides)])
        rows += [
            [f"{kind}: {IN_WORDS[name]}", *(number(name, side.get(f"eval/{name}")) for side in sides)]
            for name in MEASURES
        ]
    print_table("Two runs: settings that differ, and held-out speech", ["what", *names], rows)


def _steps(run: RunRecord) -> str:
    """How far it is, of how far it goes."""
    return f"{run.step} of {run.total_steps}" if run.total_steps else "none saved"


def _course(run: RunRecord, name: str) -> str:
    """A measure of held-out speech, of the first model and of the best."""
    if not run.validations:
        return "not yet"
    first, best = (number(name, run.validations.get(kind, {}).get(f"eval/{name}")) for kind in ("first", "best"))
    return f"{first} to {best}"


def _step(validation: Mapping[str, float | None]) -> str:
    step = validation.get("step")
    return "none" if step is None else f"{step:.0f}"


def _short(name: str, among: Mapping[str, Any]) -> str:
    """A setting without its section, where that is enough."""
    last = name.rpartition(".")[2]
    return last if sum(other.endswith(f".{last}") for other in among) == 1 else name


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else as_typed(value)
