"""The model card: made from a run's folder alone; what it says of the base model, and of guessing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.errors import EvaluationError, TrainingError
from runyoro_ssl.publish.card import write_model_card
from support.disks import PAGE_BYTES, resize, small_disk
from support.runs import finished
from support.trainer import run


def title(base_model: str, folder: Path, revision: str | None = None) -> str:
    """The card's title, for a run from this model."""
    write_model_card(finished(folder / "run", base_model, revision))
    lines = (folder / "run" / "README.md").read_text().splitlines()
    return next(line for line in lines if line.startswith("# ")).removeprefix("# ").partition(", adapted")[0]


def test_card_names_what_the_hub_gave(tmp_path: Path) -> None:
    """By its name and its commit, which a run has of the hub's models only."""
    assert title("facebook/base", tmp_path, revision="12ab" * 10) == "facebook/base"
    assert f"facebook/base at revision `{'12ab' * 10}`" in (tmp_path / "run" / "README.md").read_text()
    assert title("facebook/base", tmp_path, revision=None) == "a local wav2vec 2.0 checkpoint"


@pytest.mark.parametrize(
    "name",
    [
        "{folder}",
        "{folder}/gone",
        "akiiki/base",
        "models/akiiki/base",
        "~/base",
        "https://me:word@host/base",
        "base@x",
        "",
    ],
)
def test_card_names_no_path_and_no_address(name: str, tmp_path: Path) -> None:
    """Not one that is there, nor one that is gone and has the look of a hub id."""
    assert title(name.format(folder=tmp_path), tmp_path) == "a local wav2vec 2.0 checkpoint"


def test_card_says_what_guessing_reaches(tmp_path: Path) -> None:
    """By the model's own number of negatives."""
    write_model_card(finished(tmp_path / "usual", ""))
    card = (tmp_path / "usual" / "README.md").read_text()
    assert "by guessing (4.615 where" in card
    assert "accuracy (guessing: 1 of 101)" in card
    write_model_card(finished(tmp_path / "few", "", num_negatives=9))
    card = (tmp_path / "few" / "README.md").read_text()
    assert "by guessing (2.303 where" in card
    assert "accuracy (guessing: 1 of 10)" in card


def test_card_of_a_run(train_config: Callable[..., Config], tmp_path: Path) -> None:
    """Its own numbers, from its folder; a run that was killed before its card gets the same one when resumed."""
    config = train_config("run", "train.max_steps=2")
    result = run(config)
    card = result.output_dir / "README.md"
    assert not card.exists()
    write_model_card(result.output_dir)
    text = card.read_text()
    first, best = result.first["eval/contrastive_loss"], result.best["eval/contrastive_loss"]
    assert f"| {first:.4f} | {best:.4f} |" in text
    assert f"this model, step {result.best['step']}" in text
    assert "2 optimizer steps, learning rate 5e-05" in text
    assert not any(str(part) in text for part in (tmp_path, tmp_path.name, result.output_dir.name + "/"))
    card.unlink()
    again = train_config("run", "train.max_steps=2", "train.resume_from_checkpoint=last")
    write_model_card(run(again).output_dir)
    assert card.read_text() == text


def test_run_that_has_not_finished_has_no_card(tmp_path: Path) -> None:
    """One line, and what to do."""
    with pytest.raises(TrainingError, match=r"no result.json.*--resume-from-checkpoint last"):
        write_model_card(tmp_path)


def test_full_disk_costs_the_card_alone(tmp_path: Path) -> None:
    """One line; with room, it is written."""
    place = tmp_path / "disk"
    place.mkdir()
    with small_disk(place):
        folder = finished(place / "run", "")
        before = {path.name for path in folder.iterdir()}
        used = sum(-(-path.stat().st_size // PAGE_BYTES) * PAGE_BYTES for path in folder.iterdir())
        resize(place, used)
        with pytest.raises(TrainingError, match=r"model card could not be written .*make room"):
            write_model_card(folder)
        resize(place, used + 4 * PAGE_BYTES)
        write_model_card(folder)
        assert {path.name for path in folder.iterdir()} == before | {"README.md"}


def test_an_evaluation_of_brackets_is_named(tmp_path: Path) -> None:
    """As any other that cannot be read."""
    folder = finished(tmp_path / "run", "")
    (folder / "evaluation.json").write_text("[" * 100_000)
    with pytest.raises(EvaluationError, match=r"evaluation.json: cannot be read .*; remove it"):
        write_model_card(folder)


@pytest.mark.parametrize("name", ["run.toml", "result.json"])
@pytest.mark.parametrize("content", [b"{nope", b"\xff\x00", b"[" * 100_000, b"", b"train = 3", b"[train]"])
def test_damaged_files_of_a_run_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    """In one line, with what to do."""
    folder = finished(tmp_path / "run", "")
    (folder / name).write_bytes(content)
    with pytest.raises(TrainingError, match=f"{name}: is damaged .*; remove it, and run train once more") as raised:
        write_model_card(folder)
    assert "\n" not in str(raised.value)
