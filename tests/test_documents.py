"""README and docs: short enough to be read, and every command in them can be given. `tests/documents.py` runs them."""

from __future__ import annotations

import re
import shlex

import pytest
from documents import DOCUMENTS, Command, read_commands

from conftest import ROOT
from runyoro_ssl.commands.options import TASKS, options_of

MAX_WORDS = 1_200
COMMANDS = [command for document in (*DOCUMENTS, "CONTRIBUTING.md") for command in read_commands(document)]
CALL = re.compile(r"(?:invoke|-m runyoro_ssl) ((?:\S+[ \t]*|\\\n)+)")
"""A task with its options, to the end of a line that is not continued."""


def test_readme_can_be_read() -> None:
    """In one sitting: all of its words, those of code and tables too."""
    words = [word for word in (ROOT / "README.md").read_text(encoding="utf-8").split() if re.search(r"\w", word)]
    assert len(words) <= MAX_WORDS


def test_documents_have_commands() -> None:
    """Those that are read here, lest none be."""
    assert {command.document for command in COMMANDS} > {"README.md", "docs/recordings.md", "plugins/README.md"}
    assert len(COMMANDS) > 25


def calls(command: Command) -> list[list[str]]:
    """The words of each task that a command calls."""
    text = re.sub(r"(^|[ \t])#[^\n]*", "", command.text).replace("\\\n", " ")
    return [shlex.split(re.split("[&|]", found)[0]) for found in CALL.findall(text)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.document}:{command.line}")
def test_tasks_and_options_exist(command: Command) -> None:
    """Every task and every option that a document names is one of the program's."""
    for task, *words in calls(command):
        assert task in TASKS
        known = {option.flag for option in options_of(task)}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known
