"""The configuration's schema: every setting has one home here, with its unit, its default and what it decides.

Profiles hold only `hardware`; everything else is science or a path. `runyoro_ssl.resolve` fills it, and
`runyoro_ssl.commands.options` makes the flags of the tasks from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from runyoro_ssl.devices import Device
from runyoro_ssl.redaction import redact
from runyoro_ssl.setting import (
    PathOrAddress,
    Probability,
    Seconds,
    Section,
    Seed,
    setting,
)


class HardwareConfig(Section):
    """What one machine can do; the only section a profile may set."""

    device: Device = setting("cpu", decides="rounding")
    """Where the network runs."""
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", decides="rounding")
    """Autocast type of the network; the loss is always computed in fp32."""
    batch_seconds: PositiveFloat = setting(32.0, decides="machine")
    """Audio seconds of one micro-batch, padding included."""
    update_seconds: PositiveFloat = setting(240.0, decides="steps")
    """Audio seconds behind one optimizer step, over all micro-batches and processes."""
    clip_lengths: int = setting(0, decides="steps", ge=0, le=32)
    """Crop or pad every clip to one of this many lengths, chosen to waste little; long clips may give two pieces.
    Then the device sees few shapes. 0: clips keep their lengths, and are padded to the longest of their micro-batch."""
    per_device_train_batch_size: PositiveInt | None = setting(None, decides="machine", flag_of="train")
    """Clips of one micro-batch; replaces the profile's `hardware.batch_seconds`."""
    gradient_accumulation_steps: PositiveInt | None = setting(None, decides="steps", flag_of="train")
    """Micro-batches of each process behind one step; replaces the profile's `hardware.update_seconds`."""
    dataloader_num_workers: NonNegativeInt = setting(0, decides="machine", flag_of="train")
    """Processes that build training batches; 0 builds them in the training process."""
    num_workers: PositiveInt = setting(2, decides="machine", flag_of="manifest prepare")
    """Processes that decode audio in `manifest` and `prepare`."""
    gradient_checkpointing: bool = setting(default=False, decides="rounding", flag_of="train")
    """Recompute each layer in the backward pass: less memory, about a third more time."""
    keep_freed_memory: bool | None = setting(None, decides="machine")
    """On a CPU with glibc: keep what is freed for the next step, faster, but up to two and three
    quarters times what a step takes and gives back. Not set: where there is so much."""
    attention: Literal["sdpa", "eager"] = setting("sdpa", decides="rounding")
    """Implementation of attention: fused where the device has it, or plain."""
    compile: bool = setting(default=False, decides="rounding")
    """torch.compile each Transformer layer."""


class ModelConfig(Section):
    """The base model, and what of its own config to change for this run. None keeps the checkpoint's value."""

    model_name_or_path: PathOrAddress = setting(
        "facebook/wav2vec2-xls-r-300m", decides="nothing", flag_of="prepare train doctor"
    )
    """A folder saved by transformers, or a Hugging Face hub id."""
    allow_new_head: bool = setting(default=False, decides="nothing")
    """Accept a checkpoint without quantizer or projections, and start those from random weights."""
    revision: str | None = setting(None, decides="nothing", flag_of="prepare train doctor", pattern=r"^[\w./-]+$")
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


class PrepareConfig(Section):
    """From a manifest to a dataset on disk."""

    manifest_path: PathOrAddress = setting("data/manifest/audio_manifest.jsonl", decides="nothing", flag_of="prepare")
    """JSON Lines, or a Hugging Face audio dataset: `hf://org/name?config=...&split=...&revision=...&column=...`."""
    output_dir: Path = setting(Path("data/processed/ssl_dataset"), decides="nothing", flag_of="prepare")
    """Dataset to write."""
    max_hours: PositiveFloat | None = setting(None, decides="nothing", flag_of="manifest prepare")
    """Hours of audio at most: whole recordings, drawn by `seed` evenly over speakers. Not set: all there is."""
    max_duration_sec: float = setting(15.0, decides="clips", flag_of="prepare", ge=0.1, le=3600.0)
    """No clip is longer; what is gets cut, as `segment` says."""
    min_duration_sec: float = setting(2.0, decides="clips", flag_of="prepare", ge=0.05)
    """Shorter clips and pieces are dropped by the `duration` filter."""
    segment: Literal["vad", "fixed", "none"] = setting("vad", decides="clips", flag_of="prepare")
    """What becomes of recordings over `max_duration_sec`. `vad`: clips of speech, cut at pauses, and the rest is left
    out; `fixed`: pieces of the maximum, nothing is left out; `none`: they are dropped."""
    vad_threshold: float = setting(0.5, decides="clips", gt=0.0, lt=1.0)
    """Probability from which 32 ms count as speech."""
    speech_pad_sec: float = setting(0.2, decides="clips", ge=0.0, le=1.0)
    """Kept before and after speech, so that no consonant is clipped."""
    max_pause_sec: float = setting(1.0, decides="clips", ge=0.0, le=10.0)
    """Longer pauses separate clips; shorter ones may stay inside."""
    max_recording_sec: PositiveFloat = setting(86_400.0, decides="clips")
    """A file that decodes to more is refused: no header or compression bomb costs more than this."""
    time_limit_sec: PositiveFloat = setting(60.0, decides="nothing")
    """A file whose decoding stands still for so long is dropped."""
    allow_outside: bool = setting(default=False, decides="nothing", flag_of="prepare")
    """Accept manifest lines whose relative path leaves the manifest's folder, by `..` or a link."""
    executor: str = setting("processes", decides="nothing", flag_of="prepare")
    """Where the work runs: `processes` here, `dask://HOST:PORT`, `slurm`, or what a plugin offers."""
    shard_seconds: PositiveFloat = setting(600.0, decides="nothing")
    """Stated audio of one unit of work. Changes nothing in the result."""
    keep_shards: bool = setting(default=True, decides="nothing")
    """Keep what each unit of work gave beside the dataset, so that a grown manifest costs only what is new."""
    validation_share: float = setting(0.05, decides="split", gt=0.0, lt=0.5)
    """Share of the kept seconds to hold out, as nearly as whole groups allow."""
    split_by: Literal["auto", "speaker", "recording"] = setting("auto", decides="split")
    """What the splits never share. `speaker` also keeps recordings apart; `auto` is that where two speakers or more are
    told apart, else `recording`."""
    seed: Seed = setting(0, decides="split")
    """Chooses which groups are held out, and what `max_hours` draws."""

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


