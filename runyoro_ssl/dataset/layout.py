"""What a prepared dataset looks like on disk: the names of its files, its columns, its version.

It is a Hugging Face DatasetDict. Columns: `id` string, `audio` int16 samples (mono, the model's rate, unnormalised),
`num_samples` int32, `recording`, `speaker`, `language`, `source` strings, `metadata` JSON string of every other
manifest field.
"""

from __future__ import annotations

from typing import Any

FINGERPRINT = "fingerprint.json"
REPORT = "prepare_report.json"
DROPPED = "dropped.jsonl"
CLIPS = "clips.jsonl"
KEYS = "input_keys.txt"
PAGE = "prepare_report.html"
FORMAT = 1
"""Raised when a reader of the older layout would go wrong."""


def dataset_features() -> Any:
    """The columns of a prepared dataset, as datasets.Features."""
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
