"""The device at hand, as far as it decides how a run trains: what memory is free there, and what was measured of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from runyoro_ssl.devices import Device, available_devices
from runyoro_ssl.machine import available_memory, usable_cores
from runyoro_ssl.model.precision import is_emulated

MIB = 1 << 20
CUDA_MARGIN = 1 << 30
"""Of a GPU's free memory, for what torch does not count: libraries, fragmentation. An allowance, not measured."""
MPS_SHARE = 0.7
"""Of what MPS recommends at most: what it keeps for programs and shapes is not predicted, and not measured so far."""
ROWS = 512
"""Of the products that are timed: a third of a usual micro-batch's, of which the rate is the same."""
TURNS, FEWEST_TURNS, ENOUGH_TIME_SEC = 15, 3, 0.1
"""Of each product: so many, or so many at least when they have taken so long."""


@dataclass(frozen=True)
class AtHand:
    """A device, and what of it decides how to train.

    `free`: bytes that a run may take in all; None: the device is not here, and it is not known. `cores`: those of each
    process. `name`: of the kind of GPU, else the device's. `has_bf16`: a GPU has
    units for it. `bf16_gain`: times as fast as in fp32 is a product on this CPU; None where nobody asked. `flops`:
    operations a second of a product on a GPU, likewise.
    """

    device: Device
    free: int | None = None
    cores: int = 1
    name: str = ""
    has_bf16: bool = True
    has_compiler: bool = True
    bf16_gain: float | None = None
    flops: float | None = None


def look(device: Device, config: Any, *, asks_for_precision: bool) -> AtHand:
    """Look at a device, with products of the shapes of a model (Wav2Vec2Config).

    `asks_for_precision`: whether products are timed on a CPU, which takes a fraction of a second.
    """
    if device not in available_devices():
        return AtHand(device)
    gpu = device == "cuda"
    has_bf16 = not gpu or torch.cuda.is_bf16_supported(including_emulation=False)
    return AtHand(
        device,
        free=free_memory(device),
        cores=usable_cores(),
        name=torch.cuda.get_device_name() if gpu else device,
        has_bf16=has_bf16,
        has_compiler=finds_compiler(),
        bf16_gain=bf16_gain(config) if device == "cpu" and asks_for_precision else None,
        flops=product_rate(torch.bfloat16 if has_bf16 else torch.float16) if gpu else None,
    )


def finds_compiler() -> bool:
    """Whether there is a C compiler, without which torch.compile compiles nothing."""
    return any(map(shutil.which, ("cc", "gcc", "clang")))


def free_memory(device: str) -> int:
    """Bytes that a run may take on a device that is here, its libraries among them where the host is the device."""
    if device == "cuda":
        return max(0, int(torch.cuda.mem_get_info()[0]) - CUDA_MARGIN)
    if device == "mps":
        recommended = int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
        return min(max(0, round(MPS_SHARE * recommended)), available_memory())
    return available_memory()


def bf16_gain(config: Any, clock: Callable[[], float] = time.perf_counter) -> float:
    """Times as fast as in fp32 are products of a model's feed-forward and convolutions in bf16, here and now.

    Each is timed in turn with the other, and the least times are compared: what else the machine does only adds.
    0 where there are no units for bf16: emulated, a single product may take a minute.
    """
    if is_emulated("cpu", "bf16"):
        return 0.0
    hidden, inner, channels = config.hidden_size, config.intermediate_size, config.conv_dim[-1]
    shapes = ((ROWS, hidden, inner), (ROWS, inner, hidden), (2 * ROWS, 2 * channels, channels))
    seconds = [_time_product(*shape, clock) for shape in shapes]
    return sum(fp32 for fp32, _ in seconds) / sum(bf16 for _, bf16 in seconds)


def _time_product(rows: int, inputs: int, outputs: int, clock: Callable[[], float]) -> tuple[float, float]:
    """The least seconds of a product in fp32 and in bf16; long ones are repeated less often."""
    one, other = torch.ones(rows, inputs), torch.ones(inputs, outputs)
    pairs = ((one, other), (one.bfloat16(), other.bfloat16()))
    taken: tuple[list[float], list[float]] = [], []
    for turn in range(TURNS):
        for times, (left, right) in zip(taken, pairs, strict=True):
            started = clock()
            torch.mm(left, right)
            times.append(clock() - started)
        if turn + 1 >= FEWEST_TURNS and sum(map(sum, taken)) > ENOUGH_TIME_SEC:
            break
    return min(taken[0]), min(taken[1])


def product_rate(dtype: torch.dtype, size: int = 4096) -> float:
    """Operations a second of a square product on the GPU: the best of some."""
    one, other = (torch.ones(size, size, device="cuda", dtype=dtype) for _ in range(2))
    taken = []
    for _ in range(TURNS + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        torch.mm(one, other)
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return 2 * size**3 / min(taken)
