"""What is known of a base model before it is loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.model.extractor import load_feature_extractor, load_sampling_rate
from runyoro_ssl.model.source import CONFIG, EXTRACTOR


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sampling_rate": "16000"},
        {"sampling_rate": True},
        {"sampling_rate": 1},
        {"feature_extractor_type": "WhisperFeatureExtractor"},
        {"feature_extractor_type": None},
    ],
)
def test_sampling_rate_is_that_of_the_extractor(tiny_model: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    """What is read from its file is what transformers reads from it; the rest is left to it, with its errors."""
    found = json.loads((tiny_model / EXTRACTOR).read_text())
    (tmp_path / EXTRACTOR).write_text(json.dumps(found | settings))
    shutil.copy(tiny_model / CONFIG, tmp_path / CONFIG)

    def outcome(load: Callable[[str], Any]) -> Any:
        try:
            return load(str(tmp_path))
        except CheckpointError as error:
            return str(error)

    assert outcome(load_sampling_rate) == outcome(lambda name: load_feature_extractor(name).sampling_rate)


def test_sampling_rate_needs_no_transformers(tiny_model: Path) -> None:
    """Preparing recordings does not wait for it."""
    code = (
        "import sys; from runyoro_ssl.model.extractor import load_sampling_rate\n"
        "assert load_sampling_rate(sys.argv[1]) == 16_000\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny_model)], cwd=ROOT, check=True)


def test_caches_that_are_nowhere_are_not_the_models_fault(tiny_model: Path) -> None:
    """Where no library finds a place for its files, the line names that place, and what to set."""
    nowhere = dict.fromkeys(("HOME", "HF_HOME", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TMPDIR"), "/proc/nope")
    doctor = f"doctor --profile cpu-smoke --model-name-or-path {tiny_model}"
    done = subprocess.run(
        [sys.executable, "-m", "runyoro_ssl", *doctor.split()],
        cwd=ROOT,
        env={**os.environ, **nowhere},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error /proc/nope: No such file or directory; a library keeps files there")
    assert "TORCHINDUCTOR_CACHE_DIR" in done.stderr
