"""The dataset on disk: written as Arrow, saved as a Hugging Face DatasetDict, checked when it is read.

Columns: `id` string, `audio` int16 samples (mono, the model's rate, unnormalised), `num_samples` int32, `recording`,
`speaker`, `language`, `source` strings, `metadata` JSON string of every other manifest field.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runyoro_ssl.errors import DatasetError

FINGERPRINT = "fingerprint.json"
REPORT = "prepare_report.json"
DROPPED = "dropped.jsonl"
CLIPS = "clips.jsonl"
KEYS = "input_keys.txt"
PAGE = "prepare_report.html"
FORMAT = 1
"""Raised when a reader of the older layout would go wrong."""


def dataset_features() -> Any:
    """The columns, as datasets.Features."""
    from datasets import Features, LargeList, Value

    text = Value("string")
    return Features(
        {
            "id": text,
            "audio": LargeList(Value("int16")),
            "num_samples": Value("int32"),
            "recording": text,
            "speaker": text,
            "language": text,
            "source": text,
            "metadata": text,
        }
    )


def read_fingerprint(dataset_dir: Path) -> dict[str, Any]:
    """What the dataset was made from, and how.

    Raises:
        DatasetError: Not a folder that `invoke prepare` finished.
    """
    path = dataset_dir / FINGERPRINT
    remedy = f"make it with `invoke prepare --output-dir {dataset_dir}`"
    if not dataset_dir.is_dir():
        raise DatasetError(f"{dataset_dir}: no such dataset; {remedy}")
    try:
        fingerprint = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{dataset_dir}: not a prepared dataset (no {FINGERPRINT}); {remedy}") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: damaged ({error}); {remedy} --overwrite") from None
    version = fingerprint.get("format") if isinstance(fingerprint, dict) else None
    if version != FORMAT or not {"sampling_rate", "splits", "sha256", "content_sha256"} <= fingerprint.keys():
        raise DatasetError(f"{path}: format {version}, this version reads {FORMAT}; {remedy} --overwrite")
    return fingerprint  # type: ignore[no-any-return]


def load_splits(dataset_dir: Path, *, sampling_rate: int) -> Any:
    """The DatasetDict, memory-mapped, after checking that it suits a model of this sampling rate (Hz).

    Raises:
        DatasetError: Missing, damaged, incomplete, empty, or prepared for another rate.
    """
    from datasets import load_from_disk

    fingerprint = read_fingerprint(dataset_dir)
    if fingerprint["sampling_rate"] != sampling_rate:
        raise DatasetError(
            f"{dataset_dir}: prepared at {fingerprint['sampling_rate']} Hz, the model takes {sampling_rate} Hz; "
            "run `invoke prepare` with this model's --model-name-or-path"
        )
    try:
        splits = load_from_disk(str(dataset_dir))
    except Exception as error:  # noqa: BLE001 - Arrow and datasets raise a dozen types for a damaged folder
        raise DatasetError(
            f"{dataset_dir}: damaged ({type(error).__name__}: {str(error)[:120]}); run `invoke prepare --overwrite`"
        ) from None
    for name, expected in fingerprint["splits"].items():
        found = len(splits[name]) if name in splits else 0
        if found == 0 or found != expected["clips"]:
            raise DatasetError(
                f"{dataset_dir}: split {name} has {found} clips, its fingerprint says {expected['clips']}; "
                "run `invoke prepare --overwrite`"
            )
    return splits
