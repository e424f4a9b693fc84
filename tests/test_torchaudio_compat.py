"""A torchaudio that somebody has installed stops nothing here, whatever build of torch there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_broken_extension_is_replaced(tmp_path: Path) -> None:
    """When importing the extension raises OSError, the rest of the package still loads, and the form is named."""
    package = tmp_path / "torchaudio"
    (package / "_extension").mkdir(parents=True)
    (package / "__init__.py").write_text("from . import _extension\nfrom . import functional\n")
    (package / "functional.py").write_text("from torchaudio._extension import fail_if_no_align\nanswer = 42\n")
    (package / "_extension" / "__init__.py").write_text("raise OSError('libc10_cuda.so: cannot open')\n")
    code = (
        "from runyoro_ssl.torchaudio_compat import import_torchaudio, torchaudio_form\n"
        "assert import_torchaudio().functional.answer == 42\n"
        "assert torchaudio_form() == 'without its extension'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_transformers_imports_after_it() -> None:
    """In a fresh process, `import_transformers` gives a transformers whose speech models import."""
    code = (
        "from runyoro_ssl.torchaudio_compat import import_transformers\n"
        "import_transformers()\n"
        "from transformers import Wav2Vec2ForPreTraining\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
