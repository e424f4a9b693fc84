"""Which aten operators have a kernel on MPS, by the native_functions.yaml that torch itself was generated from.

An operator without one fails there, or, as Accelerate sets PYTORCH_ENABLE_MPS_FALLBACK, runs on the CPU with two copies
and a word on stderr.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torchgen
from torchgen.gen import parse_native_yaml
from torchgen.model import DispatchKey, NativeFunction, NativeFunctionsGroup

AS_ON_MPS = {
    "convolution": "_mps_convolution",
    "convolution_backward": "mps_convolution_backward",
}
"""Composite operators whose bodies call these where, as here they cannot see, their input is on MPS. Read in torch's
source: aten/src/ATen/native/Convolution.cpp."""
COMPOSITE = "composite"


@functools.cache
def _native() -> tuple[dict[str, NativeFunction], set[str]]:
    """Every operator of aten by its name with overload, and the names of those with a kernel for MPS."""
    native = Path(torchgen.__file__).parent / "packaged/ATen/native"
    parsed = parse_native_yaml(str(native / "native_functions.yaml"), str(native / "tags.yaml"))
    functions: dict[str, NativeFunction] = {}
    for function in parsed.native_functions:
        assert not isinstance(function, NativeFunctionsGroup)
        functions[str(function.func.name)] = function
    on_mps = parsed.backend_indices[DispatchKey.MPS].index
    return functions, {name for name, function in functions.items() if function.func.name in on_mps}


def kernel(name: str) -> str | None:
    """How MPS computes an operator, e.g. `add.Tensor`: the kernel's operator, COMPOSITE of others, or None: not."""
    functions, on_mps = _native()
    name = AS_ON_MPS.get(name, name)
    if name in on_mps:
        return name
    function = functions.get(name)
    if function is None:
        return None
    if str(function.structured_delegate) in on_mps:
        return str(function.structured_delegate)
    return COMPOSITE if function.has_composite_kernel else None


def implicit_with_kernel() -> list[str]:
    """Operators that other devices take apart before autograd, and MPS does not: torch dispatches them as one."""
    functions, on_mps = _native()
    return sorted(name for name in on_mps if functions[name].has_composite_implicit_autograd_kernel)
