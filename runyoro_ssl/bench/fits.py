"""Which XLS-R fits on which machine, trained in which way, and how fast that may be: `invoke doctor --what-fits`.

Memory is the prediction of `model.memory`, speed the arithmetic of `model.flops`; no machine is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.model.adapters import Adapters
from runyoro_ssl.model.at_hand import CUDA_MARGIN, MPS_SHARE
from runyoro_ssl.model.counts import count_weights
from runyoro_ssl.model.flops import count_flops
from runyoro_ssl.model.memory import (
    CPU_BASE,
    SAMPLING_RATE,
    BatchSettings,
    largest_batch_seconds,
    predict_memory,
)
from runyoro_ssl.model.mps import most_batch_seconds
from runyoro_ssl.page.amounts import GIB, number
from runyoro_ssl.torchaudio_compat import import_transformers

MODELS = {"XLS-R-300M": "xls-r-300m", "XLS-R-1B": "xls-r-1b", "XLS-R-2B": "xls-r-2b"}
DROPOUT = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "feat_proj_dropout": 0.1, "activation_dropout": 0.0}
"""As the config.json of all three has it."""
MACS, GPUS = (16, 24, 36, 48, 64, 128), (8, 12, 16, 24, 48, 80)
"""GiB of memory: of a Mac all there is, of a GPU its own."""
SMALL_MAC, OF_SMALL, OF_LARGE = 32, 2 / 3, 3 / 4
"""What macOS recommends a GPU to take at most: two thirds of up to so many GiB of memory, three quarters of more."""
SYSTEM = 3 * GIB
"""A Mac's memory that macOS and what else runs keep for themselves: a guess."""
CUDA_CONTEXT = 1 * GIB
"""Of a GPU's memory, before any of it is said to be free. An allowance, not measured."""
CLIP_SEC, ENOUGH_SEC = 15.0, 960.0
"""The longest clip that `prepare` makes; and the largest micro-batch that was ever measured."""
H200 = {"XLS-R-300M": (2490, 480), "XLS-R-1B": (367, 120)}
"""Measured, all weights, bf16, no dropout: audio seconds a second, in micro-batches of so many."""
M4_MAX = (7.8e12, 12e12)
"""Operations a second of products in fp32, as others have measured them."""


@dataclass(frozen=True)
class WayToTrain:
    """A way to train, in words and as settings."""

    words: str
    flags: str
    checkpointing: bool = False
    eight_bit: bool = False
    adapters: Adapters | None = None

    def batches(self, device: Literal["mps", "cuda"]) -> BatchSettings:
        """What decides memory, in the precision of the device's profile."""
        return BatchSettings(
            CLIP_SEC,
            clip_seconds=CLIP_SEC,
            precision="bf16" if device == "cuda" else "fp32",
            gradient_checkpointing=self.checkpointing,
            device=device,
            optimizer="adamw-8bit" if self.eight_bit else "adamw",
            adapters=self.adapters,
        )


WAYS = (
    WayToTrain("all weights", ""),
    WayToTrain("all weights, checkpointing", "--gradient-checkpointing", checkpointing=True),
    WayToTrain(
        "the same, moments in 8 bits",
        "--gradient-checkpointing --set train.optimizer=adamw-8bit",
        checkpointing=True,
        eight_bit=True,
    ),
    WayToTrain("adapters", "--adapters lora", adapters=Adapters()),
    WayToTrain(
        "adapters, checkpointing",
        "--adapters lora --gradient-checkpointing",
        checkpointing=True,
        adapters=Adapters(),
    ),
)


