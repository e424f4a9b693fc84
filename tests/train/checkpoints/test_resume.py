"""Resuming: only the same run, unless told otherwise; on another machine, what is kept and what is not is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from runyoro_ssl import logs
from runyoro_ssl.batches import loader
from runyoro_ssl.batches.build import BatchBuilder
from runyoro_ssl.config import Config
from runyoro_ssl.disk.durable import new_folder, seal
from runyoro_ssl.errors import CheckpointError, ConfigError, LoaderError
from runyoro_ssl.train import loop
from runyoro_ssl.train.checkpoints.folder import find_healthy, prune_checkpoints
from runyoro_ssl.train.checkpoints.format import STATE, load_state
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.checkpoints.resume import differing_settings
from runyoro_ssl.train.health.journal import BEGUN, TO_THE_BEGINNING, read, record, rollbacks_so_far
from support.datasets_by_hand import change_fingerprint
from support.trainer import build, metrics, run

MakeConfig = Callable[..., Config]
RESUME = "train.resume_from_checkpoint=last"


@pytest.mark.parametrize(
    "setting",
    [
        "train.seed=1",
        "train.learning_rate=1e-4",
        "train.max_steps=6",
        "train.warmup_steps=3",
        "masking.mask_time_prob=0.5",
        "model.layerdrop=0.0",
        "plugins.collator=cropped",
        'plugins.augmentations=["noise"]',
    ],
)
def test_other_settings_are_refused_by_name(train_config: MakeConfig, setting: str) -> None:
    """The error gives the field, its value then, and now; nothing is written. Told to, the run goes on with them."""
    config = train_config("run", "train.max_steps=2")
    run(config)
    before = sorted(path.name for path in config.train.output_dir.iterdir())
    name = setting.partition("=")[0]
    settings = ["train.max_steps=2", RESUME, setting]
    with pytest.raises(CheckpointError, match=rf"other settings: {name} was .*, is .*--override-mismatch"):
        run(train_config("run", *settings))
    assert sorted(path.name for path in config.train.output_dir.iterdir()) == before
    run(train_config("run", *settings, "train.override_mismatch=true"))


def test_every_difference_is_named(train_config: MakeConfig) -> None:
    """Not the first alone; and what decides nothing may differ."""
    run(train_config("run", "train.max_steps=2"))
    settings = ("train.max_steps=2", "train.seed=7", "masking.mask_time_length=8", RESUME)
    with pytest.raises(CheckpointError, match=r"masking.mask_time_length was 10, is 8.*train.seed was 42, is 7"):
        run(train_config("run", *settings))
    longer = differing_settings(load_state(train_config("run").train.output_dir / "checkpoint-2")["config"], Config())
    assert [name for name, _, _ in longer if name.startswith("train.")] == ["train.max_steps"]
    free = ("train.save_steps=1", "train.logging_steps=2", "plugins.loggers=[]", "hardware.num_workers=1")
    assert run(train_config("run", "train.max_steps=2", *free, "health.patience=3", RESUME)).step == 2


def test_another_dataset_is_refused(train_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    """By the hash of its content, wherever it lies."""
    run(train_config("run", "train.max_steps=2"))
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    moved = f"train.processed_dataset_path={other}"
    assert run(train_config("run", "train.max_steps=2", moved, RESUME)).step == 2
    fingerprint = json.loads((other / "fingerprint.json").read_text())
    (other / "fingerprint.json").write_text(json.dumps({**fingerprint, "content_sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"is another one than it had \(was \w{12}, is 0{12}\)"):
        run(train_config("run", "train.max_steps=2", moved, RESUME))


def test_override_takes_the_sizes_given_now(train_config: MakeConfig) -> None:
    """Without it, a step keeps the clips that the run planned for it."""
    run(train_config("run", "train.max_steps=4"))
    out = train_config("run").train.output_dir
    shutil.rmtree(out / "checkpoint-4")
    larger = ("train.max_steps=4", "hardware.update_seconds=24", RESUME)
    run(train_config("run", *larger))
    kept = load_state(out / "checkpoint-4")["plan"]["update_samples"]
    shutil.rmtree(out / "checkpoint-4")
    run(train_config("run", *larger, "train.override_mismatch=true"))
    assert (kept, load_state(out / "checkpoint-4")["plan"]["update_samples"]) == (12 * 16_000, 24 * 16_000)


def test_secrets_are_compared_without_being_kept(train_config: MakeConfig, tmp_path: Path) -> None:
    """A token of an augmentation reads the same, whatever it is, and stands in no file."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "runyoro_remote.py").write_text(
        "from runyoro_ssl import hookimpl\n"
        "class Remote:\n"
        "    def __init__(self, token=''): pass\n"
        "    def __call__(self, waveform, generator): return waveform\n"
        "@hookimpl\n"
        "def runyoro_augmentations(register): register('remote', Remote)\n"
    )
    settings = (f"plugins.dir={folder}", 'plugins.augmentations=["remote"]', "train.max_steps=2")
    config = train_config("run", *settings, "plugins.options.remote.token=opensesame1")
    run(config)
    run(train_config("run", *settings, "plugins.options.remote.token=opensesame2", RESUME))
    content = b"".join(path.read_bytes() for path in config.train.output_dir.rglob("*") if path.is_file())
    assert b"opensesame" not in content


