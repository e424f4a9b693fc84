"""Runs in which a small part of the weights learns, and runs with moments in 8 bits: all that a run promises holds."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import load_file

from conftest import build_tiny_model, transformers
from runyoro_ssl.batches import forward
from runyoro_ssl.config import Config, FittedConfig
from runyoro_ssl.errors import CheckpointError, ConfigError
from runyoro_ssl.model.adapters import trained_weights
from runyoro_ssl.model.merging import ORIGINAL, plain_weights
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.publish.card import write_model_card
from runyoro_ssl.train import step, tryout
from runyoro_ssl.train.checkpoints.format import ADAPTERS, GENERATORS, OPTIMIZER, load_state
from runyoro_ssl.train.describe import summary_rows
from runyoro_ssl.train.disk_space import CheckpointSpace, folder_bytes
from runyoro_ssl.train.eight_bit import TENSORS, check_eight_bit
from runyoro_ssl.train.forecast import forecast
from runyoro_ssl.train.recovery import go_back
from runyoro_ssl.train.run import train
from runyoro_ssl.train.weights import put_on_device
from support.trainer import Trainer, build, cut_back, equal, metrics, run, weights

MakeConfig = Callable[..., Config]
LORA = ("adapter.kind=lora", "adapter.rank=4")
EIGHT = ("train.optimizer=adamw-8bit",)
OPEN = ("hardware.batch_seconds=auto", "hardware.update_seconds=24", "hardware.plan_seconds=6")
FAST = ("train.learning_rate=1e-3", "train.save_total_limit=0")
RESUME = "train.resume_from_checkpoint=last"
WAYS = pytest.mark.parametrize("way", [LORA, EIGHT, (*LORA, *EIGHT)], ids=["lora", "8-bit", "both"])


@pytest.fixture
def large_model(tmp_path: Path) -> Path:
    """Large enough that some moments are kept in 8 bits: 4,096 weights a matrix and more."""
    return build_tiny_model(tmp_path / "large", hidden_size=64, intermediate_size=128, conv_dim=(32,) * 7)


@WAYS
def test_resumed_run_equals_the_uninterrupted(
    train_config: MakeConfig, large_model: Path, way: tuple[str, ...]
) -> None:
    """Every bit of the weights, of what learns and of its moments; every logged number. Layers are dropped, too."""
    settings = (*way, *FAST, "model.layerdrop=0.5", f"model.model_name_or_path={large_model}", "adapter.dropout=0.1")
    whole, parted = train_config("whole", *settings), train_config("parted", *settings, RESUME)
    run(whole)
    shutil.copytree(whole.train.output_dir, parted.train.output_dir)
    cut_back(parted.train.output_dir, 2)
    run(parted)
    assert metrics(parted.train.output_dir) == metrics(whole.train.output_dir)
    for name in ("model.safetensors", OPTIMIZER, *([ADAPTERS] if way[0] == LORA[0] else [])):
        ours, theirs = (load_file(one.train.output_dir / "checkpoint-4" / name) for one in (parted, whole))
        assert equal(without_generators(ours), without_generators(theirs)), name
    kept = without_generators(load_file(whole.train.output_dir / "checkpoint-4" / OPTIMIZER))
    assert any(tensor.dtype == torch.uint8 for tensor in kept.values()) == (way == EIGHT)  # others are small here


def without_generators(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Moments alone: in random states a NaN may stand for none."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(GENERATORS)}


def test_checkpoints_and_final_model_are_plain(train_config: MakeConfig, tiny_model: Path) -> None:
    """Any code of transformers loads them; frozen weights are those that came, adapted ones are not."""
    config = train_config("run", *LORA, *FAST)
    run(config)
    out, came = config.train.output_dir, weights(tiny_model)
    for folder in (out, out / "checkpoint-2"):
        _, info = transformers.Wav2Vec2ForPreTraining.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values())
        now = weights(folder)
        changed = {name for name in came if not torch.equal(now[name], came[name])}
        matrices = ("_proj.weight", "_dense.weight")
        expected = {n for n in came if ".layers." in n and n.endswith(matrices)}
        expected |= {
            n for n in came if n.startswith(("quantizer.", "project_")) or ("encoder.layer" in n and "norm" in n)
        }
        assert changed == expected
    assert not list(out.rglob("adapter_config.json"))  # transformers would put adapters on top of what has them
    write_model_card(out)
    result = json.loads((out / "result.json").read_text())
    share = result["trained_parameters"] / result["parameters"]
    assert 0 < share < 1
    card = (out / "README.md").read_text()
    assert "rank 4" in card
    assert f"{share:.1%} of the weights" in card
    assert 'kind = "lora"' in (out / "run.toml").read_text()


def test_run_says_what_learns_and_what_it_takes_on_disk(train_config: MakeConfig) -> None:
    """In the table before the first step; frozen weights hold no gradient and no moment."""
    config = train_config("run", *LORA, "train.max_steps=2")
    built = build(config)
    rows = {row[0]: row[1] for row in summary_rows(built)}
    assert "LoRA of rank 4 on q_proj" in rows["learning"]
    predicted = CheckpointSpace.of(built).checkpoint
    run(config)
    checkpoint = config.train.output_dir / "checkpoint-2"
    tensors = sum((checkpoint / name).stat().st_size for name in ("model.safetensors", ADAPTERS, OPTIMIZER))
    assert predicted == pytest.approx(tensors, rel=0.25)  # headers weigh much in a tiny model
    assert folder_bytes(checkpoint) >= tensors
    moments = {name.partition(".")[2] for name in load_file(checkpoint / OPTIMIZER) if name.startswith("exp_avg.")}
    assert moments == set(trained_weights(built.model))


@WAYS
def test_run_goes_back(train_config: MakeConfig, way: tuple[str, ...]) -> None:
    """To its newest healthy checkpoint, as it would be if it were resumed there; without any, to what came."""
    config = train_config("run", *way, *FAST, RESUME)
    run(train_config("run", *way, *FAST))
    lost = build(config)
    with torch.no_grad():
        for weight in trained_weights(lost.model).values():
            weight.add_(1.0)
    assert "went back to checkpoint-4" in go_back(lost)
    assert same(lost.model, build(config).model)
    for checkpoint in config.train.output_dir.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    assert "went back to the model as it came" in go_back(lost)
    assert same(lost.model, build(train_config("other", *way)).model)
    assert not lost.optimizer.optimizer.state


def same(one: Any, other: Any) -> bool:
    """Whether two models agree in every bit, what learns and what they stand for."""
    return equal(trained_weights(one), trained_weights(other)) and equal(plain(one), plain(other))


def plain(model: Any) -> dict[str, torch.Tensor]:
    """The weights of the plain model."""
    own, new = plain_weights(model)
    return own | new


@pytest.mark.parametrize(
    ("was", "now", "complaint"),
    [
        ((), LORA, "adapter.kind was none, is lora"),
        (LORA, (), "adapter.kind was lora, is none"),
        (LORA, (LORA[0], "adapter.rank=8"), "adapter.rank was 4, is 8"),
        (LORA, (*LORA, 'adapter.targets=["q_proj"]'), "adapter.targets was"),
        ((), EIGHT, "train.optimizer was adamw, is adamw-8bit"),
        (EIGHT, (), "train.optimizer was adamw-8bit, is adamw"),
    ],
)
def test_another_way_to_train_is_refused(
    train_config: MakeConfig, was: tuple[str, ...], now: tuple[str, ...], complaint: str
) -> None:
    """Even by --override-mismatch: what learned does not fit. Nothing is changed, and a new run can begin from it."""
    run(train_config("run", *was, "train.max_steps=2"))
    before = sorted(train_config("run").train.output_dir.rglob("*"))
    for override in ("false", "true"):
        again = train_config("run", *now, "train.max_steps=2", RESUME, f"train.override_mismatch={override}")
        with pytest.raises(CheckpointError, match=rf"in another way: {complaint}.*--model-name-or-path .*checkpoint-2"):
            run(again)
    assert sorted(train_config("run").train.output_dir.rglob("*")) == before


def test_adapters_go_with_their_base_alone(train_config: MakeConfig, tiny_model: Path, tmp_path: Path) -> None:
    """By the content of its weights: it may have moved, and must not be another."""
    run(train_config("run", *LORA, "train.max_steps=2"))
    moved = shutil.copytree(tiny_model, tmp_path / "moved")
    longer = (*LORA, "train.max_steps=2", RESUME)
    assert run(train_config("run", *longer, f"model.model_name_or_path={moved}")).step == 2
    other = build_tiny_model(tmp_path / "other", layer_norm_eps=1e-5)
    torch.manual_seed(1)
    model = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config.from_pretrained(other))
    model.save_pretrained(other)
    with pytest.raises(CheckpointError, match=r"adapters of another base model than .*other.*began with .*model"):
        run(train_config("run", *longer, f"model.model_name_or_path={other}"))


def test_two_processes_give_what_one_gives(train_config: MakeConfig, tmp_path: Path) -> None:
    """Only what learns is summed over them."""
    one = train_config("one", *LORA, "train.max_steps=2")
    run(one)
    two = train_config("two", *LORA, "train.max_steps=2")
    Trainer(two, tmp_path / "two.log").finish_in_two()
    ours, theirs = (weights(config.train.output_dir / "checkpoint-2") for config in (two, one))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-6


def test_short_of_memory_micro_batches_are_halved(train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With adapters as without; the run ends well."""
    real = forward.run_objective

    def short_of_memory(accelerator: Any, model: Any, batch: Any) -> Any:
        if model.training and len(batch.waveforms) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(accelerator, model, batch)

    monkeypatch.setattr(step, "run_objective", short_of_memory)
    config = train_config("run", *LORA, "train.max_steps=2", "hardware.per_device_train_batch_size=2")
    assert run(config).step == 2
    assert load_state(config.train.output_dir / "checkpoint-2")["num_parts"] > 1


