"""The dataset that an output folder holds already: what is asked for, a part of it, or one that was made otherwise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from runyoro_ssl.dataset.layout import KEYS, REPORT
from runyoro_ssl.dataset.read import load_splits, read_fingerprint
from runyoro_ssl.errors import ConfigError, DatasetError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.prepare.shards.job import Job
from runyoro_ssl.prepare.shards.origin import Differences, compare
from runyoro_ssl.prepare.shards.store import Store, check_replaceable

log = get_logger()


@dataclass(frozen=True)
class ExistingDataset:
    """A prepared dataset, as its own files describe it: their contents, and the keys of the manifest lines it is of."""

    folder: Path
    fingerprint: dict[str, Any]
    report: dict[str, Any]
    keys: frozenset[str]

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """The dataset of a folder; None if there is nothing, or a damaged one.

        Raises:
            ConfigError: The folder holds something else.
        """
        check_replaceable(folder, overwrite=True)
        try:
            fingerprint = read_fingerprint(folder)
            load_splits(folder, sampling_rate=fingerprint["sampling_rate"])
            report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
            keys = frozenset((folder / KEYS).read_text(encoding="utf-8").split())
        except (DatasetError, OSError, ValueError):
            return None
        return cls(folder, fingerprint, report, keys)

    def is_of(self, job: Job) -> bool:
        """Whether a job would make the same, if no file is worth another try."""
        return bool(self.fingerprint["sha256"] == job.origin["sha256"])

    def may_be_extended(self, job: Job) -> bool:
        """Whether a job would make a dataset that holds all of this one: the manifest has only grown."""
        differing = {name for name in job.origin if self.fingerprint.get(name) != job.origin[name]}
        return differing <= {"sha256", "input_sha256"} and self.keys <= {line.content for line in job.lines}

    def input_differences(self, job: Job) -> list[str]:
        """Tell in words what is no longer so of the manifest."""
        num_lost = len(self.keys - {line.content for line in job.lines})
        num_gone = len(self.keys - {line.content for line in (*job.lines, *job.not_drawn)})
        gone = [f"{num_gone} of {len(self.keys)} manifest lines, or their files, changed or are gone"] * bool(num_gone)
        undrawn = f"--max-hours leaves out {num_lost - num_gone} of its {len(self.keys)} lines"
        return gone + [undrawn] * (num_lost > num_gone)


def find_finished(store: Store, job: Job, *, overwrite: bool) -> ExistingDataset | None:
    """The dataset that a job would make, if it is there; None if there is something to do, after saying why.

    Raises:
        ConfigError: The output folder holds something else; or a dataset that was made otherwise, or is damaged, and
            may not be overwritten.
    """
    found = ExistingDataset.find(store.output_dir)
    if found is None:
        check_replaceable(store.output_dir, overwrite=overwrite)
        _tell_of_shards(store, job)
        return None
    if overwrite:
        _tell_of_overwriting(found, store, job)
        return None
    if found.is_of(job) and not found.fingerprint.get("unsettled"):
        return found
    if found.is_of(job):
        log.info(
            "trying_again",
            files=len(found.fingerprint["unsettled"]),
            because="they were dropped for reasons that may pass",
        )
    elif found.may_be_extended(job):
        log.info("manifest_grew", lines_before=len(found.keys), lines_now=len(job.lines))
    else:
        raise _made_otherwise(found, store, job)
    return None


def _made_otherwise(found: ExistingDataset, store: Store, job: Job) -> ConfigError:
    differences = compare(found.fingerprint, job.origin)
    words = "; ".join([*differences.clips, *differences.split, *found.input_differences(job)])
    return ConfigError(
        f"{store.output_dir} holds a dataset made otherwise: {words}; add --overwrite to replace it "
        f"({_cost(differences, store, job)}), or give another --output-dir"
    )


def _tell_of_overwriting(found: ExistingDataset, store: Store, job: Job) -> None:
    """Say, before hours are spent on it, why what is there is not used, or that it is."""
    differences = compare(found.fingerprint, job.origin)
    words = "; ".join([*differences.clips, *differences.split, *found.input_differences(job)])
    if not words:
        words = "--overwrite asks for it; " + ("it was made alike" if found.is_of(job) else "the manifest grew")
    log.warning("replacing_dataset", because=words, so=_cost(differences, store, job))


def _tell_of_shards(store: Store, job: Job) -> None:
    """Say why shards of an earlier try are not used."""
    before = store.last_settings(job)
    if before is not None:
        log.warning(
            "shards_not_used", because="; ".join(compare(before, job.origin).clips), so="all clips are made anew"
        )


def _cost(differences: Differences, store: Store, job: Job) -> str:
    if differences.clips or not store.shards_of(job).exists():
        return "all clips are made anew"
    return "clips that are kept in its shards are used again"
