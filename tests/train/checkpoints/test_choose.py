"""From where a run starts: which settings must be as they were, how often it went back, and one answer for all."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.errors import CheckpointError, RunyoroError
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train.checkpoints import resume
from runyoro_ssl.train.checkpoints.format import load_state
from runyoro_ssl.train.checkpoints.resume import Start, choose, choose_healthy, differing_settings, settings_of_the_run
from runyoro_ssl.train.health.journal import record
from support.trainer import run

MakeConfig = Callable[..., Config]
ALONE: Any = SimpleNamespace(is_main_process=True, num_processes=1)
FREE: dict[str, set[str]] = {
    "model": {"model_name_or_path", "revision", "allow_new_head", "allow_pickle"},
    "train": {
        "processed_dataset_path",
        "output_dir",
        "language",
        "logging_steps",
        "eval_steps",
        "save_steps",
        "save_total_limit",
        "average_last",
        "interpolate",
        "resume_from_checkpoint",
        "override_mismatch",
        "stop_after",
        "keep_awake",
        "max_unreadable_share",
    },
    "plugins": {"dir", "built_in_only", "filters", "loggers"},
}
"""What may change in sections that else must stay, as it was listed by hand before fields said what they decide."""
MUST_STAY = ("model", "masking", "train", "adapter", "plugins")
FIELDS = [(section, name) for section in Config.model_fields for name in type(getattr(Config(), section)).model_fields]


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_which_settings_may_differ(section: str, name: str) -> None:
    """What the schema says a field decides, and what was listed by hand, agree for every field."""
    config = load_config(settings=["plugins.options.padded.x=1", "adapter.kind=lora"])
    saved = config.model_dump(mode="json")
    saved[section][name] = "other"
    may_differ = section not in MUST_STAY or name in FREE.get(section, ())
    assert [found for found, _, _ in differing_settings(saved, config)] == ([] if may_differ else [f"{section}.{name}"])


def test_options_count_for_the_plugins_in_use() -> None:
    """Those of a filter, a logger or an augmentation that is not used decide nothing of what is learned."""
    settings = ['plugins.augmentations=["noise"]', 'plugins.loggers=["wandb"]']
    settings += [f"plugins.options.{name}.x=1" for name in ("noise", "padded", "speed", "wandb", "silence")]
    kept = settings_of_the_run(load_config(settings=settings))
    assert kept["plugins"]["options"] == {"noise": {"x": 1}, "padded": {"x": 1}}


def test_setting_that_the_writer_did_not_have_was_at_its_default() -> None:
    """A version that adds a setting resumes the runs of those that had none."""
    config = load_config(settings=["model.layerdrop=0.5"])
    saved = settings_of_the_run(config)
    del saved["model"]["layerdrop"]
    del saved["train"]["weight_decay"]
    assert differing_settings(saved, config) == [("model.layerdrop", None, 0.5)]


def test_how_often_it_went_back(train_config: MakeConfig) -> None:
    """What the journal has and the checkpoint, being older, has not; at another rate, none of it."""
    out = run(train_config("run", "train.max_steps=2")).output_dir
    again = ("train.max_steps=2", "train.resume_from_checkpoint=last", "train.override_mismatch=true")
    config = train_config("run", *again)
    start = choose(config, ALONE)
    assert (start.path, start.rollbacks, start.went_back) == (out / "checkpoint-2", 0, False)
    record(out, {"kind": "fell_to_chance", "rollbacks": 1})
    start = choose(config, ALONE)
    assert (start.rollbacks, start.went_back) == (1, True)
    start = choose(train_config("run", *again, "train.learning_rate=1e-5"), ALONE)
    assert (start.rollbacks, start.went_back) == (0, False)
    start = choose_healthy(out, ALONE, rollbacks=2)
    assert (start.path, start.rollbacks, start.went_back) == (out / "checkpoint-2", 2, True)


def test_run_that_went_back_to_its_beginning_knows_it(train_config: MakeConfig) -> None:
    """No checkpoint is left to tell; the journal is."""
    config = train_config("run", "train.resume_from_checkpoint=last")
    config.train.output_dir.mkdir()
    (config.train.output_dir / "run.toml").write_text("")
    record(config.train.output_dir, {"event": "begun", "step": 0, "learning_rate": config.train.learning_rate})
    record(config.train.output_dir, {"kind": "fell_to_chance", "rollbacks": 2})
    assert choose(config, ALONE) == Start(rollbacks=2)
    assert choose_healthy(config.train.output_dir, ALONE, rollbacks=1) == Start(rollbacks=1, went_back=True)


def test_plan_is_the_runs_unless_overridden(train_config: MakeConfig) -> None:
    """Whatever the machine would take."""
    run(train_config("run", "train.max_steps=2"))
    again = ("train.max_steps=2", "hardware.update_seconds=24", "train.resume_from_checkpoint=last")
    kept = choose(train_config("run", *again), ALONE)
    assert kept.plan is not None
    assert kept.plan.update_samples == 12 * 16_000
    assert choose(train_config("run", *again, "train.override_mismatch=true"), ALONE).plan is None


def test_differences_are_known_where_they_are_allowed(train_config: MakeConfig) -> None:
    """In the words in which they are refused."""
    run(train_config("run", "train.max_steps=2"))
    again = ("train.max_steps=2", "train.seed=7", "train.resume_from_checkpoint=last")
    assert choose(train_config("run", *again, "train.override_mismatch=true"), ALONE).differences == (
        "train.seed was 42, is 7",
    )
    with pytest.raises(CheckpointError, match=r"other settings: train.seed was 42, is 7\. Leave out"):
        choose(train_config("run", *again), ALONE)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What processes sent each other, the first of them the main one; to be emptied before the next time."""
    values: list[Any] = []

    def gather(_accelerator: Any, value: Any) -> list[Any]:
        values.append(value)
        return values

    monkeypatch.setattr(resume, "gather_over_processes", gather)
    return values


def test_every_process_gets_what_the_main_one_found(
    train_config: MakeConfig, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start, or the error; the others do not look at the folder, which may look otherwise from another machine."""
    main, other = (SimpleNamespace(is_main_process=is_main, num_processes=2) for is_main in (True, False))
    config = train_config("run", "train.resume_from_checkpoint=last", "train.max_steps=2")
    out = run(config).output_dir
    sent.clear()
    start = choose(config, main)
    with monkeypatch.context() as patched:
        patched.setattr(resume, "find_newest", lambda _: pytest.fail("looked"))
        assert choose(config, other) is start
    state = load_state(out / "checkpoint-2")
    (out / "checkpoint-2" / "trainer_state.json").write_text(json.dumps({**state, "step": 3}))
    sent.clear()
    errors: list[RunyoroError] = []
    for accelerator in (main, other):
        with pytest.raises(CheckpointError, match="no checkpoint is intact") as raised:
            choose(config, accelerator)
        errors.append(raised.value)
    assert errors[0] is errors[1]