@pytest.mark.parametrize("resumes", [False, True])
def test_run_that_ended_before_its_first_checkpoint_begins_anew(
    resumes: bool,  # noqa: FBT001
    train_config: MakeConfig,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Asked to resume or not: it has left nothing to go on from, and its leftovers are no other run's."""
    config = train_config("run", "train.max_steps=2")
    out = config.train.output_dir
    out.mkdir()
    (out / "run.toml").write_text("")
    (out / "metrics.jsonl").write_text('{"step": 0, "eval/objective": 9.0}\n')
    logs.configure()
    run(train_config("run", "train.max_steps=2", RESUME) if resumes else config)
    assert ("nothing_to_resume" in capfd.readouterr().err) == resumes
    assert [line["step"] for line in metrics(out)] == [0, 1, 2, 2]
    with pytest.raises(ConfigError, match="already holds a run"):
        run(config)


def test_checkpoint_of_another_format_is_no_checkpoint(train_config: MakeConfig) -> None:
    """It says so, instead of failing on a missing name."""
    run(train_config("run", "train.max_steps=2"))
    folder = train_config("run").train.output_dir / "checkpoint-2"
    state = load_state(folder)
    (folder / STATE).write_text(json.dumps({**state, "format": 1}))
    (folder / "MANIFEST.json").unlink()
    seal(folder)
    with pytest.raises(CheckpointError, match=r"runyoro_ssl 0.2.0 wrote it, .*has format 1, this version reads 2"):
        run(train_config("run", "train.max_steps=2", RESUME))


def fake_checkpoints(out: Path, concerns: dict[int, list[str]], best: dict[int, int] | None = None) -> None:
    """Checkpoints of nothing but their state. `best`: the best step, by the step whose checkpoint says so."""
    for step, found in concerns.items():
        state = {"format": 2, "step": step, "concerns": found, "validations": {}}
        if best and step in best:
            state["validations"] = {"best": {"step": best[step]}}
        with new_folder(out / f"checkpoint-{step}") as folder:
            (folder / STATE).write_text(json.dumps(state))


def test_what_is_pruned(tmp_path: Path) -> None:
    """Oldest first, by step; never the best, nor the newest healthy one."""
    fake_checkpoints(tmp_path, {2: [], 10: [], 9: [], 30: ["x"], 100: ["x"]}, best={9: 9, 30: 2, 100: 77})
    prune_checkpoints(tmp_path, 2)  # the save of step 77 failed: the best before it is what there is
    assert [step for step, _ in list_checkpoints(tmp_path)] == [2, 10, 30, 100]
    healthy = find_healthy(tmp_path)
    assert healthy is not None
    assert healthy.name == "checkpoint-10"
    prune_checkpoints(tmp_path, 0)
    assert len(list_checkpoints(tmp_path)) == 4


def test_what_a_kill_kept_from_being_pruned(train_config: Callable[..., Config]) -> None:
    """The last checkpoint was written, those beyond the limit were not removed: whoever goes on does that."""
    settings = ("train.max_steps=4", "train.save_steps=1", "train.eval_steps=4")
    out = run(train_config("run", *settings, "train.save_total_limit=0")).output_dir
    assert [step for step, _ in list_checkpoints(out)] == [1, 2, 3, 4]
    run(train_config("run", *settings, "train.save_total_limit=1", RESUME))
    assert [step for step, _ in list_checkpoints(out)] == [4]


def test_rollbacks_outlive_older_checkpoints_but_not_another_rate(tmp_path: Path) -> None:
    """A run killed after going back must not go back for ever; a lower rate from the user starts the count anew."""
    record(tmp_path, {"event": BEGUN, "step": 0, "learning_rate": 1e-4})
    record(tmp_path, {"kind": "x", "rollbacks": 1})
    record(tmp_path, {"event": BEGUN, "step": 10, "learning_rate": 1e-4})
    assert rollbacks_so_far(tmp_path, learning_rate=1e-4) == 1
    assert rollbacks_so_far(tmp_path, learning_rate=5e-5) == 0
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"kind": "cut sho')
    assert rollbacks_so_far(tmp_path, learning_rate=1e-4) == 1
    assert len(read(tmp_path)) == 3
    record(tmp_path, {"event": BEGUN, "step": 10, "learning_rate": 5e-5})
    assert rollbacks_so_far(tmp_path, learning_rate=5e-5) == 0
    assert rollbacks_so_far(tmp_path, learning_rate=1e-4) == 0


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[]",
        b'"x"',
        b"\0" * 40,
        b'{"event": "alarm", "rollbacks": null}',
        b'{"kind": "x", "rollbacks": 1e9}',
        b'{"kind": "x", "rollbacks": 1000000000}',
        b'{"kind": "x", "rollbacks": [1]}',
        b'{"kind": "x", "rollbacks": true}',
        b'{"kind": "x", "rollbacks": -1}',
        b'{"event": "slept", "step": 3, "seconds": null}',
        b'{"event": "begun", "step": "x"}',
        b'{"event": "begun", "learning_rate": NaN}',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"kind": "x", "roll',
    ],
)
def test_bad_line_of_the_journal_costs_that_line(tmp_path: Path, line: bytes) -> None:
    """Wherever it stands: what is before and after it counts, and the file keeps it."""
    record(tmp_path, {"kind": "x", "rollbacks": 1})
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(line + b"\n")
    record(tmp_path, {"event": BEGUN, "step": 10, "learning_rate": 1e-4})
    assert [event.get("step") for event in read(tmp_path)] == [None, 10]
    record(tmp_path, {"kind": "x", "rollbacks": 2})
    assert rollbacks_so_far(tmp_path, learning_rate=1e-4) == 2
    assert line in (tmp_path / "journal.jsonl").read_bytes()


