"""Loading a model: what cannot be trained is refused, in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import PLAIN, build_tiny_model, transformers
from runyoro_ssl.config import ModelConfig
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.model.forward import num_frames
from runyoro_ssl.model.load import load_model


def load(path: Path | str, **settings: object) -> object:
    """Load as `train` does."""
    return load_model(ModelConfig(model_name_or_path=str(path), **settings), PLAIN)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_git_lfs_pointer_is_named(tmp_path: Path, name: str) -> None:
    """Cloned without Git LFS: a few bytes of text stand for the weights."""
    build_tiny_model(tmp_path)
    (tmp_path / name).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 1269737156\n"
    )
    with pytest.raises(CheckpointError, match=rf"{name} is a Git LFS pointer of 135 bytes, .*: run `git lfs pull`"):
        load(tmp_path)


def drop_weights(folder: Path, prefixes: tuple[str, ...]) -> None:
    """Remove weights from a saved model."""
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith(prefixes)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_checkpoint_without_quantizer_is_refused(tmp_path: Path) -> None:
    """A fine-tuned checkpoint lacks the pre-training head; --set model.allow_new_head=true accepts that."""
    drop_weights(build_tiny_model(tmp_path), ("quantizer.", "project_"))
    with pytest.raises(CheckpointError, match=r"no pre-training head.*allow_new_head"):
        load(tmp_path)
    assert load(tmp_path, allow_new_head=True)


def test_incomplete_body_is_refused(tmp_path: Path) -> None:
    """A missing Transformer layer is never acceptable."""
    drop_weights(build_tiny_model(tmp_path), ("wav2vec2.encoder.layers.1.",))
    with pytest.raises(CheckpointError, match=r"lacks \d+ weights.*encoder.layers.1"):
        load(tmp_path, allow_new_head=True)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    """A truncated safetensors file gives one line."""
    weights = build_tiny_model(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model.safetensors that is cut short \(1,000 bytes\)"):
        load(tmp_path)


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    """HuBERT has no pre-training head in transformers."""
    transformers.HubertConfig(hidden_size=32).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r'type "hubert".*wav2vec 2\.0'):
        load(tmp_path)


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder"])
def test_missing_folder_is_named(name: str) -> None:
    """A path that is not there is not sent to the hub."""
    with pytest.raises(CheckpointError, match=r"no such folder; give a folder"):
        load(name)


def test_hub_out_of_reach_gives_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a hub id gives one clear line, with what to do."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"hub is out of reach.*doctor --fetch") as caught:
        load("facebook/wav2vec2-xls-r-300m")
    assert "\n" not in str(caught.value)


def test_old_weight_norm_names_load_exactly(tmp_path: Path) -> None:
    """Checkpoints from before torch's parametrised weight norm (weight_g, weight_v) are the same model."""
    folder = build_tiny_model(tmp_path)
    weights = {name: value.clone() for name, value in load_file(folder / "model.safetensors").items()}  # not the file
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in weights.items()
    }
    assert renamed.keys() != weights.keys()
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    state = load(folder).state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(state[name], value) for name, value in weights.items())


def test_dropouts_are_the_checkpoints_unless_set(tmp_path: Path) -> None:
    """None keeps the checkpoint's value; a number replaces it."""
    folder = build_tiny_model(tmp_path, hidden_dropout=0.25, layerdrop=0.2)
    model = load(folder, layerdrop=0.0)
    assert model.config.hidden_dropout == 0.25  # type: ignore[attr-defined]
    assert model.config.layerdrop == 0.0  # type: ignore[attr-defined]


def test_frames_are_those_of_transformers(tmp_path: Path) -> None:
    """`num_frames` equals the model's own output lengths, and is 0 for clips below the receptive field."""
    model = load(build_tiny_model(tmp_path))
    samples = torch.tensor([400, 16_000, 33_333, 240_000])
    expected = model._get_feat_extract_output_lengths(samples)  # type: ignore[attr-defined]
    assert torch.equal(num_frames(samples, model.config), expected)  # type: ignore[attr-defined]
    assert num_frames(torch.tensor([100]), model.config).tolist() == [0]  # type: ignore[attr-defined]


def test_adapter_models_are_refused(tmp_path: Path) -> None:
    """An adapter changes the frame rate; such checkpoints are for fine-tuning."""
    folder = build_tiny_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "add_adapter": True}))
    with pytest.raises(CheckpointError, match="adapter"):
        load(folder)


def test_weights_that_may_not_be_read_ask_for_no_pickle(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is allowed: what is wrong is said, and not how to lower a guard."""

    def refuse(*_args: object, **_options: object) -> object:
        raise PermissionError(13, "Permission denied", "/cache/model.safetensors")

    monkeypatch.setattr(transformers.Wav2Vec2ForPreTraining, "from_pretrained", refuse)
    for allow_pickle in (True, False):
        with pytest.raises(CheckpointError, match=r"cannot be read: .*Permission denied.*the right to read") as raised:
            load_model(ModelConfig(model_name_or_path=str(tiny_model), allow_pickle=allow_pickle), PLAIN)
        assert "pickle" not in str(raised.value)
