"""ABX by layer, and pairs of phones, as an evaluation records them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.evaluate.compared.of_labels import LabelMeasures, Labels
from runyoro_ssl.evaluate.heard.clips import HeldOut, HeldOutClip
from runyoro_ssl.evaluate.heard.features import Features
from runyoro_ssl.evaluate.heard.material import HeardMaterial

NUM_CLIPS, NUM_FRAMES = 12, 40
PHONES = [Phone("aeb"[place % 3], 0.1 * place, 0.1 * (place + 1)) for place in range(8)]
"""Of each clip: of five frames each."""
SAID = np.array([place // 5 % 3 for place in range(NUM_FRAMES)])


def labelled(folder: Path, depths: dict[str, int]) -> LabelMeasures:
    """Clips of two speakers whose phones differ, in half B, in all layers but the first; in half A, in none."""
    in_a = np.arange(NUM_CLIPS) % 2 == 0
    clips = tuple(HeldOutClip(row, str(row), str(row), str(row % 4 // 2), None, 0, row) for row in range(NUM_CLIPS))
    held_out = HeldOut(clips, None, 16_000, np.arange(NUM_CLIPS), "clips", in_a)  # type: ignore[arg-type]  # no sound
    starts = NUM_FRAMES * np.arange(NUM_CLIPS + 1)
    features = {}
    for name, depth in depths.items():
        (folder / name).mkdir()
        for layer in range(depth):
            is_told = (~in_a)[:, None, None] & (layer > 0)
            frames = np.where(is_told, np.eye(3)[SAID], 1.0).astype(np.float16)
            (folder / name / f"layer-{layer:02d}.f16").write_bytes(frames.tobytes())
        features[name] = {"none": Features(folder / name, tuple(range(NUM_CLIPS)), starts, (3,) * depth)}
    material = HeardMaterial(held_out, (), features)  # type: ignore[arg-type]  # one perturbation alone
    return LabelMeasures(material, Labels([PHONES] * NUM_CLIPS), dict.fromkeys(depths, 1))


def test_abx_is_told_of_every_layer_of_the_half_that_is_reported(tmp_path: Path) -> None:
    """Not of the half that chooses; log-mel spectra have one."""
    (curve,) = labelled(tmp_path, {"base": 4, "adapted": 4, "log-mel": 1}).curves()
    assert curve.values == {"base": [0.5, 0, 0, 0], "adapted": [0.5, 0, 0, 0], "log-mel": [0.5]}
    assert curve.at == {}
    assert "means of frames" in curve.words


def test_of_a_deep_model_some_layers_are_told_and_which(tmp_path: Path) -> None:
    """Those among which one is chosen."""
    (curve,) = labelled(tmp_path, {"base": 25, "adapted": 4}).curves()
    assert curve.at == {"base": [0, 3, 7, 10, 14, 17, 21, 24]}
    assert curve.values["base"] == [0.5, *[0.0] * 7]


def test_without_phones_there_is_no_curve(tmp_path: Path) -> None:
    """Nor where no clip of the half that is reported has some."""
    measures = labelled(tmp_path, {"base": 2, "adapted": 2})
    in_a = measures.material.held_out.in_a
    measures.labels.phones = [PHONES if chooses else None for chooses in in_a]
    assert list(measures.curves()) == []
    measures.labels.phones = None
    assert list(measures.curves()) == []


def test_pairs_are_told_once_abx_is_measured(tmp_path: Path) -> None:
    """At the layer of the measure: their mean is the error that is reported, as both speakers say all phones twice."""
    measures = labelled(tmp_path, {"base": 1, "adapted": 4, "log-mel": 1})
    within = next(one for one in measures.all() if one.key == "phones.abx_within")
    assert [tuple(pair.phones) for pair in measures.pairs] == [("a", "b"), ("a", "e"), ("b", "e")]
    for name in ("base", "adapted"):
        assert np.mean([pair.values[name] for pair in measures.pairs]) == pytest.approx(within.values[name])
    assert all(pair.values.keys() == {"base", "adapted"} for pair in measures.pairs)
    assert all(10 <= number <= 20 for pair in measures.pairs for number in pair.instances)
