"""Want of memory in one line, with what would take less: what is in force, is not done yet, and can be had here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from runyoro_ssl.config import Config, FittedConfig
from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.errors import TrainingError


@contextmanager
def explain_out_of_memory(device: str, advice: str) -> Iterator[None]:
    """Turn an error for lack of memory, CUDA's own, Python's, or a plain RuntimeError, into one line with advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"out of memory on {device}: {advice}") from None


def to_begin(config: Config) -> str:
    """What to do where not even the model fits, whatever its micro-batches."""
    ways = _smaller_states(config)
    if config.hardware.device == "cuda" and len(ways) > 1:  # neither is in use
        ways.append("several processes that hold a part each (--set hardware.sharding=full)")
    return f"the model does not fit; close what else takes memory there, or use {any_of([*ways, 'a smaller model'])}"


def to_fit(config: FittedConfig, longest_sec: float) -> str:
    """What to do where a run would take too much. `longest_sec`: of its clips."""
    return f"use {any_of([*smaller_steps(config, longest_sec), *_smaller_run(config, longest_sec)])}"


def to_go_on(config: FittedConfig, longest_sec: float) -> str:
    """What to do where a run under way takes too much."""
    steps, new = smaller_steps(config, longest_sec), any_of(_smaller_run(config, longest_sec))
    return f"use {any_of(steps)}, and --resume-from-checkpoint last; or, in a new run, {new}" if steps else f"use {new}"


def smaller_steps(config: FittedConfig, longest_sec: float) -> list[str]:
    """The options by which a step takes less, with which a run under way can go on."""
    hardware, ways = config.hardware, []
    clips = hardware.per_device_train_batch_size
    if clips is not None and clips > 1:
        ways.append(f"a lower --per-device-train-batch-size (now {clips})")
    if clips is None and hardware.batch_seconds > longest_sec:
        ways.append(
            f"a lower --set hardware.batch_seconds (now {hardware.batch_seconds:g}; what is learned stays the same "
            f"beside --set hardware.plan_seconds={hardware.plan_seconds:g})"
        )
    return ways if hardware.gradient_checkpointing else [*ways, "--gradient-checkpointing"]


def any_of(ways: Sequence[str]) -> str:
    """Some ways in words, of which one is enough."""
    *others, last = ways
    return f"{', '.join(others)} or {last}" if others else last


def _smaller_run(config: FittedConfig, longest_sec: float) -> list[str]:
    return [
        *_smaller_states(config),
        f"shorter clips (prepare --max-duration-sec; the longest has {longest_sec:.1f} s)",
    ]


def _smaller_states(config: Config) -> list[str]:
    """The options by which less is kept of the weights that there are; with neither can a model be sharded."""
    if config.hardware.sharding == "full":
        return []
    ways = ["--adapters lora"] if config.adapter.kind == "none" and config.train.train_only == "all" else []
    has_eight_bit = config.hardware.device != "mps"
    return [*ways, "--set train.optimizer=adamw-8bit"] if has_eight_bit and config.train.optimizer == "adamw" else ways