class TrainConfig(Section):
    """Continued pre-training: length, optimizer, schedules, logs and checkpoints."""

    processed_dataset_path: Path = setting(Path("data/processed/ssl_dataset"), decides="nothing", flag_of="train")
    """Dataset of `prepare`."""
    output_dir: Path = setting(
        Path("models/ssl/runyoro-wav2vec2-xls-r-300m-continued-training"), decides="nothing", flag_of="train"
    )
    """Folder of this run: its checkpoints and its final model."""
    num_train_epochs: PositiveInt = setting(10, decides="run", flag_of="train")
    """Passes over the training split."""
    max_steps: PositiveInt | None = setting(None, decides="run", flag_of="train")
    """Optimizer steps of the whole run; replaces the number of epochs."""
    learning_rate: PositiveFloat = setting(5e-5, decides="run", flag_of="train")
    """Peak rate, after warm-up; falls linearly to 0 at the last step."""
    warmup_steps: NonNegativeInt | None = setting(None, decides="run", flag_of="train")
    """Steps over which the rate rises from 0. Not set: a tenth of the run."""
    weight_decay: NonNegativeFloat = setting(0.01, decides="run", flag_of="train")
    """Weight decay of AdamW, on matrices only."""
    adam_beta1: float = setting(0.9, decides="run", ge=0.0, lt=1.0)
    """AdamW's decay of the mean gradient."""
    adam_beta2: float = setting(0.98, decides="run", ge=0.0, lt=1.0)
    """AdamW's decay of the mean squared gradient."""
    adam_epsilon: PositiveFloat = setting(1e-6, decides="run")
    """AdamW's addend to the root of the latter."""
    max_grad_norm: PositiveFloat = setting(1.0, decides="run")
    """Clips the gradient of the mean loss per masked frame."""
    feature_encoder_lr_scale: NonNegativeFloat = setting(0.1, decides="run")
    """The CNN learns at this share of the rate: fairseq's feature_grad_mult, which Adam would cancel."""
    freeze_feature_encoder: bool = setting(default=False, decides="run")
    """The CNN does not learn at all."""
    gumbel_temperature_start: PositiveFloat = setting(2.0, decides="run")
    """Of the draw of codevectors, at the first step."""
    gumbel_temperature_end: PositiveFloat = setting(0.5, decides="run")
    """Reached at the last step, geometrically."""
    logging_steps: PositiveInt | None = setting(None, decides="nothing", flag_of="train")
    """Steps between log lines. Not set: the first step, every tenth, and every minute."""
    eval_steps: PositiveInt | None = setting(None, decides="nothing")
    """Steps between validations. Not set: those of `save_steps`; if that is not set either, 20 times a run, less often
    where that would cost more than a tenth of the training."""
    save_steps: PositiveInt | None = setting(None, decides="nothing", flag_of="train")
    """Steps between checkpoints, and between validations. Not set: 20 times a run, and every 15 minutes."""
    save_total_limit: NonNegativeInt = setting(3, decides="nothing", flag_of="train")
    """Checkpoints kept; older ones are removed after a new one is complete. 0 keeps all."""
    resume_from_checkpoint: str | None = setting(None, decides="nothing", flag_of="train")
    """`last`, or a checkpoint folder."""
    override_mismatch: bool = setting(default=False, decides="nothing", flag_of="train")
    """Resume with another dataset or other settings than the run's: what is given now holds."""
    stop_after: Seconds | None = setting(None, decides="nothing", flag_of="train")
    """Save and end well before this much time has passed, e.g. `5h30m`: for jobs with a time limit."""
    keep_awake: bool = setting(default=True, decides="nothing")
    """Keep a Mac from sleeping while it trains (`caffeinate`)."""
    max_unreadable_share: Probability = setting(0.01, decides="nothing")
    """A clip that cannot be read is skipped; beyond this share of the training split, the run saves and stops."""
    seed: Seed = setting(42, decides="run", flag_of="train")
    """Every random draw of the run follows from it."""


