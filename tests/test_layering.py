"""The house: a row imports only from rows above it, and the light modules stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

ROWS = [
    {"__init__", "errors", "redaction"},
    {"config", "logs", "hookspecs", "torchaudio_compat", "measures", "vad"},
    {"resolve"},
    {"command", "plugins", "plugin_sources", "plugin_versions", "builtins", "devices", "synth"},
    {"prepare"},
    {"train"},
    {"doctor", "smoke", "bench"},
    {"cli"},
    {"tasks"},
]
"""`tasks` is tasks.py and `train.__main__`, which parse options and call."""
PACKAGE = ROOT / "runyoro_ssl"


def row_of(name: str) -> int:
    """The row of a top-level name of the package."""
    return next(number for number, row in enumerate(ROWS) if name in row)


def imported(path: Path) -> set[str]:
    """Top-level names of the package that a file imports, anywhere in it, but for type checking."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "runyoro_ssl":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names if _is_module(alias.name)}
        if isinstance(node, ast.Import):
            paths = [alias.name.split(".") for alias in node.names]
            names |= {parts[1] for parts in paths if parts[0] == "runyoro_ssl" and len(parts) > 1}
    return names


def _is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()


def sources() -> list[Path]:
    """Every module of the package; an empty list would pass all that is asked of each."""
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 100
    return found


def test_imports_are_found() -> None:
    """Each name of the house is imported by somebody, but for what is started."""
    assert set().union(*map(imported, sources())) == set().union(*ROWS) - {"__init__", "tasks"}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_row_imports_only_from_above(path: Path) -> None:
    """Also inside functions; within a row, only a folder imports from itself."""
    entry = path.name == "__main__.py"
    own = "tasks" if entry else path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imported(path):
        allowed = row_of(name) < row_of(own) or name == own or {name, own} <= ROWS[3]
        assert allowed, f"{path.name} ({own}) imports {name}"


@pytest.mark.parametrize(
    "module",
    ["errors", "config", "logs", "hookspecs", "measures", "resolve", "plugins", "cli", "prepare.clips", "prepare.scan"],
)
def test_light_modules_import_no_torch(module: str) -> None:
    """`invoke --list` and the decoding workers must not wait for torch."""
    code = f"import sys, runyoro_ssl.{module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    "module", ["masking", "model", "objective", "optim", "batches", "plan", "metrics", "step", "memory"]
)
def test_training_step_needs_torch_and_transformers_only(module: str) -> None:
    """On a bare machine without pydantic, datasets, soundfile, structlog or invoke, the step still imports."""
    code = (
        "import sys\n"
        "for name in ('pydantic', 'datasets', 'soundfile', 'structlog', 'invoke', 'soxr'): sys.modules[name] = None\n"
        f"import runyoro_ssl.train.{module}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_files_stay_small() -> None:
    """A file over 300 lines has two reasons to change."""
    long = {path.name: len(path.read_text().splitlines()) for path in [*sources(), ROOT / "tasks.py"]}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}
