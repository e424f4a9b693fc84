"""The configuration's schema: every setting has one home here, with its unit and its default.

Profiles hold only `hardware`; everything else is science or a path. `runyoro_ssl.resolve` fills it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from runyoro_ssl.redaction import redact

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Device = Literal["mps", "cuda", "cpu"]
PathOrAddress = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]
"""A path, or an address whose two slashes a Path would lose."""
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.IGNORECASE)


def parse_duration(value: Any) -> Any:
    """`5h30m`, `90m`, `1d12h` as seconds. A number, as in run.toml, is seconds already."""
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value.strip())
    if found is None or not any(found.groups()):
        raise ValueError(f'"{value}" is no duration: give days, hours, minutes and seconds, e.g. 5h30m')
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


Seconds = Annotated[PositiveFloat, BeforeValidator(parse_duration)]


class Section(BaseModel):
    """One concern of the configuration: frozen, and closed to names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation not in (bool, bool | None):
            raise ValueError(f"it is {str(value).lower()}, and needs a value")
        return value


class HardwareConfig(Section):
    """What one machine can do; the only section a profile may set."""

    device: Device = "cpu"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast type of the network; the loss is always computed in fp32."""
    batch_seconds: PositiveFloat = 32.0
    """Audio seconds of one micro-batch, padding included."""
    update_seconds: PositiveFloat = 240.0
    """Audio seconds behind one optimizer step, over all micro-batches and processes."""
    clip_lengths: int = Field(default=0, ge=0, le=32)
    """Crop or pad every clip to one of this many lengths, chosen to waste little; long clips may give two pieces.
    Then the device sees few shapes. 0: clips keep their lengths, and are padded to the longest of their micro-batch."""
    per_device_train_batch_size: PositiveInt | None = None
    """Clips of one micro-batch; replaces `batch_seconds`."""
    gradient_accumulation_steps: PositiveInt | None = None
    """Micro-batches of each process behind one optimizer step; replaces `update_seconds`."""
    dataloader_num_workers: NonNegativeInt = 0
    """Processes that build training batches; 0 builds them in the training process."""
    num_workers: PositiveInt = 2
    """Processes that decode audio in `manifest` and `prepare`."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass: less memory, about a third more time."""
    keep_freed_memory: bool | None = None
    """On a CPU with glibc: keep what is freed for the next step, faster, but up to three times the memory. None: where
    there is so much."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    compile: bool = False
    """torch.compile each Transformer layer."""


class ModelConfig(Section):
    """The base model, and what of its own config to change for this run. None keeps the checkpoint's value."""

    model_name_or_path: str = "facebook/wav2vec2-xls-r-300m"
    """A folder saved by transformers, or a Hugging Face hub id."""
    allow_new_head: bool = False
    """Accept a checkpoint without quantizer or projections, and start those from random weights."""
    allow_pickle: bool = False
    """Accept weights as `.bin` or `.pt`, which are pickles: read with torch's weights_only, never written."""
    layerdrop: Probability | None = None
    hidden_dropout: Probability | None = None
    attention_dropout: Probability | None = None
    activation_dropout: Probability | None = None
    feat_proj_dropout: Probability | None = None
    feat_quantizer_dropout: Probability | None = None


