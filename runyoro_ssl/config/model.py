"""The settings of the base model, and of what is masked."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from runyoro_ssl.setting import PathOrAddress, Probability, Section, setting


class ModelConfig(Section):
    """The base model, and what of its own config to change for this run. None keeps the checkpoint's value."""

    model_name_or_path: PathOrAddress = setting(
        "facebook/wav2vec2-xls-r-300m", decides="nothing", flag_of="prepare train donors doctor"
    )
    """A folder saved by transformers, or a Hugging Face hub id."""
    allow_new_head: bool = setting(default=False, decides="nothing")
    """Accept a checkpoint without quantizer or projections, and start those from random weights."""
    revision: str | None = setting(
        None, decides="nothing", flag_of="prepare train donors doctor", pattern=r"^[\w./-]+$"
    )
    """Branch, tag or commit of a model of the hub. Not set: the commit that is known of usual models, else `main`."""
    allow_pickle: bool = setting(default=True, decides="nothing", flag_of="train")
    """Read weights that come as `.bin`, a pickle, with torch's weights_only; one that holds more is refused."""
    layerdrop: Probability | None = setting(None, decides="run")
    """Share of Transformer layers to skip at random."""
    hidden_dropout: Probability | None = setting(None, decides="run")
    """After the layers of the Transformer."""
    attention_dropout: Probability | None = setting(None, decides="run")
    """On the attention's weights."""
    activation_dropout: Probability | None = setting(None, decides="run")
    """Inside the feed-forward layers."""
    feat_proj_dropout: Probability | None = setting(None, decides="run")
    """After the projection of the features."""
    feat_quantizer_dropout: Probability | None = setting(None, decides="run")
    """On what the quantizer sees."""


class MaskingConfig(Section):
    """Which frames the model must predict. wav2vec 2.0, sec. 3.1 and 4.2."""

    mask_time_prob: float = setting(0.65, decides="run", flag_of="train", gt=0.0, le=1.0)
    """Expected share of frames inside a span before overlaps: spans = prob x frames / length."""
    mask_time_length: PositiveInt = setting(10, decides="run", flag_of="train")
    """Frames of one span (20 ms each)."""
    mask_time_min_spans: NonNegativeInt = setting(2, decides="run")
    """Spans of a clip at least, where it is long enough."""
    mask_feature_prob: Probability = setting(0.0, decides="run", flag_of="train")
    """Expected share of hidden dimensions inside a span, which are set to zero; 0 switches it off."""
    mask_feature_length: PositiveInt = setting(10, decides="run", flag_of="train")
    """Hidden dimensions of one span."""
    mask_feature_min_spans: NonNegativeInt = setting(0, decides="run")
    """Spans of a clip at least."""
