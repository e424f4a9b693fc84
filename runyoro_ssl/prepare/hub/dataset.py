"""A dataset opened: configuration, split and audio column chosen, its files fetched or to be streamed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runyoro_ssl.errors import ManifestError, did_you_mean
from runyoro_ssl.logs import get_logger
from runyoro_ssl.prepare.hub.address import CONVERTED, HubAddress
from runyoro_ssl.prepare.hub.drawing import draw_parts
from runyoro_ssl.prepare.hub.failures import told_in_a_line
from runyoro_ssl.prepare.hub.files import fetch_files
from runyoro_ssl.prepare.hub.libraries import is_offline
from runyoro_ssl.prepare.hub.rows import FIELDS, choose_column, column_kinds, licence_of_card

log = get_logger()

READ_AHEAD_BYTES = 1 << 20
"""Of a stream, behind each row group: the client's own 5 MB would often be more than the row group."""


@dataclass(frozen=True)
class HubDataset:
    """The rows of a dataset. `commit` is what of it was opened; None: a folder, or from the cache, offline.

    `parts` begins anew each time: the splits, of files that were fetched; or the parts of a drawing, of a stream.
    """

    address: HubAddress
    parts: Callable[[], Iterable[Any]]
    column: str
    licence: str | None
    commit: str | None
    num_rows: int | None
    home: Path
    """Where files were fetched to, or the folder."""

    def rows(self, part: int = 0, row: int = 0) -> Iterator[tuple[tuple[int, int], Mapping[str, Any]]]:
        """Each row with the place after it, from a place on: the number of a part, and of a row of it.

        Raises:
            ManifestError: The stream broke off, or holds what cannot be read.
        """
        with told_in_a_line(self.address):
            for number, stored in enumerate(self.parts()):
                if number >= part:
                    rows, first = _audio_as_bytes(stored, self.column), row if number == part else 0
                    for count, found in enumerate(rows.skip(first) if first else rows, start=first + 1):
                        yield (number, count), found


def open_dataset(address: HubAddress, files: Path, *, seed: int | None) -> HubDataset:
    """Open a dataset: to be streamed, in an order drawn by `seed`; or, without one, its files fetched into `files`.

    Raises:
        ManifestError: It is not there, not for this person, cannot be reached or read, or has no audio; or there are
            several of what it takes one of, and none is named.
    """
    if is_offline() and address.revision and not address.is_local:
        raise ManifestError(f"{address}: the hub cannot be reached, and what was fetched before tells no revision")
    with told_in_a_line(address):
        commit = None if address.is_local or is_offline() else _ask_for_it(address)
        builder = _find_builder(address, commit)
        _choose_splits(address, builder)
        streams = _streams(address, builder)
        kinds = column_kinds(streams[0].features, lambda: next(iter(streams[0]), {}))
    column = choose_column(address, kinds)
    with told_in_a_line(address):
        if seed is None and commit:
            builder.config.data_files = fetch_files(address, builder.config.data_files, files / commit)
            streams = _streams(address, builder)
        licence = builder.info.license or licence_of_card(address, commit)
    counts = [(builder.info.splits or {}).get(name) for name in address.splits]
    num_rows = sum(one.num_examples for one in counts if one) if all(counts) else None
    home = Path(address.name) if address.is_local else files
    parts = partial(draw_parts, builder, streams, seed) if seed is not None else lambda: streams
    return HubDataset(address, parts, column, licence, commit, num_rows, home)


def _ask_for_it(address: HubAddress) -> str:
    """The commit of the dataset, if the hub shows it to this person: its own errors tell more than those of later."""
    from huggingface_hub import HfApi

    found = HfApi().dataset_info(address.name, revision=address.revision)
    if found.gated:
        HfApi().auth_check(address.name, repo_type="dataset")
    return str(found.sha)


def _find_builder(address: HubAddress, commit: str | None) -> Any:
    """The builder of the configuration that is named, or of the only one."""
    from datasets import load_dataset_builder

    choice = {"name": address.config}
    if (address.revision or "").startswith(CONVERTED) and commit:
        choice = {"data_dir": _choose_folder(address, commit)}
    with tempfile.TemporaryDirectory() as empty:
        # Online, `datasets` must not take another revision from its cache when something fails.
        online = {"cache_dir": empty, "storage_options": {"hf": {"block_size": READ_AHEAD_BYTES}}} if commit else {}
        try:
            return load_dataset_builder(address.name, **choice, revision=commit, **online)
        except ValueError:
            _check_name(address, "configuration", "config", _configurations(address, commit))
            raise


def _configurations(address: HubAddress, commit: str | None) -> list[str]:
    """The names of its configurations; none if they cannot be known."""
    from datasets import get_dataset_config_names

    try:
        return list(get_dataset_config_names(address.name, revision=commit))
    except Exception:  # noqa: BLE001 - what is wrong with it is about to be told
        return []


def _choose_folder(address: HubAddress, commit: str) -> str:
    """The folder of a configuration in a branch that the hub has made: there, it is all that tells them apart."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFolder

    tree = HfApi().list_repo_tree(address.name, repo_type="dataset", revision=commit)
    folders = [one.path for one in tree if isinstance(one, RepoFolder)]
    if address.config is None and (len(folders) == 1 or "default" in folders):
        return "default" if "default" in folders else folders[0]
    _check_name(address, "configuration", "config", folders)
    return str(address.config)


def _check_name(address: HubAddress, what: str, option: str, known: Sequence[str]) -> None:
    """Raise ManifestError, with the names there are, if the address has another or none."""
    named = getattr(address, option)
    if named in known or not known:
        return
    problem = f'no {what} "{named}"{did_you_mean(named, known)}' if named else f"it has several {what}s"
    raise ManifestError(f"{address}: {problem}; name one by {option}=: {', '.join(known)}")


def _choose_splits(address: HubAddress, builder: Any) -> None:
    """Leave the builder the files of the splits that are asked for: it fetches what it has."""
    if hasattr(builder.config, "decode_num_threads"):
        builder.config.decode_num_threads = 0  # decode nothing
    files = builder.config.data_files
    known = list(files if files is not None else builder.info.splits or {})
    for name in address.splits:
        if known and name not in known:
            raise ManifestError(
                f'{address}: no split "{name}"{did_you_mean(name, known)}; name one by split=: {", ".join(known)}'
            )
    if files is not None:
        builder.config.data_files = {name: files[name] for name in address.splits}
        if any("/partial-" in file for name in address.splits for file in files[name]):
            log.warning("only_a_part", dataset=str(address), because="the hub has converted the first part of it only")


def _streams(address: HubAddress, builder: Any) -> list[Any]:
    """The rows of each split, nothing of which is read yet."""
    found = builder.as_streaming_dataset()
    return [found[name] for name in address.splits]


def _audio_as_bytes(rows: Any, column: str) -> Any:
    """The rows with what is known of them, their audio as it is stored."""
    from datasets import Audio

    if rows.features is None:
        return rows
    wanted = {column, *(name for names in FIELDS.values() for name in names)}
    rows = rows.select_columns([name for name in rows.features if name in wanted])
    return rows.cast_column(column, Audio(decode=False)) if isinstance(rows.features[column], Audio) else rows
