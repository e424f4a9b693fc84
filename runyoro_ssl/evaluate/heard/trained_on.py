"""What the run of a model tells of its training: its settings, its datasets, and which clips it has learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runyoro_ssl.dataset.layout import TRAIN
from runyoro_ssl.dataset.read import Clips, load_splits, read_fingerprint
from runyoro_ssl.errors import DatasetError, EvaluationError
from runyoro_ssl.model.source import RESULT_FILE, RUN_FILE
from runyoro_ssl.resolve import home_of_run
from runyoro_ssl.small_files import read_object


def dataset_of(model: Path) -> Path | None:
    """The dataset of the run that a model folder, or a checkpoint of it, belongs to; None where no run tells."""
    found = run_setting(model, "train", "processed_dataset_path")
    return None if found is None else Path(found)


def datasets_beside(model: Path) -> list[Path]:
    """The datasets that the run of a model learned from beside that one, where it had several sources."""
    return [path for path, _ in _sources_beside(model)]


def replayed(model: Path) -> Path | None:
    """The dataset of speech that the base model knew, which the run of a model replayed.

    None: none, or it is gone, or was prepared anew since: what was trained on may be held out now.
    """
    for path, role in _sources_beside(model):
        if role == "replay" and path.is_dir() and not is_another_now(model, path):
            return path
    return None


def is_another_now(model: Path, dataset: Path) -> bool:
    """Whether a dataset beside the first, by the result of the run of a model, had other clips than it has now."""
    told = _result_of(model).get("sources")
    sources = [source for source in told if isinstance(source, dict)] if isinstance(told, list) else []
    known = {str(one) for source in sources if (one := source.get("dataset_sha256"))}
    return bool(known) and read_fingerprint(dataset)["content_sha256"] not in known


def _sources_beside(model: Path) -> list[tuple[Path, str]]:
    """(dataset, role as it was given) of each source of a run but the first; what has no path is left out."""
    for folder in (model, model.parent):
        with suppress(OSError, ValueError, KeyError, TypeError):
            settings = read_object(folder / RUN_FILE)
            _, *others = settings["train"].get("sources") or [None]
            tables = [source for source in others if isinstance(source, dict) and "path" in source]
            return [
                (Path(_from_here(folder, settings, str(source["path"]))), str(source.get("role"))) for source in tables
            ]
    return []


def run_setting(model: Path, section: str, name: str) -> str | None:
    """A setting of the run that a model folder, or a checkpoint, belongs to; a path as it is from here."""
    for folder in (model, model.parent):
        with suppress(OSError, ValueError, KeyError, TypeError):
            settings = read_object(folder / RUN_FILE)
            return _from_here(folder, settings, str(settings[section][name]))
    return None


def _from_here(folder: Path, settings: Mapping[str, Any], value: str) -> str:
    """A setting that may be a path from where the run began, as it is from where one stands now."""
    home = home_of_run(folder, str(settings["train"].get("output_dir", "")))
    return str(home / value) if home is not None and (home / value).exists() else value


def dataset_at_hand(model: Path, at_hand: Path | None) -> Path | None:
    """The dataset of the run that a model belongs to, where it is; or one at hand with the same clips.

    None where there is no run, or its dataset is not found.
    """
    place = dataset_of(model)
    if place is None or place.is_dir() or at_hand is None:
        return place if place is not None and place.is_dir() else None
    with suppress(DatasetError):
        return at_hand if read_fingerprint(at_hand)["content_sha256"] == _sha256_of_result(model) else None
    return None


def _sha256_of_result(model: Path) -> str | None:
    """What the dataset of a run held, by its result; None where it does not tell."""
    found = _result_of(model).get("dataset_sha256")
    return None if found is None else str(found)


def _result_of(model: Path) -> dict[str, Any]:
    """The result.json of the run that a model folder, or a checkpoint, belongs to; empty where there is none."""
    for folder in (model, model.parent):
        with suppress(OSError, ValueError):
            return read_object(folder / RESULT_FILE)
    return {}


def check_dataset_is_that_of(model: Path) -> None:
    """Check that a run's dataset is the one that it was trained on, so that its held-out clips are.

    Raises:
        EvaluationError: It was prepared anew: what was trained on may be held out now.
    """
    dataset = dataset_of(model)
    if dataset is None:
        return
    for folder in (model, model.parent):
        with suppress(OSError, ValueError, KeyError, TypeError):
            trained_on = read_object(folder / RESULT_FILE)["dataset_sha256"]
            if trained_on != read_fingerprint(dataset)["content_sha256"]:
                raise EvaluationError(
                    f"{dataset} was prepared anew since {folder.name} was trained: clips that it has learned from may "
                    "be held out now; give others with --data"
                )


def trained_on(
    held_out: set[tuple[int, int]], models: Sequence[Path], sampling_rate: int, *, at_hand: Path
) -> tuple[set[tuple[int, int]], str]:
    """Which of these clips, by length and checksum, the runs of these models were trained on; why that is not known."""
    lengths = {length for length, _ in held_out}
    trained: set[tuple[int, int]] = set()
    not_known: dict[str, None] = {}
    learned = [
        (model, dataset)
        for model in models
        if dataset_of(model) is not None
        for dataset in (dataset_at_hand(model, at_hand), *datasets_beside(model))
    ]
    for model, dataset in learned:
        if dataset is None or not dataset.is_dir():
            not_known[f"a dataset that {model.resolve().name} was trained on is not found from here"] = None
            continue
        try:
            if dataset in datasets_beside(model) and is_another_now(model, dataset):
                which = f"{dataset.name}, which {model.resolve().name} was trained on,"
                not_known[f"{which} was prepared anew since"] = None
            clips = Clips(load_splits(dataset, sampling_rate=sampling_rate)[TRAIN])
        except (DatasetError, KeyError):
            not_known[f"a dataset that {model.resolve().name} was trained on cannot be read"] = None
            continue
        for row in range(len(clips)):
            if clips.num_samples(row) in lengths:
                trained.add((clips.num_samples(row), clips.checksum(row)))
    return trained & held_out, "; ".join(not_known)