def test_optimizer_without_what_is_trained_now_is_refused(train_config: MakeConfig) -> None:
    """A run that froze the feature encoder has no moments for it; with them, it could not go on."""
    run(train_config("run", "train.max_steps=2", "train.freeze_feature_encoder=true"))
    more = ("train.max_steps=3", "train.override_mismatch=true", RESUME)
    with pytest.raises(CheckpointError, match=r"no state for \d+ trained parameters, e.g. wav2vec2.feature_extractor"):
        run(train_config("run", *more, "train.freeze_feature_encoder=false"))


def test_halved_rate_outlives_the_journal(train_config: MakeConfig) -> None:
    """The checkpoint knows it too; a rate given anew is taken as it is."""
    run(train_config("run", "train.max_steps=2"))
    out = train_config("run").train.output_dir
    folder = out / "checkpoint-2"
    state = load_state(folder)
    state["health"]["rollbacks"] = 2
    (folder / STATE).write_text(json.dumps(state))
    (folder / "MANIFEST.json").unlink()
    seal(folder)
    (out / "journal.jsonl").unlink()
    more = ("train.max_steps=3", "train.override_mismatch=true", RESUME)
    shutil.copytree(out, train_config("other").train.output_dir)
    run(train_config("run", *more))
    assert metrics(out)[-2]["train/learning_rate"] < 0.26 * 5e-5
    run(train_config("other", *more, "train.learning_rate=4e-5"))
    assert 1e-5 < metrics(train_config("other").train.output_dir)[-2]["train/learning_rate"] < 4e-5


