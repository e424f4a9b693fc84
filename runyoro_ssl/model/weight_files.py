"""The files of weights in a model folder: which there are, and whether each is whole. No tensor is read."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

from runyoro_ssl.foreign.signs import describe_adapter, describe_toolkit, toolkit_of
from runyoro_ssl.model.source import WEIGHTS
from runyoro_ssl.small_files import read_small

PICKLED = "pytorch_model.bin"
INDEX = ".index.json"
PREFERENCE = (WEIGHTS, WEIGHTS + INDEX, PICKLED, PICKLED + INDEX)
"""Names of weights, in the order in which transformers takes them; an index names shards."""
LFS_POINTER, ANNEX_POINTER = b"version https://git-lfs", b"/annex/objects/"
PAGES = (b"<!doctype", b"<html", b"<?xml")
"""The beginnings of what a browser or wget saves in place of a file."""
OTHER_FORMS = {
    "tf_model*.h5": "TensorFlow",
    "flax_model*.msgpack": "Flax",
    "*.onnx": "ONNX",
    "onnx/*.onnx": "ONNX",
    "model.ckpt*": "TensorFlow",
    "*.gguf": "GGUF",
}
OF_TRAINER = ("training_args", "optimizer", "scheduler", "scaler")
UNFINISHED = ("*.incomplete", "*.part", "*.crdownload", "*.download", "*.aria2")
LENGTH = struct.Struct("<Q")
MOST_HEADER_BYTES, MOST_NAMES_BYTES = 100_000_000, 4 << 20
"""Of a safetensors file: what the format's own reader takes; and what is taken here: XLS-R-2B names 0.1 MB."""
WEIGHT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""By the type of a number, as safetensors names it."""


def find_weights_fault(folder: Path) -> str | None:
    """What is wrong with the weights of a folder, or None: the file, what was seen, what to do."""
    chosen = next((path for name in PREFERENCE if is_listed(path := folder / name)), None)
    if chosen is None:
        return _describe_without_weights(folder)
    if fault := describe_mistaken(chosen):
        return fault
    if not chosen.name.endswith(INDEX):
        return _find_file_fault(chosen)
    shards = _read_index(chosen)
    if isinstance(shards, str):
        return shards
    absent = [name for name in shards if not (folder / name).is_file() and not (folder / name).is_symlink()]
    if absent:
        return (
            f"lacks {absent[0]}: {len(absent)} of the {len(shards)} shards that {chosen.name} names "
            f"{'is' if len(absent) == 1 else 'are'} missing; copy or download what is missing"
        )
    return next((fault for name in shards if (fault := _find_file_fault(folder / name))), None)


def most_weights(folder: Path) -> int | None:
    """How many weights the files of a folder can hold, by their bytes; None: it has no such files."""
    chosen = next((path for name in PREFERENCE if (path := folder / name).is_file()), None)
    if chosen is None:
        return None
    shards = _read_index(chosen) if chosen.name.endswith(INDEX) else [chosen.name]
    files = [folder / name for name in shards] if isinstance(shards, list) else []
    return sum(path.stat().st_size for path in files if path.is_file()) // min(WEIGHT_BYTES.values())


def is_listed(path: Path) -> bool:
    """Whether a folder has something of this name, a link that leads nowhere among them."""
    return path.exists() or path.is_symlink()


def describe_mistaken(path: Path) -> str | None:
    """Say what stands in place of a file, if not itself: a link to nothing, a pointer, a web page, nothing at all."""
    if path.is_symlink() and not path.exists():
        return f"has a {path.name} that is a link to {path.readlink()}, which is not there: copy the files themselves"
    if path.is_dir():
        return f"has a folder named {path.name} in place of that file: download it anew"
    if path.exists() and not path.is_file():
        return f"has a {path.name} that is a pipe or a device, in place of that file: download it anew"
    return _describe_content(path) if path.is_file() else None


def _describe_content(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(64)
    size = path.stat().st_size
    if not size:
        return f"has a {path.name} of 0 bytes: copy or download it anew"
    if head.startswith(LFS_POINTER):
        return (
            f"cannot be loaded: {path.name} is a Git LFS pointer of {size} bytes, not the file itself: run "
            "`git lfs pull` there, or download it anew"
        )
    if head.startswith(ANNEX_POINTER):
        return f"cannot be loaded: {path.name} is a git-annex pointer, not the file itself: run `git annex get` there"
    if head.lstrip().lower().startswith(PAGES):
        return f"has a {path.name} that is a web page, not the file itself: download it by `hf download`"
    return None


def _read_index(path: Path) -> list[str] | str:
    """The shards that an index names; or, in words, what is wrong with it."""
    try:
        shards = sorted(set(json.loads(read_small(path))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"has a {path.name} that names no shards (no JSON object with a weight_map): download it anew"
    outside = [name for name in shards if not isinstance(name, str) or Path(name).name != name]
    if outside or not shards:
        return f"has a {path.name} whose shards are not in the folder (seen: {outside[:1] or shards}): download it anew"
    return shards


def _find_file_fault(path: Path) -> str | None:
    if fault := describe_mistaken(path):
        return fault
    if toolkit_of(path):
        return describe_toolkit(path.parent) or f"has a {path.name} of another toolkit: give transformers' weights"
    return _find_safetensors_fault(path) if path.suffix == ".safetensors" else _find_pickle_fault(path)


def _find_safetensors_fault(path: Path) -> str | None:
    """Compare a file's length with what its header says of it, and that with what tensors of speech models can be."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(LENGTH.size)
        length = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else 0
        header = file.read(min(length, MOST_HEADER_BYTES))
    if length < MOST_HEADER_BYTES and length > len(header):
        return f"has a {path.name} that is cut short ({size:,} bytes): copy or download it anew"
    if header[:1] != b"{":
        return f"has a {path.name} that is no safetensors file ({size:,} bytes): download it anew"
    if len(header) > MOST_NAMES_BYTES:
        return f"has a {path.name} with {len(header):,} bytes of names, as no model of speech has: download it anew"
    try:
        tensors = {name: value for name, value in json.loads(header).items() if name != "__metadata__"}
        end = LENGTH.size + length + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        kinds = {str(tensor["dtype"]): name for name, tensor in tensors.items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return f"has a damaged {path.name} (its list of tensors cannot be read): download it anew"
    if others := sorted(kinds.keys() - WEIGHT_BYTES.keys()):
        return (
            f"has a {path.name} with numbers of type {others[0]} ({kinds[others[0]]}), where weights to train are "
            f"{', '.join(WEIGHT_BYTES)}: give the original, in one of these"
        )
    return None if size == end else _explain_length(path, size, end)


def _explain_length(path: Path, size: int, stated: int) -> str:
    what = "cut short" if size < stated else "damaged"
    return f"has a {path.name} that is {what}: {size:,} bytes, its header says {stated:,}; copy or download it anew"


def _find_pickle_fault(path: Path) -> str | None:
    """Torch's archives end with their list of contents, which one that was cut short has lost."""
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    if is_archive and not zipfile.is_zipfile(path):
        size = path.stat().st_size
        return f"has a {path.name} that is cut short or damaged ({size:,} bytes): copy or download it anew"
    return None


def _describe_without_weights(folder: Path) -> str:
    """What a folder without weights has instead."""
    if fault := describe_adapter(folder) or describe_toolkit(folder) or _describe_other_savers(folder):
        return fault
    for pattern, form in OTHER_FORMS.items():
        if found := sorted(folder.glob(pattern)):
            return (
                f"has weights for {form} only ({found[0].name}); get PyTorch's ({WEIGHTS} or {PICKLED}) from where the "
                "model came from"
            )
    named = [*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
    if shards := sorted(path.name for path in named if "-of-" in path.name):
        return f"has shards ({shards[0]}), but not the {WEIGHTS}{INDEX} that names them: copy or download it"
    if others := sorted(path.name for path in named if path.stem not in OF_TRAINER):
        return f"has no {WEIGHTS} and no {PICKLED}, only {others[0]}: rename that if it is the model, else download it"
    return f"has no weights ({WEIGHTS} or {PICKLED}): copy or download them, beside its config.json"


def _describe_other_savers(folder: Path) -> str | None:
    """Checkpoints in parts, and downloads in progress."""
    if (folder / "zero_to_fp32.py").is_file():
        return "is a checkpoint of DeepSpeed, in parts: join them by its own zero_to_fp32.py"
    if parts := sorted(folder.glob("pytorch_model_fsdp_*")):
        return f"is a checkpoint of FSDP, in parts: join them by `accelerate merge-weights {parts[0]} {folder}`"
    if found := sorted(path for pattern in UNFINISHED for path in folder.glob(pattern)):
        return f"has an unfinished download ({found[0].name}): let it finish, or download it anew"
    return None
