"""What a resumed run says of itself: what is not as it was, and what another machine keeps and what it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from structlog.testing import capture_logs

from runyoro_ssl.config import Config, HardwareConfig
from runyoro_ssl.model.memory import BatchSettings, predict_memory
from runyoro_ssl.page.amounts import size
from runyoro_ssl.setting import deciding
from runyoro_ssl.train.describe import summary_rows
from support.trainer import build, run

MakeConfig = Callable[..., Config]
SAID = ("run_changed", "kept_from_the_run", "computed_otherwise", "micro_batches_regrouped", "clips_planned_anew")


def test_a_setting_of_the_machine_does_not_decide_what_is_learned() -> None:
    """A run goes on on another machine: each setting of one decides a run's steps, its digits, or its speed."""
    kinds = [set(deciding(what, HardwareConfig)) for what in ("steps", "rounding", "machine")]
    kinds.append({"fitted"})  # which of them were decided by themselves
    assert set.union(*kinds) == set(HardwareConfig.model_fields)
    assert sum(map(len, kinds)) == len(HardwareConfig.model_fields)


def test_memory_is_predicted_from_the_clips_there_are(train_config: MakeConfig) -> None:
    """The longest of the dataset, not the longest that `prepare` would make; the table says what and how much."""
    built = build(train_config("run", "prepare.max_duration_sec=600", "hardware.batch_seconds=600"))
    longest = max(built.plan.num_samples) / built.extractor.sampling_rate
    settings = BatchSettings.of(built.config, padded=True, clip_seconds=longest)
    assert built.memory is not None
    assert built.memory.predicted == predict_memory(built.model.config, settings).peak
    assert built.memory.predicted < predict_memory(built.model.config, replace(settings, clip_seconds=600.0)).peak
    row = dict(summary_rows(built))["memory"]
    assert row.startswith(f"{size(built.memory.predicted)} predicted, at most ")


def said(config: Config) -> dict[str, dict[str, object]]:
    """What is logged of changes when a run is built, by event."""
    with capture_logs() as logs:
        build(config)
    return {line["event"]: dict(line) for line in logs if line["event"] in SAID}


def test_changes_are_told(train_config: MakeConfig) -> None:
    """Each once, with what was and what is; of the same settings on the same machine, nothing."""
    run(train_config("run", "train.max_steps=2"))
    again = ("train.max_steps=2", "train.resume_from_checkpoint=last")
    assert said(train_config("run", *again)) == {}
    assert said(train_config("run", *again, "train.save_steps=1", "hardware.num_workers=1")) == {}

    events = said(train_config("run", *again, "hardware.attention=eager", "hardware.batch_seconds=12"))
    assert set(events) == {"computed_otherwise", "micro_batches_regrouped"}
    assert events["computed_otherwise"]["changes"] == "attention sdpa -> eager"
    assert "crops" not in str(events["micro_batches_regrouped"]["not_kept"])

    events = said(train_config("run", *again, "hardware.update_seconds=24"))
    assert set(events) == {"kept_from_the_run"}
    assert events["kept_from_the_run"]["update_seconds"] == 12.0

    override = ("train.override_mismatch=true", "train.seed=7", "hardware.update_seconds=24")
    events = said(train_config("run", *again, *override))
    assert set(events) == {"run_changed", "clips_planned_anew"}
    assert events["run_changed"]["changes"] == "train.seed was 42, is 7"
