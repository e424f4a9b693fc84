"""What is wrong with a model's configuration, and which weights do not fit it, once both are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.model.folder import explain_code, explain_type
from runyoro_ssl.model.source import CONFIG
from runyoro_ssl.model.weight_files import most_weights

HEAD = ("quantizer.", "project_q.", "project_hid.")
"""Parameters that pre-training needs and a fine-tuned checkpoint lacks."""
FINE_TUNED = (
    *("lm_head.", "classifier.", "projector.", "layer_weights"),
    *("tdnn.", "objective.", "feature_extractor.weight", "feature_extractor.bias"),
)
"""Of transformers' heads for transcription, classification and speakers: not needed here."""
EMBEDDING = "wav2vec2.masked_spec_embed"
WRAPPERS = {"module.": "DistributedDataParallel", "_orig_mod.": "torch.compile", "model.": "another model"}
"""What stands before every name where the model was saved inside something else."""
DROPOUTS = (
    "layerdrop",
    "hidden_dropout",
    "attention_dropout",
    "activation_dropout",
    "feat_proj_dropout",
    "feat_quantizer_dropout",
)
MOST_TIMES = 2
"""So many times the weights of the files may a config.json ask for: then they are looked at one by one, when loaded."""
USUAL_MASK_TIME_PROB = 0.05
"""transformers' own default of a config.json; what is masked here is `masking.mask_time_prob`."""


def check_config(name: str, config: Any) -> None:
    """Refuse a model whose own configuration makes it untrainable here.

    Raises:
        CheckpointError: Names the setting of its config.json, the value, and what to do.
    """
    if fault := explain_type(config.model_type) or explain_code(vars(config), CONFIG) or _find_fault(config):
        raise CheckpointError(f'model "{name}" {fault}')


def _find_fault(config: Any) -> str | None:
    if config.add_adapter:
        return "has an adapter (add_adapter), made for fine-tuning; give the base model"
    if getattr(config, "quantization_config", None):
        return f"is quantised (quantization_config in {CONFIG}), which cannot be trained: give the original"
    for setting in DROPOUTS:
        value = getattr(config, setting)
        if not 0 <= value < 1:
            return f"has {setting} {value}, which is no share from 0 to under 1: give --set model.{setting}=0.1"
    return None


def check_size(name: str, num_weights: int, folder: Path) -> None:
    """Refuse a model whose config.json asks for far more weights than the files beside it can hold.

    Nothing of that size has been built by then. A folder without weights passes.

    Args:
        name: Of the model, for messages.
        num_weights: What the configuration asks for, without the pre-training head, which files may lack.
        folder: Where it stands.

    Raises:
        CheckpointError: Both numbers.
    """
    held = most_weights(folder)
    if held is not None and num_weights > MOST_TIMES * held:
        raise CheckpointError(
            f'model "{name}" has a {CONFIG} that asks for {num_weights:,} weights; its files hold {held:,} at most: '
            "one of the two is another model's, or was changed; give both of one model"
        )


def mend_config(config: Any) -> Any:
    """Set aside, in place, what a config.json says that must not act here; nothing of it is about what is learned.

    With `mask_time_prob` 0 transformers would leave out the mask embedding that the weights hold; an old
    `gradient_checkpointing` would switch that on unasked; and outputs nobody reads would be asked of each layer.
    """
    if config.mask_time_prob <= 0 and config.mask_feature_prob <= 0:
        config.mask_time_prob = USUAL_MASK_TIME_PROB
    if hasattr(config, "gradient_checkpointing"):
        del config.gradient_checkpointing
    config.output_attentions = config.output_hidden_states = False
    return config


def check_keys(name: str, info: Mapping[str, Any], *, allow_new_head: bool) -> list[str]:
    """Refuse weights that are not those of the configuration, by names and shapes. Returns those of a missing head.

    Args:
        name: Of the model, for messages.
        info: The loading info of transformers' `from_pretrained`.
        allow_new_head: Start a missing quantizer and projections from noise.

    Raises:
        CheckpointError: The first weight that does not fit, and how many there are.
    """
    missing = sorted(info["missing_keys"])
    unused = sorted(key for key in info["unexpected_keys"] if not key.startswith(FINE_TUNED))
    head = [key for key in missing if key.startswith(HEAD)]
    body = [key for key in missing if key not in head]
    if fault := _explain_shapes(info["mismatched_keys"]) or _explain_missing(body, unused) or _explain_unused(unused):
        raise CheckpointError(f'model "{name}" {fault}')
    if head and not allow_new_head:
        raise CheckpointError(
            f'model "{name}" has no pre-training head ({len(head)} weights missing, e.g. {head[0]}): training would '
            "start from noise. Give the pre-trained, not a fine-tuned, checkpoint; or --set model.allow_new_head=true"
        )
    return head


def _explain_shapes(mismatched: Any) -> str | None:
    if not mismatched:
        return None
    key, found, asked = min(mismatched)
    return (
        f"has {_count(mismatched)} of another shape than its config.json asks for: {key} is "
        f"{_shape(found)} in the file, {_shape(asked)} by config.json; one of the two is another model's"
    )


def _count(weights: Collection[Any]) -> str:
    return f"{len(weights)} weight{'' if len(weights) == 1 else 's'}"


def _shape(shape: Any) -> str:
    return f"({', '.join(str(size) for size in shape)})"


def _explain_missing(body: list[str], unused: list[str]) -> str | None:
    if not body:
        return None
    wrapper = next((prefix for prefix in WRAPPERS if unused and all(key.startswith(prefix) for key in unused)), None)
    if wrapper:
        return (
            f'was saved inside {WRAPPERS[wrapper]}: its weights are named "{wrapper}…" (e.g. {unused[0]}); save the '
            "model itself, by save_pretrained"
        )
    if body == [EMBEDDING]:
        return (
            "has no mask embedding (masked_spec_embed) among its weights, which pre-training puts in place of masked "
            "frames: it was not pre-trained by masking, or was saved with mask_time_prob 0; give the base checkpoint"
        )
    also = f", and has {len(unused)} that it does not use, e.g. {unused[0]}" if unused else ""
    return (
        f"lacks {_count(body)} of its own architecture, e.g. {body[0]}{also}; "
        "the folder is incomplete, or its config.json is another model's: download it anew"
    )


def _explain_unused(unused: list[str]) -> str | None:
    if not unused:
        return None
    return (
        f"has {_count(unused)} that its config.json does not use, e.g. {unused[0]}, and would be trained without: its "
        "config.json is another model's, or was changed; give that of these weights"
    )


def extractor_doubts(extractor: Any, config: Any) -> list[str]:
    """What of a preprocessor_config.json does not fit the model, in words: training goes on, but not as it was."""
    doubts: list[str] = []
    if config.feat_extract_norm != "layer":
        return doubts
    if not extractor.return_attention_mask:
        doubts.append(
            "return_attention_mask is false in preprocessor_config.json (transformers' default), and the model's "
            "feature encoder has layer norms: such models were pre-trained with padding hidden; here shorter clips of "
            'a micro-batch will attend to their padding. Mend: "return_attention_mask": true in that file'
        )
    if config.do_stable_layer_norm and not extractor.do_normalize:
        doubts.append(
            "do_normalize is false in preprocessor_config.json, and the model is built as XLS-R, which was pre-trained "
            'on clips of zero mean and unit variance. Mend, unless yours was not: "do_normalize": true in that file'
        )
    return doubts