class PrepareConfig(Section):
    """From a manifest to a dataset on disk."""

    manifest_path: PathOrAddress = "data/manifest/audio_manifest.jsonl"
    """JSON Lines, or a Hugging Face audio dataset: `hf://org/name?config=...&split=...`."""
    output_dir: Path = Path("data/processed/ssl_dataset")
    max_duration_sec: float = Field(default=15.0, ge=0.1, le=3600.0)
    """No clip is longer; what is gets cut, as `segment` says."""
    min_duration_sec: float = Field(default=2.0, ge=0.05)
    """Shorter clips and pieces are dropped by the `duration` filter."""
    segment: Literal["vad", "fixed", "none"] = "vad"
    """What becomes of recordings over `max_duration_sec`. `vad`: clips of speech, cut at pauses, and the rest is left
    out; `fixed`: pieces of the maximum, nothing is left out; `none`: they are dropped."""
    vad_threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Probability from which 32 ms count as speech."""
    speech_pad_sec: float = Field(default=0.2, ge=0.0, le=1.0)
    """Kept before and after speech, so that no consonant is clipped."""
    max_pause_sec: float = Field(default=1.0, ge=0.0, le=10.0)
    """Longer pauses separate clips; shorter ones may stay inside."""
    max_recording_sec: PositiveFloat = 86_400.0
    """A file that decodes to more is refused: no header or compression bomb costs more than this."""
    time_limit_sec: PositiveFloat = 60.0
    """A file whose decoding stands still for so long is dropped."""
    allow_outside: bool = False
    """Accept manifest lines whose relative path leaves the manifest's folder, by `..` or a link."""
    executor: str = "processes"
    """Where the work runs: `processes` here, `dask://HOST:PORT`, `slurm`, or what a plugin offers."""
    shard_seconds: PositiveFloat = 600.0
    """Stated audio of one unit of work. Changes nothing in the result."""
    keep_shards: bool = True
    """Keep what each unit of work gave beside the dataset, so that a grown manifest costs only what is new."""
    validation_share: float = Field(default=0.05, gt=0.0, lt=0.5)
    """Share of the kept seconds to hold out, as nearly as whole groups allow."""
    split_by: Literal["speaker", "recording"] = "speaker"
    """What the splits never share. `speaker` also keeps recordings apart."""
    seed: Seed = 0
    """Chooses which groups are held out."""

    @model_validator(mode="after")
    def _minimum_fits(self) -> Self:
        if self.min_duration_sec > self.max_duration_sec:
            raise ValueError(
                f"min_duration_sec {self.min_duration_sec:g} is above max_duration_sec {self.max_duration_sec:g}; "
                "no clip could pass"
            )
        return self


class MaskingConfig(Section):
    """Which frames the model must predict. wav2vec 2.0, sec. 3.1 and 4.2."""

    mask_time_prob: float = Field(default=0.65, gt=0.0, le=1.0)
    """Expected share of frames inside a span before overlaps: spans = prob x frames / length."""
    mask_time_length: PositiveInt = 10
    """Frames of one span (20 ms each)."""
    mask_time_min_spans: NonNegativeInt = 2
    mask_feature_prob: Probability = 0.0
    """The same along the hidden dimension, set to zero; 0 switches it off."""
    mask_feature_length: PositiveInt = 10
    mask_feature_min_spans: NonNegativeInt = 0


class TrainConfig(Section):
    """Continued pre-training: length, optimizer, schedules, logs and checkpoints."""

    processed_dataset_path: Path = Path("data/processed/ssl_dataset")
    output_dir: Path = Path("models/ssl/runyoro-wav2vec2-xls-r-300m-continued-training")
    num_train_epochs: PositiveInt = 10
    max_steps: PositiveInt | None = None
    """Optimizer steps of the whole run; replaces `num_train_epochs`."""
    learning_rate: PositiveFloat = 5e-5
    """Peak rate, after warm-up; falls linearly to 0 at the last step."""
    warmup_steps: NonNegativeInt | None = None
    """None: a tenth of the run."""
    weight_decay: NonNegativeFloat = 0.01
    adam_beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    adam_beta2: float = Field(default=0.98, ge=0.0, lt=1.0)
    adam_epsilon: PositiveFloat = 1e-6
    max_grad_norm: PositiveFloat = 1.0
    """Clips the gradient of the mean loss per masked frame."""
    feature_encoder_lr_scale: NonNegativeFloat = 0.1
    """The CNN learns at this share of the rate: fairseq's feature_grad_mult, which Adam would cancel."""
    freeze_feature_encoder: bool = False
    gumbel_temperature_start: PositiveFloat = 2.0
    gumbel_temperature_end: PositiveFloat = 0.5
    """Reached at the last step, geometrically."""
    logging_steps: PositiveInt = 10
    eval_steps: PositiveInt | None = None
    """Steps between validations; None: as often as checkpoints."""
    save_steps: PositiveInt = 500
    save_total_limit: NonNegativeInt = 3
    """Checkpoints kept; older ones are removed after a new one is complete. 0 keeps all."""
    resume_from_checkpoint: str | None = None
    """`last`, or a checkpoint folder."""
    override_mismatch: bool = False
    """Resume with another dataset or other settings than the run's: what is given now holds."""
    stop_after: Seconds | None = None
    """Save and end well before this much time has passed, e.g. `5h30m`: for jobs with a time limit."""
    keep_awake: bool = True
    """Keep a Mac from sleeping while it trains (`caffeinate`)."""
    max_unreadable_share: Probability = 0.01
    """A clip that cannot be read is skipped; beyond this share of the training split, the run saves and stops."""
    seed: Seed = 42
    """Every random draw of the run follows from it."""


