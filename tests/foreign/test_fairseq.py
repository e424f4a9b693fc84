"""Models of fairseq, converted: made here from transformers' own, by the names that fairseq gives."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from conftest import build_tiny_model
from runyoro_ssl.foreign.names import FAIRSEQ
from runyoro_ssl.foreign.write import convert_file
from runyoro_ssl.torchaudio_compat import import_transformers
from support.foreign import write_foreign

GROUP_NORM = {"do_stable_layer_norm": False, "feat_extract_norm": "group", "conv_bias": False}


class DictConfig:
    """In the place of omegaconf's, which keeps what it has as attributes, too."""

    def __init__(self, **content: Any) -> None:
        self.__dict__["_content"] = content


@pytest.fixture(autouse=True)
def _omegaconf(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a file is written; whoever reads it need not have it."""
    module = ModuleType("omegaconf")
    module.DictConfig = DictConfig  # type: ignore[attr-defined]
    monkeypatch.setattr(DictConfig, "__module__", module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("shape", [{}, GROUP_NORM], ids=["norms first", "group norm"])
def test_what_comes_back_is_what_it_was(tmp_path: Path, shape: dict[str, Any]) -> None:
    """All weights, by the bit; settings beside them are read as nothing, and what they are of need not be installed."""
    source = build_tiny_model(tmp_path / "model", **shape)
    kind = import_transformers().Wav2Vec2ForPreTraining
    model = kind.from_pretrained(source)
    settings = {"args": argparse.Namespace(lr=[1]), "cfg": DictConfig(a=DictConfig(b=1))}
    file = write_foreign(source, tmp_path / "xlsr.pt", FAIRSEQ, **settings)
    sys.modules.pop("omegaconf")
    convert_file(file, tmp_path / "converted", num_heads=model.config.num_attention_heads)
    back, info = kind.from_pretrained(tmp_path / "converted", output_loading_info=True)
    assert not any(info.values()), info
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    for setting in ("do_stable_layer_norm", "feat_extract_norm", "conv_bias", "conv_stride", "num_codevector_groups"):
        assert getattr(back.config, setting) == getattr(model.config, setting), setting
