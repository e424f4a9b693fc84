"""The model card of a finished run: sums only, no names of files, machines or people. What a person changes stays."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from huggingface_hub import ModelCard, constants

from runyoro_ssl.disk.durable import replace_file
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.evaluate.record import Evaluation
from runyoro_ssl.logs import get_logger
from runyoro_ssl.publish.card_text import text_of
from runyoro_ssl.publish.facts import read_facts
from runyoro_ssl.publish.metadata import metadata_of

log = get_logger()

CARD = constants.REPOCARD_NAME
"""README.md."""
SEAL = re.compile(r"\n<!-- written by runyoro_ssl, sha256:([0-9a-f]{64}); changed by hand, it is kept -->\n\Z")


def write_model_card(output_dir: Path) -> None:
    """Write README.md beside the final model of a finished run, from what lies in the run's folder.

    A card that was changed by hand, or written by somebody else, is kept, and the log says so.

    Raises:
        TrainingError: The run has not finished, or the disk is full: the final model is there, and the card follows
            when the run is resumed.
    """
    card = output_dir / CARD
    text = make_card(output_dir)
    if is_changed(card):
        log.warning(
            "card_kept", path=str(card), because="it was changed by hand", remedy="move it away to have it written anew"
        )
        return
    try:
        replace_file(card, text)
    except OSError as error:
        raise TrainingError(
            f"{card}: the model card could not be written ({error}); the final model is there: make room, "
            "then --resume-from-checkpoint last"
        ) from None


def make_card(
    output_dir: Path,
    *,
    licence: str | None = None,
    place: str = "this folder",
    which: str | None = None,
    evaluation: Evaluation | None = None,
) -> str:
    """The card of a finished run, sealed.

    `licence`: what its owner has chosen; None: what has to be carried. `place`: from where it is loaded. `which`: what
    of the run it is, where it is not its final model. `evaluation`: what was found of it; None: what its folder has.

    Raises:
        TrainingError: The run has not finished.
    """
    facts = read_facts(output_dir)
    if evaluation is not None:
        facts = replace(facts, evaluation=evaluation)
    carried = facts.licence
    data = metadata_of(facts, licence or carried.licence, which=which)
    return seal(
        str(ModelCard(f"---\n{data.to_yaml()}\n---\n{text_of(facts, chosen=licence, place=place, which=which)}"))
    )


def seal(text: str) -> str:
    """The same text with a last line by which a change of it is seen."""
    return f"{text}\n<!-- written by runyoro_ssl, sha256:{_digest(text)}; changed by hand, it is kept -->\n"


def is_changed(card: Path) -> bool:
    """Whether there is a card that a person has written or changed."""
    try:
        text = card.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except UnicodeDecodeError:
        return True
    found = SEAL.search(text)
    return found is None or found[1] != _digest(text[: found.start()])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
