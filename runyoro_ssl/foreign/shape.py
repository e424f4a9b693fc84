"""The shape of a model, as config.json has it, read off its weights; what they do not say is of the published sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runyoro_ssl.errors import ConvertError
from runyoro_ssl.foreign.names import CODES, CONVOLUTIONS, LAYERS, POSITION_DIRECTION, TARGETS

Shapes = Mapping[str, tuple[int, ...]]

PROJECTION = "wav2vec2.feature_projection.projection.weight"
EXTRACTOR_SETTINGS: Mapping[str, Any] = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0,
    "return_attention_mask": True,
    "sampling_rate": 16_000,
}
"""The content of XLS-R's preprocessor_config.json; wav2vec2-base differs in `return_attention_mask`."""
STRIDES = (5, 2, 2, 2, 2, 2, 2)
"""wav2vec 2.0, sec. 4.2: a frame for every 20 ms at 16 kHz. No weight says it."""
HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16, 2048: 16}
"""Of attention, by width: of all published sizes (fairseq2, models/wav2vec2/config.py; omnilingual-asr,
models/wav2vec2_ssl/config.py). A wrong number would load, and be heard as a poorer model."""
TRAINED_WITH: Mapping[int, Mapping[str, float]] = {1024: {"attention_dropout": 0.1}}
TRAINED_WITH_ELSE = {"feat_proj_dropout": 0.1, "feat_quantizer_dropout": 0.1}
"""Dropouts of Omnilingual's models, by size: 300M, and 1B, 3B and 7B. All others are 0."""
NO_DROPOUT = dict.fromkeys(
    (
        *("attention_dropout", "hidden_dropout", "activation_dropout", "feat_proj_dropout", "feat_quantizer_dropout"),
        *("final_dropout", "layerdrop"),
    ),
    0.0,
)
USUAL = {
    "mask_time_prob": 0.65,  # at 0 transformers would have no masked_spec_embed, and drop the tensor
    "num_negatives": 100,
    "contrastive_logits_temperature": 0.1,
    "diversity_loss_weight": 0.1,
    "architectures": ["Wav2Vec2ForPreTraining"],
}


def read_shape(
    shapes: Shapes, *, norms_first: bool, is_omnilingual: bool = False, num_heads: int | None = None
) -> dict[str, Any]:
    """The settings of a Wav2Vec2Config, from the shapes of weights by transformers' names.

    Args:
        shapes: Of all weights.
        norms_first: Whether the norm of a layer comes before what it does, as in the larger models.
        is_omnilingual: Whether the dropouts that are written are those of Omnilingual ASR's training, or none.
        num_heads: Of attention; None: those of the published model of this width.

    Raises:
        ConvertError: Weights that a wav2vec 2.0 model has are missing, or heads are not known.
    """
    try:
        settings = _read(shapes, norms_first=norms_first, num_heads=num_heads)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise ConvertError(f"no wav2vec 2.0 model: it lacks, or has in another shape, {error}") from None
    return {**settings, **TRAINED_WITH.get(settings["hidden_size"], TRAINED_WITH_ELSE)} if is_omnilingual else settings


def _read(shapes: Shapes, *, norms_first: bool, num_heads: int | None) -> dict[str, Any]:
    convolutions = [shapes[f"{CONVOLUTIONS}.{number}.conv.weight"] for number in range(_count(shapes, CONVOLUTIONS))]
    hidden = shapes[PROJECTION][0]
    positions = shapes[POSITION_DIRECTION]
    codes = shapes[CODES]
    code_dim = shapes[f"{TARGETS}.weight"][1]
    groups = code_dim // codes[2]
    heads = num_heads or HEADS.get(hidden)
    if heads is None or hidden % heads:
        raise ConvertError(
            f"a width of {hidden} is of no published model, and heads of attention stand in no weight: give `invoke "
            f"convert` their number, one that divides {hidden}, as --num-heads"
        )
    return {
        "hidden_size": hidden,
        "num_hidden_layers": _count(shapes, LAYERS),
        "num_attention_heads": heads,
        "intermediate_size": shapes[f"{LAYERS}.0.feed_forward.intermediate_dense.weight"][0],
        "conv_dim": [shape[0] for shape in convolutions],
        "conv_kernel": [shape[2] for shape in convolutions],
        "conv_stride": list(STRIDES[: len(convolutions)]),
        "conv_bias": f"{CONVOLUTIONS}.0.conv.bias" in shapes,
        "feat_extract_norm": "layer" if f"{CONVOLUTIONS}.1.layer_norm.weight" in shapes else "group",
        "do_stable_layer_norm": norms_first,
        "num_conv_pos_embeddings": positions[2],
        "num_conv_pos_embedding_groups": hidden // positions[1],
        "codevector_dim": code_dim,
        "proj_codevector_dim": shapes[f"{TARGETS}.weight"][0],
        "num_codevector_groups": groups,
        "num_codevectors_per_group": codes[1] // groups,
        **USUAL,
        **NO_DROPOUT,
    }


def _count(shapes: Shapes, stem: str) -> int:
    """How many numbered parts there are below a name, none left out: what has gaps may have any number."""
    place = stem.count(".") + 1
    numbers = {name.split(".")[place] for name in shapes if name.startswith(f"{stem}.")}
    missing = {str(number) for number in range(len(numbers))} - numbers
    if missing:
        raise KeyError(f"{stem}.{min(missing)}")
    return len(numbers)
