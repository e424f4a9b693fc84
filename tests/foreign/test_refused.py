"""Files that cannot be converted: a line that says what the file is, and what to give; nothing is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

from runyoro_ssl.errors import ConvertError
from runyoro_ssl.foreign.names import FAIRSEQ, FAIRSEQ2, FINE_TUNED, renamed
from runyoro_ssl.foreign.write import convert_file
from support.foreign import theirs

Weights = dict[str, Any]
Spoil = Callable[[Weights], object]


class Code:
    """Runs something when it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (eval, ("open('ran', 'w')",))


def without(*stems: str) -> Spoil:
    """Take weights away."""

    def spoil(weights: Weights) -> None:
        for name in [name for name in weights if name.startswith(stems)]:
            del weights[name]

    return spoil


def changed(name: str, tensor: Any) -> Spoil:
    """Another one in the place of a weight, or one more."""
    return lambda weights: weights.update({name: tensor})


def sparse(weights: Weights) -> None:
    """A weight of which only what is not zero is kept."""
    name = "encoder.layers.0.self_attn.q_proj.weight"
    weights[name] = weights[name].to_sparse()


BAD: dict[str, tuple[Spoil, str]] = {
    "CTC": (
        without("quantizer", "final_target_proj"),
        r"a recogniser \(CTC or LLM\), or one .*HuBERT.*omniASR-W2V-300M",
    ),
    "LLM": (changed("decoder.layers.0.ffn.inner_proj.weight", torch.ones(2)), r"a recogniser .*it has decoder\.layers"),
    "fine-tuned by fairseq": (
        lambda weights: [
            weights.update({FINE_TUNED + theirs(ours, FAIRSEQ): tensor})
            for name, tensor in [(name, weights.pop(name)) for name in list(weights)]
            if (ours := renamed(name, FAIRSEQ2))
        ],
        r"a recogniser \(CTC or LLM\), not .*it has w2v_encoder\.",
    ),
    "nothing": (lambda weights: weights.clear(), "holds no weights; give the"),
    "lacks a layer's weight": (
        without("encoder.layers.1.ffn.inner_proj.weight"),
        r"do not fit each other \(1\): it lacks wav2vec2\.encoder\.layers\.1\.feed_forward\.intermediate_dense\.weight",
    ),
    "lacks a convolution": (without("encoder_frontend.feature_extractor.layers.0"), "no wav2vec 2.0 model: it lacks"),
    "one too many": (changed("encoder.layers.0.adapter.weight", torch.ones(2)), "1 weights have no place.*adapter"),
    "another shape": (
        changed("encoder.layers.0.self_attn.q_proj.weight", torch.ones(32, 31)),
        r"q_proj\.weight of \(32, 31\), expected \(32, 32\)",
    ),
    "whole numbers": (
        changed("masker.temporal_mask_embed", torch.ones(32, dtype=torch.int64)),
        r"masked_spec_embed is of type torch\.int64",
    ),
    "one number for many": (
        changed("encoder.layers.0.ffn.inner_proj.weight", torch.ones(1).expand(1_000_000, 1_000_000)),
        r"would take 4,000,\d+,\d+,?\d* bytes, and it has",
    ),
    "a layer far off": (
        changed("encoder.layers.999999999.self_attn.q_proj.weight", torch.ones(32, 32)),
        r"no wav2vec 2\.0 model: it lacks, or has in another shape, 'wav2vec2\.encoder\.layers\.3'",
    ),
    "twice": (changed("encoder_frontend.layer_norm.weight", torch.ones(32)), "two of its weights are wav2vec2.encoder"),
    "of transformers": (
        lambda weights: [weights.update({f"wav2vec2.{name}": weights.pop(name)}) for name in list(weights)],
        "no wav2vec 2.0 model of fairseq2 or fairseq.*transformers wrote",
    ),
    "sparse": (sparse, "q_proj.weight is sparse, nested, or not there at all"),
    "not there": (
        changed("encoder.layers.0.self_attn.q_proj.weight", torch.ones(32, 32, device="meta")),
        "q_proj.weight is sparse, nested, or not there at all",
    ),
    "forty convolutions": (
        lambda weights: weights.update(
            {f"encoder_frontend.feature_extractor.layers.{n}.conv.weight": torch.ones(16, 16, 2) for n in range(7, 40)}
        ),
        r"model\.pt: its weights make no wav2vec 2\.0 model",
    ),
    "code": (changed("more", Code()), "holds more than weights"),
}


