"""What stands between a task and a stage: exit statuses, one-line errors, the tables a task ends with."""

from __future__ import annotations

import functools
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

from runyoro_ssl import logs
from runyoro_ssl.config import Config
from runyoro_ssl.errors import RunyoroError
from runyoro_ssl.resolve import flags_to_overrides, load_config

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

EXIT_MENDABLE = 1
EXIT_BUG = 2
SIGNAL_EXIT = 128
"""Added to a signal's number: 130 for SIGINT, 143 for SIGTERM."""


class Terminated(BaseException):
    """SIGTERM, raised like Ctrl-C so that every `with` block cleans up. `train` handles the signal itself."""


def command(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Give a task its exit status: 0 done, 1 mendable (one line on stderr), 2 a bug (traceback), 130/143 signals."""

    @functools.wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        logs.configure()
        previous = signal.signal(signal.SIGTERM, _terminate)
        try:
            return function(*args, **kwargs)
        except RunyoroError as error:
            _fail(str(error))
        except OSError as error:
            where = error.filename or "the disk"
            _fail(
                f"{where}: {error.strerror or error}; check the path, its permissions and the free space, and run again"
            )
        except KeyboardInterrupt:
            _fail("interrupted; nothing unfinished was kept", status=SIGNAL_EXIT + signal.SIGINT)
        except Terminated:
            _fail("terminated; nothing unfinished was kept", status=SIGNAL_EXIT + signal.SIGTERM)
        except Exception:  # noqa: BLE001 - the last door: what escapes here is a bug, and says so
            _report_bug()
        finally:
            signal.signal(signal.SIGTERM, previous)

    return run


def resolve(
    task: str,
    flags: Mapping[str, Any],
    *,
    profile: str | None,
    config_file: str | None,
    settings: Iterable[str],
) -> Config:
    """The configuration of a task."""
    return load_config(
        profile=profile, config_file=config_file, settings=settings, flags=flags_to_overrides(task, flags)
    )


def run_manifest(
    flags: Mapping[str, Any],
    *,
    audio_dir: str,
    output: str,
    speaker_from: str | None,
    settings: Iterable[str],
    overwrite: bool,
) -> None:
    """`invoke manifest`."""
    from runyoro_ssl.prepare.scan import scan

    config = resolve("manifest", flags, profile=None, config_file=None, settings=settings)
    found = scan(Path(audio_dir), Path(output), speaker_from=speaker_from, overwrite=overwrite, config=config)
    rows = [
        ["recordings", f"{found.num_files}"],
        ["audio", f"{found.seconds / 3600:.2f} h"],
        ["speakers", f"{found.num_speakers} ({found.num_without_speaker} recordings without)"],
        *([["damaged, used as far as they go", str(found.num_flawed)]] if found.num_flawed else []),
        *([f"rejected: {reason}", str(count)] for reason, count in found.rejected_by_reason.most_common()),
        ["other files", str(found.num_other)],
    ]
    logs.print_table(f"{found.output}", ["what", "count"], rows)
    if found.rejected:
        logs.get_logger().info("rejected_files_listed", path=str(found.rejected_path))


def run_prepare(
    flags: Mapping[str, Any],
    *,
    profile: str | None,
    config_file: str | None,
    settings: Iterable[str],
    overwrite: bool,
    dry_run: bool,
) -> None:
    """`invoke prepare`."""
    from runyoro_ssl.plugins import load_plugins
    from runyoro_ssl.prepare.pipeline import prepare

    config = resolve("prepare", flags, profile=profile, config_file=config_file, settings=settings)
    if dry_run:
        from runyoro_ssl.prepare.rehearsal import COLUMNS, rehearse

        logs.print_table("Nothing was written", COLUMNS, rehearse(config, load_plugins(config)))
        return
    done = prepare(config, load_plugins(config), overwrite=overwrite)
    if done.up_to_date:
        logs.get_logger().info("already_prepared", path=str(done.output_dir))
    logs.print_table(f"{done.output_dir}", ["what", "clips", "seconds"], prepare_rows(done.report))


def prepare_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """The account of a preparation: what came in, what was dropped and why, what was kept where."""
    rows = [["in", str(report["lines_in"]), f"{report['seconds_in']:.1f}"]]
    if report["lines_cut"]:
        rows.append([f"cut into {report['pieces_of_cut_lines']} pieces", str(report["lines_cut"]), ""])
    for reason, drop in report["dropped"].items():
        rows.append([f"dropped: {reason}", str(drop["clips"]), f"{drop['seconds']:.1f}"])
    rows.append(["kept", str(report["clips_kept"]), f"{report['seconds_kept']:.1f}"])
    for name, split in report["splits"].items():
        rows.append([f"  {name}", str(split["clips"]), f"{split['seconds']:.1f}"])
    if report["flawed_recordings"]:
        rows.append(["damaged, used as far as they go", str(len(report["flawed_recordings"])), ""])
    if report["narrow_band_seconds"]:
        rows.append(["telephone bandwidth, kept", "", f"{report['narrow_band_seconds']:.1f}"])
    return rows


def run_train(
    flags: Mapping[str, Any], *, profile: str | None, config_file: str | None, settings: Iterable[str]
) -> None:
    """`invoke train`, and `python -m runyoro_ssl.train`."""
    from runyoro_ssl.plugins import load_plugins

    if profile is None:
        from runyoro_ssl.devices import best_profile

        profile = best_profile()
        logs.get_logger().info("profile_chosen", profile=profile, because="it suits the best device present")
    config = resolve("train", flags, profile=profile, config_file=config_file, settings=settings)
    plugins = load_plugins(config)
    from runyoro_ssl.train.loop import train

    result = train(config, plugins)
    if result.stopped_by is not None:
        _fail(
            f"stopped by {result.stopped_by.name} at step {result.step} of {result.total_steps}, after saving; "
            "go on with --resume-from-checkpoint last",
            status=SIGNAL_EXIT + result.stopped_by,
        )
    if not result.is_main:
        return
    rows = [
        [name.removeprefix("eval/"), f"{result.first[name]:.4f}", f"{result.last[name]:.4f}"] for name in result.last
    ]
    logs.print_table(f"{result.output_dir}: held-out speech", ["measure", "first", "last"], rows)


def run_smoke_test(flags: Mapping[str, Any], *, audio_dir: str | None, work_dir: str | None) -> None:
    """`invoke smoke`."""
    config = load_config(flags=flags_to_overrides("smoke", flags))
    from runyoro_ssl.smoke import run_smoke

    run_smoke(audio_dir=audio_dir, work_dir=work_dir, seed=0 if flags["seed"] is None else config.train.seed)


def run_bench(
    options: Mapping[str, Any], *, data: bool, audio_dir: str | None, minutes: Any, hours: Any, json: str | None
) -> None:
    """`invoke bench`."""
    from runyoro_ssl.bench.report import COLUMNS, cells
    from runyoro_ssl.bench.run import positive, resolve_settings, run_training_bench, save

    settings = resolve_settings(**options)
    if data:
        from runyoro_ssl.bench.data import bench_data

        minutes = positive("--minutes", minutes, float) or 20.0
        hours = positive("--hours", hours, float)
        folder = Path(audio_dir) if audio_dir else None
        rows = bench_data(audio_dir=folder, runs=settings.steps, minutes=minutes, hours=hours)
    else:
        rows = []
        with logs.progress("parts") as bar:
            task = bar.add_task(f"Measuring {settings.size} on {settings.device}", total=len(settings.parts))
            for row in run_training_bench(settings):
                rows.append(row)
                bar.advance(task)
    logs.print_table(
        f"Median (minimum to maximum) of {settings.steps} alternating runs", COLUMNS, list(map(cells, rows))
    )
    save(json, settings.device, rows)


def run_doctor(
    flags: Mapping[str, Any], *, profile: str | None, config_file: str | None, settings: Iterable[str]
) -> None:
    """`invoke doctor`; what memory a run needs only if something is said about the run."""
    from runyoro_ssl import doctor

    if not (profile or config_file or any(settings) or any(flags.values())):
        doctor.describe_machine()
        return
    if profile is None:
        from runyoro_ssl.devices import best_profile

        profile = best_profile()
    config = resolve("doctor", flags, profile=profile, config_file=config_file, settings=settings)
    memory = doctor.memory_rows(config)
    doctor.describe_machine()
    logs.print_table(f"Memory of training {config.model.model_name_or_path}", ["what", "bytes"], memory)


def run_plugins(*, profile: str | None, config_file: str | None, settings: Iterable[str]) -> None:
    """`invoke plugins`."""
    from runyoro_ssl.plugins import HOOKS, load_plugins

    config = load_config(profile=profile, config_file=config_file, settings=settings)
    loaded = load_plugins(config)
    rows = [
        [name, kind, registration.plugin.source, HOOKS[kind], "yes" if name in loaded.enabled(kind) else "no"]
        for kind in HOOKS
        for name, registration in loaded.registered[kind].items()
    ]
    used = {registration.plugin.name for names in loaded.registered.values() for registration in names.values()}
    idle = [plugin for plugin in loaded.plugins if plugin.name not in used]
    rows += [[plugin.name, "registers nothing", plugin.source, ", ".join(plugin.hooks), "no"] for plugin in idle]
    logs.print_table("Plugins", ["name", "kind", "source", "hook", "enabled"], rows)


def _terminate(_number: int, _frame: Any) -> NoReturn:
    raise Terminated


def _fail(message: str, *, status: int = EXIT_MENDABLE) -> NoReturn:
    logs.console.print(
        f"[bold red]error[/] {_plain(message)}" if status == EXIT_MENDABLE else _plain(message), soft_wrap=True
    )
    sys.exit(status)


def _report_bug() -> NoReturn:
    traceback.print_exc()
    logs.console.print("[bold red]bug[/] this should not happen: please report it with the lines above", soft_wrap=True)
    sys.exit(EXIT_BUG)


def _plain(message: str) -> str:
    """Redacted, on one line, with nothing that rich would take for markup."""
    from rich.markup import escape

    return escape(str(logs.redact(" ".join(message.split()))))
