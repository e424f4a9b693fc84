"""What learns in a real step, and how fast: the feature encoder alone, layers at their rates, a constant rate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from runyoro_ssl.config import Config
from runyoro_ssl.errors import CheckpointError, ConfigError
from runyoro_ssl.publish.card import write_model_card
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train.checkpoints.format import OPTIMIZER
from runyoro_ssl.train.describe import summary_rows
from runyoro_ssl.train.disk_space import CheckpointSpace
from support.trainer import Trainer, build, cut_back, equal, metrics, run, weights

MakeConfig = Callable[..., Config]
ALONE = "train.train_only=feature_encoder"
ONE_STEP = ("train.max_steps=1", "train.learning_rate=1e-3", "train.weight_decay=0", "train.adam_epsilon=1e-15")
"""After one step of AdamW, a weight has moved by its rate."""
RESUME = "train.resume_from_checkpoint=last"
OF_ENCODER = "wav2vec2.feature_extractor."


def moved_by(before: Path, after: Path) -> dict[str, float]:
    """How far the weight of each tensor moved that moved farthest."""
    old, new = weights(before), weights(after)
    return {name: float((new[name] - old[name]).abs().max()) for name in old}


def test_feature_encoder_learns_alone(train_config: MakeConfig, tiny_model: Path) -> None:
    """Each of its tensors, and none else by a bit; disk, table, result and card say so; it goes on where it was."""
    config = train_config("run", ALONE, "train.learning_rate=1e-3")
    built = build(config)
    rows = {row[0]: row[1] for row in summary_rows(built)}
    assert "of the feature encoder alone" in rows["learning"]
    predicted = CheckpointSpace.of(built).checkpoint
    run(config)
    out = config.train.output_dir
    moved = moved_by(tiny_model, out)
    assert {name for name, distance in moved.items() if distance} == {n for n in moved if n.startswith(OF_ENCODER)}
    moments = load_file(out / "checkpoint-4" / OPTIMIZER)
    assert {n.partition(".")[2] for n in moments if n.startswith("exp_avg.")} == {
        n for n in moved if n.startswith(OF_ENCODER)
    }
    files = sum((out / "checkpoint-4" / name).stat().st_size for name in ("model.safetensors", OPTIMIZER))
    assert predicted == pytest.approx(files, abs=64 << 10)  # headers, and random states
    write_model_card(out)
    share = json.loads((out / "result.json").read_text())["trained_parameters"] / sum(
        tensor.numel() for tensor in weights(out).values()
    )
    assert f"learned alone, {share:.1%}" in (out / "README.md").read_text()
    whole, logged = weights(out), metrics(out)
    cut_back(out, 2)
    run(train_config("run", ALONE, "train.learning_rate=1e-3", RESUME))
    assert equal(weights(out), whole)
    assert metrics(out) == logged


@pytest.mark.long
def test_feature_encoder_learns_alone_in_several_processes(train_config: MakeConfig, tiny_model: Path) -> None:
    """Copied and sharded, with layers left out: the others stay, and both ways come to the same."""
    found = []
    for way in ("none", "full"):
        settings = (ALONE, "train.learning_rate=1e-3", "model.layerdrop=0.3", f"hardware.sharding={way}")
        config = train_config(way, *settings)
        Trainer(config, config.train.output_dir.with_suffix(".log")).finish_in_two()
        found.append(weights(config.train.output_dir))
        moved = moved_by(tiny_model, config.train.output_dir)
        assert {name for name, far in moved.items() if far} == {n for n in moved if n.startswith(OF_ENCODER)}
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-5) for name in found[0])


def test_layers_move_by_their_rates(train_config: MakeConfig, tiny_model: Path) -> None:
    """In a real step: the upper of two layers by the rate, the lower by half of it, and what is below by a quarter."""
    config = train_config("run", *ONE_STEP, "train.layer_decay=0.5", "model.layerdrop=0")
    run(config)
    moved = moved_by(tiny_model, config.train.output_dir)
    for name, share in {
        "quantizer.weight_proj.weight": 1,
        "project_hid.weight": 1,
        "wav2vec2.encoder.layer_norm.weight": 1,
        "wav2vec2.encoder.layers.1.attention.q_proj.weight": 1,
        "wav2vec2.encoder.layers.0.attention.q_proj.weight": 1 / 2,
        "wav2vec2.feature_projection.projection.weight": 1 / 4,
        "wav2vec2.feature_extractor.conv_layers.3.conv.weight": 1 / 40,
    }.items():
        assert moved[name] == pytest.approx(1e-3 * share, rel=0.01), name


def test_rate_stays_at_its_peak(train_config: MakeConfig) -> None:
    """As it is logged, and said before the first step; a resumed run keeps to it, and another is refused."""
    settings = ("train.constant_after_warmup=true", "train.warmup_steps=1", "train.learning_rate=1e-4")
    config = train_config("run", *settings)
    assert ["learning rate", "0.0001 at its peak, which it keeps; seed 42"] in summary_rows(build(config))
    run(config)
    out = config.train.output_dir
    rates = [line["train/learning_rate"] for line in metrics(out) if "train/learning_rate" in line]
    assert rates == [5e-5, 1e-4, 1e-4, 1e-4]
    write_model_card(out)
    assert "learning rate 0.0001 (kept after warm-up)" in (out / "README.md").read_text()
    cut_back(out, 2)
    with pytest.raises(CheckpointError, match=r"train.constant_after_warmup was True, is False.*--override-mismatch"):
        run(train_config("run", RESUME, *settings[1:]))


def test_rates_by_layer_survive_a_resume(train_config: MakeConfig) -> None:
    """To the bit, with moments in groups of their own; with other rates, each weight has its own moments, too."""
    settings = ("train.layer_decay=0.5", "train.constant_after_warmup=true", "train.learning_rate=1e-3")
    out = run(train_config("run", *settings)).output_dir
    whole = weights(out)
    cut_back(out, 2)
    run(train_config("run", *settings, RESUME))
    assert equal(weights(out), whole)
    others = ("train.layer_decay=0.9", *settings[1:], RESUME, "train.override_mismatch=true")
    resumed = build(train_config("run", *others))
    saved = load_file(out / "checkpoint-4" / OPTIMIZER)
    moments = resumed.optimizer.optimizer.state
    named = dict(resumed.model.named_parameters())
    assert all(torch.equal(moments[one]["exp_avg"], saved[f"exp_avg.{name}"]) for name, one in named.items())


@pytest.mark.parametrize("setting", [ALONE, "train.layer_decay=0.5", "train.constant_after_warmup=true"])
def test_old_checkpoints_were_at_the_defaults(train_config: MakeConfig, setting: str) -> None:
    """A version without these settings wrote them: they go on as they were, and no other way unless asked."""
    from runyoro_ssl.train.checkpoints.resume import differing_settings, settings_of_the_run

    saved = settings_of_the_run(train_config("run"))
    for name in ("train_only", "layer_decay", "constant_after_warmup"):
        del saved["train"][name]
    assert differing_settings(saved, train_config("run")) == []
    ((name, _, _),) = differing_settings(saved, train_config("run", setting))
    assert setting.startswith(name)


def test_what_learns_is_not_changed_under_way(train_config: MakeConfig) -> None:
    """Not even by --override-mismatch: there are no moments of the others."""
    run(train_config("run", ALONE, "train.max_steps=2"))
    again = train_config("run", "train.max_steps=2", RESUME, "train.override_mismatch=true")
    with pytest.raises(CheckpointError, match=r"in another way: train.train_only was feature_encoder, is all"):
        run(again)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([ALONE, "train.freeze_feature_encoder=true"], "train.freeze_feature_encoder is true: nothing would learn"),
        ([ALONE, "train.feature_encoder_lr_scale=0"], "train.feature_encoder_lr_scale is 0: nothing would learn"),
        ([ALONE, "adapter.kind=lora"], "--adapters is lora, which freezes it; leave one"),
        ([ALONE, "train.layer_decay=0.9"], "train.layer_decay is 0.9, of layers that do not learn"),
        (["train.train_only=adapters"], "--adapters lora trains; nothing else with --set adapter.also="),
        (["train.train_only=adapters", "adapter.kind=lora"], "--adapters lora trains; nothing else"),
        (["train.train_only=encoder"], "input should be 'all' or 'feature_encoder'"),
        (["train.layer_decay=0"], 'train.layer_decay is "0": input should be greater than 0'),
        (["train.layer_decay=1.1"], 'train.layer_decay is "1.1": input should be less than or equal to 1'),
        (["train.constant_after_warmup=3"], "true or false is needed"),
    ],
)
def test_contradictions_are_a_line(settings: list[str], said: str) -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match=said) as refused:
        load_config(settings=settings)
    assert "\n" not in str(refused.value)