def test_loader_that_gives_up_costs_no_step(train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learned is saved, between two checkpoints as well; resumed, the run goes on from there."""
    whole = train_config("whole", "train.max_steps=6", "train.save_steps=6", "train.logging_steps=4")
    run(whole)
    real = vars(loader)["_build_groups"]

    def failing(builder: BatchBuilder, *args: object, **options: object) -> object:
        for number, batches in enumerate(real(builder, *args, **options)):
            if number == 3 and builder.stage == "train":
                raise LoaderError("a process died again; the last clip it read: row 5 of the train split")
            yield batches

    monkeypatch.setattr(loader, "_build_groups", failing)
    settings = ("train.max_steps=6", "train.save_steps=6", "train.logging_steps=4")
    with pytest.raises(LoaderError, match="row 5"):
        run(train_config("parted", *settings))
    parted = train_config("parted", *settings, RESUME)
    assert [step for step, _ in list_checkpoints(parted.train.output_dir)] == [3]
    monkeypatch.undo()
    run(parted)
    assert metrics(parted.train.output_dir) == metrics(whole.train.output_dir)


def test_begun_with_a_checkpoint_of_another_run(train_config: MakeConfig) -> None:
    """It is copied, and is this run's first: `last` finds it, and so does going back."""
    run(train_config("first", "train.max_steps=4"))
    other = train_config("first").train.output_dir / "checkpoint-2"
    second = train_config("second", "train.max_steps=4", f"train.resume_from_checkpoint={other}")
    run(second)
    out = second.train.output_dir
    assert [step for step, _ in list_checkpoints(out)] == [2, 4]
    assert (out / "checkpoint-2" / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert find_healthy(out) == out / "checkpoint-4"
    assert other.is_dir()


def test_run_that_went_back_to_its_start_can_be_resumed(train_config: MakeConfig) -> None:
    """All its checkpoints are of a course that it left, as its journal tells; a damaged one is another matter."""
    config = train_config("run", "train.max_steps=2", RESUME)
    run(config)
    out = config.train.output_dir
    for name in ("model.safetensors", "result.json"):
        (out / name).unlink()
    (out / "checkpoint-2").rename(out / "superseded-checkpoint-2")
    with pytest.raises(ConfigError, match="had a checkpoint of step 2"):
        run(config)
    record(out, {"kind": "x", "action": "go_back", "done": f"went back to {TO_THE_BEGINNING}; …", "rollbacks": 1})
    assert run(config).step == 2
    (out / "model.safetensors").unlink()
    (out / "checkpoint-2").rename(out / "damaged-checkpoint-2")
    with pytest.raises(ConfigError, match="no complete checkpoint"):
        run(config)


def test_run_that_ended_early_has_nothing_left_to_do(train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed, it ends as it did, without a step; with more patience, it goes on."""
    real = vars(loop)["validate_all"]
    losses = iter([3.0, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6])

    def validate(*args: object, **options: object) -> object:
        return {**real(*args, **options), "eval/objective": next(losses), "eval/contrastive_loss": 2.0}

    monkeypatch.setattr(loop, "validate_all", validate)
    settings = ("train.max_steps=8", "train.warmup_steps=0", "train.eval_steps=1", "train.save_steps=1")
    few = (*settings, "health.early_stop_patience=2")
    assert run(train_config("run", *few)).ending.kind == "early"
    again = run(train_config("run", *few, RESUME))
    assert (again.ending.kind, again.start_step, again.step) == ("early", 3, 3)
    more = run(train_config("run", *settings, "health.early_stop_patience=4", RESUME))
    assert (more.ending.kind, more.step, more.best["step"]) == ("early", 5, 1)


def test_another_dataset_brings_other_yardsticks(train_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    """What was measured on the old one is no best, and no first: the new one is validated before the next step."""
    run(train_config("run", "train.max_steps=2"))
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    split = datasets.load_from_disk(str(other))["train"]
    split.map(lambda row: {"id": f"other {row['id']}"}, keep_in_memory=True).save_to_disk(str(tmp_path / "train"))
    shutil.rmtree(other / "train")
    (tmp_path / "train").rename(other / "train")
    change_fingerprint(other)
    moved = (f"train.processed_dataset_path={other}", "train.override_mismatch=true", RESUME)
    result = run(train_config("run", "train.max_steps=4", *moved))
    assert (result.first["step"], result.last["step"]) == (2, 4)


def test_no_time_for_a_step_is_no_success(
    train_config: MakeConfig, run_task: Callable[[str], tuple[int, str, str]], tmp_path: Path
) -> None:
    """A chain of jobs that never come to a step must not look like progress."""
    file = tmp_path / "run.toml"
    file.write_text(train_config("run").to_toml())
    status, _, complaint = run_task(f"train --profile cpu-smoke --config {file} --stop-after 1s")
    assert status == 1
    assert "--stop-after left no time for a single step, at step 0 of 4; there was nothing new to save" in complaint


def test_gradients_that_were_unscaled_do_not_hinder_the_next_step(train_config: MakeConfig) -> None:
    """fp16: an update that is left out, or ends in going back, leaves a loss scaler that can go on."""
    import torch

    setup = build(train_config("run"))
    accelerator = setup.accelerator
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    optimizer = setup.optimizer.optimizer

    def clip(parameters: object, max_norm: float) -> torch.Tensor:
        accelerator.scaler.unscale_(optimizer)
        return torch.nn.utils.clip_grad_norm_(list(parameters), max_norm)  # type: ignore[call-overload]

    accelerator.clip_grad_norm_ = clip
    accelerator.backward = lambda loss: accelerator.scaler.scale(loss).backward()
    updates = list(setup.plan.updates())[:2]
    verdicts = iter((False, True))
    setup.stepper.judge = lambda _numbers: next(verdicts)
    for update in updates:
        setup.stepper.take(update, [setup.train_batches[batch] for batch in update.micro_batches], setup.meter)
    assert accelerator.scaler.get_scale() == 64.0
