"""Prepared datasets, changed by hand: as damage, or somebody else, would."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import numpy as np

from runyoro_ssl.dataset.content import checksum, content_digest, stored_content
from runyoro_ssl.dataset.layout import CHECKSUM, FINGERPRINT


def train_file(folder: Path) -> Path:
    """The file of the train split of a small dataset."""
    [file] = (folder / "train").glob("*.arrow")
    return file


def reseal(folder: Path) -> None:
    """Make the checksums of the train split those of its samples, as `prepare` would have."""
    split = datasets.load_from_disk(str(folder))["train"]
    true = split.map(lambda row: {CHECKSUM: checksum(np.array(row["audio"], np.int16))}, keep_in_memory=True)
    true.save_to_disk(str(folder) + ".true")
    shutil.rmtree(folder / "train")
    Path(str(folder) + ".true").rename(folder / "train")


def change_fingerprint(folder: Path, content_sha256: str | None = None) -> None:
    """Have the fingerprint tell of other clips; or, by default, of those that are there."""
    fingerprint = json.loads((folder / FINGERPRINT).read_text())
    digest = content_sha256 or content_digest(stored_content(datasets.load_from_disk(str(folder))))
    (folder / FINGERPRINT).write_text(json.dumps({**fingerprint, "content_sha256": digest}))
