"""State files that are damaged, absurd, or no files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attacking.absurd import spoil_archive, spoil_bytes, spoil_json, spoil_toml
from attacking.part import MIX, Draw, Part
from attacking.place import DONE, FOREIGN, OTHERS, RUN, SOURCES, Place
from runyoro_ssl.disk.durable import MANIFEST, seal

CHECKPOINT = ("trainer_state.json", MANIFEST, "model.safetensors", "optimizer.safetensors", "config.json")
MODEL = ("config.json", "preprocessor_config.json", "model.safetensors")
DATASET: tuple[str, ...] = (
    "fingerprint.json",
    "clips.jsonl",
    "dataset_dict.json",
    "train/state.json",
    "train/dataset_info.json",
)
DATASET += ("train/data-00000-of-00001.arrow", "validation/state.json", "validation/data-00000-of-00001.arrow")
POOL = (*DATASET, "prepare_report.json")
KEPT = ("units-*/centres.npy", "units-*/*.npz")
OF_A_RUN = ("run.toml", "journal.jsonl", "metrics.jsonl", "run.lock", "report.html", "result.json", "config.json")
AT_ITS_END: tuple[str, ...] = (
    "run.toml",
    "journal.jsonl",
    "metrics.jsonl",
    "result.json",
    "config.json",
    "model.safetensors",
)
AT_ITS_END += ("evaluation.json", "README.md", "report.html")
TARGETS: dict[str, dict[str, tuple[str, ...]]] = {
    "resume": {
        RUN: OF_A_RUN,
        f"{RUN}/checkpoint-8": CHECKPOINT,
        f"{RUN}/checkpoint-9": CHECKPOINT,
        "model": MODEL,
        "dataset": DATASET,
    },
    "train": {"model": MODEL, "dataset": DATASET},
    "prepare": {
        "": ("manifest.jsonl",),
        "model": MODEL,
        "out": ("fingerprint.json",),
        "out.shards": ("settings.json",),
    },
    "evaluate": {DONE: AT_ITS_END, "model": MODEL, "dataset": DATASET, "": ("phones.tsv",)},
    "embed": {DONE: AT_ITS_END},
    "runs": {DONE: AT_ITS_END},
    "publish": {DONE: AT_ITS_END, f"{DONE}/checkpoint-12": CHECKPOINT},
    "donors": {"model": MODEL, "dataset": DATASET, "pool": POOL, "replay": POOL, "cache": KEPT},
    "convert": {"": (FOREIGN,)},
    "hear": {"": (FOREIGN,), "dataset": DATASET},
}
SEVERAL = {"": (SOURCES,), "pool": POOL, "replay": POOL}
TARGETS |= {f"train{MIX}": TARGETS["train"] | SEVERAL, f"resume{MIX}": TARGETS["resume"] | SEVERAL}
TARGETS |= {f"evaluate{MIX}": {DONE: AT_ITS_END, "replay": POOL}, f"publish{MIX}": {DONE: AT_ITS_END, "replay": POOL}}


def draw(chance: Draw, task: str) -> Part | None:
    """A file of those that a task reads, and what is wrong with it."""
    if task not in TARGETS:
        return None
    folder = chance.choice(sorted(TARGETS[task]))
    name = f"{folder}/{chance.choice(TARGETS[task][folder])}".lstrip("/")
    number = chance.randrange(2**32)
    kind = chance.choice(("bytes", "bytes", "content", "content", "content", "no file"))
    is_sealed = "checkpoint" in folder and not name.endswith(MANIFEST) and kind != "no file" and chance.random() < 0.6
    spoil = {"bytes": _spoil_bytes, "content": _spoil_content, "no file": _no_file}[kind]
    what = f"{name}: {kind} #{number}{', sealed again' if is_sealed else ''}"
    before = partial(_spoil, name=name, number=number, spoil=spoil, is_sealed=is_sealed)
    keeps = task.startswith("resume") and folder.startswith(RUN) and not is_sealed
    words = ("--cache-dir", folder) if folder == "cache" else ()
    return Part("files", what, before=before, keeps=keeps or bool(words), words=words, touches=words[1:])


def _spoil(place: Place, *, name: str, number: int, spoil: Callable[[Path, Draw], str], is_sealed: bool) -> None:
    chance = Draw(number)
    path = chance.choice(sorted(place.folder.glob(name)) or [place.folder / name])
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b'{"a": [1, {"b": "c"}]}\n')
    how = spoil(path, chance)
    (place.log / "how").write_text(f"{name}: {how}\n")
    if is_sealed:
        (path.parent / MANIFEST).unlink()
        seal(path.parent)


def _spoil_bytes(path: Path, chance: Draw) -> str:
    how, content = spoil_bytes(path.read_bytes(), chance)
    path.write_bytes(content)
    return how


def _spoil_content(path: Path, chance: Draw) -> str:
    if path.suffix == ".toml":
        how, text = spoil_toml(path.read_text(), chance)
    elif path.suffix in (".json", ".jsonl", ".lock"):
        how, text = spoil_json(path.read_text(), chance, is_lines=path.suffix != ".json")
    elif path.suffix in (".pt", ".npz"):
        how, content = spoil_archive(path.read_bytes(), chance)
        path.write_bytes(content)
        return how
    else:
        return _spoil_bytes(path, chance)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return how


def _no_file(path: Path, chance: Draw) -> str:
    """Something else has the name of a file."""
    path.unlink()
    kind = chance.choice(("missing", "folder", "fifo", "loop", "dangling", "/dev/full", "/dev/zero", "theirs", "full"))
    if kind in ("folder", "full"):
        path.mkdir()
        if kind == "full":
            shutil.copyfile(__file__, path / "a.py")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind != "missing":
        root = next(parent for parent in path.parents if (parent / OTHERS).exists())
        links = {"loop": path.name, "dangling": "nowhere", "theirs": str(root / OTHERS / "thesis/chapter.bin")}
        path.symlink_to(links.get(kind, kind))
    return kind
