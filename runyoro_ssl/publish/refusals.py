"""What the hub answers to whoever sends, as a line that says what to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from runyoro_ssl.hub.failures import LOG_IN, Asked, chain_of, explain, first_line, status_of
from runyoro_ssl.redaction import redact

AGAIN = "publish again: what has arrived is not sent twice"
FULL = ("quota", "storage limit", "storage space", "exceeded", "no space")
"""Words of the hub where there is no more room."""
WRITE = "a token that may write, from the hub's settings"

NOT_ALLOWED = f"you may not write to it ({{status}}): give {WRITE}, of somebody in {{owner}}; or another --repo-id"
CHANGED = "somebody else changed it at the same time ({status}); look at it, and publish again"
REFUSED = "the hub does not take it ({status}); mend that, and publish again"
ANSWERS = {
    400: REFUSED,
    401: f"the hub does not know your token ({{status}}): it is wrong or out of date; {LOG_IN} with {WRITE}",
    402: NOT_ALLOWED,
    403: NOT_ALLOWED,
    404: "the hub knows no {owner} that you could write to, or no branch {branch} ({status}); check --repo-id",
    409: CHANGED,
    412: CHANGED,
    413: "there is no room for it ({status}); free some of what {owner} has on the hub, or ask the hub for more",
    422: REFUSED,
}
"""What an answer means to somebody who sends, by its status."""


@dataclass(frozen=True)
class Destination:
    """Where a model goes: `org/name` on the hub, and the branch."""

    repo_id: str
    branch: str

    @property
    def owner(self) -> str:
        """Person or organisation."""
        return self.repo_id.partition("/")[0]


def refusal(target: Destination, error: BaseException) -> str:
    """Why the hub did not take it, and what to do."""
    chain = chain_of(error)
    for cause in chain:
        if said := _answered(target, cause):
            return said
    asked = Asked("model", target.repo_id, target.branch, AGAIN)
    return explain(asked, error) or f"could not be sent ({first_line(chain[-1])}); {AGAIN}"


def _answered(target: Destination, error: BaseException) -> str | None:
    """What an answer of the hub means to somebody who sends."""
    status = status_of(error)
    if status is None:
        return None
    words = _words(error)
    quoted = f": {words}" if words else ""
    if any(word in words.lower() for word in FULL):
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    said = ANSWERS.get(status)
    return said and said.format(status=f"{status_of(error)}{quoted}", owner=target.owner, branch=target.branch)


def _words(error: BaseException) -> str:
    """What the hub itself says, without secrets; nothing where it says nothing."""
    response: Any = getattr(error, "response", None)
    try:
        content = json.loads(response.content)
        said = content.get("error") or content.get("message") or ""
    except (ValueError, AttributeError, TypeError, RuntimeError):  # no JSON, or a body that was not read
        said = ""
    return " ".join(str(redact(str(said))).split())[:200]
