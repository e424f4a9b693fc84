"""Configurations and weights that cannot train are refused before the first step, and named."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import PLAIN, ROOT, build_tiny_model, transformers
from runyoro_ssl.config import Config, ModelConfig
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.model.checks import extractor_doubts
from runyoro_ssl.model.load import load_model
from runyoro_ssl.model.source import FROM_A_FOLDER
from runyoro_ssl.model.trial import check_forward
from support.model_faults import CONFIG, EXTRACTOR, WEIGHTS, Fault, edit, rename, reweigh, together
from support.trainer import run

RunTask = Callable[[str], tuple[int, str, str]]
EMBEDDING = "wav2vec2.masked_spec_embed"
PROJECTION = "wav2vec2.feature_projection.projection.weight"
OUT = "wav2vec2.encoder.layers.1.feed_forward.output_dense.weight"


def add(**weights: torch.Tensor) -> Fault:
    """Weights that the architecture has no place for; `__` stands for a dot."""
    return reweigh(lambda found: found.update({name.replace("__", "."): value for name, value in weights.items()}))


def change(name: str, function: Callable[[torch.Tensor], object]) -> Fault:
    """One tensor, changed in place."""
    return reweigh(lambda weights: function(weights[name]))


def drop(part: str) -> Fault:
    """Weights whose names hold a part are gone."""
    return reweigh(lambda weights: [weights.pop(name) for name in list(weights) if part in name])


def scale_up(weights: dict[str, torch.Tensor]) -> None:
    """Finite, but not what comes out of it."""
    for value in weights.values():
        value.mul_(1e30)


FAULTS: dict[str, tuple[Fault, str]] = {
    "unused weights": (add(strange__weight=torch.ones(2)), "has 1 weight that its config.json does not use, e.g. s"),
    "fewer layers": (edit(CONFIG, num_hidden_layers=1), "has 16 weights that its config.json does not use, e.g. wav2v"),
    "more layers": (edit(CONFIG, num_hidden_layers=3), "lacks 16 weights of its own architecture, e.g. wav2vec2.enco"),
    "shape": (
        change("project_q.weight", lambda value: value.resize_(8, 16)),
        "has 1 weight of another shape than its config.json asks for: project_q.weight is (8, 16) in the file, (16, ",
    ),
    "other size": (edit(CONFIG, intermediate_size=48), "bias is (64) in the file, (48) by config.json"),
    "wrapped": (
        reweigh(lambda found: [found.update({f"module.{name}": found.pop(name)}) for name in list(found)]),
        'was saved inside DistributedDataParallel: its weights are named "module.…"',
    ),
    "NaN": (
        change(OUT, lambda value: value[0, :3].fill_(torch.nan)),
        f"1 of its 77 weights are not finite, the first {OUT} (3 NaN and 0 infinite of 2048)",
    ),
    "infinite": (
        change("quantizer.codevectors", lambda value: value[0, 0, 0].fill_(torch.inf)),
        "the first quantizer.codevectors (0 NaN and 1 infinite of",
    ),
    "zeros": (change(OUT, torch.Tensor.zero_), f"1 of its 77 weights are all zero, the first {OUT}"),
    "NaN comes out": (reweigh(scale_up), "gives NaN or infinity in its feature encoder for half a second of noise"),
    "no negatives": (edit(CONFIG, num_negatives=0), "num_negatives 0 in its config.json, expected a whole number"),
    "no temperature": (edit(CONFIG, contrastive_logits_temperature=0.0), "contrastive_logits_temperature 0.0 in its"),
    "weight NaN": (edit(CONFIG, diversity_loss_weight=float("nan")), "diversity_loss_weight nan in its config.json"),
    "dropout of all": (edit(CONFIG, hidden_dropout=1.0), "hidden_dropout 1.0, which is no share from 0 to under 1"),
    "text for a number": (edit(CONFIG, hidden_size="32"), "has hidden_size '32' in its config.json, expected a whole"),
    "unknown activation": (edit(CONFIG, hidden_act="swosh"), "it names 'swosh', which transformers does not know"),
    "heads": (edit(CONFIG, num_attention_heads=-1), "has num_attention_heads -1 in its config.json, expe"),
    "quantised": (edit(CONFIG, quantization_config={"quant_method": "bitsandbytes"}), "is quantised"),
    "dtype a list": (edit(CONFIG, dtype=[]), "cannot read config.json"),
    "never masked": (
        together(drop(EMBEDDING), edit(CONFIG, mask_time_prob=0.0)),
        "has no mask embedding (masked_spec_embed) among its weights",
    ),
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A good model folder."""
    return build_tiny_model(tmp_path / "model")


