"""A run fits itself to its machine: what it is made of is looked at, what is `auto` is decided, before it is built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runyoro_ssl.config import Config, FittedConfig, FittedHardware, HardwareConfig, ModelConfig
from runyoro_ssl.errors import ConfigError, TrainingError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.allocator import limit_program_caches
from runyoro_ssl.model.at_hand import AtHand, look
from runyoro_ssl.model.extractor import load_feature_extractor
from runyoro_ssl.model.fit import OPEN, RunAtHand, decide, needed_bytes
from runyoro_ssl.model.folder import check_folder
from runyoro_ssl.model.load import load_model_config
from runyoro_ssl.model.memory import BatchSettings
from runyoro_ssl.model.precision import check_precision
from runyoro_ssl.model.source import pin_base
from runyoro_ssl.option import AUTO
from runyoro_ssl.processes import gather_over_processes
from runyoro_ssl.resolve import check_device
from runyoro_ssl.setting import deciding
from runyoro_ssl.train.checkpoints.resume import Start
from runyoro_ssl.train.sharing.choice import cannot_join, check_launch, check_sharding, why_whole
from runyoro_ssl.train.sources import Sources, open_sources
from runyoro_ssl.train.weights import model_name

log = get_logger()

LEAST: dict[str, Any] = {
    "precision": "fp32",
    "batch_seconds": 1.0,
    "plan_seconds": 1.0,
    "clip_lengths": 0,
    "dataloader_num_workers": 0,
    "gradient_checkpointing": False,
    "compile": False,
}
"""What stands for a setting until it is decided."""
OF_STEPS = deciding("steps", HardwareConfig)
"""Settings that decide which clips an optimizer step sees."""


@dataclass(frozen=True)
class Material:
    """What a run is made of. `name`: its model, or the checkpoint that it goes on from; `base`: of the base model."""

    name: str
    base: ModelConfig
    extractor: Any
    sources: Sources

    @property
    def longest_sec(self) -> float:
        """Seconds of the longest training clip."""
        return float(max(self.sources.lengths) / self.extractor.sampling_rate)


@dataclass(frozen=True)
class Fitted:
    """A configuration of which nothing is `auto` any more, and why it came to what it did, by setting.

    `machine`: the kind that it was fitted to.
    """

    config: FittedConfig
    reasons: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""

    def with_hardware(self, reasons: Mapping[str, str], **changes: Any) -> Fitted:
        """The same with other values, and the reasons for them."""
        hardware = self.config.hardware.model_copy(update=changes)
        return replace(self, config=FittedConfig.of(self.config, hardware), reasons={**self.reasons, **reasons})


def join(hardware: HardwareConfig) -> Any:
    """The processes of this run (accelerate's PartialState), on the device that it is set to.

    They wait for each other here: until then none has written into the output folder.

    Raises:
        ConfigError: The device is not there, or does not train in the precision that is given; the processes that were
            launched cannot meet, or cannot share a model in the way that is given.
    """
    from accelerate import PartialState

    check_device(hardware.device)
    check_precision(hardware.device, hardware.precision)
    check_launch()
    try:
        processes = PartialState(cpu=hardware.device == "cpu")
    except (ValueError, RuntimeError) as error:
        if "RANK" not in os.environ:
            raise
        raise ConfigError(cannot_join(error)) from None
    check_sharding(hardware, processes.num_processes)
    return processes


def gather_material(config: Config, start: Start) -> Material:
    """Open and check what a run is made of, all but the weights. A base model that is not here yet is fetched.

    Raises:
        RunyoroError: Of the kind that fits.
    """
    name = model_name(config, start)
    check_folder(name, weights=True)
    base = _base(config, start)
    extractor = load_feature_extractor(name, base.revision)
    sources = open_sources(config.train, sampling_rate=extractor.sampling_rate)
    return Material(name, base, extractor, sources)


def _base(config: Config, start: Start) -> ModelConfig:
    """The settings of the base model, with the commit that this run began from: fetched, where it is needed."""
    if start.path is None:
        return pin_base(config.model)
    return config.model.model_copy(update={"revision": start.state.get("base_revision", config.model.revision)})


def fit_run(config: Config, material: Material, start: Start, processes: Any) -> Fitted:
    """Decide what is `auto`, the same in every process. What a run had before is kept where it still suits the machine.

    Raises:
        TrainingError: Memory does not hold a micro-batch of a single clip.
    """
    limit_program_caches()  # before the first product
    config = config.model_copy(update={"model": material.base})
    model = load_model_config(config.model.model_copy(update={"model_name_or_path": material.name}))
    run = describe_run(
        config,
        model,
        padded=material.extractor.return_attention_mask,
        clip_seconds=material.longest_sec,
        audio_seconds=material.sources.epoch_seconds,
        num_processes=processes.num_processes,
    )
    found = look(config.hardware.device, model, asks_for_precision=config.hardware.precision == AUTO)
    at_hand = _least(gather_over_processes(processes, found))
    was = Was(start.state.get("hardware", {}), start.state.get("machine"))
    may_shard = processes.num_processes > 1 and why_whole(run.batch) is None
    if may_shard and config.hardware.sharding == "full":
        return fit(config, _sharded(run), at_hand, was)
    try:
        return fit(config, run, at_hand, was)
    except TrainingError:
        if not may_shard or config.hardware.sharding == "none":
            raise
    return fit(config, _sharded(run), at_hand, was)


def _sharded(run: RunAtHand) -> RunAtHand:
    """The same, of which each process holds a part."""
    return replace(run, batch=replace(run.batch, sharded=True))


def describe_run(
    config: Config,
    model: Any,
    *,
    padded: bool,
    clip_seconds: float,
    audio_seconds: float = 0.0,
    num_processes: int = 1,
) -> RunAtHand:
    """What a run is, as far as it decides how it trains. `audio_seconds`: of one epoch."""
    train, hardware = config.train, config.hardware
    heard = train.max_steps * hardware.update_seconds if train.max_steps else train.num_train_epochs * audio_seconds
    some = FittedConfig.of(config, _with(hardware, {name: LEAST[name] for name in _open(hardware)}))
    batch = BatchSettings.of(some, padded=padded, clip_seconds=clip_seconds).shared(num_processes)
    return RunAtHand(model, batch, heard, num_processes)


@dataclass(frozen=True)
class Was:
    """The settings of the hardware as the run had them, and the kind of machine that it ran on; None: not known."""

    hardware: Mapping[str, Any] = field(default_factory=dict)
    machine: str | None = None


def fit(config: Config, run: RunAtHand, at_hand: AtHand, was: Was | None = None) -> Fitted:
    """Decide what is `auto` for a run on a device; `was`: what the run so far came to."""
    machine = at_hand.name + f", {run.num_processes} processes" * (run.num_processes > 1)
    kept = _kept(config.hardware, was or Was(), run, at_hand, machine)
    hardware = config.hardware.model_copy(update=kept)
    made = decide(hardware, run, at_hand)
    reasons = dict.fromkeys(kept, "as in the run so far") | made.reasons
    return Fitted(
        FittedConfig.of(config, _with(hardware, {**made.values, "fitted": (*_open(config.hardware),)})),
        reasons,
        machine,
    )


def _kept(hardware: HardwareConfig, was: Was, run: RunAtHand, at_hand: AtHand, machine: str) -> dict[str, Any]:
    """What is `auto` now, as the run had it: what its steps follow from; the rest on the same kind of machine alone.

    What cannot be here is not kept, nor what memory is short of now.
    """
    names = [name for name in _open(hardware) if name in was.hardware]
    if was.hardware.get("device") != hardware.device:
        names = [name for name in names if name in OF_STEPS]
    elif was.machine not in (None, machine):
        names = [name for name in names if name in OF_STEPS or name == "precision"]
    kept = {name: was.hardware[name] for name in names}
    if not _can_be(kept.get("precision"), at_hand):
        del kept["precision"]
    if kept.get("compile") and not at_hand.has_compiler:
        del kept["compile"]
    if hardware.per_device_train_batch_size is not None:
        kept.pop("batch_seconds", None)
    of_memory = {name: kept[name] for name in ("batch_seconds", "gradient_checkpointing") if name in kept}
    if "batch_seconds" in of_memory and at_hand.free is not None:
        precision = kept.get("precision", run.batch.precision)
        needed = needed_bytes(run.config, replace(run.batch, precision=precision, **of_memory))
        if needed > at_hand.free:
            log.info("decided_anew", was=of_memory, because="memory is short of it now")
            kept = {name: value for name, value in kept.items() if name not in of_memory}
    return kept


def _can_be(precision: str | None, at_hand: AtHand) -> bool:
    """Whether a device computes in this precision, and not in software: what is timed on a busy machine says little."""
    return precision != "bf16" or (at_hand.has_bf16 and at_hand.bf16_gain != 0)


def _open(hardware: HardwareConfig) -> list[str]:
    return [name for name in OPEN if getattr(hardware, name) == AUTO]


def _with(hardware: HardwareConfig, values: Mapping[str, Any]) -> FittedHardware:
    return FittedHardware(**{**dict(hardware), **values})


def _least(found: list[AtHand]) -> AtHand:
    """What each process can count on. Those of one machine share its memory and cores; each has a GPU of its own."""
    first, here = found[0], int(os.environ.get("LOCAL_WORLD_SIZE", len(found)))
    share = 1 if first.device == "cuda" else here

    def least(name: str) -> Any:
        values = [value for each in found if (value := getattr(each, name)) is not None]
        return min(values) if values else None

    free = least("free")
    return replace(
        first,
        free=None if free is None else free // share,
        cores=max(1, least("cores") // here),
        name=", ".join(sorted({each.name for each in found})),
        bf16_gain=least("bf16_gain"),
        flops=least("flops"),
        has_bf16=all(each.has_bf16 for each in found),
        has_compiler=all(each.has_compiler for each in found),
    )
