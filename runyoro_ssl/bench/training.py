"""The training step, its parts and an epoch of it, beside transformers' own."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from runyoro_ssl.batches.loader import load_batches
from runyoro_ssl.batches.micro_batches import MicroBatch, PlanSettings
from runyoro_ssl.batches.plan import Update, plan_epoch
from runyoro_ssl.bench.measure import Comparison, What, alternate, measure_gemm, peak_bytes
from runyoro_ssl.bench.options import PARTS
from runyoro_ssl.bench.reference import Reference
from runyoro_ssl.bench.subjects import (
    DTYPES,
    SAMPLE_RATE,
    InPrecision,
    NoiseClips,
    build_accelerator,
    build_batches,
    build_model,
    build_stepper,
    equal_clips,
    uniform_lengths,
)
from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.evaluate.metrics import Meter
from runyoro_ssl.model.allocator import allow, reset_allocator, tune_allocator
from runyoro_ssl.model.encoder import encode_waveforms
from runyoro_ssl.model.flops import count_flops
from runyoro_ssl.model.load import set_up
from runyoro_ssl.model.memory import BatchSettings, predict_memory
from runyoro_ssl.model.objective import compute_objective

BATCH_SECONDS = {
    "cpu": {"small": 30.0, "base": 15.0, "xls-r-300m": 15.0, "xls-r-1b": 15.0},
    "mps": {"small": 60.0, "base": 30.0, "xls-r-300m": 30.0, "xls-r-1b": 15.0},
    "cuda": {"small": 480.0, "base": 240.0, "xls-r-300m": 120.0, "xls-r-1b": 60.0},
}
EPOCH_BATCHES = 8
"""Micro-batches' worth of audio in the epoch that is measured."""


@dataclass(frozen=True)
class BenchSettings:
    """What to measure. `steps` is the number of timed runs of each side."""

    size: str
    device: str
    precision: str
    reference_precision: str
    steps: int
    parts: Sequence[What] = PARTS
    clip_seconds: float = 15.0
    batch_seconds: float | None = None
    compile: bool = False
    with_reference: bool = True


