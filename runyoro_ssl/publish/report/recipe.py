"""How a run was trained: what differs from the defaults of what decides a run, in words with units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runyoro_ssl.config import Config
from runyoro_ssl.option import as_typed
from runyoro_ssl.page.amounts import amount_of_time, figure, number, plural
from runyoro_ssl.resolve import section_type
from runyoro_ssl.setting import deciding

NOT_TOLD = {"plugins.options", "train.sources"}
"""Options of plugins may hold paths; sources have a table."""
STEPS = ("update_seconds", "per_device_train_batch_size", "gradient_accumulation_steps")
"""What of the machine decides how much a step hears, and is no consequence of the machine."""
WORDS = {
    "train.learning_rate": "learning rate, its peak",
    "train.num_train_epochs": "passes over the training clips",
    "train.max_steps": "length of the run",
    "train.warmup_steps": "warm-up of the learning rate",
    "train.constant_after_warmup": "learning rate kept after warm-up",
    "train.train_only": "which part of the weights learns",
    "train.ema_decay": "moving average of what learns: share of itself that it keeps at each step",
    "train.layer_decay": "learning rate of a layer, beside that of the one above it",
    "train.feature_encoder_lr_scale": "share of the learning rate for the feature encoder",
    "train.freeze_feature_encoder": "feature encoder kept as it was",
    "train.seed": "seed of all chance",
    "masking.mask_time_prob": "share of frames hidden, before overlaps",
    "masking.mask_time_length": "length of a hidden stretch",
    "masking.mask_feature_prob": "share of features hidden, before overlaps",
    "hardware.update_seconds": "speech heard for one step",
    "plugins.augmentations": "changes made to training clips",
    "plugins.collator": "how clips are put together",
    "adapter.kind": "what learns",
}
"""Settings that have a better name than their own."""
SHARES = (
    "mask_time_prob",
    "mask_feature_prob",
    "layerdrop",
    "hidden_dropout",
    "attention_dropout",
    "feat_proj_dropout",
)


@dataclass(frozen=True)
class Difference:
    """A setting that is not the usual one: its name in words, its value here, the usual one, and what it is."""

    setting: str
    words: str
    value: str
    usual: str
    meaning: str


def differences(settings: Mapping[str, Any]) -> list[Difference]:
    """The settings of a run.toml by which its learning differs from a run with none given, in the schema's order."""
    defaults = Config().model_dump(mode="json")
    names = [f"{section}.{name}" for section in Config.model_fields for name in deciding("run", section_type(section))]
    found = []
    for full in [*names, *(f"hardware.{name}" for name in STEPS)]:
        section, name = full.split(".")
        usual = defaults[section][name]
        value = settings.get(section, {}).get(name, usual)
        if value != usual and full not in NOT_TOLD:
            found.append(_in_words(full, value, usual))
    return found


def _in_words(full: str, value: Any, usual: Any) -> Difference:
    section, name = full.split(".")
    meaning = str(section_type(section).model_fields[name].description or "").partition("\n\n")[0].replace("\n", " ")
    return Difference(full, WORDS.get(full, name.replace("_", " ")), _text(name, value), _text(name, usual), meaning)


def _text(name: str, value: Any) -> str:
    """A value with its unit."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, int | float):
        return _number(name, value)
    return str(as_typed(value))


def _number(name: str, value: float) -> str:
    if name in SHARES:
        return figure(value, "%")
    if name.endswith("_seconds"):
        return amount_of_time(value)
    if name.endswith("_steps"):
        return plural(int(value), "step")
    if name == "mask_time_length":
        return f"{number(value)} frames, {20 * value:g} ms"
    return number(value) if isinstance(value, int) else figure(value)
