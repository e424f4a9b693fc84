"""The map, runyoro_ssl/README.md, names what exists, and leaves out no file; CONTRIBUTING.md names what exists."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

PACKAGE = ROOT / "runyoro_ssl"
MAP = PACKAGE / "README.md"
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
DOCUMENTS = (
    *(MAP, ROOT / "CONTRIBUTING.md", ROOT / "README.md", ROOT / "plugins" / "README.md", NOTEBOOK),
    *sorted((ROOT / "docs").glob("*.md")),
)
LINK = re.compile(r"\[[^\]]+\]\((?!https?:|#)([^)#]+)")
ANCHOR = re.compile(r"\]\((?!https?:)([^)#]*)#([^)]+)\)")
CODE_BLOCK = re.compile(r"```.*?```", re.DOTALL)
BLOCK = re.compile(r"^(?=\||\d+\. |- )|\n\s*\n", re.MULTILINE)
"""Where a row, an item or a paragraph begins."""
CALL = re.compile(r"`(\w+(?:\.\w+)?)\(\)`")
NAME = re.compile(r"`(?!None`)([A-Z]\w+)`")
"""A class or a constant."""


def linked(text: str, document: Path) -> list[Path]:
    """The files and folders that a text links to."""
    return [(document.parent / target).resolve() for target in LINK.findall(text)]


def defined_in(file: Path) -> set[str]:
    """Functions, classes, methods as `Class.method`, and constants that a module defines at its top."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {
                node.name,
                *(f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)),
            }
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def named(document: Path) -> Iterator[tuple[str, list[Path]]]:
    """(name, modules linked beside it) of every `function()`, `Class` and `CONSTANT` in one row, item or paragraph."""
    for block in BLOCK.split(CODE_BLOCK.sub("", document.read_text(encoding="utf-8"))):
        modules = [path for path in linked(block, document) if path.suffix == ".py"]
        if modules:
            yield from ((name, modules) for name in [*CALL.findall(block), *NAME.findall(block)])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    """To files and folders of this repository, and to headings of the page, or of another."""
    text = document.read_text(encoding="utf-8")
    assert [path.relative_to(ROOT).as_posix() for path in linked(text, document) if not path.exists()] == []
    lost = [f"{target}#{anchor}" for target, anchor in ANCHOR.findall(text) if anchor not in anchors(document, target)]
    assert lost == []


def anchors(document: Path, target: str) -> set[str]:
    """Of the headings of a document that another links to; of its own, if the target is empty."""
    text = (document.parent / target if target else document).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS[:2], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_are_defined_in_a_file_that_is_linked_beside_them(document: Path) -> None:
    """In the same row, item or paragraph: a reader who follows the link finds what was named."""
    names = list(named(document))
    assert len(names) > 10
    there = [(name, [path for path in modules if path.exists()]) for name, modules in names]
    assert [name for name, modules in there if not any(name in defined_in(path) for path in modules)] == []


def test_every_file_is_on_the_map() -> None:
    """All but `__init__.py` of a room and the map itself; every room has a heading, or a link of its own."""
    shown = set(linked(MAP.read_text(encoding="utf-8"), MAP))
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    missing = {path for path in files - shown - {MAP} if path.name != "__init__.py"}
    assert sorted(path.relative_to(PACKAGE).as_posix() for path in missing) == []
    headings = re.findall(r"^### (\w+)/$", MAP.read_text(encoding="utf-8"), re.MULTILINE)
    rooms = {path.parent for path in PACKAGE.rglob("__init__.py")} - {PACKAGE}
    assert rooms == {PACKAGE / name for name in headings} | {path for path in shown if path.is_dir()}


def test_floors_are_those_that_are_checked() -> None:
    """The list of the map is that of import-linter's contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    (listed,) = re.findall(r"```text\n(.*?)```", MAP.read_text(encoding="utf-8"), re.DOTALL)
    assert listed.split("\n")[:-1] == layers
