"""`invoke smoke` itself: CI runs it whole; here, that its checks can fail."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from runyoro_ssl.commands import smoke
from runyoro_ssl.commands.smoke import _check_learning
from runyoro_ssl.errors import DatasetError, TrainingError

GOOD = {
    "eval/contrastive_loss": 4.2,
    "eval/accuracy": 0.1,
    "eval/hard_perplexity": 30.0,
    "eval/chance_loss": 4.58,
}


def test_learning_passes() -> None:
    """A run that learned is reported in numbers."""
    assert "0.380 below guessing" in _check_learning(GOOD)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"eval/contrastive_loss": 4.6}, "held-out contrastive loss ended at 4.600"),
        ({"eval/contrastive_loss": float("nan")}, "held-out contrastive loss"),
        ({"eval/accuracy": 0.015}, "accuracy ended at 1.50%"),
        ({"eval/hard_perplexity": 2.1}, "codebook collapsed"),
        # A collapsed codebook has few negatives left: a low loss is then no achievement.
        ({"eval/contrastive_loss": 1.0, "eval/chance_loss": 0.9}, "below guessing (0.900)"),
    ],
)
def test_failed_check_is_named(change: dict[str, float], complaint: str) -> None:
    """Each claim, broken, ends the smoke run with its name."""
    with pytest.raises(TrainingError, match="smoke check failed") as caught:
        _check_learning({**GOOD, **change})
    assert complaint in str(caught.value)


def test_work_dir_with_content_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the user's is mixed with the run."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(DatasetError, match="is not empty"):
        smoke.smoke(work_dir=str(folder))


def rows_of(out: str) -> dict[str, str]:
    """The result of each stage in a printed report."""
    rows: dict[str, str] = {}
    for line in (line for line in out.splitlines() if line.count("│") == 4):
        stage, _, result = (cell.strip() for cell in line.split("│")[1:4])
        name = stage or next(reversed(rows))
        rows[name] = f"{rows.get(name, '')} {result}".strip()
    return rows


def test_whole_run_in_miniature(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All stages run and the report is printed; ten steps learn nothing, and the run says so. The folder is its own."""
    monkeypatch.setattr(smoke, "STEPS", 10)
    monkeypatch.setattr(smoke, "NUM_CLIPS", 24)
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    with pytest.raises(TrainingError, match=r"smoke check failed: the (held-out contrastive loss|accuracy) ended at"):
        smoke.smoke(work_dir=str(tmp_path_factory.mktemp("smoke") / "new"))
    rows = rows_of(capfd.readouterr().out)
    assert list(rows)[-7:] == ["synthesise", "manifest", "tiny model", "prepare", "train", "reload", "evaluate"]
    said = r"(no evidence|fits better|hurt): held-out loss [+-]\d\.\d{3} beside the tiny model's"
    assert re.fullmatch(said, rows["evaluate"])
    assert list(here.iterdir()) == []


def test_a_few_recordings_are_enough(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What cannot be told of so few is said, and is no failure of its own."""
    monkeypatch.setattr(smoke, "STEPS", 10)
    (tmp_path / "recordings").mkdir()
    for path in sorted(corpus.glob("voice0/*.wav"))[:6]:
        shutil.copy(path, tmp_path / "recordings")
    with pytest.raises(TrainingError, match="smoke check failed: the"):
        smoke.smoke(audio_dir=str(tmp_path / "recordings"), work_dir=str(tmp_path / "work"))
    assert rows_of(capfd.readouterr().out)["evaluate"] == "not told: too few clips are held out"
