"""A run fits itself: every setting of the hardware that is `auto` is decided here, and why.

A pure function: the device at hand (`at_hand`) and what the run is are given, nothing is looked at or tried. A
micro-batch is as large as makes its device fast, or as memory holds by the prediction, whichever is less.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from runyoro_ssl.errors import TrainingError
from runyoro_ssl.model.adapters import Adapters
from runyoro_ssl.model.allocator import SPREAD
from runyoro_ssl.model.at_hand import AtHand
from runyoro_ssl.model.flops import count_flops
from runyoro_ssl.model.memory import (
    SAMPLING_RATE,
    BatchSettings,
    base_bytes,
    largest_batch_seconds,
    predict_memory,
)
from runyoro_ssl.option import AUTO
from runyoro_ssl.page.amounts import amount_of_time, size

if TYPE_CHECKING:
    from runyoro_ssl.config import HardwareConfig  # the check runs where there is no pydantic

OPEN = (
    "precision",
    "batch_seconds",
    "plan_seconds",
    "clip_lengths",
    "dataloader_num_workers",
    "gradient_checkpointing",
    "compile",
)
"""The settings that may be `auto`."""

ENOUGH_GAIN = 1.2
"""A product in bf16 must be so many times as fast on a CPU. Products and whole steps, 1.8, 5.2, 6.4 M parameters, one
thread of an AMD EPYC with AVX-512: 0.96, 1.5, 1.55 times as fast; 1.07, 1.37, 1.48."""
GROUPS = 8
"""Groups of like clips in an optimizer step: so it sees short clips and long ones."""
ENOUGH_SEC = 30.0
"""A micro-batch on a CPU or MPS."""
BUSY_SEC, MOST_SEC = 0.07, 960.0
"""On CUDA: so long must the products of a micro-batch take at the device's best rate, that launching them does not. On
an H200, XLS-R-300M: 480 s, which run at 94 % of the speed of 960 s; 240 s at 70 %, 120 s at 39 %."""
OVERHEAD_SEC = {"cpu": 0.5, "mps": 5.0}
"""What a micro-batch costs besides its audio, in seconds of audio; on CUDA a quarter of what is enough."""
RECOMPUTING = 0.75
"""Speed with gradient checkpointing, of that without."""
ROOM = 1.4
"""Of a process's share of a step, that a micro-batch of it may take with its padding: of clips of 2 to 15 s, steps of
240 s make 8 micro-batches for 8 processes, and not 9 or 10."""
FEW_LENGTHS = 5
"""Lengths of clips, where a device should see few shapes: with a smaller last micro-batch they are six."""
LOADERS = 4
"""Processes that build batches for a GPU; one keeps up with 15,000 audio seconds a second, less with augmentations."""
COMPILED_FROM_SEC = 3 * 3600.0
"""Compiling takes minutes for each shape, and gains a tenth on an H200: in shorter runs less than that."""
CHECKPOINTING = " --gradient-checkpointing"
PRODUCTS_SHARE = 0.4
"""Of a product's rate, that whole steps reach on a GPU."""


@dataclass(frozen=True)
class RunAtHand:
    """What a run is, as far as it decides how it trains.

    `config`: Wav2Vec2Config. `batch`: its memory's settings, in which what is `auto` says nothing. `audio_seconds`: all
    that it will hear; 0: not known.
    """

    config: Any
    batch: BatchSettings
    audio_seconds: float = 0.0
    num_processes: int = 1


@dataclass
class Decisions:
    """The value of every setting that may be `auto`, and the reason for each that was."""

    values: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)

    def settle(self, name: str, value: Any, because: str) -> Any:
        """Decide a setting, if it is still open. Returns its value."""
        if self.values[name] == AUTO:
            self.values[name], self.reasons[name] = value, because
        return self.values[name]


def decide(hardware: HardwareConfig, run: RunAtHand, at_hand: AtHand) -> Decisions:
    """Decide what is `auto`.

    Raises:
        TrainingError: Memory does not hold a micro-batch of a single clip.
    """
    made = Decisions({name: getattr(hardware, name) for name in OPEN})
    precision = made.settle("precision", *_precision(at_hand))
    run = replace(run, batch=replace(run.batch, precision=precision))
    is_given = hardware.per_device_train_batch_size is not None or made.values["batch_seconds"] != AUTO
    if is_given:
        _settle_around_given(made, hardware, run, at_hand)
    else:
        _settle_batch(made, hardware, run, at_hand)
    made.settle("clip_lengths", *_clip_lengths(hardware, run, at_hand))
    made.settle("dataloader_num_workers", *_workers(run, at_hand))
    made.settle("compile", *_compile(made, run, at_hand))
    return made


