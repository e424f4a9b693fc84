"""A model of the hub as a folder in the cache: fetched once, from one commit, by the requests that are needed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runyoro_ssl.bars import download_progress
from runyoro_ssl.errors import CheckpointError, OutOfReachError, RunyoroError
from runyoro_ssl.hub.arrival import Arrival
from runyoro_ssl.hub.cached import COMMIT, FILE_OF, ModelPart, cached_folder, original_among, weights_among
from runyoro_ssl.hub.failures import Asked, explain, first_line, status_of
from runyoro_ssl.hub.known import FILE_ENDINGS, KNOWN, pinned_revision, suggest
from runyoro_ssl.hub.patience import patiently
from runyoro_ssl.hub.place import amount, cache_folder, check_room, hub_reachable, repository_folder
from runyoro_ssl.hub.transfer import download, part_of
from runyoro_ssl.logs import get_logger
from runyoro_ssl.redaction import redact

log = get_logger()

WORTH_SAYING = 1_000_000
"""Bytes."""
AGAIN = "run the same again: what has come is kept"
MAIN = "main"
SHA256 = re.compile(r"[0-9a-f]{64}")
SILENT_WAIT_SEC = 2.0
FOR_THE_FIELD = "`invoke doctor --fetch` fetches it where there is a network; or give the folder of a model instead"


def fetched_folder(model_name_or_path: str, revision: str | None, *parts: ModelPart) -> Path:
    """The folder in the hub's cache that holds these parts of a model, fetched where it is not there.

    Of a known model the pinned commit is taken, unless `revision` asks for another. What is in the cache of a commit is
    not asked for again; nor is anything, offline.

    Raises:
        CheckpointError: It is not there, or cannot be fetched: one line, with what to do.
    """
    name = hub_name(model_name_or_path)
    wanted = revision or pinned_revision(name) or MAIN
    found = cached_folder(name, wanted, parts)
    if found is not None and (COMMIT.fullmatch(wanted) or not hub_reachable()):
        return found
    if not hub_reachable():
        return _make_do(name, wanted, parts, given=revision)
    try:
        with told_in_a_line(name, wanted):
            return _fetch_pinned(name, wanted, parts) if revision is None else _fetch(name, wanted, parts)
    except CheckpointError as error:
        if found is None:
            raise
        log.warning("not_asked_anew", because=str(error), taken=f"what is in the cache of {found.name[:12]}")
        return found


def hub_name(model_name_or_path: str) -> str:
    """The name of a model on the hub.

    Raises:
        CheckpointError: It cannot be one: a path where nothing is, or an address.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    address = urlsplit(model_name_or_path)
    if address.scheme in ("http", "https", "hf"):
        name = "/".join(f"{address.netloc if address.scheme == 'hf' else ''}{address.path}".strip("/").split("/")[:2])
        shown = redact(model_name_or_path)
        raise CheckpointError(f'model "{shown}": no such folder; of the hub\'s models give the name, "{name}"')
    path = Path(model_name_or_path)
    if path.is_file():
        raise CheckpointError(f'model "{model_name_or_path}" is a file; give the folder that transformers has saved')
    if path.suffix in FILE_ENDINGS:
        raise CheckpointError(f'model "{model_name_or_path}": no such file; check the path')
    if model_name_or_path.startswith((".", "/", "~")) or model_name_or_path.count("/") > 1:
        raise CheckpointError(
            f'model "{model_name_or_path}": no such folder; give a folder saved by transformers, or a hub id'
        )
    try:
        validate_repo_id(model_name_or_path)
    except HFValidationError:
        raise CheckpointError(
            f'model "{model_name_or_path}": no such folder, and no name of a model on the hub; one is like '
            "facebook/wav2vec2-xls-r-300m"
        ) from None
    return model_name_or_path


@contextmanager
def told_in_a_line(name: str, revision: str) -> Iterator[None]:
    """Raise what the client of the hub raises in this block as a CheckpointError of one line."""
    asked = Asked("model", name, revision, AGAIN)
    try:
        yield
    except RunyoroError:
        raise
    except Exception as error:  # noqa: BLE001 - several libraries, of several versions
        said = explain(asked, error) or f"cannot be fetched ({first_line(error)}); {AGAIN}"
        likely = suggest(name)
        meant = f'; did you mean "{likely}"?' if likely and asked.not_shown == said else ""
        raise CheckpointError(f'model "{name}": {said}{meant}') from None


def _make_do(name: str, wanted: str, parts: Collection[ModelPart], *, given: str | None) -> Path:
    """Offline: what was fetched of another commit, where nobody has asked for this one."""
    found = None if given else cached_folder(name, MAIN, parts)
    if found is None:
        raise OutOfReachError(
            f'model "{name}" (revision {wanted[:12]}): no such folder here, not in the cache {cache_folder()}, and the '
            f"Hugging Face hub is out of reach. Go online once: {FOR_THE_FIELD}"
        )
    log.warning("other_revision", model=name, wanted=wanted[:12], taken=found.name[:12], because="offline")
    return found


def _fetch_pinned(name: str, revision: str, parts: Collection[ModelPart]) -> Path:
    """Fetch the commit that is known; where the hub has it no more, what is there now, with a warning."""
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        return _fetch(name, revision, parts)
    except RevisionNotFoundError:
        if revision == MAIN:
            raise
        log.warning("pinned_revision_gone", model=name, wanted=revision[:12], taken=MAIN)
        return _fetch(name, MAIN, parts)


