"""The loop: what it learns does not depend on how the work is divided, nor on being stopped."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from conftest import ROOT, short_run, transformers
from runyoro_ssl import logs
from runyoro_ssl.batches import forward
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.batches.plan import Update
from runyoro_ssl.config import Config
from runyoro_ssl.errors import ConfigError, DatasetError, PluginError, TrainingError
from runyoro_ssl.evaluate.metrics import Meter
from runyoro_ssl.model.checks import DROPOUTS
from runyoro_ssl.model.load import replay_mps_dropout
from runyoro_ssl.publish.card import write_model_card
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train import step
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.step import Stepper
from runyoro_ssl.train.stopping.clock import SleepWatch
from runyoro_ssl.train.stopping.ending import Ending
from support.reference import gradients, relative_difference, without_dropout
from support.trainer import Trainer, build, cut_back, equal, metrics, run, weights

MakeConfig = Callable[..., Config]
OVERRIDE = "train.override_mismatch=true"
AUGMENTED = ('plugins.augmentations=["noise", "speed"]',)


def test_run_writes_what_it_promises(train_config: MakeConfig, tiny_model: Path) -> None:
    """Checkpoints, final model, run.toml, a card, and every number; all of it loads in plain transformers."""
    config = train_config("run", "train.max_steps=6", "train.save_total_limit=2")
    result = run(config)
    out = config.train.output_dir
    write_model_card(out)
    names = {path.name for path in out.iterdir()}
    assert {"checkpoint-4", "checkpoint-6", "model.safetensors", "config.json", "preprocessor_config.json"} <= names
    assert {"run.toml", "metrics.jsonl", "journal.jsonl", "result.json", "README.md"} <= names
    for folder in (out, out / "checkpoint-4", out / "checkpoint-6"):
        _, info = transformers.Wav2Vec2ForPreTraining.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        transformers.AutoFeatureExtractor.from_pretrained(folder)
    best = out / f"checkpoint-{result.best['step']:.0f}"
    assert equal(weights(out), weights(best))
    assert names & {"checkpoint-2", best.name} == {best.name} & names
    assert not equal(weights(out), weights(tiny_model))

    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    train_names = "objective contrastive_loss diversity_loss accuracy soft_perplexity grad_norm learning_rate"
    train_names += " gumbel_temperature audio_seconds_per_second data_wait_share"
    trained = [line for line in lines if "train/objective" in line]
    assert [line["step"] for line in trained] == [1, 2, 3, 4, 5, 6]
    for line in trained:
        assert {f"train/{name}" for name in train_names.split()} | {"step", "epoch"} <= line.keys()
        assert all(math.isfinite(value) for value in line.values())
    validated = [line for line in lines if "eval/objective" in line]
    assert [line["step"] for line in validated] == [0, 2, 4, 6]
    assert validated[-1]["eval/accuracy"] == result.last["eval/accuracy"]


def test_nothing_is_written_into_a_folder_that_another_run_has(
    train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a line of numbers, nor of the journal: a machine that slept wakes in a folder that was taken over."""
    config = train_config("run", "train.max_steps=6", "train.save_steps=6", "train.eval_steps=6")
    out = config.train.output_dir
    take, left = Stepper.take, dict[str, bytes]()

    def taken_over(self: Stepper, update: Update, *rest: Any) -> Any:
        numbers = take(self, update, *rest)
        if update.step == 3:
            (out / "theirs").write_bytes(b"another machine")
            (out / "theirs").rename(out / "run.lock")
            left.update({name: (out / name).read_bytes() for name in ("metrics.jsonl", "journal.jsonl", "run.lock")})
        return numbers

    monkeypatch.setattr(Stepper, "take", taken_over)
    monkeypatch.setattr(SleepWatch, "lap", lambda _: 60.0)
    with pytest.raises(TrainingError, match="another `invoke train` has taken it over"):
        run(config)
    assert {name: (out / name).read_bytes() for name in left} == left
    assert [line["step"] for line in metrics(out) if "train/objective" in line] == [1, 2]


