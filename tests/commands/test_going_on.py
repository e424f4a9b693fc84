"""A run goes on by its own settings: what is not given again is as it was; what is given now is asked about."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl import train
from runyoro_ssl.commands.given import resolve
from runyoro_ssl.commands.resuming import settings_to_go_on_with
from runyoro_ssl.config import Config
from runyoro_ssl.errors import CheckpointError, ConfigError, PluginError
from runyoro_ssl.option import AUTO
from support.rights import said_without_powers

RunTask = Callable[[str], tuple[int, str, str]]
STEPS = 4


@pytest.fixture
def begun(dataset: Path, tiny_model: Path, tmp_path: Path) -> Path:
    """The folder of a run that was given much, and stopped after two of four steps."""
    given: dict[str, Any] = {
        "profile": "cpu-smoke",
        "model_name_or_path": tiny_model,
        "processed_dataset_path": dataset,
        "output_dir": tmp_path / "run",
        "learning_rate": 2e-4,
        "max_steps": STEPS,
        "save_steps": 2,
        "set": {
            "hardware.batch_seconds": 6,
            "hardware.update_seconds": 12,
            "masking.mask_time_length": 8,
            "train.seed": 7,
            "plugins.loggers": ["jsonl"],
            "plugins.augmentations": ["gain"],
        },
    }
    train(**given)
    for step in ("checkpoint-4", "model.safetensors", "result.json"):
        path = tmp_path / "run" / step
        path.rename(tmp_path / step)
    return tmp_path / "run"


def settings(folder: Path) -> dict[str, Any]:
    """A run.toml."""
    return tomllib.loads((folder / "run.toml").read_text())


def test_run_goes_on_by_its_folder_alone(begun: Path, run_task: RunTask) -> None:
    """To the bit as if all had been given again; elsewhere than where it was begun, too."""
    before = settings(begun)
    moved = begun.rename(begun.with_name("moved"))
    status, _, err = run_task(f"train --output-dir {moved} --resume-from-checkpoint last")
    assert status == 0, err
    assert "resumed" in err
    assert "profile_chosen" not in err
    after = settings(moved)
    assert after["train"].pop("output_dir") == str(moved)
    assert after["train"].pop("resume_from_checkpoint") == "last"
    before["train"].pop("output_dir")
    assert after == before
    whole, resumed = ((folder / "model.safetensors").read_bytes() for folder in (begun.parent, moved))
    assert whole == resumed


def test_checkpoint_says_which_run_it_is_of(begun: Path) -> None:
    """The folder it lies in is that of the run, where no other is given."""
    asked = {"resume_from_checkpoint": str(begun / "checkpoint-2")}
    config = resolve("train", asked)
    assert (config.train.output_dir, config.train.seed) == (begun, 7)
    there = resolve("train", {**asked, "output_dir": begun.parent / "other"})
    assert (there.train.output_dir, there.train.seed) == (begun.parent / "other", 7)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--learning-rate 2e-4", None),
        ("--learning-rate 1e-3", "train.learning_rate was 0.0002, is 0.001. Leave out what you gave now"),
        ("--num-train-epochs 3", "train.max_steps was 4, is None"),
        ("--set masking.mask_time_length=10", "masking.mask_time_length was 8, is 10"),
        ("--set train.optimizer=adamw-8bit", "was adamw, is adamw-8bit, and what learned then does not fit; leave"),
    ],
)
def test_only_what_is_given_now_and_differs_is_asked_about(
    begun: Path, run_task: RunTask, given: str, said: str | None
) -> None:
    """In one line."""
    status, _, err = run_task(f"train --output-dir {begun} --resume-from-checkpoint last {given}")
    assert (status == 0) == (said is None), err
    if said is not None:
        assert said in err.replace("\n", " ")
        assert len([line for line in err.splitlines() if line.startswith("error")]) == 1


def test_of_the_machine_only_what_was_given_is_kept(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decided is open again; on another device all of it, and what one call asked for is not asked again."""
    asked = resolve("train", {"output_dir": begun, "resume_from_checkpoint": "last"})
    assert (asked.hardware.batch_seconds, asked.hardware.precision, asked.hardware.fitted) == (6, AUTO, ())
    monkeypatch.setattr("runyoro_ssl.commands.resuming.available_devices", lambda: ["cuda", "cpu"])
    there = {"hardware": {"device": "cuda"}}
    values = settings_to_go_on_with(asked, there)
    assert "hardware" not in values
    assert not {"resume_from_checkpoint", "override_mismatch", "stop_after"} & values["train"].keys()
    monkeypatch.setattr("runyoro_ssl.commands.resuming.available_devices", lambda: ["mps"])
    assert "hardware" not in settings_to_go_on_with(asked, {})