@pytest.fixture
def weights() -> Weights:
    """Of a small model, by fairseq2's names."""
    made = load_file(Path(__file__).with_name("fairseq2.safetensors"))
    return {name.removeprefix("model."): tensor for name, tensor in made.items() if name.startswith("model.")}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_such_model(weights: Weights, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is, what was seen, what to give."""
    spoil, said = BAD[kind]
    spoil(weights)
    monkeypatch.chdir(tmp_path)
    torch.save({"model": weights}, "model.pt")
    with pytest.raises(ConvertError, match=said) as refused:
        convert_file(Path("model.pt"), Path("converted"), num_heads=4)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt"]


def in_the_old_way(content: bytes) -> bytes:
    """Weights and code in no archive."""
    weights, old = torch.load(BytesIO(content)), BytesIO()
    torch.save({**weights, "more": Code()}, old, _use_new_zipfile_serialization=False)
    return old.getvalue()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[: len(content) // 2], "damaged"),
        (lambda _: b"", "damaged"),
        (lambda _: b"<!doctype html><p>no", "no checkpoint of torch, or one that holds more than weights"),
        (lambda _: b"no model", "no checkpoint of torch"),
        (in_the_old_way, "no checkpoint of torch, or one that holds more than weights"),
        (lambda content: content[:2000] + b"\0" * 2000 + content[4000:], "damaged|more than weights"),
    ],
    ids=["cut short", "empty", "a web page", "words", "code before torch 1.6", "zeros in it"],
)
def test_files_that_are_damaged(
    weights: Weights, spoil: Callable[[bytes], bytes], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "model.pt"
    torch.save({"model": weights}, file)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ConvertError, match=said):
        convert_file(file, tmp_path / "converted", num_heads=4)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("updates", [math.nan, math.inf, -(2**62), 1j, True])
def test_updates_that_cannot_be(weights: Weights, updates: Any, tmp_path: Path) -> None:
    """They tell a temperature, and no more: the model is as good."""
    weights["quantizer.num_updates"] = torch.tensor(updates)
    torch.save({"model": weights}, tmp_path / "model.pt")
    made = convert_file(tmp_path / "model.pt", tmp_path / "converted", num_heads=4)
    assert made.temperature in (None, 2.0)


def test_weights_in_one_memory(weights: Weights, tmp_path: Path) -> None:
    """Tied weights are two."""
    names = [f"encoder.layers.0.self_attn.{name}.weight" for name in ("q_proj", "k_proj")]
    weights[names[0]] = weights[names[1]]
    torch.save({"model": weights}, tmp_path / "model.pt")
    convert_file(tmp_path / "model.pt", tmp_path / "converted", num_heads=4)
    made = load_file(tmp_path / "converted" / "model.safetensors")
    both = [made[f"wav2vec2.encoder.layers.0.attention.{name}.weight"] for name in ("q_proj", "k_proj")]
    assert torch.equal(*both)


def test_a_place_that_no_file_has(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive is read from its end, and one that is cut short from before its start: no disk is to blame."""
    torch.save({"model": weights}, tmp_path / "model.pt")
    (tmp_path / "model.pt").write_bytes((tmp_path / "model.pt").read_bytes()[:20_000])
    with pytest.raises(ConvertError, match=r"model\.pt: cut short or damaged"):
        convert_file(tmp_path / "model.pt", tmp_path / "converted")
    monkeypatch.setattr("torch.load", Mock(side_effect=PermissionError(13, "denied")))
    with pytest.raises(PermissionError):
        convert_file(tmp_path / "model.pt", tmp_path / "converted")


@pytest.mark.parametrize("num_heads", [None, 5])
def test_heads_that_are_not_known(weights: Weights, num_heads: int | None, tmp_path: Path) -> None:
    """They stand in no weight: with a wrong number a model loads, and hears worse."""
    torch.save({"model": weights}, tmp_path / "model.pt")
    with pytest.raises(ConvertError, match=r"model\.pt: a width of 32 is of no published model.*--num-heads"):
        convert_file(tmp_path / "model.pt", tmp_path / "converted", num_heads=num_heads)


def test_what_is_there_is_not_replaced(weights: Weights, tmp_path: Path) -> None:
    """Nor is a file asked for that is not there."""
    torch.save(weights, tmp_path / "model.pt")
    convert_file(tmp_path / "model.pt", tmp_path / "converted", num_heads=4)
    with pytest.raises(ConvertError, match="is there; give another --output-dir"):
        convert_file(tmp_path / "model.pt", tmp_path / "converted", num_heads=4)
    with pytest.raises(ConvertError, match="no such file"):
        convert_file(tmp_path / "other.pt", tmp_path / "more", num_heads=4)
