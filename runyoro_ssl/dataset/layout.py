"""What a prepared dataset looks like on disk: the names of its files, its columns, its version.

It is a Hugging Face DatasetDict. Columns: `id` string, `audio` int16 samples (mono, the model's rate, unnormalised),
`num_samples` int32, `recording`, `speaker`, `language`, `source` strings, `metadata` JSON string of every other
manifest field, `crc32` uint32 of the samples. Datasets that versions before 0.3 made have no `crc32`.
"""

from __future__ import annotations

from typing import Any

TRAIN, VALIDATION = SPLITS = ("train", "validation")
"""The splits, in the order in which they are written."""
FINGERPRINT = "fingerprint.json"
"""What the dataset was made from, and how."""
REPORT = "prepare_report.json"
"""Where every second of the input went."""
HUB_DATASET = "hub_dataset"
"""Where a report names the dataset of the hub that it was made from."""
PAGE = "prepare_report.html"
"""The report to look at and to listen to."""
CLIPS = "clips.jsonl"
"""A line for each kept clip."""
DROPPED = "dropped.jsonl"
"""A line for each stretch of audio that was dropped, with the reason."""
KEYS = "input_keys.txt"
"""A line for each manifest line: a hash of it, and of its file's size and time."""
SPLIT_BY = "split_by"
"""Where a fingerprint says what was held out whole: "speaker" or "recording"."""
CHECKSUM = "crc32"
"""The column with the checksum of each clip."""
FORMAT = 1
"""Raised when a reader of the older layout would go wrong."""


def dataset_features() -> Any:
    """The columns of a prepared dataset, as datasets.Features."""
    from datasets import Features, Value

    return Features({**shard_features(), CHECKSUM: Value("uint32")})


def shard_features() -> Any:
    """The columns of a shard, whose checksums stand in its accounts."""
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
