"""The objective, against transformers' own forward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import PLAIN, ClipsInMemory, build_tiny_model
from runyoro_ssl.batches.build import BatchBuilder, TrainingBatch
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.builtins.collators import PaddedCollator
from runyoro_ssl.config import MaskingConfig, ModelConfig
from runyoro_ssl.model.forward import encode
from runyoro_ssl.model.load import load_model
from runyoro_ssl.model.objective import Objective, compute_objective, contrastive_logits, perplexity
from support.reference import (
    all_frame_gumbel_noise,
    at_masked_frames,
    gradients,
    relative_difference,
    shared_gumbel_noise,
    transformers_forward,
    without_dropout,
)

UNPADDED = (40_000, 40_000)
PADDED = (48_000, 32_000, 37_777)


def tiny(tmp_path: Path, **overrides: Any) -> Any:
    """A tiny model in training mode, without dropout."""
    build_tiny_model(tmp_path, **overrides)
    return without_dropout(load_model(ModelConfig(model_name_or_path=str(tmp_path)), PLAIN))


def make_batch(
    model: Any, num_samples: tuple[int, ...], *, rows: Sequence[int] | None = None, **masking: Any
) -> TrainingBatch:
    """A training batch of seeded noise, or of some rows of it."""
    generator = torch.Generator().manual_seed(1)
    clips = ClipsInMemory((0.1 * torch.randn(size, generator=generator)).numpy() for size in num_samples)
    group_norm = model.config.feat_extract_norm == "group"
    builder = BatchBuilder(
        clips=clips,
        model_config=model.config,
        masking=MaskingConfig(**masking),
        collator=PaddedCollator(),
        augmentations=(),
        do_normalize=True,
        use_attention_mask=not group_norm,
        seed=0,
    )
    return builder[MicroBatch.of(range(len(clips)) if rows is None else rows)]


def run_ours(model: Any, batch: TrainingBatch, noise: torch.Tensor | None) -> Objective:
    """Our forward."""
    masks = batch.masks
    context, features = encode(
        model,
        batch.waveforms,
        attention_mask=batch.attention_mask,
        time_mask=masks.time_mask,
        feature_mask=masks.feature_mask,
    )
    return compute_objective(
        model,
        context,
        features,
        positions=masks.positions,
        valid=masks.valid,
        negatives=masks.negatives,
        gumbel_noise=None if noise is None else at_masked_frames(noise, batch),
    )


@pytest.mark.parametrize("num_samples", [UNPADDED, PADDED], ids=["unpadded", "padded"])
@pytest.mark.parametrize(
    "architecture",
    [
        {},
        {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False},
        {"feat_extract_activation": "relu"},
        {"attn_implementation": "eager"},
    ],
    ids=["layer-norm", "group-norm", "another activation", "eager attention"],
)
def test_equals_transformers(tmp_path: Path, architecture: dict[str, Any], num_samples: tuple[int, ...]) -> None:
    """Loss to 1e-6 and the whole gradient to 1e-5 relative, for XLS-R's and the base model's feature encoder."""
    model = tiny(tmp_path, **architecture)
    batch = make_batch(model, num_samples)
    noise = all_frame_gumbel_noise(model, batch)
    with shared_gumbel_noise(noise):
        theirs = transformers_forward(model, batch, num_samples)
    theirs.loss.backward()
    expected = gradients(model)
    model.zero_grad()

    ours = run_ours(model, batch, noise)
    torch.autograd.backward(ours.loss)

    assert ours.loss.item() == pytest.approx(theirs.loss.item(), rel=1e-6)
    assert ours.contrastive_loss.item() == pytest.approx(theirs.contrastive_loss.item(), rel=1e-5)
    assert ours.diversity_loss.item() == pytest.approx(theirs.diversity_loss.item(), rel=1e-5)
    assert perplexity(ours.code_mass).item() == pytest.approx(theirs.codevector_perplexity.item(), rel=1e-5)
    assert relative_difference(gradients(model), expected) < 1e-5


def test_evaluation_equals_transformers(tmp_path: Path) -> None:
    """In evaluation mode codes are the best ones, not drawn, as in transformers."""
    model = tiny(tmp_path).eval()
    batch = make_batch(model, PADDED)
    with torch.no_grad():
        theirs = transformers_forward(model, batch, PADDED)
        ours = run_ours(model, batch, None)
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    assert perplexity(ours.code_mass).item() == pytest.approx(theirs.codevector_perplexity.item(), rel=1e-5)


def test_collapsed_codebook_is_no_success(tmp_path: Path) -> None:
    """When every frame has the same codes there are no negatives: loss 0, but accuracy 0 and perplexity 2."""
    model = tiny(tmp_path).eval()
    with torch.no_grad():
        model.quantizer.weight_proj.weight.zero_()
        model.quantizer.weight_proj.bias.copy_(torch.linspace(1, 0, 32))
        ours = run_ours(model, make_batch(model, UNPADDED), None)
    assert ours.contrastive_loss.item() == 0
    assert ours.chance_loss.item() == 0
    assert ours.num_correct.item() == 0
    assert perplexity(ours.code_mass).item() == pytest.approx(2.0)


def test_equal_targets_are_no_success(tmp_path: Path) -> None:
    """When all codevectors are zero, no target is nearer than another: the loss is that of guessing, accuracy 0."""
    model = tiny(tmp_path).eval()
    with torch.no_grad():
        model.quantizer.codevectors.zero_()
        ours = run_ours(model, make_batch(model, UNPADDED), None)
    assert ours.contrastive_loss.item() == pytest.approx(ours.chance_loss.item(), rel=1e-5)
    assert ours.num_correct.item() == 0


def test_sums_are_those_of_the_clips(tmp_path: Path) -> None:
    """Each by itself, where nothing is padded; what stands at the padding of a batch counts for nothing."""
    model = tiny(tmp_path).eval()
    lengths = (48_000, 32_000, 37_777, 21_000, 44_444, 16_000)
    with torch.no_grad():
        whole = run_ours(model, make_batch(model, lengths), None)
        alone = [run_ours(model, make_batch(model, lengths, rows=[row]), None) for row in range(len(lengths))]
    assert whole.num_correct.item() > 0
    for name in ("contrastive_loss", "num_correct", "chance_loss", "code_mass"):
        parts = torch.stack([getattr(one, name) for one in alone]).sum(dim=0)
        torch.testing.assert_close(getattr(whole, name), parts, rtol=1e-4, atol=1e-4)


def test_dead_code_has_a_finite_gradient(tmp_path: Path) -> None:
    """A code whose probability underflows to 0 everywhere: transformers' gradient is NaN there, ours is not."""
    model = tiny(tmp_path)
    with torch.no_grad():
        model.quantizer.weight_proj.bias[3] = -1000.0
    batch = make_batch(model, UNPADDED)
    ours = run_ours(model, batch, None)
    torch.autograd.backward(ours.loss)
    assert ours.code_mass.flatten()[3] == 0
    ours_found = gradients(model)
    assert len(ours_found) > 40
    assert all(gradient.isfinite().all() for gradient in ours_found.values())

    model.zero_grad()
    torch.autograd.backward(transformers_forward(model, batch, UNPADDED).loss)
    assert not all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_clip_without_masks_adds_nothing(tmp_path: Path) -> None:
    """A clip too short for its masks leaves the loss finite and the sums those of the other clip."""
    model = tiny(tmp_path).eval()
    with torch.no_grad():
        both = run_ours(model, make_batch(model, (40_000, 2_000)), None)
        alone = run_ours(model, make_batch(model, (40_000,)), None)
    assert both.contrastive_loss.item() == pytest.approx(alone.contrastive_loss.item(), rel=1e-4)
    assert both.code_mass.sum().item() == alone.code_mass.sum().item()


