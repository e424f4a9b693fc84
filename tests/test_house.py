"""The house: light modules stay light, the step needs little, files stay small. Who imports whom: `lint-imports`."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from conftest import ROOT

PACKAGE = ROOT / "runyoro_ssl"
LIGHT = """
    errors config resolve logs setting plugin.spec plugin.manager commands.tasks commands.given audio.measures
    prepare.clips.make prepare.scan hookspecs __main__
"""
STEP = """
    model.masking model.load model.forward model.objective model.memory batches.build batches.plan batches.loader
    batches.forward evaluate.metrics train.optim train.step bench.run check.run
"""
ABSENT = ("pydantic", "datasets", "soundfile", "structlog", "invoke", "soxr", "pluggy", "rich", "psutil")


def sources() -> list[Path]:
    """Every module of the package, and the tasks."""
    found = sorted(PACKAGE.rglob("*.py"))
    assert found
    return [*found, ROOT / "tasks.py"]


@pytest.mark.parametrize("module", LIGHT.split())
def test_light_modules_import_no_torch(module: str) -> None:
    """`invoke --list` and the decoding workers must not wait for torch."""
    code = f"import sys, runyoro_ssl.{module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_training_step_needs_torch_transformers_and_accelerate_only() -> None:
    """On a bare machine, the step, its bench and its check still import."""
    code = f"import sys\nfor name in {ABSENT}: sys.modules[name] = None\n"
    code += "\n".join(f"import runyoro_ssl.{module}" for module in STEP.split())
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_files_stay_small() -> None:
    """A file over 300 lines has two reasons to change."""
    long = {path.name: len(path.read_text().splitlines()) for path in sources()}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}


def test_no_class_name_stands_for_two_things() -> None:
    """A reader who met one takes the other for it. An alias of a type is as good as a class; a TypeVar is not."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        for node in ast.parse(path.read_text()).body:
            for name in names_of_types(node):
                places[name].append(path.relative_to(ROOT).as_posix())
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def names_of_types(node: ast.stmt) -> list[str]:
    """The class, or the aliases in CamelCase, that a statement of a module defines."""
    if isinstance(node, ast.ClassDef):
        return [node.name]
    if not isinstance(node, ast.Assign) or "TypeVar" in ast.unparse(node.value):
        return []
    names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if re.fullmatch(r"_?([A-Z][a-z]+)+", name)]


def test_every_room_says_what_it_is_for() -> None:
    """In one sentence, at the top of its `__init__.py`."""
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(ROOT)} has no docstring"
