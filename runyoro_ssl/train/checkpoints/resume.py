"""From which checkpoint a run goes on, and whether it is still the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runyoro_ssl.batches.plan import PlanSettings
from runyoro_ssl.batches.regroup import Regroup
from runyoro_ssl.config import Config
from runyoro_ssl.errors import CheckpointError, ConfigError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.processes import sum_over_processes
from runyoro_ssl.redaction import redact
from runyoro_ssl.train.checkpoints.folder import (
    SUPERSEDED,
    checkpoint_of,
    find_named,
    find_newest,
    list_checkpoints,
    step_of,
)
from runyoro_ssl.train.run_lock import LOCK

log = get_logger()

FREE = {
    "model": {"model_name_or_path", "allow_new_head", "allow_pickle"},
    "train": {
        "processed_dataset_path",
        "output_dir",
        "logging_steps",
        "eval_steps",
        "save_steps",
        "save_total_limit",
        "resume_from_checkpoint",
        "override_mismatch",
        "stop_after",
        "keep_awake",
        "max_unreadable_share",
    },
    "plugins": {"dir", "built_in_only", "filters", "loggers"},
}
"""Settings that may change when a run is resumed: they decide nothing of what it learns. The others of these sections,
and `masking`, must stay; `hardware` may change, and `describe_changes` says what that means."""


def check_folder(config: Config) -> None:
    """Refuse an output folder that holds something else than the run to resume. Nothing is written.

    Raises:
        ConfigError: Says what is there, and how to go on.
    """
    output_dir, wanted = config.train.output_dir, config.train.resume_from_checkpoint
    if not output_dir.is_dir() or not _content(output_dir):
        return
    if wanted == "last" and (list_checkpoints(output_dir) or _is_unsaved_run(output_dir)):
        return
    if wanted not in (None, "last") and Path(str(wanted)).resolve().parent == output_dir.resolve():
        return
    advice = (
        "give another --output-dir" if wanted else "go on with it by --resume-from-checkpoint last, or give another"
    )
    found = "no complete checkpoint" if wanted == "last" else "another run, or something else"
    raise ConfigError(f"{output_dir} already holds a run: {found}; {advice}")


def find_start(config: Config, accelerator: Any) -> Path | None:
    """The checkpoint to start from, the same for every process; None to start anew. Damaged ones are set aside.

    Raises:
        CheckpointError: The checkpoint named, or every checkpoint there is, is damaged.
    """
    output_dir, wanted = config.train.output_dir, config.train.resume_from_checkpoint
    if wanted is None:
        return None
    if wanted != "last":
        return find_named(output_dir, Path(wanted)) if accelerator.is_main_process else Path(wanted)
    found = find_newest(output_dir) if accelerator.is_main_process else None
    mine = step_of(found) if found else -1 if accelerator.is_main_process else 0
    step = sum_over_processes(accelerator, mine)
    return None if step < 0 else checkpoint_of(output_dir, step)


def _content(output_dir: Path) -> list[str]:
    return [path.name for path in output_dir.iterdir() if not path.name.startswith(".") and path.name != LOCK]


def _is_unsaved_run(output_dir: Path) -> bool:
    """Whether a run was begun here and ended before its first checkpoint."""
    names = [name for name in _content(output_dir) if not name.startswith(SUPERSEDED)]
    return "run.toml" in names and not any(name == "model.safetensors" or "checkpoint-" in name for name in names)


def check_same_run(checkpoint: Path, state: Mapping[str, Any], config: Config, dataset_sha256: str) -> None:
    """Refuse a dataset or settings that differ from the run's, field by field, unless told to go on.

    Raises:
        CheckpointError: Names every difference.
    """
    problems = [f"{name} was {was}, is {now}" for name, was, now in differences(state["config"], config)]
    if state["dataset_sha256"] != dataset_sha256:
        problems.append(
            f"the prepared dataset is another one (was {state['dataset_sha256'][:12]}, is {dataset_sha256[:12]})"
        )
    if not problems:
        return
    if not config.train.override_mismatch:
        raise CheckpointError(
            f"{checkpoint} belongs to a run with other settings: {'; '.join(problems)}. Give those of the run (they "
            "are in its run.toml), or go on with what you gave now by --override-mismatch"
        )
    log.warning("run_changed", by="--override-mismatch", changes="; ".join(problems))


def differences(saved: Mapping[str, Any], config: Config) -> list[tuple[str, Any, Any]]:
    """(setting, the run's value, the value now) of each that decides what is learned."""
    now = comparable(config)
    if saved.get("train", {}).get("max_steps") is not None:  # then the run's epochs decided nothing
        now["train"].pop("num_train_epochs", None)
    return [
        (f"{section}.{name}", saved.get(section, {}).get(name), value)
        for section, fields in now.items()
        for name, value in fields.items()
        if saved.get(section, {}).get(name) != value
    ]


def comparable(config: Config) -> dict[str, Any]:
    """The settings that a resumed run must keep, as JSON values, without secrets."""
    whole: dict[str, Any] = redact(config.model_dump(mode="json"))
    kept = {
        section: {name: value for name, value in whole[section].items() if name not in FREE.get(section, ())}
        for section in ("model", "masking", "train", "plugins")
    }
    if kept["train"]["max_steps"] is not None:
        del kept["train"]["num_train_epochs"]
    used = {config.plugins.collator, *config.plugins.augmentations}
    kept["plugins"]["options"] = {name: value for name, value in kept["plugins"]["options"].items() if name in used}
    return kept


def planned_with(state: Mapping[str, Any], machine: PlanSettings, *, override: bool) -> PlanSettings:
    """The sizes that decide which clips an update sees: the run's, whatever machine it is on now."""
    return PlanSettings(**state["plan"]) if state and not override else machine


def describe_changes(state: Mapping[str, Any], config: Config, plan: PlanSettings, machine: PlanSettings) -> None:
    """Say what a run keeps on another machine, and what it cannot keep."""
    was, now = state["hardware"], config.hardware.model_dump(mode="json")
    kept = {
        name: was[name]
        for name in ("update_seconds", "clip_lengths", "gradient_accumulation_steps")
        if was[name] != now[name]
    }
    if kept and plan != machine:
        log.info("kept_from_the_run", **kept, because="they decide which clips an optimizer step sees")
    changed = [
        f"{name} {was[name]} -> {now[name]}"
        for name in ("device", "precision", "attention", "compile", "gradient_checkpointing")
        if was[name] != now[name]
    ]
    if changed:
        log.info("computed_otherwise", changes=", ".join(changed), means="the same clips, other rounding")
    if Regroup(plan, machine).changes:
        crops = "; crops, as the collator crops to the shortest" if config.plugins.collator == "cropped" else ""
        log.info(
            "micro_batches_regrouped",
            kept="the clips of each step, their masks and negatives",
            not_kept=f"what is drawn for a micro-batch (dropout, Gumbel noise), and its diversity loss{crops}",
        )