@pytest.mark.parametrize("length", [1.0, 1e-4])
def test_logits_put_the_positive_first(length: float) -> None:
    """Cosine similarity over the temperature: 1 / 0.1 for the positive itself, 0 for orthogonal negatives."""
    targets = torch.eye(3)[None]
    negatives = torch.tensor([[[1, 2], [0, 2], [0, 1]]])
    logits = contrastive_logits(length * targets, targets, torch.tensor([[0, 1, 2]]), negatives, temperature=0.1)
    assert logits.argmax(dim=-1).tolist() == [[0, 0, 0]]
    assert logits[0, 0].tolist() == pytest.approx([10.0, 0.0, 0.0])


def test_feature_mask_zeroes_hidden_dimensions(tmp_path: Path) -> None:
    """mask_feature_prob sets the chosen hidden dimensions of the network's input to zero, and no others."""
    model = tiny(tmp_path).eval()
    seen: list[torch.Tensor] = []
    positions = model.wav2vec2.encoder.pos_conv_embed
    positions.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    masked = make_batch(model, UNPADDED, mask_feature_prob=0.5, mask_feature_length=4)
    with torch.no_grad():
        run_ours(model, masked, None)
        run_ours(model, make_batch(model, UNPADDED), None)
    feature_mask = masked.masks.feature_mask
    assert feature_mask is not None
    assert 0.1 < feature_mask.float().mean() < 0.7
    assert torch.equal(seen[0], seen[1] * ~feature_mask[:, None, :])
