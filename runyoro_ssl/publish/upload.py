"""A parcel sent to the hub as one commit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import validate_repo_id

from runyoro_ssl.errors import PublishError, RunyoroError
from runyoro_ssl.hub.failures import status_of
from runyoro_ssl.hub.patience import patiently
from runyoro_ssl.hub.place import hub_reachable
from runyoro_ssl.model.source import WEIGHTS
from runyoro_ssl.publish.metadata import TAG
from runyoro_ssl.publish.parcel import FILES, Parcel
from runyoro_ssl.publish.refusals import WRITE, Destination, refusal

MAIN = "main"
SWITCH = "HF_HUB_DISABLE_PROGRESS_BARS"
BESIDE = (".gitattributes",)
"""Of the hub itself."""


@dataclass(frozen=True)
class HubPlace:
    """What is on the hub under the name: nothing yet (`exists` false), or a model. `has_branch`: the one to send to."""

    exists: bool
    is_private: bool
    has_branch: bool
    others: tuple[str, ...] = ()
    """Files that this toolkit has not sent, and does not send."""
    is_ours: bool = True
    """There is nothing in it, or a model of this toolkit."""


@dataclass(frozen=True)
class Sent:
    """What was sent. `address`: its page; `commit`: by which exactly this is to be had."""

    address: str
    commit: str


def check_target(repo_id: str | None, branch: str) -> Destination:
    """Raise PublishError if a name cannot be one of the hub, org/name."""
    try:
        validate_repo_id(repo_id or "")
        is_name = (repo_id or "").count("/") == 1
    except HFValidationError:
        is_name = False
    if not is_name:
        seen = "is not given" if repo_id is None else f'is "{repo_id}"'
        raise PublishError(f"--repo-id {seen}: give where it shall be on the hub, as ORG/NAME")
    if not branch.strip() or " " in branch:
        raise PublishError(f'--branch is "{branch}": give a name without blanks')
    return Destination(str(repo_id), branch)


def check_token(target: Destination) -> None:
    """Raise PublishError if nobody is logged in, or the hub is out of reach."""
    if get_token() is None:
        raise PublishError(f"{target.repo_id}: you are not logged in to the hub: `hf auth login`, with {WRITE}")
    if not hub_reachable():
        raise PublishError(
            f"{target.repo_id}: the hub {constants.ENDPOINT} is out of reach; go online, and publish again"
        )


def look(target: Destination) -> HubPlace:
    """What is on the hub under this name.

    Raises:
        PublishError: It cannot be asked.
    """
    with _in_a_line(target):
        about = _about(target, MAIN)
        if about is None:
            return HubPlace(exists=False, is_private=False, has_branch=target.branch == MAIN)
        at_branch = about if target.branch == MAIN else _about(target, target.branch)
    seen = at_branch or about
    names = [file.rfilename for file in seen.siblings or ()]
    others = tuple(name for name in names if name not in (*FILES, *BESIDE))
    is_ours = TAG in (seen.tags or ()) or not set(names) - set(BESIDE)
    return HubPlace(
        exists=True, is_private=bool(about.private), has_branch=at_branch is not None, others=others, is_ours=is_ours
    )


def _about(target: Destination, revision: str) -> Any | None:
    try:
        return patiently(lambda: HfApi().model_info(target.repo_id, revision=revision))
    except RevisionNotFoundError:
        return None
    except RepositoryNotFoundError as error:
        # The hub answers 401 for one that is not there, too; what it thinks of the token it says when asked.
        if status_of(error) == 401:  # noqa: PLR2004 - the status itself
            patiently(lambda: HfApi().whoami())
        return None


def check_place(target: Destination, place: HubPlace, parcel: Parcel, *, private: bool, overwrite: bool) -> None:
    """Refuse to replace somebody's other model, or to show to all what is not settled.

    Raises:
        PublishError: Says which it is, and what to do.
    """
    name = target.repo_id
    if private and place.exists and not place.is_private:
        raise PublishError(f"--private: {name} is there, and public; give another --repo-id, or make it private first")
    if place.exists and not overwrite and (place.others or not place.is_ours):
        held = f"files of somebody else ({', '.join(place.others[:3])})" if place.others else "another model"
        raise PublishError(
            f"{name} holds {held}; give another --repo-id, or --overwrite to replace {', '.join(FILES)} in it"
        )
    check_licence(parcel, is_public=not (private or place.is_private))


def check_licence(parcel: Parcel, *, is_public: bool) -> None:
    """Raise PublishError if what all may have does not say under which terms."""
    if is_public and parcel.must_decide:
        carried = f" (as far as is known: {parcel.licence})" if parcel.licence else ""
        raise PublishError(
            f"its licence is not settled{carried}: {parcel.must_decide}. Give the one that you have decided on as "
            "--licence, or --private"
        )


def send(target: Destination, place: HubPlace, parcel: Parcel, *, private: bool, message: str) -> Sent:
    """Send a parcel as one commit; the model is made on the hub if it is not there.

    Where the network breaks, or the hub is in trouble, it is tried again; what has arrived is not sent twice.

    Raises:
        PublishError: In a line, why it could not be sent.
    """
    api = HfApi()
    operations = [CommitOperationAdd(WEIGHTS, parcel.weights)]
    operations += [CommitOperationAdd(name, content) for name, content in parcel.small.items()]
    with _in_a_line(target), _bars():
        if not place.exists:
            patiently(lambda: api.create_repo(target.repo_id, private=private, exist_ok=True))
        if not place.has_branch:
            patiently(lambda: api.create_branch(target.repo_id, branch=target.branch, exist_ok=True))
        made = patiently(
            lambda: api.create_commit(target.repo_id, operations, commit_message=message, revision=target.branch)
        )
    return Sent(f"{constants.ENDPOINT}/{target.repo_id}", str(made.oid))


@contextmanager
def _in_a_line(target: Destination) -> Iterator[None]:
    """Raise what the hub's client raises in this block as a PublishError of one line."""
    try:
        yield
    except RunyoroError:
        raise
    except Exception as error:  # noqa: BLE001 - several libraries, of several versions
        raise PublishError(f"{target.repo_id}: {refusal(target, error)}") from None


@contextmanager
def _bars() -> Iterator[None]:
    """Let the hub's client show its own bars on a terminal: it alone knows how far it is."""
    # Not `from huggingface_hub.utils import tqdm`, which is a class. It refuses what the environment rules out, as
    # `logs.quiet_libraries` has it do.
    module: Any = import_module("huggingface_hub.utils.tqdm")
    ruled_out = getattr(module, SWITCH, None)
    if not sys.stderr.isatty():
        yield
        return
    setattr(module, SWITCH, None)
    module.enable_progress_bars()
    try:
        yield
    finally:
        module.disable_progress_bars()
        setattr(module, SWITCH, ruled_out)