def test_sleep_of_the_machine_is_kept_in_the_journal(train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its step and how long it was; as is how many steps a run has, when it begins."""
    laps = iter([0.0, 5400.4, 0.0, 0.0])
    monkeypatch.setattr(SleepWatch, "lap", lambda _: next(laps))
    out = run(train_config()).output_dir
    begun, slept = (line for line in journal.read(out) if line["event"] != journal.SAVED)
    assert (begun["event"], begun["total_steps"]) == (journal.BEGUN, 4)
    assert slept == {"event": journal.SLEPT, "step": 2, "seconds": 5400}


@pytest.mark.parametrize(("stop_at", "clip_lengths"), [(2, 0), (4, 6)])
def test_resumed_run_equals_the_uninterrupted(train_config: MakeConfig, stop_at: int, clip_lengths: int) -> None:
    """With dropout, layer drop, Gumbel noise and augmentation on: the same weights and numbers, bit for bit.

    One or two micro-batches a step and much layer drop: in some steps, some layers have no gradient.
    """
    lengths = f"hardware.clip_lengths={clip_lengths}"
    settings = ("train.max_steps=6", "model.layerdrop=0.8", "hardware.update_seconds=6", lengths, *AUGMENTED)
    whole = train_config("whole", *settings)
    run(whole)
    parted = train_config("parted", *settings, "train.resume_from_checkpoint=last")
    shutil.copytree(whole.train.output_dir, parted.train.output_dir)
    cut_back(parted.train.output_dir, stop_at)
    assert run(parted).start_step == stop_at
    assert equal(weights(parted.train.output_dir), weights(whole.train.output_dir))
    assert metrics(parted.train.output_dir) == metrics(whole.train.output_dir)


def test_resume_last_in_an_empty_folder_starts_anew(
    train_config: MakeConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    """And says so."""
    config = train_config("empty", "train.resume_from_checkpoint=last", "train.max_steps=2")
    logs.configure()
    run(config)
    assert "nothing_to_resume" in capfd.readouterr().err
    assert (config.train.output_dir / "checkpoint-2").is_dir()


def test_two_micro_batches_equal_one_batch(train_config: MakeConfig) -> None:
    """The gradient of an update is the same however its clips are cut into micro-batches.

    Codes are the best ones and the diversity weight is 0: Gumbel noise is drawn, and diversity measured, for each
    micro-batch, in transformers and fairseq as here.
    """
    config = train_config("parts")
    setup = build(config)
    without_dropout(setup.model)
    setup.model.quantizer.eval()
    setup.model.config.diversity_loss_weight = 0.0
    setup.optimizer.step = lambda: None
    setup.optimizer.zero_grad = lambda: None
    found = []
    for parts in ([(0, 1, 2, 3)], [(0, 1), (2, 3)], [(0,), (1, 2, 3)]):
        batches = [setup.train_batches[MicroBatch.of(clips)] for clips in parts]
        update = Update(1, 0.1, tuple(batch.plan for batch in batches))
        setup.model.zero_grad()
        setup.stepper.take(update, batches, Meter(setup.accelerator, setup.model.config))
        found.append(gradients(setup.model))
    assert relative_difference(found[1], found[0]) < 1e-4
    assert relative_difference(found[2], found[0]) < 1e-4


@pytest.mark.parametrize(
    ("setting", "torchrun"),
    [
        pytest.param("hardware.update_seconds=24", True, marks=pytest.mark.long),
        ("hardware.update_seconds=6", False),
    ],
)
def test_several_processes_give_the_parameters_of_one(
    train_config: MakeConfig,
    tmp_path: Path,
    setting: str,
    torchrun: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Gloo processes: the same clips, draws and steps; parameters to 1e-5, with dropout and layer drop on.

    The first setting gives each of two several micro-batches, the second leaves one of four without any.
    """
    config = train_config("two", "model.layerdrop=0.8", "train.learning_rate=1e-3", setting)
    one = config.model_copy(update={"train": config.train.model_copy(update={"output_dir": tmp_path / "one"})})
    run(one)
    if torchrun:
        said = run_torchrun(config, tmp_path / "two.toml")
    else:
        Trainer(config, tmp_path / "two.log").finish_in(4)
        said = (tmp_path / "two.log").read_text()
    assert f"{2 if torchrun else 4} processes" in said
    assert "all of the model in each process" in said
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    base = weights(Path(config.model.model_name_or_path))
    moved = max(float((theirs[name] - base[name]).abs().max()) for name in base)
    assert moved > 1e-3
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)