def test_rates_and_decay_of_adapters(train_config: MakeConfig) -> None:
    """Adapters learn at ten times the rate, and decay; norms and what else learns are as always."""
    built = build(train_config("run", *LORA))
    names = {id(parameter): name for name, parameter in built.model.named_parameters()}
    groups = {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in built.optimizer.param_groups
        for parameter in group["params"]
    }
    assert groups.keys() == trained_weights(built.model).keys()
    for name, found in groups.items():
        vector = "norm" in name or name.endswith("bias")
        assert found == (10.0 if ".lora_" in name else 1.0, 0.0 if vector else 0.01), name


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """All numbers of a model in a row."""
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def test_eight_bit_moments_lead_where_whole_ones_lead(train_config: MakeConfig, large_model: Path) -> None:
    """After four steps, weights differ by a small part of what they moved by."""
    settings = (*FAST, "model.layerdrop=0.0", f"model.model_name_or_path={large_model}")
    ends = []
    for name, way in (("whole", ()), ("eight", EIGHT)):
        config = train_config(name, *settings, *way)
        run(config)
        ends.append(
            torch.cat([tensor.flatten() for tensor in weights(config.train.output_dir / "checkpoint-4").values()])
        )
    came = torch.cat([tensor.flatten() for tensor in weights(large_model).values()])
    assert float((ends[0] - ends[1]).norm() / (ends[0] - came).norm()) < 0.2


