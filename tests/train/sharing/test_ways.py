"""Several processes train one model, each with a copy or a part of it, and come to what one comes to."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import build_tiny_model, short_run, transformers
from runyoro_ssl.config import Config
from runyoro_ssl.train.checkpoints.shards import name_parts, read_parts
from runyoro_ssl.train.health.journal import read
from support.together import in_processes, parts_of_a_device, poisoned_run, short_of_memory, trace_updates
from support.trainer import Trainer, cut_back, metrics, run, wait_until, weights

MakeConfig = Callable[..., Config]
RESUME, FULL, NONE = "train.resume_from_checkpoint=last", "hardware.sharding=full", "hardware.sharding=none"


def check_like(out: Path, whole: Path) -> None:
    """The same clips, losses and weights, to rounding; and weights that plain transformers loads."""
    ours, theirs = weights(out), weights(whole)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-6
    for one, other in zip(metrics(out), metrics(whole), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for folder in (out, *out.glob("checkpoint-*")):
        _, info = transformers.Wav2Vec2ForPreTraining.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]


@pytest.mark.long
def test_sharded_run_goes_on_in_fewer_processes(train_config: MakeConfig, tmp_path: Path) -> None:
    """Four, two, one: equal to one from the start, with dropout and layer drop, where some update leaves three idle."""
    often = ("train.max_steps=4", "train.save_steps=1", "train.eval_steps=2", "train.save_total_limit=0")
    settings = (*often, "model.layerdrop=0.5", "hardware.update_seconds=6", "train.learning_rate=2e-4")
    whole, out = train_config("whole", *settings).train.output_dir, tmp_path / "parted"
    run(train_config("whole", *settings))
    Trainer(train_config("parted", *settings, FULL), tmp_path / "four.log").finish_in(4)
    assert "1/4 in each process (hardware.sharding)" in (tmp_path / "four.log").read_text()
    assert len(list((out / "checkpoint-2").glob("optimizer-*-of-00004.safetensors"))) == 4
    check_like(out, whole)
    cut_back(out, 2)
    Trainer(train_config("parted", *settings, FULL, RESUME), tmp_path / "two.log").finish_in(2)
    check_like(out, whole)
    cut_back(out, 3)
    run(train_config("parted", *settings, RESUME))
    check_like(out, whole)


@pytest.mark.long
def test_sharded_run_leaves_out_and_goes_back(train_config: MakeConfig, tmp_path: Path) -> None:
    """Where one process has no numbers, all skip, and at the second in a row go back; as one process alone does.

    That begins from a checkpoint which was not sharded.
    """
    settings = ("train.max_steps=7", "train.save_steps=3", "health.max_skipped_updates=1", "train.learning_rate=2e-4")
    in_processes(1, poisoned_run, train_config("one", *settings), (5, 6), 0)
    out = tmp_path / "two"
    shutil.copytree(tmp_path / "one", out)
    for superseded in out.glob("superseded-*"):
        shutil.rmtree(superseded)
    (out / "journal.jsonl").unlink()
    cut_back(out, 3)
    in_processes(2, poisoned_run, train_config("two", *settings, FULL, RESUME), (5, 6), 1)
    done = [event["action"] for event in read(out) if "action" in event]
    assert done == ["skip", "go_back"]
    ours, theirs = weights(out / "checkpoint-7"), weights(tmp_path / "one" / "checkpoint-7")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-6


def test_replicas_short_of_memory_begin_anew_together(train_config: MakeConfig) -> None:
    """In one of them two clips are too many: both cut micro-batches in two, none waits, and both learn the same."""
    config = train_config("run", NONE, "hardware.per_device_train_batch_size=2")
    (told, weights_of_0), (also_told, weights_of_1) = in_processes(2, short_of_memory, config)
    assert told == also_told == [2]
    assert all((weights_of_0[name] == weights_of_1[name]).all() for name in weights_of_0)


@pytest.fixture(scope="module")
def larger_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose gradients fill several buckets of DDP, of which the first takes 1 MiB."""
    folder = tmp_path_factory.mktemp("larger")
    return build_tiny_model(folder, hidden_size=128, intermediate_size=512, num_hidden_layers=3, layerdrop=0.0)


def test_gradients_are_summed_while_the_backward_pass_goes_on(
    dataset: Path, larger_model: Path, tmp_path: Path
) -> None:
    """In buckets (layers, where it is sharded), not parameter by parameter; and a shard is what it says."""
    configs = [short_run(dataset, larger_model, tmp_path / "run", way) for way in (NONE, FULL)]
    whole, part = in_processes(2, trace_updates, *configs)[0]
    for traced in (whole, part):
        first, over = traced["gradients"][0][1], max(began for _, began in traced["gradients"])
        sums = [began for name, began in traced["collectives"] if "gather" not in name]
        assert any(first < began < over for began in sums)
        assert len(sums) < 20 < len(weights(larger_model)) / 3
    for held in ("weights", "moments"):
        assert part[held] == pytest.approx(whole[held] / 2, rel=0.01)


def test_process_that_dies_ends_the_others(train_config: MakeConfig, tmp_path: Path) -> None:
    """At once, with one line and status 1; what was saved is kept."""
    trainer = Trainer(train_config("run", "train.max_steps=500", FULL), tmp_path / "run.log")
    survivor, victim = trainer.start_in(2)
    assert wait_until(lambda: trainer.last_acknowledged() > 0, survivor)
    began = time.monotonic()
    victim.kill()
    survivor.join(30)
    assert time.monotonic() - began < 10
    assert survivor.exitcode == 1
    said = trainer.log.read_text()
    assert "error another process of this run has ended" in said.replace("\n", " ")
    assert "Traceback" not in said


def test_copies_of_parts_stay_on_the_host(tmp_path: Path) -> None:
    """On a GPU they would else be there a second time; each still knows where in the whole it belongs."""
    assert in_processes(2, parts_of_a_device, tmp_path) == ["cpu, copied"] * 2
    name_parts(tmp_path, 2)
    found = torch.zeros(6, 2)
    read_parts(tmp_path, {"exp_avg.weight": found})
    assert torch.equal(found, torch.arange(12.0).reshape(6, 2))