def needed_bytes(config: Any, batch: BatchSettings) -> int:
    """What a run takes besides what its process has already: the prediction; on a CPU, what it may be wrong by, too.

    Of a GPU's memory `at_hand` leaves a margin.
    """
    memory = predict_memory(config, batch)
    return round(_spread(batch) * (memory.peak - memory.base))


def _spread(batch: BatchSettings) -> float:
    return 1 + SPREAD if batch.device == "cpu" else 1.0


def too_little(config: Any, batch: BatchSettings, free: int) -> TrainingError:
    """That memory does not hold a single clip; what to do."""
    one = replace(batch, batch_seconds=batch.clip_seconds)
    how = ", with gradient checkpointing," if one.gradient_checkpointing else ""
    return TrainingError(
        f"memory: training on a single clip of {batch.clip_seconds:.1f} s takes {size(needed_bytes(config, one))}{how} "
        f"and {size(free)} is free on {batch.device}; {_what_fits(config, one, free)}"
    )


def _what_fits(config: Any, one: BatchSettings, free: int) -> str:
    """The first of the ways to take less, the one that costs least first, by which memory holds a clip."""
    saving, also = replace(one, gradient_checkpointing=True), "" if one.gradient_checkpointing else CHECKPOINTING
    ways = {
        CHECKPOINTING: saving,
        f"{also} --set train.optimizer=adamw-8bit": replace(saving, optimizer="adamw-8bit"),
    }
    if one.trained != "feature_encoder":  # adapters freeze the feature encoder
        ways[" --adapters lora"] = replace(one, adapters=Adapters(), optimizer="adamw")
        ways[f" --adapters lora{also}"] = replace(saving, adapters=Adapters(), optimizer="adamw")
    for flags, batch in ways.items():
        is_there = batch.optimizer == "adamw" or batch.device != "mps"
        if is_there and batch != one and needed_bytes(config, batch) <= free:
            return f"add{flags}"
    return "close what else takes memory, prepare shorter clips (--max-duration-sec), or take a smaller model"


def _precision(at_hand: AtHand) -> tuple[str, str]:
    if at_hand.device == "mps":
        return "fp32", "bf16 was measured slower on this family of chips"
    if at_hand.device == "cuda":
        if at_hand.has_bf16:
            return "bf16", "the GPU has units for it"
        return "fp16", "the GPU has no units for bf16; losses are scaled"
    gain = at_hand.bf16_gain or 0.0
    if gain >= ENOUGH_GAIN:
        return "bf16", f"a product is {gain:.1f} times as fast as in fp32 on this CPU"
    return "fp32", f"a product in bf16 is {gain:.1f} times as fast on this CPU" if gain else "no units for bf16"


def _settle_around_given(made: Decisions, hardware: HardwareConfig, run: RunAtHand, at_hand: AtHand) -> None:
    """Micro-batches are as the user says; so are the groups that steps are planned of."""
    if made.values["batch_seconds"] == AUTO:  # clips are counted
        made.values["batch_seconds"] = (hardware.per_device_train_batch_size or 1) * run.batch.clip_seconds
    seconds = made.values["batch_seconds"]
    made.settle("plan_seconds", seconds, "micro-batches are given")
    plain = replace(run.batch, batch_seconds=seconds, gradient_checkpointing=False)
    fits = at_hand.free is None or needed_bytes(run.config, plain) <= at_hand.free
    made.settle("gradient_checkpointing", not fits, "memory holds it without" if fits else "memory is short without it")


def _settle_batch(made: Decisions, hardware: HardwareConfig, run: RunAtHand, at_hand: AtHand) -> None:
    """Micro-batches that are large enough, or as memory holds; layers recomputed where that makes them faster."""
    plan = made.settle("plan_seconds", *_plan(hardware, run))
    wanted, why = _wanted(plan, hardware, run, at_hand)
    given = made.values["gradient_checkpointing"]
    found = {
        way: _largest(run, wanted, at_hand.free, saving=way) for way in ((False, True) if given == AUTO else (given,))
    }
    sizes = {way: seconds for way, seconds in found.items() if seconds is not None}
    if not sizes:
        raise too_little(run.config, replace(run.batch, gradient_checkpointing=True in found), at_hand.free or 0)
    overhead = OVERHEAD_SEC.get(at_hand.device, wanted / 4)
    saving = max(sizes, key=lambda way: sizes[way] / (sizes[way] + overhead) * (RECOMPUTING if way else 1))
    seconds = sizes[saving]
    needed = needed_bytes(run.config, replace(run.batch, batch_seconds=seconds, gradient_checkpointing=saving))
    why = f"{why if seconds == wanted else 'memory holds no more'}; takes {size(needed)}"
    made.settle("batch_seconds", seconds, why + (f" of {size(at_hand.free)} free" if at_hand.free else ""))
    without = f"faster than micro-batches of {sizes[False]:g} s" if False in sizes else "memory does not hold a clip"
    made.settle(
        "gradient_checkpointing", saving, f"{without} without it" if saving else "memory holds enough without it"
    )


