"""The settings of a training run."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from runyoro_ssl.config.source import SourceConfig, find_contradiction
from runyoro_ssl.setting import Probability, Seconds, Section, Seed, setting

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


def usual_output_dir(language: str, model_name_or_path: str) -> Path:
    """The folder of a run where none is given: by the names of its language and its base model."""
    model = PurePath(model_name_or_path)
    of_run = model.parent.name if model.name.startswith("checkpoint-") else ""
    parts = (language, of_run, model.stem if model.suffix in (".pt", ".pth") else model.name)
    name = "-".join(filter(None, (re.sub(r"[^\w.]+", "-", part.lower()).strip("-") for part in parts)))
    return Path("models/ssl") / f"{name}-continued-training"


class TrainConfig(Section):
    """Continued pre-training: length, optimizer, schedules, logs and checkpoints."""

    processed_dataset_path: Path = setting(Path("data/processed/ssl_dataset"), decides="nothing", flag_of="train")
    """Dataset of `prepare`. Of several, give `train.sources`."""
    sources: tuple[SourceConfig, ...] = setting((), decides="run")
    """Datasets that are heard together, in a file `[[train.sources]]`: path, role, share, from_step, until_step.
    The first is the target: an epoch is a pass over it. None: that of `processed_dataset_path` alone."""
    source_temperature: float = setting(1.0, decides="run", ge=1.0, le=100.0)
    """Sources without a share divide what is left by their hours to the power of 1 through this: 1 as they are, 2 as
    XLS-R was trained, 100 nearly evenly."""
    output_dir: Path = setting(
        Path("models/ssl/runyoro-wav2vec2-xls-r-300m-continued-training"), decides="nothing", flag_of="train"
    )
    """Folder of this run: its checkpoints and its final model. Not given: by the names of language and base model."""
    language: str = setting("runyoro", decides="nothing", flag_of="train", min_length=1)
    """Name of the language, for the name of the run's folder and the model card."""
    num_train_epochs: PositiveInt = setting(10, decides="run", flag_of="train")
    """Passes over the training split."""
    max_steps: PositiveInt | None = setting(None, decides="run", flag_of="train")
    """Optimizer steps of the whole run; replaces the number of epochs."""
    learning_rate: PositiveFloat = setting(5e-5, decides="run", flag_of="train")
    """Peak rate, after warm-up; falls linearly to 0 at the last step, unless `constant_after_warmup`."""
    warmup_steps: NonNegativeInt | None = setting(None, decides="run", flag_of="train")
    """Steps over which the rate rises from 0. Not set: a tenth of the run."""
    constant_after_warmup: bool = setting(default=False, decides="run")
    """After warm-up the rate stays at its peak, instead of falling to 0."""
    optimizer: Literal["adamw", "adamw-8bit"] = setting("adamw", decides="run")
    """`adamw-8bit`: its two moments in 8 bits (bitsandbytes), 2 bytes a trained weight instead of 8. Not on MPS."""
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
    train_only: Literal["all", "feature_encoder"] = setting("all", decides="run")
    """`feature_encoder`: the CNN learns alone, at its share of the rate; Transformer, quantizer and projections stay as
    they came. Of adapters alone: `--adapters lora --set adapter.also=[]`."""
    layer_decay: float = setting(1.0, decides="run", gt=0.0, le=1.0)
    """Layer-wise learning rate decay: each layer of the Transformer learns at this share of the rate of the one above
    it, and what is below the first at this share of the first's. The last one, quantizer and projections: all of it."""
    ema_decay: float | None = setting(None, decides="run", gt=0.0, lt=1.0)
    """Keep an exponential moving average of what learns, a candidate for the final model; it keeps this share of itself
    at each step, such as 0.999, and takes 4 bytes a trained weight. Not set: none."""
    average_last: NonNegativeInt = setting(0, decides="nothing")
    """The mean of so many of the last checkpoints is a candidate for the final model. 0: none."""
    interpolate: tuple[Share, ...] = setting((), decides="nothing")
    """Mixtures of this much of the final model and the rest of its base are candidates, too, such as [0.5, 0.75]."""
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

    @field_validator("train_only", mode="before")
    @classmethod
    def _adapters_have_their_own_settings(cls, value: Any) -> Any:
        if value == "adapters":
            raise ValueError("it is adapters, which --adapters lora trains; nothing else with --set adapter.also=[]")
        return value

    @model_validator(mode="before")
    @classmethod
    def _first_source_is_the_dataset(cls, values: Any) -> Any:
        """Where there are sources, the first of them is the dataset; what else is given must not say otherwise."""
        sources = values.get("sources") if isinstance(values, dict) else None
        if not sources or not isinstance(sources, list | tuple):
            return values
        first = sources[0].get("path") if isinstance(sources[0], dict) else getattr(sources[0], "path", None)
        given = values.get("processed_dataset_path", first)
        if first is not None and Path(str(given)).resolve() != Path(str(first)).resolve():
            raise ValueError(
                f'processed_dataset_path is "{given}", and the first of train.sources "{first}"; give one of them'
            )
        return values if first is None else {**values, "processed_dataset_path": first}

    @model_validator(mode="after")
    def _sources_fit(self) -> Self:
        if self.sources and (problem := find_contradiction(self.sources)):
            raise ValueError(f"of the sources {problem}")
        return self

    @property
    def every_source(self) -> tuple[SourceConfig, ...]:
        """The datasets of the run, the target first."""
        return self.sources or (SourceConfig(path=self.processed_dataset_path),)