@dataclass(frozen=True)
class FitsTable:
    """A table: title, what its columns are, rows."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def what_fits() -> list[FitsTable]:
    """What each way takes; the largest micro-batch on Macs and on GPUs; and what speed may be expected."""
    models = {name: import_transformers().Wav2Vec2Config(**SIZES[size], **DROPOUT) for name, size in MODELS.items()}
    return [
        _table("Mac: largest micro-batch, audio seconds", models, MACS, "mps"),
        _table("NVIDIA GPU: largest micro-batch, audio seconds", models, GPUS, "cuda"),
        FitsTable(
            "What each takes",
            ["model", "way", "weights that learn", "a clip of 15 s: GPU", "Mac", "a checkpoint"],
            [[name, way.words, *_needs(model, way)] for name, model in models.items() for way in WAYS],
        ),
        FitsTable(
            "How fast",
            ["model", "way", "GFLOP an audio second", "speed", "H200, audio s/s", "M4 Max, audio s/s at most"],
            [[name, way.words, *_speeds(name, models, way)] for name in models for way in WAYS],
        ),
    ]


def mac_budget(memory: int, saved: int) -> float:
    """Bytes that a run may take on the GPU of a Mac with so many, where a checkpoint being written takes `saved`."""
    recommended = (OF_SMALL if memory <= SMALL_MAC * GIB else OF_LARGE) * memory
    return min(MPS_SHARE * recommended, memory - SYSTEM - CPU_BASE - saved)


def budget_of(model: Any, way: WayToTrain, memory: int, device: Literal["mps", "cuda"]) -> int:
    """Bytes that a run may take on a machine with so many."""
    if device == "cuda":
        return memory - CUDA_CONTEXT - CUDA_MARGIN
    return int(mac_budget(memory, predict_memory(model, way.batches(device)).saved))


def _table(title: str, models: dict[str, Any], sizes: Sequence[int], device: Literal["mps", "cuda"]) -> FitsTable:
    rows = [
        [name, way.words, *(_largest(model, way, size * GIB, device) for size in sizes)]
        for name, model in models.items()
        for way in WAYS
        if not (way.eight_bit and device == "mps")
    ]
    return FitsTable(title, ["model", "way", *(f"{size} GB" for size in sizes)], rows)


def _largest(model: Any, way: WayToTrain, memory: int, device: Literal["mps", "cuda"]) -> str:
    """The largest micro-batch, in whole clips."""
    settings = way.batches(device)
    seconds = largest_batch_seconds(model, settings, budget_of(model, way, memory, device))
    if seconds is None:
        return "no"
    if device == "mps":
        seconds = min(seconds, most_batch_seconds(model, SAMPLING_RATE))
    return f"{min(ENOUGH_SEC, seconds // CLIP_SEC * CLIP_SEC):g}" + ("+" if seconds >= ENOUGH_SEC else "")


def _needs(model: Any, way: WayToTrain) -> list[str]:
    counts = count_weights(model, way.adapters)
    on_gpu, on_mac = (predict_memory(model, way.batches(device)) for device in ("cuda", "mps"))
    return [
        f"{number(counts.num_trained / 1e6)} M of {number(counts.parameters / 1e6)} M",
        _gib(on_gpu.peak),
        "no" if way.eight_bit else _gib(on_mac.peak),
        _gib(on_gpu.saved),
    ]


def _speeds(name: str, models: dict[str, Any], way: WayToTrain) -> list[str]:
    work, whole = work_per_second(models[name], way), work_per_second(models[name], WAYS[0])
    known = name if name in H200 else "XLS-R-1B"
    speed, _ = H200[known]
    expected = speed * work_per_second(models[known], WAYS[0]) / work
    is_measured = name in H200 and way is WAYS[0]
    slow, fast = (rate / work for rate in M4_MAX)
    return [
        number(work / 1e9),
        f"{whole / work:.2f}",
        number(expected) if is_measured else f"about {float(f'{expected:.2g}'):,.0f}",
        "no" if way.eight_bit else f"{number(slow)} to {number(fast)}",
    ]


def work_per_second(model: Any, way: WayToTrain) -> float:
    """Operations that an audio second takes, in clips of 15 s: forward, backward, and what is computed again.

    Of a frozen part the forward pass alone; of a frozen matrix also the gradient of its input, of which an adapter
    takes its share.
    """
    flops = count_flops(model, round(CLIP_SEC * SAMPLING_RATE))
    again = (flops.layers + flops.attention) * way.checkpointing
    if way.adapters is None:
        return (flops.training + again) / CLIP_SEC
    counts = count_weights(model, way.adapters)
    share = counts.of_adapters / counts.frozen_matrices
    layers = flops.layers * (2 + 3 * share) + again * (1 + share)
    return (flops.feature_encoder + flops.positions + layers + 3 * (flops.attention + flops.objective)) / CLIP_SEC


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
