"""A checkpoint is the run's, whatever it is called and wherever it lies; and none is left behind unasked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.disk.durable import seal
from runyoro_ssl.errors import CheckpointError, ConfigError, TrainingError
from runyoro_ssl.train.checkpoints.folder import find_named, find_newest, prune_checkpoints
from runyoro_ssl.train.checkpoints.format import STATE, load_state, verify_checkpoint
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.health.journal import record, step_kept
from support.rights import said_without_powers
from support.trainer import run, weights

MakeConfig = Callable[..., Config]
RESUME = "train.resume_from_checkpoint=last"
FOUR = "train.max_steps=4"


def cut_short(out: Path) -> Path:
    """Make a finished run one that was killed after its last checkpoint."""
    for name in ("model.safetensors", "result.json", "config.json", "preprocessor_config.json"):
        (out / name).unlink()
    return out


def test_run_begun_with_a_checkpoint_of_another_name_goes_on(train_config: MakeConfig, tmp_path: Path) -> None:
    """Its copy has the name of its own step; killed before the next save, the run goes on from there."""
    first = run(train_config("first", "train.max_steps=2")).output_dir
    shutil.copytree(first / "checkpoint-2", tmp_path / "mybackup")
    named = f"train.resume_from_checkpoint={tmp_path / 'mybackup'}"
    out = cut_short(run(train_config("run", "train.max_steps=2", named)).output_dir)
    assert [path.name for _, path in list_checkpoints(out)] == ["checkpoint-2"]
    assert run(train_config("run", "train.max_steps=2", RESUME)).start_step == 2


@pytest.mark.parametrize("name", ["final", "checkpoint-010", "checkpoint-²", "checkpoint-600", "checkpoint-4 (copy)"])
def test_checkpoint_renamed_by_hand_is_the_newest_still(train_config: MakeConfig, name: str) -> None:
    """What counts is the step in it; what the run goes on with has its own name again."""
    out = cut_short(run(train_config("run", FOUR)).output_dir)
    (out / "checkpoint-4").rename(out / name)
    assert run(train_config("run", FOUR, RESUME)).start_step == 4
    assert [step for step, _ in list_checkpoints(out)] == [2, 4]
    assert verify_checkpoint(out / "checkpoint-4") is None


def test_checkpoints_on_another_disk_are_gone_on_from_and_pruned(train_config: MakeConfig, tmp_path: Path) -> None:
    """By links in the run's folder. Of one that is pruned, the link goes, and what it points to stays."""
    out = cut_short(run(train_config("run", FOUR)).output_dir)
    away = tmp_path / "away"
    away.mkdir()
    for step in (2, 4):
        shutil.move(out / f"checkpoint-{step}", away / f"of-step-{step}")
        (out / f"checkpoint-{step}").symlink_to(away / f"of-step-{step}")
    assert run(train_config("run", FOUR, RESUME)).start_step == 4
    state = load_state(out / "checkpoint-4")
    shutil.copytree(away / "of-step-4", away / "of-step-6")
    (away / "of-step-6" / STATE).write_text(json.dumps({**state, "step": 6}))
    (away / "of-step-6" / "MANIFEST.json").unlink()
    seal(away / "of-step-6")
    (out / "checkpoint-6").symlink_to(away / "of-step-6")
    prune_checkpoints(out, 1)
    assert not (out / "checkpoint-2").is_symlink()
    assert verify_checkpoint(away / "of-step-2") is None


def test_moved_checkpoint_is_gone_on_from_by_its_new_path(
    train_config: MakeConfig, tmp_path: Path, run_task: Callable[[str], tuple[int, str, str]]
) -> None:
    """With the settings of the run, which lie where it was."""
    out = cut_short(run(train_config("run", FOUR, "train.seed=7")).output_dir)
    shutil.move(out / "checkpoint-4", tmp_path / "elsewhere")
    shutil.rmtree(out / "checkpoint-2")
    status, said, complaint = run_task(f"train --output-dir {out} --resume-from-checkpoint {tmp_path / 'elsewhere'}")
    assert status == 0, complaint
    assert "from step 4" in said
    assert [path.name for _, path in list_checkpoints(out)] == ["checkpoint-4"]


def test_link_that_leads_nowhere_stops_the_start(train_config: MakeConfig) -> None:
    """A disk that is not mounted: the checkpoint before it is no substitute, and nothing is renamed."""
    out = cut_short(run(train_config("run", FOUR)).output_dir)
    shutil.rmtree(out / "checkpoint-4")
    (out / "checkpoint-4").symlink_to("/nowhere/checkpoint-4")
    with pytest.raises(CheckpointError, match=r"checkpoint-4 is a link to /nowhere/checkpoint-4.*remove the link"):
        run(train_config("run", FOUR, RESUME))
    assert (out / "checkpoint-4").is_symlink()