class HealthConfig(Section):
    """When `train` raises an alarm, and what it then does: note it, go back to a healthy checkpoint, or stop."""

    enabled: bool = True
    """False: only updates that are no numbers raise an alarm, and end the run at once."""
    max_skipped_updates: NonNegativeInt = 5
    """Updates in a row whose loss or gradient is no number: each is skipped; after one more, the run goes back."""
    max_rollbacks: NonNegativeInt = 2
    """Times that the run goes back to its last healthy checkpoint, each time with half the learning rate, before it
    stops."""
    patience: PositiveInt = 10
    """Updates in a row for which a collapse, a trivial task, or a loss fallen back to chance must be seen; and for
    which a codebook must be in use, or a loss under chance, to be believed."""
    min_group_perplexity: NonNegativeFloat = 3.0
    """Codes in use, in either codebook, under which it has collapsed: 1 is a single code, XLS-R uses hundreds. Random
    weights often start under it: a codebook that was never at twice this has `chance_patience` updates. A validation
    with fewer, over all codebooks, is never the best."""
    min_contrastive_loss: NonNegativeFloat = 0.05
    """Nats. Under this, with an accuracy over `max_accuracy` or hardly a negative that differs, the task has become
    trivial."""
    max_accuracy: Probability = 0.99
    chance_margin: NonNegativeFloat = 0.02
    """Nats. A contrastive loss not this far under guessing has learned nothing; a model is believed to be better than
    guessing at twice this in updates, or when it came with five times this in validation."""
    max_lost_share: Probability = 0.5
    """Of what the loss once was below guessing, on average over 20 updates: the share that may be lost again."""
    chance_patience: PositiveInt = 1000
    """Updates after which a model that never left chance, or whose codebook was never in use, is given up."""
    spike_factor: float = Field(default=10.0, gt=1.0)
    """A gradient norm this many times the median of the last 100 is a spike."""
    max_spikes: PositiveInt = 5
    """Spikes within `spike_window` updates that make the run go back; fewer are noted."""
    spike_window: PositiveInt = 20
    """Updates. One note at most in so many."""
    early_stop_patience: NonNegativeInt = 5
    """Validations in a row without a new best after which the run ends with its best model; 0: never. The model as it
    came is no best, and nothing ends while the best is no better than guessing."""
    max_memory_growth: PositiveFloat = 0.25
    """Share by which memory may grow after warm-up before it is noted."""


class PluginsConfig(Section):
    """What is used, in order. Loading a plugin does not enable it; naming it here does."""

    dir: Path = Path("plugins")
    """Folder of the project's own plugins (`runyoro_*.py`)."""
    built_in_only: bool = False
    """Load no plugin but the built-in ones."""
    filters: tuple[str, ...] = ("duration", "silence", "clipping", "duplicates")
    augmentations: tuple[str, ...] = ()
    collator: str = "padded"
    loggers: tuple[str, ...] = ("console", "jsonl", "tensorboard")
    options: dict[str, dict[str, Any]] = {}
    """Options by name: `plugins.options.silence.threshold_dbfs = -55`."""


class Config(Section):
    """Everything a stage needs to know."""

    hardware: HardwareConfig = HardwareConfig()
    model: ModelConfig = ModelConfig()
    prepare: PrepareConfig = PrepareConfig()
    masking: MaskingConfig = MaskingConfig()
    train: TrainConfig = TrainConfig()
    health: HealthConfig = HealthConfig()
    plugins: PluginsConfig = PluginsConfig()

    def to_toml(self) -> str:
        """The resolved configuration as TOML, secrets replaced; unset values are left out."""
        import tomli_w

        return tomli_w.dumps(redact(self.model_dump(mode="json", exclude_none=True)))
