"""What of a model is in the cache already: whole, or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from runyoro_ssl.hub.place import repository_folder

ModelPart = Literal["extractor", "config", "weights", "original"]
"""`original`: the one file of a model that comes as another toolkit wrote it."""
FILE_OF: dict[ModelPart, str] = {"extractor": "preprocessor_config.json", "config": "config.json"}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Files that hold the weights or name their pieces, the most wanted first."""
SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
COMMIT = re.compile(r"[0-9a-f]{40}")


def cached_folder(name: str, revision: str, parts: Collection[ModelPart]) -> Path | None:
    """The folder that holds these parts of a model, in the cache; None if one is missing."""
    commit = revision if COMMIT.fullmatch(revision) else _commit_of(name, revision)
    if commit is None:
        return None
    folder = repository_folder(name) / "snapshots" / commit
    return folder if all(_is_there(folder, part) for part in parts) else None


def cached_commit(folder: Path) -> str | None:
    """The commit that a folder of the cache holds; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name) else None


def weights_among(names: Collection[str]) -> list[str]:
    """Of the files of a model, those that hold its weights: one, or an index and its pieces; none if there are none."""
    first = next((name for name in WEIGHTS if name in names), None)
    if first is None:
        return []
    if not first.endswith(".index.json"):
        return [first]
    stem, suffix = first.removesuffix(".index.json").rsplit(".", 1)
    shards = sorted(name for name in names if (found := SHARD.fullmatch(name)) and found.groups() == (stem, suffix))
    return [first, *shards]


def original_among(names: Collection[str]) -> list[str]:
    """Of the files of a model, the one that another toolkit wrote; none where there are none, or several."""
    found = [name for name in names if name.endswith(".pt")]
    return found if len(found) == 1 else []


def _commit_of(name: str, revision: str) -> str | None:
    """The commit that a branch or tag was at when it was last fetched."""
    try:
        return (repository_folder(name) / "refs" / revision).read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _is_there(folder: Path, part: ModelPart) -> bool:
    if part == "original":
        return bool(original_among([path.name for path in folder.glob("*.pt")]))
    if part != "weights":
        return (folder / FILE_OF[part]).is_file()
    found = weights_among([path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else [])
    if len(found) == 1 and not found[0].endswith(".index.json"):
        return True
    return bool(found) and _pieces(folder / found[0]) <= set(found)


def _pieces(index: Path) -> set[str]:
    """The names of the files that an index names."""
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return {""}  # of which no file is the name