def load(path: Path, **settings: Any) -> Any:
    """Load as `train` does."""
    return load_model(ModelConfig(model_name_or_path=str(path), **settings), PLAIN)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_in_one_line(model: Path, fault: str) -> None:
    """The tensor or the setting, its value, what to do."""
    make, complaint = FAULTS[fault]
    make(model)
    with pytest.raises(CheckpointError) as caught:
        load(model)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fault", ["fewer layers", "shape", "NaN", "NaN comes out", "no negatives", "text for a number"]
)
def test_train_ends_with_one_line(run_task: RunTask, dataset: Path, model: Path, tmp_path: Path, fault: str) -> None:
    """Status 1, and nothing is written."""
    make, complaint = FAULTS[fault]
    make(model)
    shared = f"--profile cpu-smoke --model-name-or-path {model}"
    status, out, err = run_task(f"train {shared} --processed-dataset-path {dataset} --output-dir {tmp_path / 'out'}")
    assert status == 1, out + err
    assert complaint in err
    assert "Traceback" not in err + out
    assert not [path for path in tmp_path.glob("out/*") if path.name[0] != "."]


@pytest.mark.parametrize("fault", ["no negatives", "text for a number", "quantised", "unknown activation"])
def test_doctor_ends_with_one_line(run_task: RunTask, model: Path, fault: str) -> None:
    """What is wrong with a configuration needs no weights to be seen."""
    make, complaint = FAULTS[fault]
    make(model)
    status, out, err = run_task(f"doctor --profile cpu-smoke --model-name-or-path {model}")
    assert status == 1, out + err
    assert complaint in err
    assert "Traceback" not in err + out


@pytest.mark.parametrize("kind", ["ForCTC", "ForSequenceClassification", "ForXVector", "ForAudioFrameClassification"])
def test_heads_of_fine_tuning_are_no_fault(model: Path, kind: str) -> None:
    """They are left out, as the pre-training head is asked for."""
    config = transformers.AutoConfig.from_pretrained(model, use_weighted_layer_sum=True)
    tuned = getattr(transformers, f"Wav2Vec2{kind}")(config).state_dict()
    own = load_file(model / WEIGHTS)
    reweigh(lambda weights: weights.update({name: tuned[name] for name in tuned.keys() - own.keys()}))(model)
    assert load_file(model / WEIGHTS).keys() != own.keys()
    load(model)


def test_old_names_are_no_fault(model: Path) -> None:
    """Those of the hub's own checkpoints."""
    rename("parametrizations.weight.original0", "weight_g")(model)
    rename("parametrizations.weight.original1", "weight_v")(model)
    load(model)


def test_hidden_mask_embedding_is_loaded(model: Path) -> None:
    """With mask_time_prob 0 transformers leaves it out; here it is that of the checkpoint, and is saved again."""
    edit(CONFIG, mask_time_prob=0.0)(model)
    loaded = load(model)
    assert torch.equal(loaded.wav2vec2.masked_spec_embed, load_file(model / WEIGHTS)[EMBEDDING])
    loaded.save_pretrained(model / "saved")
    again = transformers.Wav2Vec2ForPreTraining.from_pretrained(model / "saved")
    assert torch.equal(again.wav2vec2.masked_spec_embed, loaded.wav2vec2.masked_spec_embed)