@pytest.mark.parametrize("way", [(), EIGHT, (*LORA, *EIGHT)], ids=["whole", "8-bit", "both"])
def test_a_trial_leaves_room_for_the_moments_that_will_be_there(
    train_config: MakeConfig, large_model: Path, monkeypatch: pytest.MonkeyPatch, way: tuple[str, ...]
) -> None:
    """Not for those of another optimizer: a run with moments in 8 bits that fits would be refused."""
    held, real = [], forward.run_objective

    def bytes_alive() -> int:
        gc.collect()
        alive = [each for each in gc.get_objects() if type(each) is torch.Tensor and each.dtype == torch.uint8]
        return sum(tensor.nbytes for tensor in alive if tensor.ndim == 1)

    def weighing(*given: Any) -> Any:
        held.append(bytes_alive() - of_others)
        return real(*given)

    of_others = bytes_alive()
    monkeypatch.setattr(tryout, "run_objective", weighing)
    built = build(train_config("run", *way, *OPEN, f"model.model_name_or_path={large_model}"))
    for weight in built.model.parameters():
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
    built.optimizer.step()
    kept = {"exp_avg", "exp_avg_sq", *TENSORS}
    states = built.optimizer.optimizer.state.values()
    moments = sum(value.nbytes for state in states for name, value in state.items() if name in kept)
    generators = 12_000  # their states are bytes, too
    assert moments <= held[0] <= moments + generators


