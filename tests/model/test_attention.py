"""Attention on a CPU in bf16: computed in fp32, as transformers computes it otherwise, and nothing of it is saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conftest import PLAIN
from runyoro_ssl.config import ModelConfig
from runyoro_ssl.model.attention import NAME, use_fast_attention
from runyoro_ssl.model.load import load_model
from support.reference import without_dropout


@pytest.mark.parametrize("precision", [torch.bfloat16, None])
def test_only_bf16_is_computed_in_fp32(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, precision: torch.dtype | None
) -> None:
    """What comes out is of the network's own type, near what it was, and gradients arrive; masks hold."""
    seen: list[torch.dtype] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def noting(query: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        seen.append(query.dtype)
        return attend(query, *args, **options)  # type: ignore[arg-type]

    model = without_dropout(load_model(ModelConfig(model_name_or_path=str(tiny_model)), PLAIN))
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noting)
    attention = model.wav2vec2.encoder.layers[0].attention
    hidden = torch.randn(2, 30, model.config.hidden_size, requires_grad=True)
    mask = torch.arange(30)[None, None, None] < torch.tensor([30, 20])[:, None, None, None]
    outputs = []
    for name in (NAME, "sdpa"):
        model.set_attn_implementation(name)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None):
            outputs.append(attention(hidden, attention_mask=mask)[0])
    assert seen == ([torch.float32, torch.bfloat16] if precision else [torch.float32] * 2)
    assert outputs[0].dtype == outputs[1].dtype
    assert torch.allclose(outputs[0], outputs[1], atol=0.02 if precision else 0.0, rtol=0.02 if precision else 0.0)
    outputs[0].sum().backward()
    assert hidden.grad is not None


def test_nothing_of_it_is_saved(tiny_model: Path, tmp_path: Path) -> None:
    """The model that comes out is as it was; eager attention stays what it is."""
    model = load_model(ModelConfig(model_name_or_path=str(tiny_model)), PLAIN)
    assert model.config._attn_implementation == NAME
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text()).get("attn_implementation") is None
    model.set_attn_implementation("eager")
    use_fast_attention(model)
    assert model.config._attn_implementation == "eager"