class TrainingBench:
    """Both sides on one model, so on the same weights; each with an optimizer of its own."""

    def __init__(self, settings: BenchSettings) -> None:
        self.settings = settings
        self.batch_seconds = settings.batch_seconds or BATCH_SECONDS[settings.device][settings.size]
        self.model = build_model(settings.size, settings.device)
        self.accelerator = build_accelerator(settings.device, settings.precision)
        self.stepper = build_stepper(self.model, self.accelerator, total_steps=1_000_000)
        self.meter = Meter(self.accelerator, self.model.config)
        self.reference_model = self.model
        if settings.with_reference and (settings.compile or settings.precision != "fp32"):
            self.reference_model = copy.deepcopy(self.model)  # layers are set up in place
        set_up(self.model, device=settings.device, gradient_checkpointing=False, compile_layers=settings.compile)

    def rows(self) -> Iterator[Comparison]:
        """One row for each part, as soon as it is measured."""
        for part in self.settings.parts:
            gc.collect()
            yield getattr(self, part)()

    def objective(self) -> Comparison:
        """Quantiser, projections and loss, forward and backward, for given outputs of the network."""
        batch, theirs = self.batch, self.reference_batch
        shape = (*batch.masks.time_mask.shape, self.model.config.hidden_size)
        context = torch.randn(shape, device=self.settings.device, requires_grad=True)
        features = torch.randn((*shape[:2], self.model.config.conv_dim[-1]), device=self.settings.device)
        features.requires_grad_()
        masks = batch.masks

        def ours() -> None:
            objective = compute_objective(
                self.model,
                context,
                features,
                positions=masks.positions,
                valid=masks.valid,
                negatives=masks.negatives,
            )
            objective.loss.backward()  # type: ignore[no-untyped-call]
            self.model.zero_grad()

        def reference() -> None:
            self.reference.objective(context, features, theirs).backward()  # type: ignore[no-untyped-call]
            self.reference_model.zero_grad()

        row = self._compare("objective", ours, reference)
        memory = {"peak_bytes": peak_bytes(ours, self.settings.device)}
        if row.reference:
            memory["reference_peak_bytes"] = peak_bytes(reference, self.settings.device)
        return _with(row, memory)

    def feature_encoder(self) -> Comparison:
        """The convolutional feature encoder, forward and backward."""
        encoder, waveforms = self.model.wav2vec2.feature_extractor, self.batch.waveforms

        def run(encode: Callable[[torch.Tensor], torch.Tensor], accelerator: Any) -> None:
            with accelerator.autocast():
                outputs = encode(waveforms)
            outputs.float().square().mean().backward()  # type: ignore[no-untyped-call]
            self.model.zero_grad()

        return self._compare(
            "feature_encoder",
            lambda: run(lambda x: encode_waveforms(encoder, x), self.accelerator),
            lambda: run(lambda x: encoder(x.clone()).transpose(1, 2), self.reference_accelerator),
        )

    def step(self) -> Comparison:
        """The whole step on one unpadded micro-batch, optimizer included, data ready on the device."""
        update = Update(1, 0.0, (self.batch.plan,))
        row = self._compare(
            "step",
            lambda: self.stepper.take(update, [self.batch], self.meter),
            lambda: self.reference.step(self.reference_batch),
        )
        seconds = self.batch.num_samples / SAMPLE_RATE
        peak = peak_bytes(lambda: self.stepper.take(update, [self.batch], self.meter), self.settings.device)
        clip = count_flops(self.model.config, self.batch.clip_samples[0])
        flops = clip.training * len(self.batch.clip_samples)
        tflops = flops / row.to_json()["ours"] / 1e12
        return _with(
            row,
            {
                **_speeds(row, seconds),
                "tflops_per_second": tflops,
                "share_of_gemm_peak": tflops / self.gemm_tflops,
                "gemm_tflops_per_second": self.gemm_tflops,
                "peak_bytes": peak,
            },
        )

    def epoch(self) -> Comparison:
        """An epoch of clips of 2 to 15 s, from int16 samples in memory: our plan against random padded batches."""
        clips = NoiseClips.of(lengths := uniform_lengths(EPOCH_BATCHES * self.batch_seconds))
        seconds = sum(lengths) / SAMPLE_RATE
        samples = self.batch_seconds * SAMPLE_RATE
        settings = PlanSettings(batch_samples=samples, update_samples=samples)
        builder = build_batches(self.model, clips)
        batch_size = max(1, round(len(lengths) / EPOCH_BATCHES))

        def ours() -> None:
            plan = plan_epoch(lengths, settings, seed=0, epoch=0)
            batches = load_batches(builder, plan, num_workers=0, pin_memory=self.settings.device == "cuda")
            for step, (group, made) in enumerate(zip(plan, batches, strict=True), start=1):
                self.stepper.take(Update(step, 0.0, tuple(group)), made, self.meter)
            self.meter.read("train")

        row = self._compare("epoch", ours, lambda: self.reference.epoch(clips, batch_size=batch_size))
        return _with(row, {**_speeds(row, seconds), "clips": len(lengths), "audio_seconds": seconds})

    @cached_property
    def batch(self) -> Any:
        """One micro-batch of equal clips, on the device."""
        self._clips = equal_clips(self.batch_seconds, self.settings.clip_seconds)
        plan = MicroBatch.of(range(len(self._clips.samples)))
        return build_batches(self.model, self._clips)[plan].to(self.accelerator.device)

    @cached_property
    def reference_batch(self) -> dict[str, torch.Tensor]:
        """The same clips as the reference collates them."""
        count = len(self.batch.waveforms)
        return self.reference.collate([self._clips.waveform(clip) for clip in range(count)])

    @cached_property
    def reference(self) -> Reference:
        """The other side."""
        return Reference(self.reference_model, self.reference_accelerator)

    @cached_property
    def reference_accelerator(self) -> Any:
        """An accelerator of the reference's precision."""
        return InPrecision(self.accelerator.device, self.settings.reference_precision)

    @cached_property
    def gemm_tflops(self) -> float:
        """The best rate of a square matrix product on this device, in this precision."""
        return measure_gemm(self.settings.device, DTYPES[self.settings.precision])

    def _compare(self, what: What, ours: Callable[[], Any], reference: Callable[[], Any]) -> Comparison:
        """Alternating runs; each side alone, without the other's optimizer, where both do not fit into memory."""
        settings = self.settings
        extra: dict[str, Any] = {}
        keep = allow(predict_memory(self.model.config, BatchSettings(self.batch_seconds))).keeps

        def our_turn() -> None:
            if settings.device == "cpu":  # as train does
                tune_allocator(keep=keep)
            ours()

        def their_turn() -> None:
            if settings.device == "cpu":
                reset_allocator()
            reference()

        try:
            both = their_turn if settings.with_reference else None
            repeats = 1 if what == "epoch" else 2  # an epoch is many steps anyway
            seconds = alternate(our_turn, both, runs=settings.steps, device=settings.device, repeats=repeats)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            alone = self._alone(our_turn), self._alone(their_turn) if settings.with_reference else []
            if not alone[0]:
                raise TrainingError(
                    f"out of memory on {settings.device} with micro-batches of {self.batch_seconds:g} s; use a smaller "
                    "--batch-seconds"
                ) from None
            extra = {"alternating": False, **({} if alone[1] else {"reference_error": "out of memory"})}
            seconds = alone
        return Comparison(what, settings.size, settings.precision, settings.reference_precision, *seconds, extra)

    def _alone(self, function: Callable[[], Any]) -> list[float]:
        """Seconds of one side's runs, with neither optimizer's state of before; empty if it does not fit."""
        self.model.zero_grad()
        for optimizer in (self.stepper.optimizer.optimizer, self.reference.optimizer):
            optimizer.state.clear()
        gc.collect()
        if self.settings.device == "cuda":
            torch.cuda.empty_cache()
        try:
            return alternate(function, None, runs=self.settings.steps, device=self.settings.device)[0]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return []


def _speeds(row: Comparison, audio_seconds: float) -> dict[str, float | None]:
    medians = row.to_json()
    return {
        "audio_seconds_per_second": audio_seconds / medians["ours"],
        "reference_audio_seconds_per_second": audio_seconds / medians["reference"] if row.reference else None,
    }


def _with(row: Comparison, extra: dict[str, Any]) -> Comparison:
    return replace(row, extra={**row.extra, **extra})
