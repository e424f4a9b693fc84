"""What must not happen on MPS, as rules about each operator of a traced run. Why not: docs/mps.md."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.model.mps import MOST_CONVOLVED, MOST_REDUCED, MOST_ROWS_WITH_BIAS
from support.mps_kernels import COMPOSITE, kernel
from support.pretend_mps import Operators, Pretend

MAX_SHAPES = 6
"""Of a micro-batch, in an epoch."""
READS_ON_HOST = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique2", "unique_dim",
    "unique_consecutive",
}  # fmt: skip
COPIES = {"_to_copy", "copy_"}
COMPOSITE_KEYS = ("CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional", "CompositeImplicitAutograd")


@dataclass(frozen=True)
class Call:
    """An operator, as MPS is asked for it. `given`, `made`: its tensors; `on_host`: those of them on the CPU."""

    name: str
    args: tuple[Any, ...]
    given: list[torch.Tensor]
    made: list[torch.Tensor]
    on_host: list[torch.Tensor]

    @property
    def base(self) -> str:
        """The name without its overload."""
        return self.name.partition(".")[0]


def no_kernel(call: Call) -> str | None:
    """MPS has no kernel for it."""
    return None if kernel(call.name) else "neither a kernel nor a composite"


def wrong_dtype(call: Call) -> str | None:
    """MPS has no float64, and complex numbers only in part."""
    found = {str(it.dtype) for it in there(call) if it.dtype == torch.float64 or it.is_complex()}
    return ", ".join(sorted(found)) or None


def mixed_devices(call: Call) -> str | None:
    """A tensor of the CPU and one of MPS in one operator."""
    mixed = [tuple(it.shape) for it in call.given if any(it is other for other in call.on_host)]
    return f"on the CPU: {mixed}" if mixed and call.base not in COPIES else None


def boolean_mask(call: Call) -> str | None:
    """Indexing by a mask: its result has as many rows as the mask has ones, which the host must be told."""
    masked = call.base.strip("_").startswith("index") and any(
        it.dtype in {torch.bool, torch.uint8} for it in indices(call)
    )
    return "a mask as index" if masked or call.base == "masked_select" else None


def convolution_too_long(call: Call) -> str | None:
    """A dimension of a convolution over 65,536."""
    if "convolution" not in call.base:
        return None
    longest = max(max(it.shape, default=0) for it in [*call.given, *call.made])
    return f"a dimension of {longest}" if longest > MOST_CONVOLVED else None


def convolution_with_gaps(call: Call) -> str | None:
    """An input, weight or gradient of a convolution that is not contiguous."""
    gaps = [it.stride() for it in call.given if not it.is_contiguous()]
    return f"strides {gaps}" if gaps and "convolution" in call.base else None


def reduction_too_long(call: Call) -> str | None:
    """A matrix product over more than 32,766."""
    longest = max(reductions(call), default=0)
    return f"a reduction over {longest}" if longest > MOST_REDUCED else None


def too_many_rows_with_bias(call: Call) -> str | None:
    """A product with bias of 65,536 rows or more."""
    if call.base == "linear":
        inputs, bias = call.args[0], call.args[2] if len(call.args) > 2 else None
        rows = 0 if bias is None else inputs.numel() // max(1, inputs.shape[-1])
    elif call.base in {"addmm", "addmm_"} and call.args[0].shape != (len(call.args[1]), call.args[2].shape[1]):
        rows = len(call.args[1])
    else:
        return None
    return f"{rows} rows" if rows > MOST_ROWS_WITH_BIAS else None


RULES: tuple[Callable[[Call], str | None], ...] = (
    no_kernel,
    wrong_dtype,
    mixed_devices,
    boolean_mask,
    convolution_too_long,
    convolution_with_gaps,
    reduction_too_long,
    too_many_rows_with_bias,
)


def there(call: Call) -> Iterator[torch.Tensor]:
    """The tensors of a call that are on the device."""
    return (it for it in [*call.given, *call.made] if not any(it is other for other in call.on_host))


def indices(call: Call) -> Iterator[torch.Tensor]:
    """The tensors in a call's lists, which is where `index` and `index_put` have them."""
    return (it for arg in call.args if isinstance(arg, list | tuple) for it in arg if isinstance(it, torch.Tensor))


