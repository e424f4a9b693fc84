"""A checkpoint of fairseq2 or fairseq, read as weights: no code of it is run, and no tensor copied into memory."""

from __future__ import annotations

import errno
import pickletools
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from runyoro_ssl.errors import ConvertError
from runyoro_ssl.foreign.names import CONVOLUTIONS, FAIRSEQ, HEAD, Toolkit, renamed, toolkit_by_names

INERT = ("argparse.", "fairseq.", "numpy.", "omegaconf.", "typing.", "collections.defaultdict", "_operator.getitem")
INERT_TYPES = frozenset(
    f"builtins.{name}" for name in ("bool", "bytes", "dict", "float", "int", "list", "str", "tuple")
)
"""What fairseq keeps settings and progress in, and the types that omegaconf has of fields: read as doing nothing."""
OLD_PICKLES = 4
"""One after another in a checkpoint before torch 1.6, which is no archive: two of its format, the machine, content."""
DAMAGED = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError)
PREFIXES = ("module.", "_orig_mod.")
TEMPERATURES = (2.0, 0.999995, 0.1)
"""Of the Gumbel softmax in fairseq2: begins with, times at each forward pass, stays at."""


class Inert:
    """Stands for an object of settings: it takes whatever it is given, and keeps nothing."""

    def __init__(self, *_args: Any, **_named: Any) -> None: ...

    def __setstate__(self, state: object) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """Weights by transformers' names, memory-mapped.

    Attributes:
        toolkit: What wrote it.
        weights: By transformers' names, in the type that the file has.
        norms_first: Whether norms come before what a layer does.
        temperature: Of its Gumbel softmax when it was saved; None: not said.
    """

    toolkit: Toolkit
    weights: Mapping[str, torch.Tensor]
    norms_first: bool
    temperature: float | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file.

    Raises:
        ConvertError: It is cut short, holds more than weights and settings, is no wav2vec 2.0 model of fairseq2 or
            fairseq, or one without a pre-training head.
    """
    theirs = _tensors(path, _load(path))
    toolkit = toolkit_by_names(theirs)
    if toolkit is None:
        some = ", ".join(list(theirs)[:3])
        raise ConvertError(
            f"{path}: no wav2vec 2.0 model of fairseq2 or fairseq (its {len(theirs)} weights are called {some}, ...); "
            "a model that transformers wrote is a folder, and needs no conversion"
        )
    weights, unknown = _rename(path, theirs, toolkit)
    lacks_head = sorted(HEAD - weights.keys())
    recognises = [name for name in unknown if name.startswith(toolkit.recognises)]
    if recognises or lacks_head:
        why = f"it has {recognises[0]}" if recognises else f"it has no {lacks_head[0]}"
        or_another = "" if recognises else ", or one pre-trained in another way, as HuBERT"
        raise ConvertError(
            f"{path}: a recogniser (CTC or LLM){or_another}, not the pre-trained model ({why}): it lacks the head of "
            "pre-training, without which nothing can be learned from speech alone; give the model it was made from, "
            "such as omniASR-W2V-300M.pt"
        )
    if unknown:
        raise ConvertError(
            f"{path}: {len(unknown)} weights have no place in a wav2vec 2.0 model, e.g. {unknown[0]}; the file may be "
            f"of another model, or of a newer {toolkit.name}"
        )
    # fairseq has one name for the last norm wherever it comes; its models with layer norms in front have them first.
    sign = f"{CONVOLUTIONS}.1.layer_norm.weight" if toolkit is FAIRSEQ else "encoder.layer_norm.weight"
    temperature = _temperature(theirs.get("quantizer.num_updates"))
    return Checkpoint(toolkit, weights, sign in (weights if toolkit is FAIRSEQ else theirs), temperature)


def check_file(path: Path) -> None:
    """Refuse what is no file.

    Raises:
        ConvertError: It is a folder, such as a model of transformers, or not there.
    """
    if path.is_dir():
        raise ConvertError(f"{path}: a folder; give the .pt that fairseq2 or fairseq wrote")
    if not path.is_file():
        raise ConvertError(f"{path}: no such file; give the .pt that fairseq2 or fairseq wrote")


def _load(path: Path) -> Any:
    """What torch finds in a file, of which only weights and plain settings are let in."""
    check_file(path)
    is_archive = zipfile.is_zipfile(path)
    try:
        needed = get_unsafe_globals_in_checkpoint(path) if is_archive else _inert_in_old(path)
        foreign = [name for name in needed if not _is_inert(name)]
        if foreign:
            raise ConvertError(
                f"{path}: holds more than weights ({foreign[0]}), and was not read; look for one from its authors"
            )
        with safe_globals([(Inert, name) for name in needed]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except UnpicklingError:
        raise ConvertError(
            f"{path}: no checkpoint of torch, or one that holds more than weights; it was not read: download it anew, "
            "from its authors"
        ) from None
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place that no file has
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConvertError(f"{path}: cut short or damaged ({line[:120]}); copy or download it anew") from None


def _is_inert(name: str) -> bool:
    return name.startswith(INERT) or name in INERT_TYPES


def _inert_in_old(path: Path) -> list[str]:
    """What of a file that is no archive is read as doing nothing. All else torch refuses, or makes a weight of."""
    found: set[str] = set()
    with path.open("rb") as file, suppress(ValueError):  # no pickle: torch says so
        for _ in range(OLD_PICKLES):
            found |= {str(of).replace(" ", ".") for code, of, _ in pickletools.genops(file) if code.name == "GLOBAL"}
    return [*filter(_is_inert, found), *INERT_TYPES]  # which have other names there


def _tensors(path: Path, loaded: Any) -> dict[str, torch.Tensor]:
    """All weights by their own names, without what wrappers put before them."""
    found = loaded.get("model", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ConvertError(f"{path}: holds no weights by name; give the .pt that fairseq2 or fairseq wrote")
    tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ConvertError(f"{path}: holds no weights; give the .pt that fairseq2 or fairseq wrote")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta:
            raise ConvertError(f"{path}: {name} is sparse, nested, or not there at all; weights are plain tensors")
    stated = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if stated > path.stat().st_size:  # one number may stand for many
        raise ConvertError(
            f"{path}: its weights would take {stated:,} bytes, and it has {path.stat().st_size:,}; it is damaged, or "
            "meant to take memory: download it anew"
        )
    return tensors


def _rename(
    path: Path, theirs: Mapping[str, torch.Tensor], toolkit: Toolkit
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Weights by transformers' names, and the names that have no counterpart."""
    weights: dict[str, torch.Tensor] = {}
    unknown = []
    for name, tensor in theirs.items():
        ours = renamed(name, toolkit)
        if ours is None:
            unknown += [name] * (name not in toolkit.dropped)
        elif ours in weights:
            raise ConvertError(f"{path}: two of its weights are {ours}, {name} being one; the file is damaged")
        else:
            weights[ours] = tensor
    return weights, unknown


def _temperature(num_updates: torch.Tensor | None) -> float | None:
    if num_updates is None or num_updates.numel() != 1 or num_updates.dtype not in (torch.int64, torch.int32):
        return None
    most, factor, least = TEMPERATURES
    return max(most * factor ** max(int(num_updates), 0), least)