def run_torchrun(config: Config, file: Path) -> str:
    """`torchrun -m runyoro_ssl.train` in two processes; returns what it printed."""
    file.write_text(config.to_toml())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "runyoro_ssl.train", "--profile", "cpu-smoke", "--config", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_signal_stops_after_saving(train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM during a step: the step is finished and saved, and the run says what stopped it."""
    config = train_config("stopped", "train.max_steps=50", "train.save_steps=40")
    take = Stepper.take

    def interrupted(stepper: Stepper, update: Update, *rest: Any) -> Any:
        if update.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(stepper, update, *rest)

    monkeypatch.setattr(Stepper, "take", interrupted)
    result = run(config)
    assert (result.ending, result.step) == (Ending("signal", signal.SIGTERM), 3)
    assert (config.train.output_dir / "checkpoint-3").is_dir()
    assert not (config.train.output_dir / "model.safetensors").exists()


def test_output_folder_of_another_run_is_refused(train_config: MakeConfig) -> None:
    """Nothing in it is touched."""
    config = train_config("taken", "train.max_steps=2")
    config.train.output_dir.mkdir()
    (config.train.output_dir / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match="already holds something that is no run: give another"):
        run(config)
    assert [path.name for path in config.train.output_dir.iterdir()] == ["precious.txt"]


def test_masks_that_cannot_train_are_refused(train_config: MakeConfig) -> None:
    """A small share without a minimum of spans leaves most short clips without a mask; nothing is written."""
    config = train_config("masks", "masking.mask_time_prob=0.02", "masking.mask_time_min_spans=0")
    with pytest.raises(TrainingError, match=r"too few masked frames.*Use --set masking.mask_time_min_spans=2"):
        run(config)
    assert not config.train.output_dir.exists()


def test_dataset_of_another_rate_is_refused(train_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    """The fingerprint says at which rate it was prepared."""
    other = tmp_path / "dataset"
    shutil.copytree(dataset, other)
    fingerprint = json.loads((other / "fingerprint.json").read_text())
    (other / "fingerprint.json").write_text(json.dumps({**fingerprint, "sampling_rate": 8000}))
    with pytest.raises(DatasetError, match="prepared at 8000 Hz, the model takes 16000 Hz"):
        run(train_config("rate", f"train.processed_dataset_path={other}"))


def test_absent_device_names_profiles_that_work(train_config: MakeConfig) -> None:
    """A profile for a device that is not there is an error, not a fallback."""
    config = train_config("device")
    device = "mps" if not torch.backends.mps.is_available() else "cuda"
    absent = config.model_copy(update={"hardware": replace_device(config, device)})
    with pytest.raises(ConfigError, match=rf"device {device} is not present.*cpu-smoke"):
        run(absent)


def replace_device(config: Config, device: str) -> Any:
    """The hardware section with another device."""
    return config.hardware.model_copy(update={"device": device})


# Several clips in a micro-batch: cropping and padding differ.
SHORT = ("train.max_steps=2", "train.learning_rate=1e-3", "hardware.batch_seconds=16")


@pytest.fixture(scope="module")
def plain_weights(dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Weights of a run without options."""
    config = short_run(dataset, tiny_model, tmp_path_factory.mktemp("plain") / "run", *SHORT)
    run(config)
    return weights(config.train.output_dir)


def test_run_without_options_is_the_same_each_time(
    train_config: MakeConfig, plain_weights: dict[str, torch.Tensor]
) -> None:
    """To the bit; else the next test would see a difference where an option makes none."""
    assert equal(weights(run(train_config("again", *SHORT)).output_dir), plain_weights)


@pytest.mark.parametrize(
    "setting",
    [
        "hardware.precision=bf16",
        'plugins.collator="cropped"',
        "hardware.clip_lengths=2",
        "masking.mask_feature_prob=0.3",
        "masking.mask_time_length=5",
        "train.freeze_feature_encoder=true",
        "train.gumbel_temperature_start=0.7",
        "train.weight_decay=0.5",
        "train.max_grad_norm=0.01",
        "train.adam_beta2=0.9",
        "model.hidden_dropout=0.4",
    ],
)
def test_option_changes_what_is_learned(
    train_config: MakeConfig, plain_weights: dict[str, torch.Tensor], setting: str
) -> None:
    """Each option runs, is finite, and leads to other weights: none is parsed and not used."""
    result = run(train_config("option", *SHORT, setting))
    assert math.isfinite(result.last["eval/objective"])
    assert not equal(weights(result.output_dir), plain_weights)


def test_frozen_feature_encoder_stays(train_config: MakeConfig, tiny_model: Path) -> None:
    """Its weights are those of the base model, the others are not."""
    result = run(train_config("frozen", "train.max_steps=2", "train.freeze_feature_encoder=true"))
    before, after = weights(tiny_model), weights(result.output_dir)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("feature_extractor" in name for name in moved)


@pytest.mark.usefixtures("prompt_loader")
@pytest.mark.parametrize("setting", ["hardware.attention=eager", "hardware.dataloader_num_workers=1"])
def test_hardware_option_changes_no_number(train_config: MakeConfig, setting: str) -> None:
    """How it is computed is not what is learned: the first step's loss and gradient agree to rounding.

    Dropout and layer drop are off, since their draws differ by implementation.
    """
    check_same_numbers(train_config, setting)


def test_compiled_layers_change_no_number(train_config: MakeConfig, frames: Counter[str]) -> None:
    """Neither in the step nor in validations; every function that torch is given it does compile."""
    check_same_numbers(train_config, "hardware.compile=true")
    assert frames["ok"] == frames["total"] > 0


def check_same_numbers(train_config: MakeConfig, setting: str) -> None:
    """Train for a step with an option and without."""
    off = [f"model.{name}=0" for name in DROPOUTS]
    run(train_config("one", "train.max_steps=1", *off))
    run(train_config("other", "train.max_steps=1", *off, setting))
    one, other = (metrics(train_config(name).train.output_dir) for name in ("one", "other"))
    for ours, theirs in zip(one, other, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_hardware_options_reach_the_model(train_config: MakeConfig) -> None:
    """Attention, checkpointing and compilation are set where they take effect."""
    config = train_config(
        "reach", "hardware.attention=eager", "hardware.gradient_checkpointing=true", "hardware.compile=true"
    )
    model = build(config).model
    assert model.config._attn_implementation == "eager"
    assert model.is_gradient_checkpointing
    assert all(layer._compiled_call_impl is not None for layer in model.wav2vec2.encoder.layers)


def test_gradient_checkpointing_changes_no_number(train_config: MakeConfig) -> None:
    """Recomputed layers draw the same dropout: the weights agree to rounding."""
    run(train_config("plain", "model.layerdrop=0.0"))
    run(train_config("checkpointed", "model.layerdrop=0.0", "hardware.gradient_checkpointing=true"))
    config = train_config("plain")
    plain, checkpointed = weights(config.train.output_dir), weights(train_config("checkpointed").train.output_dir)
    for name in plain:
        torch.testing.assert_close(checkpointed[name], plain[name], rtol=0, atol=1e-6)


def test_failing_logger_does_not_cost_the_run(train_config: MakeConfig, tmp_path: Path) -> None:
    """It is disabled with one warning; the others go on."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "runyoro_broken_logger.py").write_text(
        "from runyoro_ssl import hookimpl\n"
        "class Broken:\n"
        "    def open(self, run): pass\n"
        "    def log(self, step, metrics): raise OSError('disk on fire')\n"
        "    def close(self, status): pass\n"
        "@hookimpl\n"
        "def runyoro_logging_backends(register):\n"
        "    register('broken', Broken)\n"
    )
    config = train_config("logger", f"plugins.dir={folder}", 'plugins.loggers=["broken", "jsonl"]')
    run(config)
    assert len(metrics(config.train.output_dir)) == 7


def test_run_toml_is_enough_to_run_again(train_config: MakeConfig) -> None:
    """It resolves to the very configuration of the run, with what was decided in it."""
    config = train_config("toml", "train.max_steps=2")
    run(config)
    again = load_config(config_file=str(config.train.output_dir / "run.toml"))
    assert again.model_copy(update={"hardware": config.hardware}) == config
    given, found = config.hardware.model_dump(), again.hardware.model_dump()
    assert {name for name, value in found.items() if value == "auto"} == {"sharding"}  # which is of a launch
    assert {name: found[name] for name, value in given.items() if value != "auto"} == {
        name: value for name, value in given.items() if value != "auto"
    } | {"fitted": found["fitted"]}


def test_resume_never_touches_another_run(train_config: MakeConfig) -> None:
    """A checkpoint of one run cannot be resumed into the folder of another, nor `last` where none is left."""
    first, second = train_config("first", "train.max_steps=2"), train_config("second", "train.max_steps=2")
    run(first)
    run(second)
    before = sorted(path.name for path in second.train.output_dir.iterdir())
    with pytest.raises(ConfigError, match="already holds a run"):
        run(train_config("second", f"train.resume_from_checkpoint={first.train.output_dir / 'checkpoint-2'}"))
    shutil.rmtree(second.train.output_dir / "checkpoint-2")
    with pytest.raises(ConfigError, match="no complete checkpoint"):
        run(train_config("second", "train.resume_from_checkpoint=last"))
    assert sorted(path.name for path in second.train.output_dir.iterdir()) == [n for n in before if n != "checkpoint-2"]


def test_resume_from_an_earlier_checkpoint_sets_later_ones_aside(train_config: MakeConfig) -> None:
    """They are renamed, not lost; the run goes on from where it was told, and `last` finds its newest."""
    settings = ("train.max_steps=6", "train.save_total_limit=2")
    out = train_config("earlier").train.output_dir
    run(train_config("earlier", *settings))
    result = run(train_config("earlier", *settings, f"train.resume_from_checkpoint={out / 'checkpoint-4'}"))
    assert result.step == 6
    names = {path.name for path in out.glob("*checkpoint-*")}
    assert names == {"checkpoint-4", "checkpoint-6", "superseded-checkpoint-6"}


def test_fewer_steps_than_done_are_refused(train_config: MakeConfig) -> None:
    """Nothing is rewritten."""
    run(train_config("shorter", "train.max_steps=4"))
    with pytest.raises(ConfigError, match=r"at step 4, past the 2 steps.*--max-steps"):
        run(train_config("shorter", "train.max_steps=2", "train.resume_from_checkpoint=last", OVERRIDE))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory"), MemoryError()]
)
def test_out_of_memory_names_the_setting(
    train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """One line, for both devices' errors, and Python's."""

    def exhausted(*_args: Any) -> None:
        raise error

    monkeypatch.setattr(Stepper, "take", exhausted)
    with pytest.raises(TrainingError, match=r"out of memory.*hardware.batch_seconds \(now 6"):
        run(train_config("memory"))


def test_out_of_memory_splits_micro_batches_and_keeps_the_update(
    train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clips are too many, after the first micro-batch's gradient is there: the update begins anew, in halves.

    Its gradient is then that of the whole micro-batches (best codes, no diversity loss, as above).
    """
    config = train_config("short")
    setup = build(config)
    without_dropout(setup.model)
    setup.model.quantizer.eval()
    setup.model.config.diversity_loss_weight = 0.0
    setup.optimizer.step = lambda: None
    batches = [setup.train_batches[MicroBatch.of(clips, index=index)] for index, clips in enumerate([(0,), (1, 2)])]
    update = Update(1, 0.1, tuple(batch.plan for batch in batches))
    kept: list[dict[str, torch.Tensor]] = []
    zero_grad = setup.optimizer.zero_grad

    def keep_gradients() -> None:
        kept.append(gradients(setup.model))
        zero_grad()

    setup.optimizer.zero_grad = keep_gradients
    meter = Meter(setup.accelerator, setup.model.config)
    setup.stepper.take(update, batches, meter)
    whole = meter.read("train")
    assert whole["train/contrastive_loss"] > 1

    real = forward.run_objective
    told: list[int] = []

    def short_of_memory(accelerator: Any, model: Any, batch: Any) -> Any:
        if len(batch.waveforms) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(accelerator, model, batch)

    monkeypatch.setattr(step, "run_objective", short_of_memory)
    setup.stepper.report = told.append
    setup.stepper.take(update, batches, meter)
    assert told == [2]
    assert relative_difference(kept[-1], kept[0]) < 1e-5
    assert meter.read("train")["train/contrastive_loss"] == pytest.approx(whole["train/contrastive_loss"], rel=1e-5)


def test_out_of_memory_run_goes_on(
    train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It says so once, and the run finishes; a resumed run goes on in parts, for these decide what is drawn."""
    real = forward.run_objective

    def short_of_memory(accelerator: Any, model: Any, batch: Any) -> Any:
        if model.training and len(batch.waveforms) > 1:
            raise RuntimeError("MPS backend out of memory")
        return real(accelerator, model, batch)

    monkeypatch.setattr(step, "run_objective", short_of_memory)
    logs.configure()
    assert run(train_config("short", "hardware.per_device_train_batch_size=2")).step == 4
    assert capfd.readouterr().err.count("in 2 parts from now on") == 1
    AcceleratorState._reset_state()
    resumed = train_config("short", "hardware.per_device_train_batch_size=2", "train.resume_from_checkpoint=last")
    assert build(resumed).stepper.num_parts == 2


def test_failing_collator_is_named_before_anything_is_written(train_config: MakeConfig, tmp_path: Path) -> None:
    """The first batch is built before the output folder is."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "runyoro_bad_collator.py").write_text(
        "from runyoro_ssl import hookimpl\n"
        "class Bad:\n    def __call__(self, clips, generators):\n        raise ValueError('boom')\n"
        "@hookimpl\ndef runyoro_collators(register):\n    register('bad', Bad)\n"
    )
    config = train_config("collator", f"plugins.dir={folder}", 'plugins.collator="bad"')
    with pytest.raises(PluginError, match=r'collator "Bad" failed on clip \d+: ValueError: boom'):
        run(config)
    assert not config.train.output_dir.exists()


def test_recomputed_layers_draw_the_same_on_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch stashes no MPS random state for checkpointing; ours is put back for the backward pass."""
    state = {"now": torch.tensor([1])}
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: state["now"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda new: state.update(now=new))
    forward, recompute = replay_mps_dropout()
    with forward:
        state["now"] = torch.tensor([2])
    state["now"] = torch.tensor([3])
    with recompute:
        assert state["now"] == 1
    assert state["now"] == 3