def reductions(call: Call) -> list[int]:
    """Over how many numbers each of a call's matrix products sums."""
    shapes = [it.shape for it in call.given]
    if call.base in {"mm", "bmm", "mv", "dot", "linear"}:
        return [shapes[0][-1]]
    if call.base in {"addmm", "addmm_", "baddbmm", "baddbmm_", "addmv", "addbmm"}:
        return [shapes[1][-1]]
    if call.base == "linear_backward":  # of the inputs over outputs, of the weight over rows
        inputs, gradient = shapes[0], shapes[1]
        return [gradient[-1], inputs.numel() // max(1, inputs[-1])]
    return []


@dataclass(frozen=True, order=True)
class Violation:
    """A rule broken: by which operator, how, and in which of our functions."""

    rule: str
    operator: str
    how: str
    where: str


@dataclass
class Trace:
    """Every operator of a run on the pretended device, judged; `with trace.watching(): ...`.

    Attributes:
        operators: How often each ran, bodies of composites included.
        kernels: The kernel of each.
        violations: What broke a rule.
        waits: How often the host waited for the device, by our function: it read a result, or copied from or to it.
    """

    operators: Counter[str] = field(default_factory=Counter)
    kernels: dict[str, str | None] = field(default_factory=dict)
    violations: set[Violation] = field(default_factory=set)
    waits: Counter[str] = field(default_factory=Counter)
    _looked_into: set[Any] = field(default_factory=set)

    def watching(self) -> Operators:
        """What sees the operators."""
        return Operators(self._see)

    def summary(self) -> str:
        """What was seen, in a line."""
        composites = sum(found == COMPOSITE for found in self.kernels.values())
        return (
            f"{sum(self.operators.values())} calls of {len(self.operators)} operators, "
            f"{len(self.operators) - composites} with a kernel, {composites} made of those; "
            f"{len(self.violations)} violations"
        )

    def _see(self, func: Any, args: Any, kwargs: Mapping[str, Any], made: Any) -> None:
        given, result = tensors((args, kwargs)), tensors(made)
        host = [it for it in [*given, *result] if not isinstance(it, Pretend)]
        self._judge(Call(name_of(func), args, given, result, host))
        self._look_inside(func, args, kwargs)

    def _judge(self, call: Call) -> None:
        self.operators[call.name] += 1
        self.kernels[call.name] = kernel(call.name)
        for rule in RULES:
            if how := rule(call):
                self.violations.add(Violation(rule.__name__, call.name, how, our_function()))
        if call.base in READS_ON_HOST or boolean_mask(call) or (call.base in COPIES and call.on_host):
            self.waits[our_function()] += 1

    def _look_inside(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Run the body of a composite once more, on copies, and judge what it calls."""
        key = composite_key(func)
        seen = (
            func,
            *((it.shape, it.dtype) if isinstance(it, torch.Tensor) else str(it) for it in tree_leaves((args, kwargs))),
        )
        if key is None or seen in self._looked_into:
            return
        self._looked_into.add(seen)
        inner = tree_map_only(Pretend, lambda it: it.held, (args, dict(kwargs)))
        if writes(func):
            inner = tree_map_only(torch.Tensor, torch.clone, inner)
        if "device" in inner[1]:
            inner[1]["device"] = torch.device("cpu")
        with _Body(self), torch.random.fork_rng(devices=[]):
            func._op_dk(key, *inner[0], **inner[1])


class _Body(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """What the body of a composite operator calls: all of it is on the device."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self._trace = trace

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self._trace._judge(Call(name_of(func), args, tensors((args, kwargs)), tensors(made), []))
        if func.namespace == "aten":
            self._trace._look_inside(func, args, kwargs or {})
        return made


def composite_key(func: Any) -> Any:
    """The dispatch key of an operator's composite body, where MPS runs that; None where it has a kernel, or none."""
    if kernel(name_of(func)) != COMPOSITE or func._schema.name in {"aten::_to_copy", "aten::copy_"}:
        return None
    for name in COMPOSITE_KEYS:
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), name):
            return getattr(torch._C.DispatchKey, name)
    return None


def writes(func: Any) -> bool:
    """Whether an operator changes what it is given."""
    return any(arg.alias_info is not None and arg.alias_info.is_write for arg in func._schema.arguments)


def name_of(func: Any) -> str:
    """An operator as native_functions.yaml has it, `add.Tensor`; of another namespace with that, which has none."""
    overload = "" if func._overloadname == "default" else f".{func._overloadname}"
    return str(func._schema.name).removeprefix("aten::") + overload


def tensors(tree: Any) -> list[torch.Tensor]:
    """Every tensor in nested arguments."""
    return [it for it in tree_leaves(tree) if isinstance(it, torch.Tensor)]


def our_function() -> str:
    """The innermost function of the package, or of a test, that is at work."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("runyoro_ssl.") or module.rpartition(".")[2].startswith("test_"):
            return frame.f_code.co_qualname
        frame = frame.f_back
    return "?"


def input_shapes(micro_batches: Iterable[MicroBatch], num_samples: tuple[int, ...]) -> set[tuple[int, int]]:
    """The shapes of what the network is given: clips, and samples of each."""
    return {(len(each.pieces), each.length or max(num_samples[clip] for clip in each.clips)) for each in micro_batches}
