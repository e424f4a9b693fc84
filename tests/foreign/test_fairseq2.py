"""Models of fairseq2, converted: the same numbers as its own code gives, and no weight where another one belongs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runyoro_ssl.foreign.names import FAIRSEQ2, renamed
from runyoro_ssl.foreign.shape import read_shape
from runyoro_ssl.foreign.write import convert_file
from runyoro_ssl.torchaudio_compat import import_transformers

HERE = Path(__file__).parent
NUM_HEADS = 4
TOLERANCE = 2e-5
PUBLISHED = {
    "300m": (1024, 24, 4096, 768, 317_390_592),
    "1b": (1280, 48, 5120, 1024, 965_514_752),
    "3b": (2048, 60, 8192, 1024, 3_064_124_672),
    "7b": (2048, 128, 8192, 1024, 6_488_487_168),
}
"""Width, layers, width inside a layer, width of codes, weights: omnilingual-asr, models/wav2vec2_ssl/config.py."""
UNSEEN = "k_proj.bias"
"""No output depends on it, for the softmax of attention does not: its name alone is proof."""


@pytest.fixture(scope="module")
def made() -> dict[str, torch.Tensor]:
    """A model of three layers (`model.*`), a padded batch (`in.*`), and what fairseq2's own code made of it (`out.*`).

    Every weight was disturbed by noise, so that no norm is all ones.
    """
    return load_file(HERE / "fairseq2.safetensors")


@pytest.fixture(scope="module")
def weights(made: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of that model, by fairseq2's names."""
    return {name.removeprefix("model."): tensor for name, tensor in made.items() if name.startswith("model.")}


@pytest.fixture(scope="module")
def model(weights: Mapping[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """That model, converted and loaded by transformers."""
    folder = tmp_path_factory.mktemp("fairseq2")
    torch.save({"model": weights}, folder / "model.pt")
    convert_file(folder / "model.pt", folder / "converted", num_heads=NUM_HEADS)
    kind = import_transformers().Wav2Vec2ForPreTraining
    loaded, info = kind.from_pretrained(folder / "converted", output_loading_info=True)
    assert not any(info.values()), info
    return loaded.eval()


def listed() -> list[tuple[str, tuple[int, ...], str]]:
    """Names, shapes and transformers' names of omniASR_W2V_300M."""
    lines = (HERE / "omniasr-w2v-300m.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    return [(name, tuple(int(size) for size in shape.strip("()").split(",") if size), to) for name, shape, to in rows]


def of_size(size: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published size: those of 300M, with other widths, and as many layers."""
    width, layers, inner, codes, _ = PUBLISHED[size]
    widths = dict(zip((1024, 4096, 768, 384, 64), (width, inner, codes, codes // 2, width // 16), strict=True))
    found: dict[str, tuple[int, ...]] = {}
    for name, of_300m, _to in listed():
        shape = tuple(widths.get(side, side) for side in of_300m)
        if ".layers.0." in name and name.startswith("encoder.layers"):
            found |= {name.replace(".0.", f".{layer}.", 1): shape for layer in range(layers)}
        elif not name.startswith("encoder.layers"):
            found[name] = shape
    return found


def test_every_name_is_that_of_the_list() -> None:
    """430 of them; one has no counterpart."""
    rows = listed()
    assert len(rows) == 430
    assert {name: renamed(name, FAIRSEQ2) or "-" for name, _, _ in rows} == {
        name: to if to.startswith(("wav2vec2", "quantizer", "project")) else "-" for name, _, to in rows
    }


@pytest.mark.parametrize("size", PUBLISHED)
def test_every_size_has_the_weights_of_transformers(size: str) -> None:
    """The same names and shapes, one to one, and as many weights as were published."""
    ours = {to: shape for name, shape in of_size(size).items() if (to := renamed(name, FAIRSEQ2))}
    transformers = import_transformers()
    settings = read_shape(ours, norms_first=True, is_omnilingual=True)
    with torch.device("meta"):
        model = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**settings))
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == ours
    assert sum(tensor.numel() for tensor in model.parameters()) == PUBLISHED[size][-1]
    assert settings["num_attention_heads"] == 16
    assert (settings["attention_dropout"], settings["feat_proj_dropout"]) == ((0.1, 0) if size == "300m" else (0, 0.1))


def worst(model: Any, made: Mapping[str, torch.Tensor]) -> float:
    """The largest difference from what fairseq2's code gave, over the frames that are there."""
    waveforms, num_samples = made["in.waveforms"], made["in.num_samples"]
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    there = torch.arange(made["out.features"].shape[1]) < made["in.num_frames"][:, None]
    with torch.no_grad():
        found = model.wav2vec2(waveforms, attention_mask=mask, mask_time_indices=made["in.time_mask"].bool())
        pairs = [
            (found.last_hidden_state, "encoder_output"),
            (found.extract_features, "features"),
            (model.quantizer.weight_proj(found.extract_features), "entry_proj_scores"),
            (model.project_hid(found.last_hidden_state), "final_proj"),
        ]
        differences = [float((ours - made[f"out.{name}"])[there].abs().max()) for ours, name in pairs]
        entries = model.quantizer.codevectors[0].view(model.quantizer.num_groups, model.quantizer.num_vars, -1)
        joined = model.project_q(torch.cat(list(entries), dim=-1))
        return max(*differences, float((joined - made["out.final_target_proj_of_entries"]).abs().max()))


def test_numbers_are_those_of_fairseq2(model: Any, made: Mapping[str, torch.Tensor]) -> None:
    """Features, scores of codes, the encoder's output, both projections; a padded, masked batch."""
    assert worst(model, made) < TOLERANCE


def test_a_swap_of_two_weights_would_be_seen(
    model: Any, made: Mapping[str, torch.Tensor], pytestconfig: pytest.Config
) -> None:
    """The proof sees what loading does not: of any two of one shape, that they changed places. `--faults 50`: all."""
    state = dict(model.named_parameters())
    pairs = [
        pair for pair in itertools.combinations(state, 2)
        if state[pair[0]].shape == state[pair[1]].shape and not all(name.endswith(UNSEEN) for name in pair)
    ]  # fmt: skip
    if pytestconfig.getoption("faults") < 50:
        pairs = random.Random(0).sample(pairs, 40)  # noqa: S311 - nothing secret
    for one, other in pairs:
        swap(state[one], state[other])
        assert worst(model, made) > 10 * TOLERANCE, (one, other)
        swap(state[one], state[other])
    assert worst(model, made) < TOLERANCE


def test_the_name_covers_what_no_output_shows() -> None:
    """Where the bias of keys goes is read off its name."""
    for layer in (0, 7, 23):
        name = f"encoder.layers.{layer}.self_attn.k_proj.bias"
        assert renamed(name, FAIRSEQ2) == f"wav2vec2.encoder.layers.{layer}.attention.k_proj.bias"


@torch.no_grad()
def swap(one: torch.Tensor, other: torch.Tensor) -> None:
    """Exchange two weights."""
    kept = one.clone()
    one.copy_(other)
    other.copy_(kept)
