"""The configuration's schema: every setting has one home here, with its unit, its default and what it decides.

Profiles hold only `hardware`; everything else is science or a path. `runyoro_ssl.resolve` fills it, and
`runyoro_ssl.commands.options` makes the flags of the tasks from it.
"""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from runyoro_ssl.config.adapter import AdapterConfig
from runyoro_ssl.config.hardware import FittedHardware, HardwareConfig
from runyoro_ssl.config.health import HealthConfig
from runyoro_ssl.config.model import MaskingConfig, ModelConfig
from runyoro_ssl.config.plugins import PluginsConfig
from runyoro_ssl.config.prepare import PrepareConfig
from runyoro_ssl.config.source import SourceConfig
from runyoro_ssl.config.train import TrainConfig
from runyoro_ssl.redaction import redact
from runyoro_ssl.setting import Section

__all__ = [
    "AdapterConfig",
    "Config",
    "FittedConfig",
    "FittedHardware",
    "HardwareConfig",
    "HealthConfig",
    "MaskingConfig",
    "ModelConfig",
    "PluginsConfig",
    "PrepareConfig",
    "SourceConfig",
    "TrainConfig",
]


class Config(Section):
    """Everything a stage needs to know."""

    hardware: HardwareConfig = HardwareConfig()
    model: ModelConfig = ModelConfig()
    prepare: PrepareConfig = PrepareConfig()
    masking: MaskingConfig = MaskingConfig()
    adapter: AdapterConfig = AdapterConfig()
    train: TrainConfig = TrainConfig()
    health: HealthConfig = HealthConfig()
    plugins: PluginsConfig = PluginsConfig()

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        train, alone = self.train, "train.train_only is feature_encoder"
        is_alone = train.train_only == "feature_encoder"
        for is_so, *said in (
            (
                is_alone and train.freeze_feature_encoder,
                f"{alone}, and train.freeze_feature_encoder is true: nothing would learn; leave one of them out",
            ),
            (
                is_alone and train.feature_encoder_lr_scale == 0,
                f"{alone}, and train.feature_encoder_lr_scale is 0: nothing would learn; give it a share of the rate",
            ),
            (
                is_alone and self.adapter.kind != "none",
                f"{alone}, and --adapters is {self.adapter.kind}, which freezes it; leave one of them out",
            ),
            (
                is_alone and train.layer_decay != 1,
                f"{alone}, and train.layer_decay is {train.layer_decay:g}, of layers that do not learn; leave it out",
            ),
            (
                train.average_last == 1,
                "train.average_last is 1, and the mean of one checkpoint is that checkpoint; give 2 or more",
            ),
            (
                0 < train.save_total_limit < train.average_last,
                f"train.average_last is {train.average_last}, and --save-total-limit {train.save_total_limit} keeps ",
                "fewer checkpoints; raise that, or give 0, which keeps all",
            ),
        ):
            if is_so:
                raise ValueError("".join(said))
        return self

    def to_toml(self) -> str:
        """The resolved configuration as TOML, secrets replaced; unset values are left out."""
        import tomli_w

        return tomli_w.dumps(redact(self.model_dump(mode="json", exclude_none=True)))


class FittedConfig(Config):
    """The same for a run on this machine: nothing of `hardware` is left open."""

    hardware: FittedHardware

    @classmethod
    def of(cls, config: Config, hardware: FittedHardware) -> FittedConfig:
        """A configuration, with its hardware decided."""
        return cls(**{**dict(config), "hardware": hardware})
