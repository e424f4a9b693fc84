"""What the hub, its client or the network raise, as a line that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from runyoro_ssl.hub.place import hub_reachable
from runyoro_ssl.redaction import redact

LOG_IN = "log in by `hf auth login`"
CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp")
"""What speaks HTTP for one or another version of the hub's libraries."""
MAX_CHARACTERS = 200
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True)
class Asked:
    """What the hub was asked for. `again`: what to do once what stood in the way is gone."""

    kind: Literal["model", "dataset"]
    name: str
    revision: str
    again: str

    @property
    def page(self) -> str:
        """Its page on the hub."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def not_shown(self) -> str:
        """What can be said of what the hub shows nobody, or not this person."""
        return f"the hub has no such {self.kind}, or it is private; check the name, or, if it is private, {LOG_IN}"


def explain(asked: Asked, error: BaseException) -> str | None:
    """What went wrong, and what to do; None where it is nothing of the hub's or the network's."""
    for explanation in (_refusal, _status_of_hub, _broken_off):
        # The first error of a chain need not be the one that tells most.
        for cause in chain_of(error):
            if said := explanation(asked, cause):
                return said
    return None


def _refusal(asked: Asked, error: BaseException) -> str | None:
    """The hub does not give it to this person."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        if status_of(error) == HTTPStatus.FORBIDDEN:
            return f"it is gated, and you are not among those who are let in (403): ask for access at {asked.page}"
        return f"it is gated: accept its terms at {asked.page}, and {LOG_IN}"
    if isinstance(error, RepositoryNotFoundError):
        return asked.not_shown
    if isinstance(error, RevisionNotFoundError):
        return f'no revision "{asked.revision}"; give a branch, a tag or a commit that {asked.page} has'
    return None


def _refused_token(error: BaseException) -> str | None:
    from huggingface_hub import get_token

    if status_of(error) not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or not get_token():
        return None
    return (
        f"the hub refuses your token ({status_of(error)}): it is wrong, out of date, or may not read this; {LOG_IN}, "
        f"and unset {TOKEN_VARIABLES[0]} if that is where it comes from"
    )


def _status_of_hub(asked: Asked, error: BaseException) -> str | None:
    """The hub answers that it will not, or cannot, now."""
    status = status_of(error)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return _refused_token(error) or asked.not_shown
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        seconds = seconds_to_wait(error.response.headers)  # type: ignore[attr-defined]
        wait = "some minutes" if seconds is None else f"{seconds:.0f} s"
        return f"the hub asks for patience (429, too many requests); wait {wait}, and {asked.again}"
    if status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"the hub is in trouble ({status}); wait, and {asked.again}"
    return None


def _broken_off(asked: Asked, error: BaseException) -> str | None:
    """It may work the next time."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full; make room, or set HF_HOME to a folder on another disk, and {asked.again}"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.filename} cannot be written ({error.strerror}): set HF_HOME to a folder of your own"
    if is_broken_off(error):
        return f"the connection broke off ({first_line(error)}); {asked.again}"
    return None


def is_broken_off(error: BaseException) -> bool:
    """Whether it is the network's doing, and not an answer of the hub."""
    of_client = type(error).__module__.partition(".")[0] in CLIENTS and status_of(error) is None
    return of_client or (isinstance(error, TimeoutError | ConnectionError) and hub_reachable())


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """What a hub that has had too many requests asks to wait: `Retry-After: 30`, or `ratelimit: "api";r=0;t=55`."""
    found = {name.lower(): value for name, value in headers.items()}
    after = found.get("retry-after", "").strip()
    limits = (part.strip() for part in found.get("ratelimit", "").split(";"))
    reset = next((part[2:] for part in limits if part.startswith("t=")), "")
    return next((float(text) for text in (after, reset) if text.isdecimal()), None)


def status_of(error: BaseException) -> int | None:
    """The status of the answer that an error is about, if it is about one."""
    response: Any = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def chain_of(error: BaseException) -> list[BaseException]:
    """The error and its causes, the first cause last."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return found


def first_line(error: BaseException) -> str:
    """The kind of error and the first line of what it says, without secrets."""
    lines = str(redact(str(error))).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}"[:MAX_CHARACTERS] if lines else type(error).__name__
