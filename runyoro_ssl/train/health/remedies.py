"""What may help where a run's memory is too much or grows, by what is set: nothing that is done already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from runyoro_ssl.batches.lengths import fewer_shapes
from runyoro_ssl.config import FittedConfig
from runyoro_ssl.train.out_of_memory import any_of, smaller_steps

PLUGINS = "try the built-in plugins alone (--no-plugins): others may keep tensors"
LOADER = "try --dataloader-num-workers 1, so that another process builds the batches"
COMPILER = "try --set hardware.compile=false: what is compiled is kept for each shape"
REPORT = "none of its settings is known to keep memory: please report it, with its run.toml"


@dataclass(frozen=True)
class Remedies:
    """Remedies in words: where a run takes too much `at_once`, or `slowly` more, by the measure that grows."""

    at_once: str
    slowly: Mapping[str, str]

    @classmethod
    def of(cls, config: FittedConfig, longest_sec: float) -> Self:
        """Those of a run. `longest_sec`: of its clips."""
        steps = smaller_steps(config, longest_sec)
        slowly = {name: "; or ".join(_of_growth(config, name)) or REPORT for name in ("memory", "device_memory")}
        return cls(any_of(steps) if steps else "shorter clips", slowly)


def _of_growth(config: FittedConfig, measure: str) -> list[str]:
    hardware, ways = config.hardware, []
    if hardware.device == "mps" and (fewer := fewer_shapes(hardware.clip_lengths)):
        ways.append(f"try a new run with {fewer}, for which fewer programs are kept")
    if hardware.device == "cuda" and measure == "memory":
        ways += [] if hardware.dataloader_num_workers else [LOADER]
        ways += [COMPILER] if hardware.compile else []
    return ways if config.plugins.built_in_only else [*ways, PLUGINS]
