"""Names of weights: what fairseq2 and fairseq call what transformers calls otherwise. Nothing else differs.

No tensor is transposed, split or joined. The names of fairseq2 are those of its models/wav2vec2 (interop.py, model.py,
factory.py); those of fairseq are in transformers' convert_wav2vec2_original_pytorch_checkpoint_to_pytorch.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

ENCODER = "wav2vec2.encoder"
CONVOLUTIONS, LAYERS = "wav2vec2.feature_extractor.conv_layers", f"{ENCODER}.layers"
CONVOLUTION, LAYER = f"{CONVOLUTIONS}.#", f"{LAYERS}.#"
POSITIONS = f"{ENCODER}.pos_conv_embed.conv"
POSITION_SIZE = f"{POSITIONS}.parametrizations.weight.original0"
POSITION_DIRECTION = f"{POSITIONS}.parametrizations.weight.original1"
"""A weight norm's: transformers 5 keeps it as torch's parametrisation."""
CODES, CODE_SCORES = "quantizer.codevectors", "quantizer.weight_proj"
TARGETS, PREDICTIONS = "project_q", "project_hid"
LAST = (".weight", ".bias")
HEAD = frozenset({CODES, *(f"{stem}{last}" for stem in (CODE_SCORES, TARGETS, PREDICTIONS) for last in LAST)})
"""Weights that only pre-training needs."""


class Toolkit(NamedTuple):
    """How a toolkit names weights, with # for the number of a layer, less `.weight` and `.bias`.

    `dropped`: what has no counterpart. `recognises`: what only a recogniser has, whose pre-training head is gone.
    """

    name: str
    table: Mapping[str, str]
    dropped: tuple[str, ...]
    recognises: tuple[str, ...]


FAIRSEQ2 = Toolkit(
    "fairseq2",
    {
        "encoder_frontend.feature_extractor.layers.#.conv": f"{CONVOLUTION}.conv",
        "encoder_frontend.feature_extractor.layers.#.layer_norm": f"{CONVOLUTION}.layer_norm",
        "encoder_frontend.feature_extractor.layers.#.group_norm": f"{CONVOLUTION}.layer_norm",
        "encoder_frontend.post_extract_layer_norm": "wav2vec2.feature_projection.layer_norm",
        "encoder_frontend.model_dim_proj": "wav2vec2.feature_projection.projection",
        "encoder_frontend.pos_encoder.conv.weight_g": POSITION_SIZE,
        "encoder_frontend.pos_encoder.conv.weight_v": POSITION_DIRECTION,
        "encoder_frontend.pos_encoder.conv": POSITIONS,
        "encoder_frontend.layer_norm": f"{ENCODER}.layer_norm",  # where norms come after
        "encoder.layer_norm": f"{ENCODER}.layer_norm",  # where they come before
        "encoder.layers.#.self_attn_layer_norm": f"{LAYER}.layer_norm",
        "encoder.layers.#.self_attn.q_proj": f"{LAYER}.attention.q_proj",
        "encoder.layers.#.self_attn.k_proj": f"{LAYER}.attention.k_proj",
        "encoder.layers.#.self_attn.v_proj": f"{LAYER}.attention.v_proj",
        "encoder.layers.#.self_attn.output_proj": f"{LAYER}.attention.out_proj",
        "encoder.layers.#.ffn_layer_norm": f"{LAYER}.final_layer_norm",
        "encoder.layers.#.ffn.inner_proj": f"{LAYER}.feed_forward.intermediate_dense",
        "encoder.layers.#.ffn.output_proj": f"{LAYER}.feed_forward.output_dense",
        "masker.temporal_mask_embed": "wav2vec2.masked_spec_embed",
        "quantizer.entries": CODES,
        "quantizer.entry_proj": CODE_SCORES,
        "final_target_proj": TARGETS,
        "final_proj": PREDICTIONS,
    },
    dropped=("quantizer.num_updates",),
    recognises=("decoder.", "encoder_stacker", "text_frontend", "llama"),
)
FAIRSEQ = Toolkit(
    "fairseq",
    {
        "feature_extractor.conv_layers.#.0": f"{CONVOLUTION}.conv",
        "feature_extractor.conv_layers.#.2.1": f"{CONVOLUTION}.layer_norm",
        "feature_extractor.conv_layers.#.2": f"{CONVOLUTION}.layer_norm",  # a group norm
        "layer_norm": "wav2vec2.feature_projection.layer_norm",
        "post_extract_proj": "wav2vec2.feature_projection.projection",
        "encoder.pos_conv.#.weight_g": POSITION_SIZE,
        "encoder.pos_conv.#.weight_v": POSITION_DIRECTION,
        "encoder.pos_conv.#": POSITIONS,
        "encoder.layer_norm": f"{ENCODER}.layer_norm",
        "encoder.layers.#.self_attn_layer_norm": f"{LAYER}.layer_norm",
        "encoder.layers.#.self_attn.q_proj": f"{LAYER}.attention.q_proj",
        "encoder.layers.#.self_attn.k_proj": f"{LAYER}.attention.k_proj",
        "encoder.layers.#.self_attn.v_proj": f"{LAYER}.attention.v_proj",
        "encoder.layers.#.self_attn.out_proj": f"{LAYER}.attention.out_proj",
        "encoder.layers.#.final_layer_norm": f"{LAYER}.final_layer_norm",
        "encoder.layers.#.fc1": f"{LAYER}.feed_forward.intermediate_dense",
        "encoder.layers.#.fc2": f"{LAYER}.feed_forward.output_dense",
        "mask_emb": "wav2vec2.masked_spec_embed",
        "quantizer.vars": CODES,
        "quantizer.weight_proj": CODE_SCORES,
        "project_q": TARGETS,
        "final_proj": PREDICTIONS,
    },
    dropped=(),
    recognises=("w2v_encoder.", "decoder."),
)
TOOLKITS = (FAIRSEQ2, FAIRSEQ)
FINE_TUNED = "w2v_encoder.w2v_model."
"""Before the names of the weights that fairseq's recognisers have of the pre-trained model."""


def renamed(name: str, toolkit: Toolkit) -> str | None:
    """Transformers' name of a weight of another toolkit; None if that has no such weight."""
    parts = name.split(".")
    number = next((part for part in parts if part.isdecimal()), "")
    if number:
        parts[parts.index(number)] = "#"
    stem, last = ".".join(parts), ""
    if stem not in toolkit.table and stem.endswith(LAST):
        stem, dot, last = stem.rpartition(".")
        last = dot + last
    known = toolkit.table.get(stem)
    return None if known is None else known.replace("#", number) + last


def toolkit_by_names(names: Iterable[str]) -> Toolkit | None:
    """The toolkit most of whose names these are; None where transformers' own, or anybody else's, are more."""
    names = [name.removeprefix(FINE_TUNED) for name in names]
    known, best = max((sum(renamed(name, kit) is not None for name in names), kit.name) for kit in TOOLKITS)
    return next(kit for kit in TOOLKITS if kit.name == best) if 2 * known > len(names) else None
