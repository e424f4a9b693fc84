"""The configuration: one frozen schema, filled from defaults < profile < config file < flags.

Every setting has one home here. Profiles hold only `hardware`; everything else is science or a path.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from runyoro_ssl.errors import ConfigError

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Device = Literal["mps", "cuda", "cpu"]


class Section(BaseModel):
    """One concern of the configuration: frozen, and closed to names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class HardwareConfig(Section):
    """What one machine can do; the only section a profile may set."""

    device: Device = "cpu"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast type of the network; the loss is always computed in fp32."""
    batch_seconds: PositiveFloat = 32.0
    """Audio seconds of one micro-batch, padding included."""
    update_seconds: PositiveFloat = 240.0
    """Audio seconds behind one optimizer step, over all micro-batches and processes."""
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
    attention: Literal["sdpa", "eager"] = "sdpa"
    compile: bool = False
    """torch.compile each Transformer layer."""


class ModelConfig(Section):
    """The base model, and what of its own config to change for this run. None keeps the checkpoint's value."""

    model_name_or_path: str = "facebook/wav2vec2-xls-r-300m"
    """A folder saved by transformers, or a Hugging Face hub id."""
    allow_new_head: bool = False
    """Accept a checkpoint without quantizer or projections, and start those from random weights."""
    layerdrop: Probability | None = None
    hidden_dropout: Probability | None = None
    attention_dropout: Probability | None = None
    activation_dropout: Probability | None = None
    feat_proj_dropout: Probability | None = None
    feat_quantizer_dropout: Probability | None = None


class PrepareConfig(Section):
    """From a manifest to a dataset on disk."""

    manifest_path: Path = Path("data/manifest/audio_manifest.jsonl")
    output_dir: Path = Path("data/processed/ssl_dataset")
    max_duration_sec: PositiveFloat = 15.0
    """Longer clips are cut into equal pieces of at most this."""
    min_duration_sec: PositiveFloat = 2.0
    """Shorter clips and pieces are dropped by the `duration` filter."""
    validation_share: float = Field(default=0.05, gt=0.0, lt=0.5)
    """Share of the kept seconds to hold out, as nearly as whole groups allow."""
    split_by: Literal["speaker", "recording"] = "speaker"
    """What the splits never share. `speaker` also keeps recordings apart."""
    seed: int = 0
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
    save_total_limit: PositiveInt | None = 3
    """Checkpoints kept; older ones are removed after a new one is complete."""
    resume_from_checkpoint: str | None = None
    """`last`, or a checkpoint folder."""
    seed: int = 42
    """Every random draw of the run follows from it."""


class PluginsConfig(Section):
    """What is used, in order. Loading a plugin does not enable it; naming it here does."""

    dir: Path = Path("plugins")
    """Folder of the project's own plugins (`runyoro_*.py`)."""
    filters: tuple[str, ...] = ("duration", "silence", "clipping")
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
    plugins: PluginsConfig = PluginsConfig()

    def to_toml(self) -> str:
        """The resolved configuration as TOML; unset values are left out."""
        import tomli_w

        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


SECTIONS: dict[str, tuple[str, ...]] = {
    "prepare": ("prepare", "model", "hardware"),
    "train": ("train", "model", "masking", "hardware"),
}
"""Where a task's flags live: the first section that has a field of the flag's name."""


def profile_dirs() -> list[Path]:
    """Folders searched for profiles: the project's, the checkout's, the installed package's."""
    package = Path(__file__).resolve().parent
    return [Path.cwd() / "profiles", package.parent / "profiles", package / "profiles"]


def list_profiles() -> dict[str, Path]:
    """Profiles by name; the nearest folder wins."""
    found: dict[str, Path] = {}
    for folder in profile_dirs():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def profile_device(path: Path) -> str:
    """The device a profile is for."""
    return str(_read_toml(path).get("device", "cpu"))


def load_config(
    *,
    profile: str | None = None,
    config_file: str | None = None,
    settings: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Resolve the configuration.

    Args:
        profile: Name of a hardware profile, or a path to one.
        config_file: A TOML file with any of the sections.
        settings: `section.field=value` strings; a value is TOML, or a bare string.
        flags: Nested overrides, `{section: {field: value}}`, as `flags_to_overrides` makes them.

    Raises:
        ConfigError: Names the setting, the value seen and what is accepted.
    """
    values: dict[str, Any] = {}
    if profile is not None:
        _merge(values, {"hardware": _read_toml(_find_profile(profile))})
    if config_file is not None:
        _merge(values, _read_toml(Path(config_file)))
    for setting in settings:
        _merge(values, _parse_setting(setting))
    _merge(values, flags or {})
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(item) for item in error.errors())) from None


def flags_to_overrides(task: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Nest a task's flags by section; flags left at None are absent. `fp16`/`bf16` become `hardware.precision`."""
    overrides: dict[str, Any] = {}
    for name, value in flags.items():
        if value is None or name in ("fp16", "bf16"):
            continue
        section = next(s for s in SECTIONS[task] if name in Config.model_fields[s].annotation.model_fields)  # type: ignore[union-attr]
        overrides.setdefault(section, {})[name] = value
    precision = _precision(flags.get("fp16"), flags.get("bf16"))
    if precision is not None:
        overrides.setdefault("hardware", {})["precision"] = precision
    return overrides


def _precision(fp16: Any, bf16: Any) -> str | None:
    wanted = {name: _is_true(name, value) for name, value in (("fp16", fp16), ("bf16", bf16)) if value is not None}
    chosen = [name for name, yes in wanted.items() if yes]
    if len(chosen) > 1:
        raise ConfigError("--fp16 and --bf16 exclude each other; give one")
    if chosen:
        return chosen[0]
    return "fp32" if wanted else None


def _is_true(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "1", "yes", "false", "0", "no"):
        return str(value).lower() in ("true", "1", "yes")
    raise ConfigError(f'--{name} is "{value}"; use --{name}, or --{name}=false')


def _find_profile(profile: str) -> Path:
    if profile.endswith(".toml"):
        return Path(profile)
    profiles = list_profiles()
    if profile not in profiles:
        raise ConfigError(f'no profile "{profile}"{_did_you_mean(profile, profiles)}; there are: {", ".join(profiles)}')
    return profiles[profile]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: not a readable TOML file: {error}") from None


def _parse_setting(setting: str) -> dict[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise ConfigError(f'--set "{setting}" is not section.field=value, e.g. --set train.learning_rate=1e-4')
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    first, *rest = key.strip().split(".")
    for part in reversed(rest):
        value = {part: value}
    return {first: value}


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _explain(item: Mapping[str, Any]) -> str:
    """One pydantic complaint in the house's form."""
    where: Sequence[Any] = item["loc"]
    name = ".".join(str(part) for part in where)
    if item["type"] == "extra_forbidden":
        known = _fields_beside(where)
        return f'no setting "{name}"{_did_you_mean(str(where[-1]), known)}; there are: {", ".join(known)}'
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f'{name} is "{item["input"]}": {message}' if item["type"] != "value_error" else f"{name}: {message}"


def _fields_beside(where: Sequence[Any]) -> list[str]:
    section: Any = Config
    for part in where[:-1]:
        section = section.model_fields[part].annotation
    return list(section.model_fields)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""