def _fetch(name: str, revision: str, parts: Collection[ModelPart]) -> Path:
    """Fetch what is not in the cache of what the hub has."""
    from huggingface_hub import constants

    about, token = _ask(constants.ENDPOINT, name, revision)
    commit, files = str(about.sha), {file.rfilename: file for file in about.siblings}
    if not COMMIT.fullmatch(commit):  # it becomes the name of a folder
        raise CheckpointError(f'model "{name}": {constants.ENDPOINT} names no commit of it; is that a hub of models?')
    if (found := cached_folder(name, commit, parts)) is not None:
        _remember(name, revision, commit)
        return found
    wanted = [FILE_OF[part] for part in ("config", "extractor") if part in parts]
    wanted += _weights(name, files) if "weights" in parts else []
    wanted += original_among(files) or ["file ending in .pt"] if "original" in parts else []
    missing = [file for file in wanted if file not in files]
    if missing:
        raise CheckpointError(
            f'model "{name}": the hub has no {" and no ".join(missing)} of it at revision {revision[:12]}; '
            f"is it a wav2vec 2.0 model? A usual one is {next(iter(KNOWN))}"
        )
    folder = repository_folder(name) / "snapshots" / commit
    _fetch_files(name, commit, [files[file] for file in wanted if not (folder / file).is_file()], token=token)
    _remember(name, revision, commit)
    return folder


@cache
def _ask(_endpoint: str, name: str, revision: str) -> tuple[Any, bool | None]:
    """What the hub says there is, once a process, and the token to go on with.

    None is that of this person, if there is one; one that is out of date bars even what is open to all.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import GatedRepoError

    def ask(*, token: bool | None) -> Any:
        return patiently(lambda: HfApi().model_info(name, revision=revision, files_metadata=True, token=token))

    try:
        return ask(token=None), None
    except Exception as error:
        if not get_token() or status_of(error) != HTTPStatus.UNAUTHORIZED or isinstance(error, GatedRepoError):
            raise
        try:
            about = ask(token=False)
        except Exception:  # noqa: BLE001 - the first refusal tells more
            raise error from None
        remedy = "`hf auth login`, or unset HF_TOKEN"
        log.warning("token_refused", by="the hub (401)", going_on="without it", remedy=remedy)
        return about, False


def _weights(name: str, files: Collection[str]) -> list[str]:
    found = weights_among(files)
    if not found:
        raise CheckpointError(
            f'model "{name}": the hub has no weights of it that PyTorch reads (model.safetensors, pytorch_model.bin)'
        )
    return found


def _fetch_files(name: str, commit: str, files: list[Any], *, token: bool | None) -> None:
    """Fetch files of a commit into the cache, the smallest first, under one bar."""
    from huggingface_hub import constants, hf_hub_download

    blobs = repository_folder(name) / "blobs"
    num_bytes = sum(file.size or 0 for file in files)
    parts = [part_of(blob) for file in files if (blob := _large_blob(blobs, file))]
    have = sum(part.stat().st_size for part in parts if part.exists())
    check_room(name, num_bytes - have)
    is_large = num_bytes >= WORTH_SAYING
    if is_large:
        log.info("fetching", model=name, size=amount(num_bytes), source=constants.ENDPOINT, into=str(cache_folder()))
    blobs.mkdir(parents=True, exist_ok=True)
    with _alone(name, blobs / ".fetching.lock"), download_progress() as bar:
        arrival = Arrival(num_bytes, bar, bar.add_task(f"Fetching {name}", total=num_bytes, visible=is_large))
        for file in sorted(files, key=lambda one: one.size or 0):
            blob = _large_blob(blobs, file)
            if blob and not blob.exists():
                _fetch_large(name, commit, file, blob, arrival, token=token)
            else:
                arrival.advance(file.size or 0)
            patiently(partial(hf_hub_download, name, file.rfilename, revision=commit, token=token))
    if is_large:
        log.info("fetched", model=name, revision=commit, size=amount(num_bytes))


@contextmanager
def _alone(name: str, lock: Path) -> Iterator[None]:
    """Fetch while no other process does; one that does is said, and waited for."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    with ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(lock, timeout=SILENT_WAIT_SEC))
        except Timeout:
            log.info("waiting", model=name, because="another process fetches it now")
            stack.enter_context(WeakFileLock(lock))
        yield


def _large_blob(blobs: Path, file: Any) -> Path | None:
    """Where the cache keeps a file that the hub knows by the sha256 of its content; None for one that it does not."""
    sha256 = file.lfs.sha256 if file.lfs else ""
    return blobs / sha256 if SHA256.fullmatch(sha256) else None


def _fetch_large(name: str, commit: str, file: Any, blob: Path, arrival: Arrival, *, token: bool | None) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url, headers = hf_hub_url(name, file.rfilename, revision=commit), build_hf_headers(token=token)
    what = f'model "{name}": {file.rfilename}'
    download(what, url, blob, num_bytes=file.lfs.size, sha256=file.lfs.sha256, headers=headers, advance=arrival.advance)


def _remember(name: str, revision: str, commit: str) -> None:
    """Write down which commit a branch or tag is at, for a time without a network; not where nothing can be written."""
    if COMMIT.fullmatch(revision):
        return
    reference = repository_folder(name) / "refs" / revision
    try:
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="ascii")
    except OSError:
        return