def test_run_with_a_history_is_not_begun_anew_unasked(train_config: MakeConfig) -> None:
    """Its journal knows of a checkpoint; without --resume-from-checkpoint, it is told to begin."""
    config = train_config("run", "train.max_steps=2")
    out = cut_short(run(config).output_dir)
    shutil.move(out / "checkpoint-2", out.parent / "away")
    with pytest.raises(ConfigError, match=r"had a checkpoint of step 2.*under any name.*leave out --resume"):
        run(train_config("run", "train.max_steps=2", RESUME))
    assert step_kept(out) == 2
    assert run(config).start_step == 0
    shutil.rmtree(out / "checkpoint-2")
    with pytest.raises(ConfigError, match=r"already holds a run"):  # its model is there
        run(train_config("run", "train.max_steps=2", RESUME))
    (out / "journal.jsonl").unlink()
    (out / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"the run has ended once, and no checkpoint is there now"):
        run(train_config("run", "train.max_steps=2", RESUME))


def test_renamed_checkpoint_of_a_course_that_was_left_is_not_taken(train_config: MakeConfig) -> None:
    """The run went back after it was written: it counts only where it is named."""
    out = cut_short(run(train_config("run", FOUR)).output_dir)
    (out / "checkpoint-4").rename(out / "good")
    record(out, {"kind": "fell_to_chance", "action": "go_back", "step": 4, "rollbacks": 1})
    assert find_newest(out) == out / "checkpoint-2"
    assert find_named(out, out / "good") == out / "good"
    shutil.rmtree(out / "checkpoint-2")
    with pytest.raises(CheckpointError, match=r"good: is of a course that the run left"):
        run(train_config("run", FOUR, RESUME))


def test_folder_of_a_run_is_no_checkpoint(train_config: MakeConfig) -> None:
    """The one to give is named."""
    out = run(train_config("run", "train.max_steps=2")).output_dir
    with pytest.raises(CheckpointError, match=rf"give its newest: {out / 'checkpoint-2'}"):
        run(train_config("other", "train.max_steps=2", f"train.resume_from_checkpoint={out}"))


@pytest.mark.parametrize("lost", ["model.safetensors", "MANIFEST.json", "."])
def test_what_may_not_be_read_is_not_damaged(train_config: MakeConfig, lost: str) -> None:
    """The start stops, and nothing is renamed."""
    out = run(train_config("run", FOUR)).output_dir
    (out / "checkpoint-4" / lost).chmod(0)
    said = said_without_powers(lambda: find_newest(out))
    (out / "checkpoint-4" / lost).chmod(0o755)
    assert said.startswith("CheckpointError:")
    assert "cannot be read (Permission denied); that is no damage" in said
    assert sorted(path.name for path in out.glob("*checkpoint*")) == ["checkpoint-2", "checkpoint-4"]


def test_failing_disk_is_not_damage(train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO and ESTALE tell nothing of the file; a run that prunes keeps everything meanwhile."""
    out = run(train_config("run", FOUR)).output_dir
    real = Path.open
    real_text = Path.read_text

    def fail(path: Path) -> None:
        if path.parent.name == "checkpoint-4":
            raise OSError(5, "Input/output error", str(path))

    def read_bytes(path: Path, *args: object, **options: object) -> object:
        fail(path)
        return real(path, *args, **options)  # type: ignore[call-overload]

    def read_text(path: Path, *args: object, **options: object) -> str:
        fail(path)
        return real_text(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", read_bytes)
    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Input/output error\); that is no damage"):
        find_newest(out)
    with pytest.raises(CheckpointError, match="cannot be read"):
        prune_checkpoints(out, 1)
    monkeypatch.undo()
    assert sorted(path.name for path in out.glob("*checkpoint*")) == ["checkpoint-2", "checkpoint-4"]


def test_checkpoint_is_readable_by_whom_the_umask_says(train_config: MakeConfig) -> None:
    """A colleague can go on with the run: safetensors alone would let nobody else read."""
    before = os.umask(0o022)
    out = run(train_config("run", "train.max_steps=2")).output_dir
    os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (out / "checkpoint-2").iterdir()} == {0o644}


@pytest.mark.parametrize("removed", [False, True])
def test_folder_renamed_during_the_run_costs_no_step(train_config: MakeConfig, *, removed: bool) -> None:
    """What was learned is saved where the folder is now; where it is no more, beside it. Both can be gone on with."""
    config = train_config("run", FOUR, "train.save_steps=4", "train.eval_steps=2")
    out = config.train.output_dir
    place = out.with_name("run-rescued" if removed else "renamed")
    calls = []

    def move(folder: Path) -> None:
        calls.append(folder)
        if len(calls) == 2:
            shutil.rmtree(folder) if removed else folder.rename(place)

    with pytest.raises(TrainingError, match=rf"up to step \d is saved: {place}/checkpoint-\d; go on with") as raised:
        run(config, on_validation=move)
    assert "\n" not in str(raised.value)
    [(step, checkpoint)] = list_checkpoints(place)
    assert step >= 2
    assert weights(checkpoint)
    assert (place / "run.toml").is_file()
    assert not (place / "run.lock").exists()
    assert run(train_config(place.name, FOUR, RESUME)).start_step == step
