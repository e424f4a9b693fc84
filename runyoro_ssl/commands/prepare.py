"""`prepare`: a manifest to a dataset, or what would become of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyoro_ssl import logs
from runyoro_ssl.audio.reasons import count_flaws
from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.given import own_options, resolve
from runyoro_ssl.commands.own import PrepareOptions
from runyoro_ssl.config import PrepareConfig, TrainConfig
from runyoro_ssl.dataset.layout import PAGE, SPLITS, VALIDATION

if TYPE_CHECKING:
    from runyoro_ssl.prepare.pipeline import Prepared


@dataclass(frozen=True)
class DryRun:
    """What each filter would drop: rows of `prepare.dry_run.COLUMNS`. What was decoded is kept for `output_dir`."""

    output_dir: Path
    columns: list[str]
    rows: list[list[str]]


def prepare(**given: Any) -> Prepared | DryRun:
    """Decode, cut, filter and split the manifest's recordings into a dataset.

    Args:
        **given: The options of the task, by name (`runyoro-ssl prepare --help`), and any setting of `prepare`, `model`,
            `hardware` and `plugins`; `profile`, `config`, `set`.

    Returns:
        The dataset's folder and its report; with `dry_run`, what each filter would drop.

    Raises:
        RunyoroError: Something that you can mend.
    """
    from runyoro_ssl.plugin.manager import load_plugins

    options = own_options(PrepareOptions, given)
    config = resolve("prepare", given)
    plugins = load_plugins(config)
    for name in plugins.without_effect("filter", config.plugins.filters):
        logs.get_logger().warning("options_without_effect", filter=name, because="it is not named in plugins.filters")
    if options.dry_run:
        from runyoro_ssl.prepare.dry_run import COLUMNS, dry_run

        return DryRun(config.prepare.output_dir, COLUMNS, dry_run(config, plugins))
    from runyoro_ssl.prepare.pipeline import prepare as prepare_dataset

    return prepare_dataset(config, plugins, overwrite=options.overwrite)


def show(done: Prepared | DryRun, given: Mapping[str, Any]) -> None:
    """Print the account of a preparation, or of what it would drop; what was made, and what comes next."""
    if isinstance(done, DryRun):
        title = f"{done.output_dir} would hold what is kept: the rows from the second on add up to the first"
        logs.print_table(title, done.columns, done.rows)
        logs.get_logger().info(
            "dry_run_ends",
            decoded=f"{done.output_dir}.shards, where prepare finds it if no setting that decides clips is changed",
            in_brackets="what a filter that is not enabled would drop of what is kept",
        )
        close(then=[("make the dataset", command("prepare", **{**given, "dry_run": None}))])
        return
    if done.up_to_date:
        logs.get_logger().info("already_prepared", path=str(done.output_dir))
    folder = _as_typed(done.output_dir, given.get("output_dir"))
    logs.print_table(f"{folder}", ["what", "clips", "seconds"], account_rows(done.report))
    flags = {name: given.get(name) for name in ("profile", "model_name_or_path", "revision")}
    if folder != TrainConfig().processed_dataset_path:
        flags["processed_dataset_path"] = folder
    close(
        [("dataset", folder), ("look at it and listen, in a browser", folder / PAGE)],
        [
            ("see how long training takes", command("train", **flags, dry_run=True)),
            ("train", command("train", **flags)),
        ],
    )


def _as_typed(folder: Path, typed: object) -> Path:
    """The folder of the dataset as it was given, or as it is by default, where it is that."""
    path = Path(str(typed or PrepareConfig().output_dir))
    return path if path.absolute() == folder.absolute() else folder


def _held_out(report: Mapping[str, Any]) -> str:
    """What was held out whole, and how many of how many."""
    groups = f"{report['split_by']}s"
    out, among = (sum(report["splits"][name][groups] for name in names) for names in ((VALIDATION,), SPLITS))
    return f"  held out: whole {groups}, {out} of {among}"


def account_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """The account of a preparation: what came in, what was dropped and why, what was kept where."""
    rows = [["in", str(report["lines_in"]), f"{report['seconds_in']:.1f}"]]
    if report["lines_cut"]:
        rows.append([f"cut into {report['pieces_of_cut_lines']} pieces", str(report["lines_cut"]), ""])
    for reason, drop in report["dropped"].items():
        rows.append([f"dropped: {reason}", str(drop["clips"]), f"{drop['seconds']:.1f}"])
    rows.append(["kept", str(report["clips_kept"]), f"{report['seconds_kept']:.1f}"])
    for name, split in report["splits"].items():
        rows.append([f"  {name}", str(split["clips"]), f"{split['seconds']:.1f}"])
    rows.append([_held_out(report), "", ""])
    if report["absent"]["speakers"]:
        rows.append(["speakers wholly dropped", str(len(report["absent"]["speakers"])), ""])
    if report["absent"]["recordings"]:
        rows.append(["recordings wholly dropped", str(sum(report["absent"]["recordings"].values())), ""])
    for reason, count in count_flaws(report["flawed_recordings"].values()).most_common():
        rows.append([f"recordings used, with a flaw: {reason}", str(count), ""])
    if report["narrow_band_seconds"]:
        rows.append(["telephone bandwidth, kept", "", f"{report['narrow_band_seconds']:.1f}"])
    return rows