def test_run_file_of_another_version_or_none(begun: Path, run_task: RunTask) -> None:
    """A setting that there is no more is left out; where the file is damaged, it is said, and what is given holds."""
    path = begun / "run.toml"
    path.write_text(path.read_text() + "\n[gone]\nx = 1\n")
    path.write_text(path.read_text().replace("[train]", "[train]\nformer = 3"))
    assert resolve("train", {"output_dir": begun, "resume_from_checkpoint": "last"}).train.seed == 7
    path.write_text("seed = [")
    status, _, err = run_task(f"train --output-dir {begun} --resume-from-checkpoint last --profile cpu-smoke")
    assert status == 1
    assert "settings_of_the_run_are_lost" in err
    path.unlink()
    assert resolve("train", {"output_dir": begun, "resume_from_checkpoint": "last"}).train.seed == 42


def test_nothing_to_resume_takes_nothing(tmp_path: Path) -> None:
    """No run, or no wish to go on."""
    assert settings_to_go_on_with(Config(), {}) == {}
    empty = Config.model_validate({"train": {"output_dir": tmp_path, "resume_from_checkpoint": "last"}})
    assert settings_to_go_on_with(empty, {}) == {}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"set": {"plugins.loggers": ["jsonl", "wandb"]}}, PluginError),
        ({"model_name_or_path": "./absent"}, CheckpointError),
    ],
    ids=["logger that is not installed", "wrong model"],
)
def test_start_that_fails_does_not_block_the_same_command(  # noqa: PLR0917 - fixtures
    wrong: dict[str, Any],
    error: type[Exception],
    dataset: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mended, it runs, without a word about resuming."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    right: dict[str, Any] = {
        "profile": "cpu-smoke",
        "model_name_or_path": tiny_model,
        "processed_dataset_path": dataset,
        "output_dir": tmp_path / "run",
        "max_steps": 1,
        "set": {"plugins.loggers": ["jsonl"]},
    }
    with pytest.raises(error):
        train(**{**right, **wrong})
    assert train(**right).step == 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["total_steps"] == 1


def test_paths_of_a_run_are_found_from_elsewhere(
    dataset: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative ones, from the folder in which it began, which its own place tells; the base to mix with is one."""
    for name, target in (("data", dataset), ("base", tiny_model)):
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    where = {"model_name_or_path": "base", "processed_dataset_path": "data", "output_dir": "runs/one"}
    train(profile="cpu-smoke", max_steps=1, set={"train.save_steps": 1, "train.interpolate": [0.5]}, **where)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = train(
        output_dir=tmp_path / "runs" / "one", resume_from_checkpoint="last", max_steps=2, override_mismatch=True
    )
    assert again.step == 2
    kept = json.loads((tmp_path / "runs" / "one" / "result.json").read_text())["final_model"]
    assert [one["name"] for one in kept["candidates"]] == ["checkpoint-2", "50 % adapted, 50 % base"]


def test_what_nobody_named_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who resumes wants to go on: a new run begins only in a folder that was given, as a job's first time does."""
    monkeypatch.chdir(tmp_path)
    asked = Config.model_validate({"train": {"resume_from_checkpoint": "last"}})
    with pytest.raises(ConfigError, match=r"no run to go on with; give its --output-dir .*invoke runs --folder"):
        settings_to_go_on_with(asked, {})
    assert settings_to_go_on_with(asked, {"train": {"output_dir": asked.train.output_dir}}) == {}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("[train]\nmax_steps = [1]", r"run.toml: train.max_steps is \[1\]"),
        ("[train]\nprocessed_dataset_path = [1]", r"run.toml: train.processed_dataset_path is \[1\]"),
        ("[model]\nmodel_name_or_path = {a = 1}", r"run.toml: model.model_name_or_path is \{'a': 1\}"),
        ("[hardware]\ndevice = [1]", r"run.toml: hardware.device is \[1\]"),
    ],
)
def test_absurd_settings_of_the_run_are_named(begun: Path, line: str, complaint: str) -> None:
    """With the file that they stand in; what is given now is not looked at there."""
    (begun / "run.toml").write_text(line)
    with pytest.raises(ConfigError, match=complaint):
        resolve("train", {"output_dir": begun, "resume_from_checkpoint": "last"})
    (begun / "run.toml").write_text("[train]\nmax_steps = [1]\n[hardware]\nfitted = 3\n[future]\nx = 1")
    config = resolve("train", {"output_dir": begun, "resume_from_checkpoint": "last", "max_steps": STEPS})
    assert config.train.max_steps == STEPS


def test_settings_of_the_run_that_may_not_be_read_are_not_lost(begun: Path) -> None:
    """The start stops, where what is given now and defaults would be another run."""
    (begun / "run.toml").chmod(0)
    said = said_without_powers(lambda: resolve("train", {"output_dir": begun, "resume_from_checkpoint": "last"}))
    assert said.startswith("ConfigError:")
    assert "run.toml cannot be read (Permission denied), and holds the settings of the run" in said
