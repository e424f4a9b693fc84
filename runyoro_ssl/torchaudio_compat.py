"""Make torchaudio importable with any torch build, where somebody has installed it: nothing here needs it.

torchaudio 2.11 from PyPI is linked to CUDA. With a CPU build of torch `import torchaudio` raises OSError, and then
transformers, which imports torchaudio when it is installed, fails too: so it is no dependency of this toolkit. Without
its compiled extension torchaudio's `functional` still works (resample, add_noise, speed, gain, fftconvolve, lfilter,
loudness); `forced_align` does not. Call `import_torchaudio` before anything imports transformers.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any, Literal

Form = Literal["native", "without its extension", "absent"]


def import_torchaudio() -> Any:
    """torchaudio, with its extension where that loads, without it elsewhere. ImportError if it is not installed."""
    try:
        return importlib.import_module("torchaudio")
    except (OSError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _extension_stub()
        return importlib.import_module("torchaudio")


def torchaudio_form() -> Form:
    """How torchaudio was found on this machine."""
    try:
        torchaudio = import_torchaudio()
    except ImportError:
        return "absent"
    return "native" if torchaudio._extension._IS_TORCHAUDIO_EXT_AVAILABLE else "without its extension"  # noqa: SLF001


def import_transformers() -> Any:
    """transformers, after torchaudio has been made importable and the library told to be quiet."""
    with suppress(ImportError):  # transformers does without torchaudio when it is not installed
        import_torchaudio()
    transformers: Any = importlib.import_module("transformers")
    transformers.logging.set_verbosity_error()
    importlib.import_module("huggingface_hub").logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _extension_stub() -> ModuleType:
    """What torchaudio's own `_extension` looks like when no extension was built."""
    stub: Any = ModuleType("torchaudio._extension")
    stub._IS_TORCHAUDIO_EXT_AVAILABLE = False  # noqa: SLF001
    stub._IS_ALIGN_AVAILABLE = False  # noqa: SLF001

    def fail_if_no_align(function: Any) -> Any:  # noqa: ARG001 - a decorator that replaces what it decorates
        def fail(*_args: Any, **_kwargs: Any) -> Any:
            raise RuntimeError("torchaudio was loaded without its extension: forced alignment is not available")

        return fail

    stub.fail_if_no_align = fail_if_no_align
    return stub  # type: ignore[no-any-return]
