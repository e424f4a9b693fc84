"""The model card: what it says of the base model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runyoro_ssl.publish.card import SHOWN, write_model_card
from runyoro_ssl.resolve import load_config

NUMBERS = {"step": 2.0, **{f"eval/{name}": 1.0 for name, _ in SHOWN}}


def title(model_name_or_path: str, folder: Path) -> str:
    """The card's title, for a run from this model."""
    config = load_config(
        settings=[f"train.output_dir={folder}"], flags={"model": {"model_name_or_path": model_name_or_path}}
    )
    run: Any = SimpleNamespace(
        config=config,
        base_model=model_name_or_path,
        plan=SimpleNamespace(num_samples=(16_000,)),
        extractor=SimpleNamespace(sampling_rate=16_000),
        total_steps=2,
        validations={"first": NUMBERS, "best": NUMBERS},
    )
    write_model_card(run)
    lines = (folder / "README.md").read_text().splitlines()
    return next(line for line in lines if line.startswith("# ")).removeprefix("# ").partition(", adapted")[0]


def test_card_names_what_the_hub_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its id, as long as that is no folder here."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    snapshot = tmp_path / "cache" / "models--facebook--base" / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("1234")
    assert title("facebook/base", tmp_path) == "facebook/base"
    (tmp_path / "facebook" / "base").mkdir(parents=True)
    assert title("facebook/base", tmp_path) == "a local wav2vec 2.0 checkpoint"


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
def test_card_names_no_path_and_no_address(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that is there, nor one that is gone and has the look of a hub id."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert title(name.format(folder=tmp_path), tmp_path) == "a local wav2vec 2.0 checkpoint"
