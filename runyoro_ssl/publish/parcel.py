"""What is sent of a model: weights, settings and card, and nothing else; looked at before any of it goes."""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from yaml import YAMLError

from runyoro_ssl.errors import PublishError, did_you_mean
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.folder import check_folder
from runyoro_ssl.model.source import CONFIG, EXTRACTOR, RESULT_FILE, WEIGHTS
from runyoro_ssl.publish.card import CARD, is_changed, make_card
from runyoro_ssl.publish.facts import read_facts
from runyoro_ssl.publish.licences import LICENCES, OTHER, UNKNOWN, too_loose
from runyoro_ssl.publish.metadata import find_fault
from runyoro_ssl.redaction import redact

log = get_logger()

FILES = (WEIGHTS, CONFIG, EXTRACTOR, CARD)
PRIVATE_SETTINGS = ("_name_or_path",)
"""Of config.json: where the model was loaded from."""
PATH = re.compile(
    r"""(?<![\w/.:])(?:/(?:home|Users|root|mnt|media|Volumes|scratch|work|data|tmp|var|opt|srv|gpfs|lustre)/[^\s"'`)]+
    | ~/[^\s"'`)]+ | [A-Za-z]:\\[^\s"'`)]+ | \\\\\w+\\[^\s"'`)]+ | file://[^\s"'`)]+)""",
    re.VERBOSE,
)
"""A place on somebody's machine."""
MIN_CHARACTERS = 4
"""A shorter name of a machine or an account may be an ordinary word."""
ORDINARY = ("root", "user", "localhost", "ubuntu", "runyoro", "runner")
"""Names of accounts and machines that name nobody."""


@dataclass(frozen=True)
class Parcel:
    """The files to send, by name: small ones as their bytes, the weights as where they lie.

    `licence`: that of the card, None where it states none; `must_decide`: what its owner has to find out before others
    may have it.
    """

    weights: Path
    small: Mapping[str, bytes]
    licence: str | None
    must_decide: str | None

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, in the order of `FILES`."""
        sizes = {WEIGHTS: self.weights.stat().st_size, **{name: len(content) for name, content in self.small.items()}}
        return {name: sizes[name] for name in FILES}


def pack(folder: Path, repo_id: str, *, licence: str | None) -> Parcel:
    """Gather and check what is sent of a finished run, or of any model folder with a card.

    Args:
        folder: Of the run.
        repo_id: Where the model will be, for its card.
        licence: What its owner has chosen; None: what its card, or its base model, says.

    Raises:
        PublishError: A file is missing or not whole; something in it is not for others; a licence that cannot be.
        CheckpointError: It is no model folder that transformers would load.
    """
    if not folder.is_dir():
        raise PublishError(f"{folder}: no such folder; give that of a finished run as --run (`invoke runs` lists them)")
    is_run = (folder / RESULT_FILE).is_file()
    if not (folder / WEIGHTS).is_file():
        is_begun = any(folder.glob("checkpoint-*"))
        remedy = "finish the run: invoke train --resume-from-checkpoint last" if is_begun else "give another --run"
        raise PublishError(f"{folder}: no {WEIGHTS} is in it, so that there is no final model to publish; {remedy}")
    check_folder(str(folder), weights=True)
    card = _card(folder, repo_id, licence, is_run=is_run)
    small = {CONFIG: _settings(folder / CONFIG), EXTRACTOR: _settings(folder / EXTRACTOR), CARD: card.encode()}
    for name, content in small.items():
        _refuse_private(folder / name, content.decode())
    stated = ModelCard(card).data.get("license")
    chosen = None if stated in (None, UNKNOWN) else str(stated)
    return Parcel(folder / WEIGHTS, small, chosen, _must_decide(folder, chosen, given=licence, is_run=is_run))


def _card(folder: Path, repo_id: str, licence: str | None, *, is_run: bool) -> str:
    """The card to send: that of the run as it now is; or, where a person has changed it, theirs, with the licence."""
    path = folder / CARD
    if licence is not None:
        _check_licence(folder, licence, "--licence", is_run=is_run)
    if is_run and not is_changed(path):
        return make_card(folder, licence=licence, place=repo_id)
    try:
        text = path.read_text(encoding="utf-8")
        card = ModelCard(text)
    except FileNotFoundError:
        raise PublishError(f"{path}: no card; write one that says what the model is, with its licence") from None
    except (OSError, ValueError, TypeError, YAMLError) as error:
        raise PublishError(f"{path}: its metadata cannot be read ({' '.join(str(error).split())}); mend it") from None
    if fault := find_fault(card.data):
        raise PublishError(f"{path}: {fault}")
    if licence is None and (stated := card.data.get("license")) is not None:
        _check_licence(folder, stated, f"license in {path}", is_run=is_run)
    if licence in (None, card.data.get("license")):
        return text
    card.data["license"] = licence
    return str(card)


def _check_licence(folder: Path, licence: str, where: str, *, is_run: bool) -> None:
    """Refuse a licence that is none, or that gives more away than what the model was made of."""
    if licence not in (*LICENCES, OTHER, UNKNOWN):
        near = did_you_mean(licence, LICENCES)
        raise PublishError(f'{where} is "{licence}"{near}; give a name that the hub has for one, such as apache-2.0')
    facts = read_facts(folder) if is_run else None
    if facts is not None and (why := too_loose(licence, facts.licence, facts.base_licence)):
        raise PublishError(f"{where} is {licence}, but what this model was made of does not allow that: {why}")


def _must_decide(folder: Path, stated: str | None, *, given: str | None, is_run: bool) -> str | None:
    """What is still to be found out about the licence; None where it is settled."""
    if given is not None:
        return None
    if is_run and not is_changed(folder / CARD):
        return read_facts(folder).licence.must_decide
    return None if stated else "its card states no licence"


def _settings(path: Path) -> bytes:
    """A file of settings without what is of this machine."""
    content = path.read_bytes()
    settings: dict[str, Any] = json.loads(content)
    clean = redact({name: value for name, value in settings.items() if name not in PRIVATE_SETTINGS})
    if clean == settings:
        return content
    log.info("cleaned", file=path.name, of=", ".join(name for name in settings if clean.get(name) != settings[name]))
    return (json.dumps(clean, indent=2) + "\n").encode()


def _refuse_private(path: Path, text: str) -> None:
    """Refuse a text that names a place, a machine, an account, or holds a secret."""
    for number, line in enumerate(text.splitlines(), start=1):
        found = _private(line)
        if found is not None:
            raise PublishError(f"{path} line {number} {found}, which is not for others: take it out, and publish again")


def _private(line: str) -> str | None:
    if redact(line) != line:
        return "holds what looks like a password or a token"
    if found := PATH.search(line):
        return f"names a place on a machine ({found[0]})"
    for name in {socket.gethostname().partition(".")[0], _account()}:
        if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", line) and len(name) >= MIN_CHARACTERS:
            return f"names this machine or account ({name})" if name.lower() not in ORDINARY else None
    return None


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in containers
        return ""