class HealthConfig(Section):
    """When `train` raises an alarm, and what it then does: note it, go back to a healthy checkpoint, or stop."""

    enabled: bool = setting(default=True, decides="nothing")
    """False: only updates that are no numbers raise an alarm, and end the run at once."""
    max_skipped_updates: NonNegativeInt = setting(5, decides="nothing")
    """Updates in a row without numbers: each is skipped; after one more, the run goes back."""
    max_skipped_share: Probability = setting(0.2, decides="nothing")
    """Share of the last `skip_window` updates that may be skipped before the run goes back."""
    skip_window: PositiveInt = setting(50, decides="nothing")
    """Updates in which skipped ones are counted."""
    max_rollbacks: NonNegativeInt = setting(2, decides="nothing")
    """Times that the run goes back to a healthy checkpoint, each time with half the learning rate, before it stops."""
    patience: PositiveInt = setting(10, decides="nothing")
    """Updates in a row for which a collapse, a trivial task, or a loss fallen back to chance must be seen; and for
    which a codebook must be in use, or a loss under chance, to be believed."""
    min_group_perplexity: NonNegativeFloat = setting(3.0, decides="nothing")
    """Codes in use, in either codebook, under which it has collapsed: 1 is a single code, XLS-R uses hundreds. Random
    weights often start under it: a codebook that was never at twice this has `chance_patience` updates. A validation
    with fewer, over all codebooks, is never the best."""
    max_lost_codes: Probability = setting(0.65, decides="nothing")
    """Share of the codes held in use, by a codebook or all together, that may be lost again before it is a collapse."""
    min_contrastive_loss: NonNegativeFloat = setting(0.05, decides="nothing")
    """Nats. Under this, with an accuracy over `max_accuracy` or hardly a negative that differs, the task has become
    trivial."""
    max_accuracy: Probability = setting(0.99, decides="nothing")
    """Share of masked frames picked right."""
    chance_margin: NonNegativeFloat = setting(0.02, decides="nothing")
    """Nats. A contrastive loss not this far under guessing has learned nothing; a model is believed to be better than
    guessing at twice this in updates, or when it came with five times this in validation."""
    max_lost_share: Probability = setting(0.5, decides="nothing")
    """Share of what was held below guessing that may be lost at once, or with 0.3 nats slowly; more in the warm-up."""
    chance_patience: PositiveInt = setting(1000, decides="nothing")
    """Updates after which a model that never left chance, or whose codebook was never in use, is given up."""
    spike_factor: float = setting(10.0, decides="nothing", gt=1.0)
    """A gradient norm this many times the median of the last 100 is a spike."""
    max_spikes: PositiveInt = setting(5, decides="nothing")
    """Spikes within `spike_window` updates that make the run go back; fewer are noted."""
    spike_window: PositiveInt = setting(20, decides="nothing")
    """Updates. One note at most in so many."""
    early_stop_patience: NonNegativeInt = setting(5, decides="nothing")
    """Validations in a row without a new best after which the run ends with its best model; 0: never. The model as it
    came is no best, and nothing ends while the best is no better than guessing."""
    max_memory_growth: PositiveFloat = setting(0.25, decides="nothing")
    """Share by which memory may grow after warm-up before it is noted."""


class PluginsConfig(Section):
    """What is used, in order. Loading a plugin does not enable it; naming it here does."""

    dir: Path = setting(Path("plugins"), decides="nothing")
    """Folder of the project's own plugins (`runyoro_*.py`)."""
    built_in_only: bool = setting(default=False, decides="nothing", flag_of="prepare train plugins", flag="no_plugins")
    """Load no plugin but the built-in ones."""
    filters: tuple[str, ...] = setting(("duration", "silence", "clipping", "duplicates"), decides="clips")
    """Filters of `prepare`."""
    augmentations: tuple[str, ...] = setting((), decides="run")
    """Augmentations of the training clips."""
    collator: str = setting("padded", decides="run")
    """What makes a batch of clips."""
    loggers: tuple[str, ...] = setting(("console", "jsonl", "tensorboard"), decides="nothing")
    """Where the numbers of a run go."""
    options: dict[str, dict[str, Any]] = setting({}, decides=("clips", "run"))
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
