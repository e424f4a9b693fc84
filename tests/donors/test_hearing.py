"""What is heard of a clip: the layer that was asked for, as plain transformers gives it, without the layers above."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import PLAIN, build_tiny_model, transformers
from runyoro_ssl.audio.decode import decode
from runyoro_ssl.donors.hearing import LayerFeatures, SpectralFeatures, standardised
from runyoro_ssl.evaluate.heard.subjects import LogMel, open_network
from runyoro_ssl.model.listener import without_upper_layers


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize(
    "overrides",
    [{}, {"do_stable_layer_norm": False, "feat_extract_norm": "group", "conv_bias": False}],
    ids=["layer norms", "group norm"],
)
def test_a_layer_does_not_need_those_above(corpus: Path, tmp_path: Path, overrides: dict[str, Any], layer: int) -> None:
    """Mean 0 and deviation 1 over the clip."""
    model = build_tiny_model(tmp_path / "model", num_hidden_layers=4, **overrides)
    wave = decode(next(iter(sorted(corpus.rglob("*.wav")))), sample_rate=16_000)
    network = open_network("base", model, PLAIN)
    without_upper_layers(network.listener, layer)
    assert len(network.listener.model.wav2vec2.encoder.layers) == max(1, layer)
    plain = transformers.Wav2Vec2Model.from_pretrained(model).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(model)
    heard = extractor(wave, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        states = plain(heard.input_values, output_hidden_states=True).hidden_states[layer][0].numpy()
    expected = (states - states.mean(0)) / states.std(0)
    np.testing.assert_allclose(standardised(LayerFeatures(network, layer), wave), expected, atol=2e-3)


def test_less_than_a_frame_has_none(tiny_model: Path) -> None:
    """No error: a pool may hold anything."""
    source = LayerFeatures(open_network("base", tiny_model, PLAIN), 1)
    assert standardised(source, np.zeros(300, np.float32)).shape == (0, 32)
    assert standardised(SpectralFeatures(LogMel(16_000)), np.zeros(300, np.float32)).shape == (0, 80)
