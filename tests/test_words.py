"""The same thing has the same name everywhere: messages, tables, help and documents keep to README's glossary."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from runyoro_ssl.commands.options import TASKS, options_of

INSTEAD = {
    r"audio files?|sound files?|utterances?": "recording, or clip",
    r"data ?sets? split|val(idation)? set|dev set|held-out set": "held-out speech",
    r"data set": "dataset",
    r"director(y|ies)": "folder",
    r"mini-?batch(es)?": "micro-batch",
    r"iterations?": "step",
    r"(?<!\.)\bupdates? (is|was|were|gives?|in a row)\b|this update|per update|many updates": "step",
    r"hyper-?parameters?": "setting",
    r"nothing yet": "what can be done",
}
"""Words that are not ours, and what stands for them."""
DOCUMENTS = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
OTHERS = {"kaldi.py"}
"""Where a word is somebody else's: Kaldi's files have utterances."""


def messages(file: Path) -> Iterator[str]:
    """The strings of a module that are more than a word, and no docstrings: what may be said to a user."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


@pytest.mark.parametrize("wrong", INSTEAD, ids=INSTEAD.values())
def test_nobody_else_s_words(wrong: str) -> None:
    """Neither in what is said, nor in help, nor in README and docs."""
    pattern = re.compile(rf"\b(?:{wrong})", re.IGNORECASE)
    found = [
        f"{file.relative_to(ROOT)}: {text}"
        for file in sorted((ROOT / "runyoro_ssl").rglob("*.py"))
        if file.name not in OTHERS
        for text in messages(file)
        if " " in text.strip() and pattern.search(text)
    ]
    found += [f"{task} {option.flag}" for task in TASKS for option in options_of(task) if pattern.search(option.help)]
    for name in DOCUMENTS:
        text = re.sub(r"```.*?```|`[^`]*`", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
        found += [f"{name}: {line}" for line in text.splitlines() if pattern.search(line)]
    assert found == []
