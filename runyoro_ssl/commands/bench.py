"""`bench`: how fast the training step and the data path are, beside what a user would otherwise run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runyoro_ssl import logs
from runyoro_ssl.bars import progress
from runyoro_ssl.commands.closing import close
from runyoro_ssl.commands.given import bench_options

if TYPE_CHECKING:
    from runyoro_ssl.bench.measure import Comparison
    from runyoro_ssl.bench.options import BenchOptions


def bench(**given: Any) -> list[Comparison]:
    """Time the training step, or with `data` the data path, beside what a user would otherwise run.

    Args:
        **given: The options of the task, by name (`runyoro-ssl bench --help`).

    Returns:
        A row for each comparison: seconds of both sides, and what else was seen.

    Raises:
        RunyoroError: Something that you can mend.
    """
    from runyoro_ssl.bench.run import resolve_settings, save
    from runyoro_ssl.disk.ours import is_json_of, refuse_foreign

    options = bench_options(given)
    settings = resolve_settings(options)
    if options.json is not None:
        refuse_foreign(options.json, is_json_of("machine", "rows"), "a result of bench", "--json")
    if options.protection:
        from runyoro_ssl.bench.protection import bench_protection

        rows = bench_protection(
            size=settings.size,
            device=settings.device,
            precision=settings.precision,
            runs=settings.steps,
            audio_dir=options.audio_dir,
        )
    else:
        rows = _bench_data(options, settings.steps) if options.data else _bench_step(settings)
    save(options.json, settings.device, rows)
    return rows


def show(rows: list[Comparison], given: Mapping[str, Any]) -> None:
    """Print them as a table, and where they were saved."""
    from runyoro_ssl.bench.report import COLUMNS, cells

    runs = max((len(row.ours) for row in rows), default=0)
    logs.print_table(f"Median (minimum to maximum) of {runs} alternating runs", COLUMNS, list(map(cells, rows)))
    close([("every run of it", given["json"])] if given.get("json") else [])


def _bench_data(options: BenchOptions, runs: int) -> list[Comparison]:
    from runyoro_ssl.bench.data import bench_data
    from runyoro_ssl.bench.run import positive

    minutes = positive("--minutes", options.minutes, float)
    hours = None if options.hours is None else positive("--hours", options.hours, float)
    return bench_data(audio_dir=options.audio_dir, runs=runs, minutes=minutes, hours=hours)


def _bench_step(settings: Any) -> list[Comparison]:
    from runyoro_ssl.bench.run import run_training_bench

    rows: list[Comparison] = []
    with progress("parts") as bar:
        task = bar.add_task(f"Measuring {settings.size} on {settings.device}", total=len(settings.parts))
        for row in run_training_bench(settings):
            rows.append(row)
            bar.advance(task)
    return rows
