"""One large file of the hub: what has come is kept, whatever breaks, and what is taken is what the hub says it is.

The hub's own client (2.4) throws away what has come when a download fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.hub.patience import patiently
from runyoro_ssl.hub.place import amount
from runyoro_ssl.logs import get_logger

log = get_logger()


class Advance(Protocol):
    """Who is told of bytes that have come."""

    def __call__(self, num_bytes: int, *, is_fresh: bool = True) -> None:
        """So many have come: now, or at an earlier try; less than 0 where they are lost."""


def part_of(blob: Path) -> Path:
    """Where a file lies while it is incomplete; the name is its content's, so that nothing else is continued."""
    return blob.with_name(f"{blob.name}.part")


def download(
    what: str, url: str, blob: Path, *, num_bytes: int, sha256: str, headers: dict[str, str], advance: Advance
) -> None:
    """Fetch a file to `blob`, from where an earlier try has stopped. `what`: its name, for people.

    Raises:
        CheckpointError: What comes is not what the hub says, twice.
        Exception: Of the hub's client, where patience did not help; what has come stays.
    """
    part = part_of(blob)
    blob.parent.mkdir(parents=True, exist_ok=True)
    for is_last in (False, True):
        advance(_size(part), is_fresh=False)
        _complete(url, part, num_bytes, headers, advance)
        found = _sha256(part)
        if found == sha256:
            part.replace(blob)
            return
        advance(-_size(part), is_fresh=False)
        part.unlink()
        log.warning("not_what_the_hub_says", sha256=found[:12], expected=sha256[:12], removed=part.name)
        if is_last:
            raise CheckpointError(
                f"{what}: what came is not what the hub says ({amount(num_bytes)}, but another sha256), twice, and was "
                "removed: try another network, or later"
            )


def _complete(url: str, part: Path, num_bytes: int, headers: dict[str, str], advance: Advance) -> None:
    """Take bytes until all have come."""

    def take() -> None:
        if _size(part) < num_bytes:
            _take(url, part, num_bytes, headers, advance)
        if (have := _size(part)) < num_bytes:
            raise ConnectionError(f"it ended after {have} of {num_bytes} bytes")

    patiently(take, lambda: _size(part))


def _take(url: str, part: Path, num_bytes: int, headers: dict[str, str], advance: Advance) -> None:
    """Take what one answer brings."""
    have = _size(part)
    asked = {**headers, "Range": f"bytes={have}-"} if have else headers
    with _answer(url, asked) as answer, part.open("ab") as file:
        if have and answer.status_code != HTTPStatus.PARTIAL_CONTENT:
            advance(-have, is_fresh=False)  # it begins anew
            file.truncate(have := 0)
        for chunk in answer.iter_bytes():
            wanted = chunk[: num_bytes - have]
            file.write(wanted)
            have += len(wanted)
            advance(len(wanted))
            if have == num_bytes:
                return


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[Any]:
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import hf_raise_for_status

    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as answer:
        if answer.is_error:
            answer.read()
        hf_raise_for_status(answer)
        yield answer


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