def _plan(hardware: HardwareConfig, run: RunAtHand) -> tuple[float, str]:
    """Seconds of the groups that steps are made of: of no device."""
    longest = run.batch.clip_seconds
    if hardware.gradient_accumulation_steps:
        return max(ENOUGH_SEC, longest), "micro-batches are counted, so they have a fixed size"
    return max(hardware.update_seconds / GROUPS, longest), f"about {GROUPS} groups of like clips in a step"


def _wanted(plan: float, hardware: HardwareConfig, run: RunAtHand, at_hand: AtHand) -> tuple[float, str]:
    """Seconds of the micro-batches that a device should have, if memory holds them."""
    if hardware.gradient_accumulation_steps:
        return plan, "micro-batches are counted"
    enough, why = _enough(plan, run, at_hand)
    share = hardware.update_seconds if run.num_processes == 1 else ROOM * hardware.update_seconds / run.num_processes
    if share < enough:
        enough, why = share, "all of a step" if run.num_processes == 1 else "a process's share of a step"
    return max(enough, run.batch.clip_seconds), why


def _enough(plan: float, run: RunAtHand, at_hand: AtHand) -> tuple[float, str]:
    """Seconds from which larger micro-batches are hardly faster."""
    if at_hand.device != "cuda":
        return min(plan, ENOUGH_SEC), f"larger ones are no faster on {at_hand.device}"
    clip = round(run.batch.clip_seconds * SAMPLING_RATE)
    flops = count_flops(run.config, clip).training / run.batch.clip_seconds
    if at_hand.flops is None:
        return MOST_SEC / 2, "enough for a large GPU"
    seconds = min(MOST_SEC, BUSY_SEC * at_hand.flops / flops)
    return max(plan, round(seconds)), f"enough for {at_hand.flops / 1e12:.0f} TFLOP/s"


def _largest(run: RunAtHand, wanted: float, free: int | None, *, saving: bool) -> float | None:
    """The seconds that are wanted, or as many as memory holds; None: not one clip."""
    batch = replace(run.batch, batch_seconds=wanted, gradient_checkpointing=saving)
    if free is None or needed_bytes(run.config, batch) <= free:
        return wanted
    budget = round(free / _spread(batch)) + (base_bytes() if batch.device == "cpu" else 0)
    found = largest_batch_seconds(run.config, batch, budget)
    return None if found is None else min(wanted, found)


def _clip_lengths(hardware: HardwareConfig, run: RunAtHand, at_hand: AtHand) -> tuple[int, str]:
    if at_hand.device == "mps":
        return FEW_LENGTHS, "MPS keeps memory for every new shape"
    if at_hand.device == "cpu":
        return 0, "a CPU does not mind many shapes, and nothing is cropped"
    enough, _ = _enough(0.0, run, at_hand)
    if at_hand.has_bf16 and hardware.update_seconds / run.num_processes >= FEW_LENGTHS * enough:
        return FEW_LENGTHS, "micro-batches of one length need no mask, and flash attention takes none"
    return 0, f"steps of {hardware.update_seconds:g} s do not fill micro-batches of each length"


def _workers(run: RunAtHand, at_hand: AtHand) -> tuple[int, str]:
    if at_hand.device == "cpu":
        return 0, "the cores are busy with the step; a thread builds batches"
    if at_hand.device == "mps":
        return 0, "a thread builds batches: tensors do not cross processes to MPS"
    return min(LOADERS, at_hand.cores - 1), f"for {at_hand.cores} cores" + " of a process" * (run.num_processes > 1)


def _compile(made: Decisions, run: RunAtHand, at_hand: AtHand) -> tuple[bool, str]:
    if at_hand.device != "cuda":
        return False, "gains nothing on a CPU" if at_hand.device == "cpu" else "not on MPS"
    if not made.values["clip_lengths"]:
        return False, "clips keep their lengths, and each shape is compiled"
    if not at_hand.has_compiler:
        return False, "no C compiler is found"
    clip = run.batch.clip_seconds
    flops = count_flops(run.config, round(clip * SAMPLING_RATE)).training / clip
    rate = PRODUCTS_SHARE * (at_hand.flops or 0.0) / flops * run.num_processes
    seconds = run.audio_seconds / rate if rate else 0.0
    if seconds >= COMPILED_FROM_SEC:
        return True, f"a run of about {amount_of_time(seconds)} gains more than compiling takes"
    return False, f"a run of about {amount_of_time(seconds)} gains less than compiling takes"
