"""The settings of adapters, by which a small part of the weights is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from runyoro_ssl.setting import Section, setting

Target = Literal["q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"]
AlsoLearns = Literal["quantizer", "projections", "norms"]


class AdapterConfig(Section):
    """Which weights learn: all, or low-rank adapters (LoRA, Hu et al., 2021) of the Transformer's matrices."""

    kind: Literal["none", "lora"] = setting("none", decides="run", flag_of="train doctor", flag="adapters")
    """`lora`: each matrix of the Transformer is frozen and gets two thin ones that learn, about 2 % of the weights;
    checkpoints and the final model hold their product added to it. `none`: all weights learn."""
    rank: PositiveInt = setting(16, decides="run")
    """Columns of the thin matrices. 16: 2.2 % of XLS-R-300M, 1.8 % of XLS-R-1B."""
    alpha: PositiveFloat = setting(32.0, decides="run")
    """What an adapter gives is multiplied by alpha / rank."""
    dropout: float = setting(0.0, decides="run", ge=0.0, lt=1.0)
    """On what an adapter sees. Takes memory."""
    learning_rate_scale: PositiveFloat = setting(10.0, decides="run")
    """Adapters learn at so many times the learning rate, other weights at the rate itself."""
    targets: tuple[Target, ...] = setting(
        ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"), decides="run", min_length=1
    )
    """The matrices that get adapters: of attention, and the two of the feed-forward layers."""
    also: tuple[AlsoLearns, ...] = setting(("quantizer", "projections", "norms"), decides="run")
    """What else learns: the objective's own weights, and the norms of the Transformer."""
