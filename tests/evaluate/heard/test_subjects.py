"""What is compared: features and losses are those of transformers' own forward pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import PLAIN, TINY, build_tiny_model, transformers
from runyoro_ssl.batches.build import NORMALISATION_EPSILON
from runyoro_ssl.config import MaskingConfig
from runyoro_ssl.errors import CheckpointError, EvaluationError, RunyoroError
from runyoro_ssl.evaluate.heard.subjects import LogMel, key_of, open_network
from runyoro_ssl.evaluate.measures.fit import NUM_NEGATIVES, measure_clip, per_group, perplexity_of
from runyoro_ssl.model.masking import make_masks
from runyoro_ssl.model.objective import perplexity


@pytest.fixture
def waveform() -> np.ndarray:
    """Three seconds of noise with a drift."""
    generator = np.random.default_rng(0)
    return (0.1 * generator.standard_normal(48_000) + 0.01).astype(np.float32)


def test_features_are_the_hidden_states_of_transformers(tiny_model: Path, waveform: np.ndarray) -> None:
    """The input of each layer, and what the model gives at last."""
    network = open_network("base", tiny_model, PLAIN)
    found = network.features(waveform)
    assert network.num_layers == len(found) == 3
    plain = transformers.Wav2Vec2Model.from_pretrained(tiny_model).eval()
    normal = (waveform - waveform.mean()) / np.sqrt(waveform.var() + NORMALISATION_EPSILON)
    with torch.no_grad():
        expected = plain(torch.from_numpy(normal)[None], output_hidden_states=True)
    for one, other in zip(found[:-1], expected.hidden_states[:-1], strict=True):
        assert one == pytest.approx(other[0].numpy(), abs=1e-4)
    assert found[-1] == pytest.approx(expected.last_hidden_state[0].numpy(), abs=1e-4)


def test_the_loss_of_a_clip_is_that_of_transformers(tiny_model: Path, waveform: np.ndarray) -> None:
    """With the same mask and negatives; the codes of both add up to the masked frames."""
    network = open_network("base", tiny_model, PLAIN)
    found = measure_clip(network, waveform, "clip")
    inputs = network.prepare(waveform)
    frames = found_frames = network.features(waveform)[0].shape[0]
    masks = make_masks([frames], [("evaluate", "clip")], MaskingConfig(), num_negatives=NUM_NEGATIVES, hidden_size=32)
    places = masks.positions[0]
    negatives = torch.zeros(1, found_frames, NUM_NEGATIVES, dtype=torch.int64)
    negatives[0, places] = places[masks.negatives[0]]
    plain = transformers.Wav2Vec2ForPreTraining.from_pretrained(tiny_model).eval()
    with torch.no_grad():
        expected = plain(inputs, mask_time_indices=masks.time_mask, sampled_negative_indices=negatives)
    assert found.loss == pytest.approx(float(expected.contrastive_loss), rel=1e-4)
    assert found.num_masked == float(masks.time_mask.sum())
    assert found.hard.sum() == pytest.approx(2 * found.num_masked)
    assert found.soft.sum() == pytest.approx(2 * found.num_masked, rel=1e-4)
    whole = perplexity_of([[found]], np.zeros(1, dtype=np.int64), "hard")(np.ones((1, 1)))
    assert whole[0, 0] == pytest.approx(float(perplexity(torch.from_numpy(found.hard))))
    assert per_group([[found]], np.zeros(1, dtype=np.int64), "loss").values[0] == pytest.approx(
        found.loss / found.num_masked
    )


def test_masks_are_of_the_clip_and_not_of_the_model(tiny_model: Path, waveform: np.ndarray, tmp_path: Path) -> None:
    """Another model sees the same; another clip another."""
    other = build_tiny_model(tmp_path / "other", num_hidden_layers=1)
    numbers = []
    for folder, clip in ((tiny_model, "a"), (other, "a"), (tiny_model, "b"), (tiny_model, "c")):
        network = open_network("base", folder, PLAIN)
        numbers.append(measure_clip(network, waveform, clip).num_masked)
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) > 1


def test_random_weights_are_always_the_same_and_never_the_models(tiny_model: Path, waveform: np.ndarray) -> None:
    """Of the same shape."""
    found = []
    for _ in range(2):
        network = open_network("random", tiny_model, PLAIN, is_random=True)
        assert network.head is None
        found.append(network.features(waveform)[-1])
    network = open_network("base", tiny_model, PLAIN)
    assert np.abs(network.features(waveform)[-1] - found[0]).max() > 0.1
    assert (found[0] == found[1]).all()


def test_a_key_is_of_weights_and_settings(tiny_model: Path, tmp_path: Path) -> None:
    """Wherever they lie, and whoever wrote them; other weights, or another setting, have another."""
    copy = build_tiny_model(tmp_path / "copy")
    assert key_of(copy) == key_of(tiny_model)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"transformers_version": "9", "_name_or_path": "x"}))
    assert key_of(copy) == key_of(tiny_model)
    (copy / "config.json").write_text(json.dumps(config | {"hidden_dropout": 0.3}))
    assert key_of(copy) != key_of(tiny_model)
    assert key_of(tiny_model, is_random=True) != key_of(tiny_model)


def test_log_mel_has_the_frames_of_the_models(tiny_model: Path, waveform: np.ndarray) -> None:
    """As many, each normalised."""
    (found,) = LogMel(16_000).features(waveform)
    network = open_network("base", tiny_model, PLAIN)
    assert found.shape == (network.features(waveform)[0].shape[0], 80)
    assert np.abs(found.mean(0)).max() < 1e-4
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    bands = np.abs(np.fft.rfft(tone[:400] * np.hanning(400)))
    assert bands.argmax() == 25


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    """In a line."""
    with pytest.raises(RunyoroError):
        open_network("base", tmp_path, PLAIN)
    whole = build_tiny_model(tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(CheckpointError, match=r"lacks \d+ weights of its own architecture"):
        open_network("b", whole, PLAIN)
    other = build_tiny_model(tmp_path / "other", conv_kernel=(10, 3, 3, 3, 3, 2, 4))
    with pytest.raises(EvaluationError, match="frames are of 720 samples, 320 apart, at 16000 Hz"):
        open_network("b", other, PLAIN)


def test_another_kind_of_model_is_said(tmp_path: Path) -> None:
    """Before anything of it is loaded: HuBERT and Data2Vec, with the same feature extractor."""
    shape = {name: value for name, value in TINY.items() if name in ("hidden_size", "num_hidden_layers", "conv_dim")}
    for config in (transformers.HubertConfig(**shape), transformers.Data2VecAudioConfig(**shape)):
        folder = tmp_path / config.model_type
        config.save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
        with pytest.raises(CheckpointError, match=f'is of type "{config.model_type}"'):
            open_network("base", folder, PLAIN)
