"""The memory that a training run needs, predicted from the shapes of the model and of its micro-batch alone.

B clips of F frames in a micro-batch; hidden size H, feed-forward size I, L layers, h heads; R[i] rows and C[i]
channels after convolution i of the feature encoder, whose windows are of k[0] samples; M masked frames a clip, K
negatives, G x V codes, of D dimensions, compared in P. s bytes an element: 4, or 2 under autocast. What is held when:

    weights, AdamW moments      4 and 8 bytes a parameter: always (moments from the first step on)
    gradients                   4 bytes a parameter: from the first backward pass of an update to its end; where several
                                processes have a copy each, always, as DDP's buckets
    sharded                     all three over the number of processes; besides, 8 bytes of all weights but the layers',
                                and of one layer's 4 s + 8: it, the next one, what is on its way. No casts of layers
    feature encoder             s B (R[0] k[0] + sum R[i] C[i]): one tensor a convolution, from its forward pass to its
                                backward pass; and twice s B F C for the norm after it
    context network, a layer    s B F (8 H + 2 I), from its forward pass to its backward pass; each dropout adds its
                                noise. Attention that is not fused keeps its probabilities, (B, h, F, F), thrice with
                                dropout. With gradient checkpointing: s B F H, and all of it for one layer at a time
    objective                   fp32, (B, M, .): 3 G V + H + C + D + 4 P + M + K, from forward to backward
    casts                       under autocast, s bytes a weight of every layer, from forward to backward
    adapters                    4 bytes a weight of theirs, and s B F times the rank for each matrix; what is frozen has
                                no gradient and no moments, is held in s bytes on CUDA, and leaves nothing before the
                                first layer
    feature encoder alone       gradients and moments of its weights; inputs of products that do not learn are not kept
    moving average              4 bytes a weight that learns: always
    moments in 8 bits           2 bytes a parameter, and two scales for each 256 of a tensor

The peak is the largest of these moments, most of which are in the backward pass:

    its start                   all that was kept, and the gradients inside one layer in place of the objective
    last layer recomputed       with checkpointing: all inputs of layers, and one whole layer with its gradients
    first layer recomputed      the same with one input, but the gradients of all weights
    feature encoder             gradients of all weights, its tensors down to convolution i, the gradient of its
                                output, and what recomputing norm and GELU before it needs: 4 tensors of R[i-1] C[i-1]
                                (5 with group norm), more where they are converted to fp32. Frozen, it has none, but
                                the forward pass: convolution i, and norm and GELU before it, in fp32
    merged for a checkpoint     with adapters, on the CPU: the plain model, what learns and its moments once more

The optimizer's step is fused and the files of a checkpoint are written from where the tensors lie: no peak. On the CPU
come the libraries (`base_bytes`) and the batches of two updates: one being used, one being built. What is kept of freed
memory is not in it: `allocator.allow` says what that comes to at most. Layer drop is not counted, as now and then it
drops nothing; nor are pages of the dataset's files that the system keeps in memory: it takes them back when memory is
short.

On CUDA autocast runs norms in fp32, on a copy that compiled layers do not keep, and casts their output, once.
Compared with real runs on a CPU in fp32 and bf16, and with steps of XLS-R-300M on an H200 in bf16 without dropout.
Dropout on CUDA (masks of one byte) and all of MPS are read from torch's source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from runyoro_ssl.devices import Device
from runyoro_ssl.model.activations import Activations
from runyoro_ssl.model.adapters import Adapters
from runyoro_ssl.model.counts import Counts, OptimizerKind, TrainedPart, count_weights
from runyoro_ssl.model.states import States

if TYPE_CHECKING:
    from runyoro_ssl.config import FittedConfig  # the bench runs where there is no pydantic

MIB = 1 << 20
CPU_BASE = 540 * MIB
"""Resident memory of a run of a tiny model, less what is predicted for it: Python with torch, transformers, datasets,
accelerate and TensorBoard loaded. Linux, torch 2.13 built for the CPU."""
CUDA_BASE = 900 * MIB
"""The same where torch is built for CUDA, whose libraries a run on the CPU loads, too. 855, 900, 990 with torch 2.11,
2.13, 2.14."""
SAMPLING_RATE = 16_000


def base_bytes() -> int:
    """Resident memory of Python and its libraries, with torch as it is built here."""
    return CPU_BASE if torch.version.cuda is None else CUDA_BASE


@dataclass(frozen=True)
class BatchSettings:
    """The settings of a run that decide its memory; names and defaults as in `HardwareConfig`.

    `clip_seconds`: the longest clip. `num_clips` replaces `batch_seconds`. `accumulates`: some update has more than one
    micro-batch. `padded`: some micro-batch needs an attention mask. `averaged`: there is a moving average.
    """

    batch_seconds: float
    clip_seconds: float = 15.0
    num_clips: int | None = None
    update_seconds: float = 240.0
    accumulates: bool = True
    padded: bool = True
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gradient_checkpointing: bool = False
    compile: bool = False
    attention: Literal["sdpa", "eager"] = "sdpa"
    device: Device = "cpu"
    mask_time_prob: float = 0.65
    optimizer: OptimizerKind = "adamw"
    adapters: Adapters | None = None
    trained: TrainedPart = "all"
    averaged: bool = False
    num_processes: int = 1
    sharded: bool = False

    @classmethod
    def of(cls, config: FittedConfig, *, padded: bool, clip_seconds: float | None = None) -> BatchSettings:
        """The settings of a run's configuration. `padded`: the model's feature extractor asks for attention masks.

        `clip_seconds`: the longest clip, where the dataset is known; else the longest that `prepare` would make.
        """
        hardware, clip_seconds = config.hardware, clip_seconds or config.prepare.max_duration_sec
        accumulation, clips = hardware.gradient_accumulation_steps, hardware.per_device_train_batch_size
        batch_seconds = clips * clip_seconds if clips else hardware.batch_seconds
        return cls(
            batch_seconds=hardware.batch_seconds,
            clip_seconds=clip_seconds,
            num_clips=clips,
            update_seconds=accumulation * batch_seconds if accumulation else hardware.update_seconds,
            accumulates=accumulation != 1,
            padded=padded and config.plugins.collator != "cropped",
            precision=hardware.precision,
            gradient_checkpointing=hardware.gradient_checkpointing,
            attention=hardware.attention,
            device=hardware.device,
            mask_time_prob=config.masking.mask_time_prob,
            compile=hardware.compile,
            optimizer=config.train.optimizer,
            adapters=Adapters.of(config),
            trained="above" if config.train.freeze_feature_encoder else config.train.train_only,
            averaged=config.train.ema_decay is not None,
        )

    def shared(self, num_processes: int, *, sharded: bool = False) -> BatchSettings:
        """The same of each of several processes, which hold all of the model, or a part."""
        return replace(self, num_processes=num_processes, sharded=sharded)

    def shapes(self) -> list[tuple[int, float]]:
        """The micro-batches that need most, as (clips, seconds of each): the longest clips; and clips that fill it."""
        if self.num_clips is not None:
            return [(self.num_clips, self.clip_seconds)]
        whole = max(1, int(self.batch_seconds // self.clip_seconds))
        filling = math.ceil(self.batch_seconds / self.clip_seconds)
        return [(whole, self.clip_seconds), (filling, min(self.clip_seconds, self.batch_seconds / filling))]


@dataclass(frozen=True)
class Memory:
    """The predicted memory in bytes, named as in the module's docstring.

    `feature_encoder`, `context_network`, `objective`, `casts` are kept from the forward pass to the backward pass.
    `moments_of_peak`: all that is held at each moment that may be the peak. `saved`: what a checkpoint has of the run,
    which waits on the host until it is written, where there is room or the run is on another device.
    """

    num_parameters: int
    num_trained: int
    weights: int
    gradients: int
    adamw: int
    averages: int
    feature_encoder: int
    context_network: int
    objective: int
    casts: int
    batches: int
    base: int
    saved: int
    moments_of_peak: dict[str, int]

    @property
    def peak(self) -> int:
        """The most bytes in use at any moment."""
        return max(self.moments_of_peak.values())

    @property
    def passing(self) -> int:
        """Bytes at the peak that a step takes and gives back: all but weights, moments, averages and libraries."""
        return self.peak - self.weights - self.adamw - self.averages - self.base

    @property
    def peak_moment(self) -> str:
        """The moment at which most bytes are in use."""
        return max(self.moments_of_peak, key=lambda moment: self.moments_of_peak[moment])


def count_parameters(config: Any) -> int:
    """Parameters of the Wav2Vec2ForPreTraining of a Wav2Vec2Config; nothing is allocated."""
    return count_weights(config).parameters


def predict_memory(config: Any, settings: BatchSettings) -> Memory:
    """Predict the memory that a training run of this model (Wav2Vec2Config) needs at most."""
    counts = count_weights(config, settings.adapters, settings.trained)
    return max((_predict(config, settings, counts, *shape) for shape in settings.shapes()), key=lambda m: m.peak)


def largest_shape(config: Any, settings: BatchSettings) -> tuple[int, float]:
    """The micro-batch of a model (Wav2Vec2Config) that needs most memory, as (clips, seconds of each)."""
    counts = count_weights(config, settings.adapters, settings.trained)
    return max(settings.shapes(), key=lambda shape: _predict(config, settings, counts, *shape).peak)


def largest_batch_seconds(config: Any, settings: BatchSettings, budget: int) -> float | None:
    """The largest `batch_seconds` whose peak stays within `budget` bytes, to a tenth of a second, rounded down.

    None if not even one clip of the longest length fits: a micro-batch never holds less.
    """
    counts = count_weights(config, settings.adapters, settings.trained)

    def fits(seconds: float) -> bool:
        chosen = replace(settings, batch_seconds=seconds, num_clips=None)
        return all(_predict(config, chosen, counts, *shape).peak <= budget for shape in chosen.shapes())

    low = settings.clip_seconds
    if not fits(low):
        return None
    high = 2 * low
    while fits(high):
        low, high = high, 2 * high
    while high - low > 0.01:  # noqa: PLR2004 - well below the tenth that is given back
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return max(settings.clip_seconds, math.floor(10 * low) / 10)


def _predict(config: Any, settings: BatchSettings, counts: Counts, clips: int, seconds: float) -> Memory:
    network = Activations(
        config=config,
        clips=clips,
        num_samples=round(seconds * SAMPLING_RATE),
        element=4 if settings.precision == "fp32" else 2,
        device=settings.device,
        padded=settings.padded,
        sdpa=settings.attention == "sdpa",
        mask_time_prob=settings.mask_time_prob,
        compiled=settings.compile,
        adapters=settings.adapters,
        trained=settings.trained,
    )
    states = States.of(
        counts,
        network,
        settings.optimizer,
        averaged=settings.averaged,
        accumulates=settings.accumulates,
        num_processes=settings.num_processes,
        sharded=settings.sharded,
    )
    base, batches = 0, network.batch()
    if settings.device == "cpu":
        base, batches = base_bytes(), round(2 * batches * max(1.0, settings.update_seconds / (clips * seconds)))
    always = states.weights + states.moments + states.averages + states.gathered + batches + base
    checkpointing = settings.gradient_checkpointing
    moments = _moments_of_peak(network, states, always=always, checkpointing=checkpointing)
    again = states.averages + (states.gradients if settings.adapters else 0)
    saved = 4 * counts.parameters + states.moments + again
    if settings.device == "cpu" and settings.adapters is not None:
        moments["merged for a checkpoint"] = always + saved
    return Memory(
        num_parameters=counts.parameters,
        num_trained=counts.num_trained,
        weights=states.weights,
        gradients=states.gradients,
        adamw=states.moments,
        averages=states.averages,
        feature_encoder=network.encoder(),
        context_network=network.context(checkpointing=checkpointing),
        objective=network.objective(),
        casts=states.casts,
        batches=batches,
        base=base,
        saved=saved,
        moments_of_peak=moments,
    )


def _moments_of_peak(network: Activations, states: States, *, always: int, checkpointing: bool) -> dict[str, int]:
    """Bytes in use at each moment that may be the peak, as the module's docstring names them."""
    gradients, accumulated, casts = states.gradients, states.accumulated, states.casts
    encoder, context = network.encoder(), network.context(checkpointing=checkpointing)
    objective = network.objective()
    layer, inner, kept = network.layer(), network.inside_layer(), encoder + context
    if checkpointing:
        one_input = context - (network.config.num_hidden_layers - 1) * network.layer_input()
        moments = {
            "end of the forward pass": always + accumulated + kept + max(casts, objective),
            "last layer recomputed": always + accumulated + kept + layer + inner,
            "first layer recomputed": always + gradients + encoder + one_input + layer + inner,
        }
    else:
        moments = {"start of the backward pass": always + accumulated + kept + casts + max(objective, inner)}
    if network.reaches_encoder:
        moments["backward pass of the feature encoder"] = always + gradients + network.encoder_backward()
    else:
        moments["forward pass of the feature encoder"] = always + accumulated + network.encoder_forward()
    return moments
