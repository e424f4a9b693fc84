"""What a step asks of a GPU, counted on a CPU: nothing is computed, tensors have shapes alone.

Operators are those of a CPU under autocast to bf16, with CUDA's list of what autocast computes in fp32. One that
computes is about one kernel on CUDA. The optimizer and clipping, which a CPU does parameter by parameter, do not count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.batches.plan import Update
from runyoro_ssl.bench.subjects import (
    build_accelerator,
    build_batches,
    build_model,
    build_stepper,
    equal_clips,
)
from runyoro_ssl.evaluate.metrics import Meter
from runyoro_ssl.model import norms
from runyoro_ssl.model.load import set_up
from runyoro_ssl.train.step import Stepper

CPU = torch.device("cpu")
KINDS = {
    "products": ("mm", "addmm", "addmm_", "bmm", "baddbmm"),
    "attention": (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "casts": ("_to_copy",),
    "layer norms": ("native_layer_norm", "native_layer_norm_backward"),
    "positional convolution": ("convolution", "convolution_backward", "_weight_norm_interface"),
    "sums": ("sum",),
    "GELU": ("gelu", "gelu_backward"),
}
"""Operators by what a profile of a GPU shows together; the others are `other`."""
ENCODER_NORMS = "norms of the feature encoder"
"""Fused on CUDA: one operator forward, one recomputed with the gradient."""
FREE = {
    "view", "_unsafe_view", "t", "transpose", "permute", "slice", "detach", "alias", "expand", "unsqueeze", "squeeze",
    "select", "as_strided", "split", "unfold", "diagonal", "unbind", "empty", "empty_like", "empty_strided",
    "new_empty", "new_empty_strided", "device", "is_pinned", "_record_function_enter_new", "_record_function_exit",
}  # fmt: skip
"""Operators that compute nothing."""


@dataclass
class StepTrace:
    """What was counted of the forward and the backward pass, by kind: operators, and gigabytes read and written."""

    operators: Counter[str] = field(default_factory=Counter)
    gigabytes: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Counts what runs; a number that the host asks for is 1."""

    def __init__(self, trace: StepTrace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self._trace = trace
        self.counts = False
        self.fused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name == "_local_scalar_dense":
            return 1.0
        made = func(*args, **(kwargs or {}))
        if self.counts and not self.fused and func.namespace == "aten" and name not in FREE:
            self.count(kind_of(name), (args, kwargs, made))
        return made

    def count(self, kind: str, touched: Any) -> None:
        """Count an operator, and the bytes of the tensors that it touched."""
        self._trace.operators[kind] += 1
        tensors = [it for it in tree_leaves(touched) if isinstance(it, torch.Tensor)]
        self._trace.gigabytes[kind] += sum(it.numel() * it.element_size() for it in tensors) / 1e9


class AutocastOfCuda(TorchFunctionMode):
    """Layer norm in fp32 under autocast, as CUDA has it; a CPU has it in bf16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.layer_norm or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return func(*map(_in_fp32, args), **{name: _in_fp32(value) for name, value in kwargs.items()})


def trace_step(size: str, batch_seconds: float) -> StepTrace:
    """Count a step of a model of a size (`bench.sizes`) in bf16, on clips of 15 s, without a mask."""
    model = build_model(size, "meta")
    clips = equal_clips(batch_seconds, 15.0)
    batch = build_batches(model, clips)[MicroBatch.of(range(len(clips.samples)))]
    accelerator = build_accelerator("cpu", "bf16")
    trace = StepTrace()
    counting = _Counting(trace)
    with ExitStack() as stack:
        mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        _give_shapes_alone(model, mode)
        set_up(model, device="cuda", gradient_checkpointing=False, compile_layers=False)
        stepper = build_stepper(model, accelerator, total_steps=100)
        meter = Meter(accelerator, model.config)
        shapes = {name: _shape_alone(value, mode) for name, value in vars(batch.masks).items()}
        batch = replace(
            batch,
            waveforms=_shape_alone(batch.waveforms, mode),
            attention_mask=None,
            masks=replace(batch.masks, **shapes),
        )
        stack.enter_context(_watched(counting))
        stepper.take(Update(1, 0.0, (batch.plan,)), [batch], meter)
    return trace


def kind_of(operator: str) -> str:
    """The kind of an operator of aten."""
    return next((kind for kind, names in KINDS.items() if operator in names), "other")


@contextmanager
def _watched(counting: _Counting) -> Iterator[None]:
    """Count within `Stepper._backward`, the forward and the backward pass; a fused function is one operator."""
    backward, call = Stepper._backward, norms._call

    def counted(*args: Any) -> Any:
        counting.counts = True
        try:
            return backward(*args)
        finally:
            counting.counts = False

    def fused(function: Any, *args: Any) -> Any:
        counting.fused = True
        try:
            made = call(function, *args)
        finally:
            counting.fused = False
        counting.count(ENCODER_NORMS, (args, made))
        return made

    with (
        mock.patch.object(Stepper, "_backward", counted),
        mock.patch.object(norms, "_call", fused),
        AutocastOfCuda(),
        counting,
    ):
        yield


def _give_shapes_alone(model: Any, mode: FakeTensorMode) -> None:
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(_shape_alone(parameter.data, mode))
        for name, buffer in module._buffers.items():
            module._buffers[name] = _shape_alone(buffer, mode)


def _shape_alone(value: Any, mode: FakeTensorMode) -> Any:
    return FakeTensor(mode, value.to("meta"), CPU) if isinstance(value, torch.Tensor) else value


def _in_fp32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value
