"""Whatever the hub, its libraries or a stranger's files raise, as one line that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from runyoro_ssl.errors import ManifestError, RunyoroError
from runyoro_ssl.prepare.hub.address import PARQUET, HubAddress
from runyoro_ssl.prepare.hub.libraries import is_offline
from runyoro_ssl.redaction import redact

LOG_IN = "log in by `hf auth login`"
KEPT = "run the same again: what has come is kept"
_NOT_SHOWN = f"the hub has no such dataset, or it is private; check the name, or, if it is private, {LOG_IN}"
_REFUSED = f"the hub refuses your token ({{}}): it is wrong, out of date, or may not read this; {LOG_IN}"
CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp")
"""What speaks HTTP for one or another version of the hub's libraries."""
MAX_CHARACTERS = 200


@contextmanager
def told_in_a_line(address: HubAddress) -> Iterator[None]:
    """Raise what the libraries raise in this block as a ManifestError of one line.

    The block must hold their work only: no own mistake may hide here.
    """
    try:
        yield
    except RunyoroError:
        raise
    except Exception as error:  # noqa: BLE001 - half a dozen libraries, at work on what a stranger has written
        raise ManifestError(f"{address}: {explain(address, error)}") from None


def explain(address: HubAddress, error: BaseException) -> str:
    """What went wrong, and what to do."""
    chain = _chain(error)
    # The first error of a chain need not be the one that tells most.
    for explanation in (_refusal, _status_of_hub, _broken_off, _of_script):
        for cause in chain:
            if said := explanation(address, cause):
                return said
    offline = "" if address.is_local else ". Offline, only what was fetched before is at hand"
    return f"cannot be loaded ({_first_line(chain[-1])}); check the name, the configuration and the split{offline}"


def _refusal(address: HubAddress, error: BaseException) -> str | None:
    """The hub does not give the dataset to this person."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"{constants.ENDPOINT}/datasets/{address.name}"
    if isinstance(error, GatedRepoError):
        if _status(error) == HTTPStatus.FORBIDDEN:
            return f"it is gated, and you are not among those who are let in (403): ask for access at {page}"
        return f"it is gated: accept its terms at {page}, and {LOG_IN}"
    if isinstance(error, RepositoryNotFoundError):
        return _NOT_SHOWN
    if isinstance(error, RevisionNotFoundError):
        return f'no revision "{address.revision or "main"}"; give a branch, a tag or a commit that {page} has'
    return None


def _status_of_hub(_: HubAddress, error: BaseException) -> str | None:
    """The hub answers that it will not, or cannot, now."""
    from huggingface_hub import get_token

    status = _status(error)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return _REFUSED.format(status) if get_token() else _NOT_SHOWN
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return f"the hub asks for patience (429, too many requests); wait some minutes, and {KEPT}"
    if status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"the hub is in trouble ({status}); wait, and {KEPT}"
    return None


def _broken_off(_: HubAddress, error: BaseException) -> str | None:
    """It may work the next time."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full; make room, and {KEPT}"
    of_client = type(error).__module__.partition(".")[0] in CLIENTS and _status(error) is None
    if of_client or (isinstance(error, TimeoutError | ConnectionError) and not is_offline()):
        return f"the connection broke off ({_first_line(error)}); {KEPT}"
    return None


def _of_script(address: HubAddress, error: BaseException) -> str | None:
    """Its data come by a script."""
    if not (isinstance(error, RuntimeError) and "scripts are no longer supported" in str(error)):
        return None
    if address.is_local:
        return "its data come by a script, and scripts are not run; give the folder of its recordings or parquet files"
    way_out = replace(address, revision=PARQUET)
    return f"its data come by a script, and scripts are not run; take what the hub has converted: '{way_out}'"


def _status(error: BaseException) -> int | None:
    response: Any = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _chain(error: BaseException) -> list[BaseException]:
    """The error and its causes, the first cause last."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return found


def _first_line(error: BaseException) -> str:
    lines = str(redact(str(error))).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}"[:MAX_CHARACTERS] if lines else type(error).__name__
