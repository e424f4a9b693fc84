"""What stands between a task and a stage: the configuration it resolves, and the tables it ends with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyoro_ssl import logs
from runyoro_ssl.commands.ending import end
from runyoro_ssl.config import Config
from runyoro_ssl.processes import SIGNAL_EXIT
from runyoro_ssl.redaction import hide
from runyoro_ssl.resolve import flags_to_overrides, load_config

if TYPE_CHECKING:
    from runyoro_ssl.plugin.manager import Plugin


def resolve(
    task: str,
    flags: Mapping[str, Any],
    *,
    profile: str | None,
    config_file: str | None,
    settings: Iterable[str],
) -> Config:
    """The configuration of a task, its secrets hidden from now on."""
    fields = {name: value for name, value in flags.items() if name != "no_plugins"}
    overrides = flags_to_overrides(task, fields)
    if flags.get("no_plugins"):
        overrides["plugins"] = {"built_in_only": True}
    config = load_config(profile=profile, config_file=config_file, settings=settings, flags=overrides)
    hide(config.model_dump(mode="json"))
    return config


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
    from runyoro_ssl.plugin.manager import load_plugins
    from runyoro_ssl.prepare.pipeline import prepare

    config = resolve("prepare", flags, profile=profile, config_file=config_file, settings=settings)
    if dry_run:
        from runyoro_ssl.prepare.dry_run import COLUMNS, rehearse

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
    from runyoro_ssl.plugin.manager import load_plugins

    if profile is None:
        from runyoro_ssl.resolve import best_profile

        profile = best_profile()
        logs.get_logger().info("profile_chosen", profile=profile, because="it suits the best device present")
    config = resolve("train", flags, profile=profile, config_file=config_file, settings=settings)
    plugins = load_plugins(config)
    from runyoro_ssl.train.run import train

    result = train(config, plugins)
    ending = result.ending
    saved = ", after saving" if result.step > result.start_step else "; there was nothing new to save"
    where = f"step {result.step} of {result.total_steps}{saved}; go on with --resume-from-checkpoint last"
    if ending.signal is not None:
        end(f"stopped by {ending.signal.name} at {where}", status=SIGNAL_EXIT + ending.signal)
    if not result.is_main:
        return
    if ending.kind == "time" and result.step == result.start_step:
        end(f"--stop-after left no time for a single step, at {where}, with more time")
    if ending.kind == "time":
        logs.get_logger().info("time_is_up", stopped_at=where)
        return
    columns = ["measure", "first", f"best, step {result.best.get('step', result.step)}", "last"]
    sides = (result.first, result.best or result.last, result.last)
    rows = [
        [name.removeprefix("eval/"), *(f"{side[name]:.4f}" for side in sides)] for name in result.last if name != "step"
    ]
    logs.print_table(f"{result.output_dir}: held-out speech", columns, rows)


def run_smoke_test(flags: Mapping[str, Any], *, audio_dir: str | None, work_dir: str | None) -> None:
    """`invoke smoke`."""
    config = load_config(flags=flags_to_overrides("smoke", flags))
    from runyoro_ssl.commands.smoke import run_smoke

    run_smoke(audio_dir=audio_dir, work_dir=work_dir, seed=0 if flags["seed"] is None else config.train.seed)


def run_bench(
    options: Mapping[str, Any],
    *,
    protection: bool,
    data: bool,
    audio_dir: str | None,
    minutes: Any,
    hours: Any,
    json: str | None,
) -> None:
    """`invoke bench`."""
    from runyoro_ssl.bench.report import COLUMNS, cells
    from runyoro_ssl.bench.run import positive, resolve_settings, run_training_bench, save

    settings = resolve_settings(**options)
    folder = Path(audio_dir) if audio_dir else None
    if protection:
        from runyoro_ssl.bench.protection import bench_protection

        rows = bench_protection(
            size=settings.size,
            device=settings.device,
            precision=settings.precision,
            runs=settings.steps,
            audio_dir=folder,
        )
    elif data:
        from runyoro_ssl.bench.data import bench_data

        minutes = positive("--minutes", minutes, float) or 20.0
        hours = positive("--hours", hours, float)
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
    from runyoro_ssl.commands import doctor

    if not (profile or config_file or any(settings) or any(flags.values())):
        doctor.describe_machine()
        return
    if profile is None:
        from runyoro_ssl.resolve import best_profile

        profile = best_profile()
    config = resolve("doctor", flags, profile=profile, config_file=config_file, settings=settings)
    memory = doctor.memory_rows(config)
    doctor.describe_machine()
    logs.print_table(f"Memory of training {config.model.model_name_or_path}", ["what", "bytes"], memory)


def run_plugins(
    flags: Mapping[str, Any], *, profile: str | None, config_file: str | None, settings: Iterable[str]
) -> None:
    """`invoke plugins`."""
    from runyoro_ssl.plugin.manager import HOOKS, load_plugins

    loaded = load_plugins(resolve("plugins", flags, profile=profile, config_file=config_file, settings=settings))
    rows = [
        [name, kind, _source_of(registration.plugin), HOOKS[kind], "yes" if name in loaded.enabled(kind) else "no"]
        for kind in HOOKS
        for name, registration in loaded.registered[kind].items()
    ]
    used = {registration.plugin.name for names in loaded.registered.values() for registration in names.values()}
    idle = [plugin for plugin in loaded.plugins if plugin.name not in used]
    rows += [[plugin.name, "registers nothing", _source_of(plugin), ", ".join(plugin.hooks), "no"] for plugin in idle]
    logs.print_table("Plugins", ["name", "kind", "source", "hook", "enabled"], rows)


def _source_of(plugin: Plugin) -> str:
    return f"{plugin.source}, for runyoro_ssl {plugin.requires}" if plugin.requires else plugin.source
