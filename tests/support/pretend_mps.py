"""A CPU that pretends to be MPS: code that asks for the device is told so, and operators dispatch as they would there.

A tensor on it is a CPU tensor in a `Pretend`: Python sees `mps:0`, torch's dispatcher MPS, AutogradMPS and so on; what
is computed is computed on the CPU. So a whole run can go through it, with true numbers. Of C++ only what asks a tensor
for its device is told "cpu": `Operators` looks inside attention's body therefore on its plain path, which is MPS's, and
`mps_kernels.AS_ON_MPS` says the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from accelerate.state import AcceleratorState, PartialState
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from support.mps_kernels import implicit_with_kernel

MPS = torch.device("mps", 0)
CPU = torch.device("cpu")
HOST = torch.device("cpu", 0)
"""As Python asks for the host; a C++ body that makes what its tensors' device is asks for CPU, and means MPS."""
GIB = 1 << 30
_IS_BUILT = torch.backends.mps.is_built()
_GROUPED = torch._C._group_tensors_by_device_and_dtype
AUTOCAST_LOW = {F.linear, F.conv1d, F.scaled_dot_product_attention, torch.matmul, torch.bmm, torch.baddbmm}
AUTOCAST_FP32 = {F.layer_norm}
"""Of torch's lists for autocast on MPS (aten/src/ATen/autocast_mode.cpp) what wav2vec 2.0 uses: they ask C++."""


class Pretend(torch.Tensor):
    """A tensor on the pretended device; `held` is what it holds."""

    held: torch.Tensor
    running = 0
    """How many torch functions are at work on such tensors: what they make on the CPU, they would make on MPS."""
    device = property(lambda _: MPS)
    is_mps = property(lambda _: True)
    is_cpu = property(lambda _: False)

    @staticmethod
    def __new__(cls: type[Self], inner: torch.Tensor) -> Self:  # noqa: D102 - as the class says
        made: Self = torch.Tensor._make_subclass(cls, inner, device_for_backend_keys=MPS)
        made.held = inner
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_autocast_enabled("mps") and func in AUTOCAST_LOW | AUTOCAST_FP32:
            dtype = torch.get_autocast_dtype("mps") if func in AUTOCAST_LOW else torch.float32
            args, kwargs = tree_map_only(
                torch.Tensor, lambda it: it.to(dtype) if it.is_floating_point() else it, (args, kwargs or {})
            )
        Pretend.running += 1
        try:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        finally:
            Pretend.running -= 1

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]  # torch's own says less
        return _run(func, args, kwargs or {})[0]

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As of a tensor on MPS: to the CPU it is a copy."""
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(
            *args, **{k: v for k, v in kwargs.items() if k != "copy"}
        )
        if device is None or device.type == "mps":
            same = dtype in {None, self.dtype} and not kwargs.get("copy")
            return self if same else torch.ops.aten._to_copy(self, dtype=dtype)
        return torch.ops.aten._to_copy(self, dtype=dtype, device=HOST, non_blocking=non_blocking)

    def cpu(self, *_: Any, **__: Any) -> Any:
        """A copy on the host."""
        return self.to(HOST)

    def numpy(self, **_: Any) -> Any:
        """Refused, as there."""
        raise TypeError("can't convert mps:0 device type tensor to numpy")

    def tolist(self) -> Any:
        """By the host."""
        return self.cpu().tolist()

    def __deepcopy__(self, memo: Any) -> Pretend:
        return Pretend(self.held.clone())


def _run(func: Any, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, bool]:
    """Compute on the CPU. Returns the result, and whether it happened on the pretended device."""
    given = [it for it in tree_leaves((args, kwargs)) if isinstance(it, Pretend)]
    asked = kwargs.get("device")
    there = bool(given)
    if asked is not None:
        there = asked.type == "mps" or (asked != HOST and bool(given or Pretend.running))
        kwargs = {**kwargs, "device": CPU}
    outer = {id(it.held): it for it in given}
    inner_args, inner_kwargs = tree_map_only(Pretend, lambda it: it.held, (args, kwargs))
    made = _compute(func, inner_args, inner_kwargs)
    if there:
        made = tree_map_only(torch.Tensor, lambda it: outer[id(it)] if id(it) in outer else Pretend(it), made)
    return made, there or bool(given)


def _compute(func: Any, args: Any, kwargs: Any) -> Any:
    """An operator of the CPU; those that only MPS has, by others."""
    if func is torch.ops.aten.linear_backward.default:
        inputs, gradient, weight, mask = args
        rows, columns = gradient.flatten(0, -2), inputs.flatten(0, -2)
        made = (gradient @ weight, rows.T @ columns, rows.sum(dim=0))
        return tuple(each if wanted else None for each, wanted in zip(made, mask, strict=True))
    return func(*args, **kwargs)


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Shows every operator that runs on the pretended device to `see(func, args, kwargs, made)`."""

    def __init__(self, see: Callable[[Any, Any, Mapping[str, Any], Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self._see = see

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made, there = _run(func, args, kwargs or {})
        if there:
            self._see(func, args, kwargs or {}, made)
        return made


@contextmanager
def pretended_mps() -> Iterator[None]:
    """A machine with an MPS device, and nothing else."""
    with ExitStack() as stack:
        for module, name, instead in (
            (torch.backends.mps, "is_available", lambda: True),
            (torch.backends.mps, "is_built", lambda: True),
            (torch.backends.mps, "is_macos_or_newer", lambda *_: True),
            (torch.mps, "get_rng_state", lambda *_: torch.get_rng_state()),
            (torch.mps, "set_rng_state", lambda state, *_: torch.set_rng_state(state)),
            (torch.mps, "recommended_max_memory", lambda: 24 * GIB),
            (torch.mps, "driver_allocated_memory", lambda: GIB),
            (torch.mps, "current_allocated_memory", lambda: GIB),
            (torch.mps, "empty_cache", lambda: None),
            (torch._C, "_group_tensors_by_device_and_dtype", _grouped),
            (PartialState, "default_device", property(lambda _: MPS)),
        ):
            stack.enter_context(mock.patch.object(module, name, instead))
        library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]  # torch's own
        stack.callback(library._destroy)
        for name in implicit_with_kernel() if not _IS_BUILT else ():
            library.impl(name, _never, "MPS")
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        overwritten = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwritten)
        torch._C._set_only_lift_cpu_tensors(True)  # noqa: FBT003
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)  # noqa: FBT003
        AcceleratorState._reset_state(reset_partial_state=True)
        stack.callback(AcceleratorState._reset_state, reset_partial_state=True)
        yield


def _grouped(lists: Any, with_indices: bool = False) -> Any:  # noqa: FBT001, FBT002 - as torch's own
    """Torch's groups of tensors for clipping and optimizers, which ask C++ for the device."""
    found = _GROUPED(lists, with_indices)
    return {
        (MPS if isinstance(group[0][0], Pretend) else device, dtype): (group, places)
        for (device, dtype), (group, places) in found.items()
    }


def _never(*_: Any, **__: Any) -> None:
    """What stands in for a kernel of MPS, so that the dispatcher knows of one: `Pretend` comes before it."""
    raise AssertionError