@pytest.mark.parametrize(
    "settings",
    [
        {"apply_spec_augment": False},
        {"gradient_checkpointing": True},
        {"torch_dtype": "float16"},
        {"output_hidden_states": True},
        {"output_attentions": True},
        {"return_dict": False},
        {"attn_implementation": "flash_attention_2"},
        {"pruned_heads": {"0": [0]}},
        {"architectures": ["Wav2Vec2ForCTC"]},
        {"mask_time_prob": 0.0},
    ],
    ids=str,
)
def test_settings_that_are_not_of_the_model_change_nothing(
    train_config: Callable[..., Config], tiny_model: Path, model: Path, settings: dict[str, Any]
) -> None:
    """What a config.json says of precision, memory, outputs or fine-tuning: the run is the same, to the bit."""
    edit(CONFIG, **settings)(model)
    last = [
        run(train_config(name, "train.max_steps=2", f"model.model_name_or_path={folder}")).last["eval/objective"]
        for name, folder in (("plain", tiny_model), ("changed", model))
    ]
    assert last[0] == last[1]
    loaded = load(model)
    assert loaded.dtype == torch.float32
    assert not any(
        module.gradient_checkpointing for module in loaded.modules() if hasattr(module, "gradient_checkpointing")
    )


def test_trial_draws_nothing_and_is_short(model: Path) -> None:
    """A run's own draws are the same with and without it."""
    loaded = load(model)
    before = torch.get_rng_state()
    check_forward("model", loaded)
    assert torch.equal(torch.get_rng_state(), before)


def test_trial_takes_any_feature_encoder(tmp_path: Path) -> None:
    """One that makes too few frames of half a second is not tried."""
    load(build_tiny_model(tmp_path, conv_stride=(10, 4, 4, 4, 4, 4, 4)))


@pytest.mark.parametrize(
    ("config", "settings", "doubts"),
    [
        ({}, {}, []),
        ({}, {"return_attention_mask": False}, ["return_attention_mask is false"]),
        ({}, {"do_normalize": False}, ["do_normalize is false"]),
        ({"do_stable_layer_norm": False}, {"do_normalize": False}, []),
        ({"feat_extract_norm": "group"}, {"return_attention_mask": False, "do_normalize": False}, []),
    ],
)
def test_extractor_that_does_not_fit_is_doubted(
    config: dict[str, Any], settings: dict[str, Any], doubts: list[str]
) -> None:
    """Only where it is certain: models with layer norms were pre-trained with padding hidden."""
    extractor = transformers.Wav2Vec2FeatureExtractor(**{"return_attention_mask": True, **settings})
    layers = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    found = extractor_doubts(extractor, transformers.Wav2Vec2Config(**{**layers, **config}))
    assert [doubt[: len(expected)] for doubt, expected in zip(found, doubts, strict=True)] == doubts


def test_doubts_are_said_by_doctor_and_train(run_task: RunTask, dataset: Path, model: Path, tmp_path: Path) -> None:
    """A warning, with how to mend it; the run goes on."""
    edit(EXTRACTOR, return_attention_mask=False)(model)
    shared = f"--profile cpu-smoke --model-name-or-path {model}"
    status, out, err = run_task(f"doctor {shared}")
    assert status == 0, err
    assert "return_attention_mask is false" in " ".join(out.split())
    more = f"--processed-dataset-path {dataset} --output-dir {tmp_path / 'out'} --max-steps 1"
    status, out, err = run_task(f"train {shared} {more}")
    assert status == 0, err
    assert '"return_attention_mask": true in that file' in out + err
    assert json.loads((tmp_path / "out" / EXTRACTOR).read_text())["return_attention_mask"] is False


def test_no_code_of_a_model_is_ever_trusted() -> None:
    """Each loader of transformers says so itself, whatever its default will be."""
    calls = [
        (path.name, node)
        for path in sorted((ROOT / "runyoro_ssl").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained"
    ]
    trusting = [
        f"{name}:{node.lineno}"
        for name, node in calls
        if not any(ast.unparse(word) in ("trust_remote_code=False", "**FROM_A_FOLDER") for word in node.keywords)
    ]
    assert FROM_A_FOLDER["trust_remote_code"] is False
    assert len(calls) >= 4
    assert trusting == []
