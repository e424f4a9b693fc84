"""Models of fairseq, converted: made here from transformers' own, by the names that fairseq gives."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any, List  # noqa: UP035 - as omegaconf has it

import numpy as np
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


TYPES = {"ref_type": Any, "object_type": dict, "key_type": str, "element_type": List[int], "cache": defaultdict(list)}  # noqa: UP006
"""What omegaconf says of each field, as it is in files of it: `OmegaConf.structured` of versions 2.0.6 and 2.3."""


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "before torch 1.6"])
@pytest.mark.parametrize("shape", [{}, GROUP_NORM], ids=["norms first", "group norm"])
def test_what_comes_back_is_what_it_was(tmp_path: Path, shape: dict[str, Any], is_archive: bool) -> None:  # noqa: FBT001
    """All weights, by the bit; settings beside them are read as nothing, and what they are of need not be installed."""
    source = build_tiny_model(tmp_path / "model", **shape)
    kind = import_transformers().Wav2Vec2ForPreTraining
    model = kind.from_pretrained(source)
    settings = {"args": argparse.Namespace(lr=[1]), "cfg": DictConfig(a=DictConfig(**TYPES), epochs=np.float64(1))}
    file = write_foreign(source, tmp_path / "xlsr.pt", FAIRSEQ, **settings)
    if not is_archive:
        torch.save(torch.load(file, weights_only=False), file, _use_new_zipfile_serialization=False)
    sys.modules.pop("omegaconf")
    convert_file(file, tmp_path / "converted", num_heads=model.config.num_attention_heads)
    back, info = kind.from_pretrained(tmp_path / "converted", output_loading_info=True)
    assert not any(info.values()), info
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    for setting in ("do_stable_layer_norm", "feat_extract_norm", "conv_bias", "conv_stride", "num_codevector_groups"):
        assert getattr(back.config, setting) == getattr(model.config, setting), setting
