"""Models that are measured, by size: shapes of configurations, and no weights."""

from __future__ import annotations

from typing import Any

XLS_R: dict[str, Any] = {
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "codevector_dim": 768,
    "proj_codevector_dim": 768,
}

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        **XLS_R,
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "conv_dim": (256,) * 7,
        "codevector_dim": 256,
        "proj_codevector_dim": 256,
    },
    "base": {"proj_codevector_dim": 256},
    "xls-r-300m": {
        **XLS_R,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "xls-r-1b": {
        **XLS_R,
        "hidden_size": 1280,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "intermediate_size": 5120,
        "codevector_dim": 1024,
        "proj_codevector_dim": 1024,
    },
    "xls-r-2b": {
        **XLS_R,
        "hidden_size": 1920,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "intermediate_size": 7680,
        "codevector_dim": 1024,
        "proj_codevector_dim": 1024,
    },
}
"""Shapes: of the toolkit's own smallest runs, of wav2vec2-base, and of the three XLS-R models."""
