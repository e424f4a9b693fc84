"""What is heard of a clip: the layer that was asked for, as plain transformers gives it, without the layers above."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import PLAIN, build_tiny_model, transformers
from runyoro_ssl.audio.decode import decode
from runyoro_ssl.donors.hearing import CENTRES, LayerFeatures, SpectralFeatures, open_ear, standardised
from runyoro_ssl.evaluate.heard.clips import choose_trained
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


HUGE = (b"(20, 80), }          ", b"(999999999999, 80), }")
SPOILED: dict[str, Callable[[Path, list[Path]], object]] = {
    "a pipe": lambda centres, _: _make_pipe(centres),
    "an archive": lambda centres, blocks: shutil.copy(blocks[0], centres),
    "half an archive": lambda centres, _: centres.write_bytes(b"PK\x03\x04" + bytes(90)),
    "another width": lambda centres, _: np.save(centres, np.ones((20, 5), np.float32)),
    "no numbers": lambda centres, _: np.save(centres, np.full((20, 80), np.nan, np.float32)),
    "text": lambda centres, _: np.save(centres, np.full((20, 80), "1")),
    "huge": lambda centres, _: centres.write_bytes(centres.read_bytes().replace(*HUGE)),
    "a number of starts": lambda _, blocks: np.savez(blocks[0], units=np.zeros(5, np.uint16), starts=np.array(5)),
    "starts that go back": lambda _, blocks: _change(blocks[0], starts=_back),
    "units that are fractions": lambda _, blocks: _change(blocks[0], units=lambda units: units + 0.5),
    "units in two columns": lambda _, blocks: _change(blocks[0], units=lambda units: np.stack([units, units], 1)),
}


def _make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _back(starts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0, -7], starts[2:]])


def _change(block: Path, **changes: Callable[[np.ndarray], np.ndarray]) -> None:
    with np.load(block) as kept:
        np.savez(block, **{name: changes.get(name, np.asarray)(kept[name]) for name in kept})


@pytest.mark.parametrize("kind", SPOILED)
def test_what_is_kept_and_damaged_is_heard_again(dataset: Path, tmp_path: Path, kind: str) -> None:
    """The units are as they were; nobody waits for a pipe."""

    def hear() -> list[np.ndarray]:
        target = choose_trained(dataset, sampling_rate=16_000, max_seconds=60, seed=0, of_clips=4000)
        source = SpectralFeatures(LogMel(16_000))
        ear = open_ear(source, target, num_units=20, seed=0, cache_dir=tmp_path, on_clip=lambda _: None)
        clips = target.clips
        keys = [(clip.num_samples, clip.crc32) for clip in clips]
        return list(ear.units(target.waveforms, [clip.row for clip in clips], keys, lambda _: None))

    first = hear()
    (folder,) = tmp_path.iterdir()
    blocks, was = sorted(folder.glob("*.npz")), (folder / CENTRES).read_bytes()
    SPOILED[kind](folder / CENTRES, blocks)
    if not (folder / CENTRES).is_file() or (folder / CENTRES).read_bytes() != was:
        for block in blocks:  # so that centres are asked for
            block.unlink()
    for one, again in zip(first, hear(), strict=True):
        np.testing.assert_array_equal(one, again)