def test_frozen_matrices_never_are_on_the_device_in_fp32(train_config: MakeConfig) -> None:
    """They are cast on the host, where their originals stay; a device that holds nothing shows what came to it."""
    built = build(train_config("run", *LORA))
    came = plain(built.model)
    hardware = built.config.hardware.model_copy(update={"device": "cuda", "precision": "bf16"})
    put_on_device(built.model, FittedConfig.of(built.config, hardware), torch.device("meta"))
    layer = built.model.wav2vec2.encoder.layers[0].attention.q_proj.base_layer
    assert (layer.weight.dtype, layer.weight.device.type) == (torch.bfloat16, "meta")
    assert torch.equal(getattr(layer, ORIGINAL), came["wav2vec2.encoder.layers.0.attention.q_proj.weight"])
    assert {parameter.device.type for parameter in built.model.parameters()} == {"meta"}


@pytest.mark.parametrize("begin", [train, forecast])
def test_eight_bit_moments_are_tried_where_this_process_will_train(
    train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, begin: Callable[..., Any]
) -> None:
    """On the device that the process was given when it joined; before, all would take memory of the first."""
    joined = []

    def refuse(_device: str) -> None:
        joined.append(bool(PartialState._shared_state))
        raise ConfigError("none here")

    monkeypatch.setattr("runyoro_ssl.train.weights.check_eight_bit", refuse)
    AcceleratorState._reset_state(reset_partial_state=True)
    config = train_config("run", *EIGHT)
    with pytest.raises(ConfigError, match="none here"):
        begin(config, load_plugins(config))
    assert joined == [True]
    assert not list(config.train.output_dir.glob("*"))


@pytest.mark.parametrize(
    ("device", "missing", "complaint"),
    [
        ("mps", "", "cannot be had on mps; --set train.optimizer=adamw"),
        ("cpu", "bitsandbytes", r"bitsandbytes, which is not installed: pip install -e '\.\[adam-8bit\]'"),
    ],
)
def test_eight_bit_moments_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch, device: str, missing: str, complaint: str
) -> None:
    """One line, before anything is loaded."""
    monkeypatch.setattr("runyoro_ssl.train.eight_bit.find_spec", lambda name: None if name == missing else object())
    with pytest.raises(ConfigError, match=complaint):
        check_eight_bit(device)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--adapters lora --set adapter.rank=0", 'adapter.rank is "0"'),
        ("--adapters lorra", 'adapter.kind is "lorra"'),
        ("--adapters lora --set 'adapter.targets=[\"fc1\"]'", "adapter.targets"),
        ("--adapters lora --set adapter.rank=4000", "adapter.rank is 4000, and q_proj of this model is only 32 wide"),
        ("--set train.optimizer=sgd", 'train.optimizer is "sgd"'),
    ],
)
def test_wrong_input_is_one_line(  # noqa: PLR0917 - fixtures
    run_task: Any, dataset: Path, tiny_model: Path, tmp_path: Path, options: str, complaint: str
) -> None:
    """Status 1, nothing written."""
    out = tmp_path / "out"
    status, _, err = run_task(
        f"train --profile cpu-smoke --model-name-or-path {tiny_model} --processed-dataset-path {dataset} "
        f"--output-dir {out} {options}"
    )
    assert (status, out.exists()) == (1, False)
    assert complaint in " ".join(err.split())
    assert "Traceback" not in err
