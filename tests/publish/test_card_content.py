"""What a card says: metadata of the hub, recipe, measures with intervals, licences; and whose card it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, ModelCardData
from structlog.testing import capture_logs

from runyoro_ssl.evaluate.record import (
    Evaluation,
    Interval,
    Judgement,
    KeepableModel,
    ModelMeasure,
    Speech,
    write_evaluation,
)
from runyoro_ssl.publish.card import CARD, is_changed, make_card, write_model_card
from runyoro_ssl.publish.languages import CODES, code_of
from runyoro_ssl.publish.metadata import find_fault
from support.hub_double import HubDouble
from support.runs import finished

XLSR, COMMIT = "facebook/wav2vec2-xls-r-300m", "12ab" * 10
OF_HUB = {
    "seconds": 7200.0,
    "recordings": 12,
    "speakers": 3,
    "licences": [["CC BY 4.0", 3600.0], ["as agreed with Akiiki", 1800.0]],
    "hub_dataset": "org/voices",
}
EVALUATION = Evaluation(
    base="xls-r",
    adapted="run",
    speech=Speech(60, 600.0, 20, 14, "speakers", 14),
    verdict=Judgement("fits better", "It fits your speech better.", ["The loss fell."], ["20 minutes of text."]),
    measures=[
        ModelMeasure(
            key="fit.accuracy",
            words="accuracy",
            family="fit",
            unit="%",
            better="higher",
            values={"base": 0.22, "adapted": 0.27, "random": 0.01},
            intervals={"adapted": Interval(0.26, 0.28)},
            difference=0.05,
            difference_interval=Interval(0.04, 0.06),
            num_groups=7,
        ),
        ModelMeasure("change.cka", "likeness", "change", "", "neither", {"log-mel": 0.5}),
    ],
)


@pytest.fixture
def hub_asked(hub: HubDouble) -> Iterator[HubDouble]:
    """The hub, which must not be asked."""
    yield hub
    assert hub.requests == []


def data_of(text: str) -> dict[str, Any]:
    """The metadata of a card, as the hub's own library reads it."""
    return dict(ModelCard(text).data.to_dict())  # type: ignore[no-untyped-call] # it has no annotations


@pytest.mark.usefixtures("hub_asked")
def test_metadata(tmp_path: Path) -> None:
    """Every field that the hub knows, of what is known; it reads its own card without a fault."""
    text = make_card(finished(tmp_path / "run", XLSR, COMMIT, material=OF_HUB))
    data = data_of(text)
    assert data["license"] == "apache-2.0"
    assert data["language"] == "nyo"
    assert data["base_model"] == XLSR
    assert data["base_model_relation"] == "finetune"
    assert data["datasets"] == ["org/voices"]
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "feature-extraction")
    assert "runyoro_ssl" in data["tags"]
    (model,) = data["model-index"]
    measured = {one["type"]: one["value"] for one in model["results"][0]["metrics"]}
    assert measured == {"contrastive_loss": 1.0, "accuracy": 0.5, "hard_perplexity": 9.0}
    assert find_fault(ModelCard(text).data) is None


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    """No name of a base model that is a folder, no licence, no language that has no code, no dataset."""
    folder = finished(tmp_path / "run", str(tmp_path / "akiiki" / "base"), settings=("train.language=Ururimi",))
    text = make_card(folder)
    data = data_of(text)
    assert data.keys() == {"library_name", "pipeline_tag", "tags", "model-index"}
    assert "Ururimi" in text
    assert str(tmp_path) not in text
    assert "akiiki" not in text
    assert "its owner has to decide, as the licence of the base model is unknown: look it up" in text


def test_licences_and_consent_are_said(tmp_path: Path) -> None:
    """In hours; what is no licence is not quoted, for it may name somebody."""
    text = make_card(finished(tmp_path / "run", "facebook/mms-300m", COMMIT, material=OF_HUB))
    assert data_of(text)["license"] == "cc-by-nc-4.0"
    assert "Not for commercial use, as cc-by-nc-4.0 asks." in text
    assert "1.00 h cc-by-4.0" in text
    assert "0.50 h under terms that are no licence of the hub's list" in text
    assert "0.50 h without a stated licence" in text
    assert "12 recordings by 3 speakers" in text
    assert "Akiiki" not in text
    assert "Whether the speakers have agreed" in text


def test_recipe_is_what_differs(tmp_path: Path) -> None:
    """Numbers and words of the schema; no names of others' plugins, no options of theirs, no places."""
    settings = (
        "train.adam_beta2=0.95",
        "adapter.kind=lora",
        'plugins.augmentations=["noise", "akiiki_room"]',
        "plugins.options.noise.probability=0.25",
        "plugins.options.noise.folder=/home/akiiki/noise",
        "plugins.options.akiiki_room.size=3",
    )
    folder = finished(tmp_path / "run", XLSR, COMMIT, settings=settings)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "parameters": 100, "trained_parameters": 2}))
    text = make_card(folder)
    assert "| `train.adam_beta2` | 0.95 | 0.98 |" in text
    assert "| `adapter.kind` | lora | none |" in text
    assert "| `plugins.augmentations` | noise, a plugin of their own | none |" in text
    assert "`plugins.options.noise.probability` | 0.25" in text
    assert "akiiki" not in text
    assert "With the defaults" in make_card(finished(tmp_path / "usual", XLSR, COMMIT))


def test_evaluation_is_shown_with_its_intervals(tmp_path: Path) -> None:
    """And its verdict, in its words; in the metadata, too. Not what is older than the model."""
    folder = finished(tmp_path / "run", XLSR, COMMIT)
    write_evaluation(EVALUATION, folder)
    text = make_card(folder)
    assert "**Fits better.** It fits your speech better." in text
    row = "| accuracy, % (higher is better) | 22.0 | 27.0 (26.0 to 28.0) | +5.0 (+4.0 to +6.0) |"
    assert row in text
    assert "Intervals are of 95 %, over 7 speakers." in text
    assert "likeness" not in text
    (model,) = data_of(text)["model-index"]
    (metric,) = model["results"][0]["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", 27.0)
    assert metric["name"] == "accuracy, % (95 %: 26 to 28)"
    old = (folder / "result.json").stat().st_mtime - 3600
    os.utime(folder / "evaluation.json", (old, old))
    assert row not in make_card(folder)


def test_a_model_that_was_chosen_has_its_own_numbers(tmp_path: Path) -> None:
    """In the text, beside those of the base and of the run's final model; and in the metadata. Why it was chosen."""
    mixture = KeepableModel("50 % adapted, 50 % base", "interpolation", None, {"fit.accuracy": 0.29}, "fits better")
    evaluation = replace(EVALUATION, candidates=[mixture], why_kept="beside adapted: the loss fell more")
    text = make_card(finished(tmp_path / "run", XLSR, COMMIT), which=mixture.name, evaluation=evaluation)
    assert f"this is: {mixture.name}." in text
    assert "Beside adapted: the loss fell more." in text
    assert "| accuracy, % (higher is better) | 22.0 | 27.0 | 29.0 |" in text
    (model,) = data_of(text)["model-index"]
    (metric,) = model["results"][0]["metrics"]
    assert (metric["name"], metric["value"]) == ("accuracy, %", 29.0)


def test_changed_card_is_kept(tmp_path: Path) -> None:
    """And the log says so; one that nobody touched is written anew."""
    folder = finished(tmp_path / "run", XLSR, COMMIT)
    card = folder / CARD
    write_model_card(folder)
    assert not is_changed(card)
    first = card.read_text()
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "train_hours": 7.25}))
    write_model_card(folder)
    assert "7.25 hours" in card.read_text()
    for text in (first.replace("## Limits", "## Our limits"), "# Mine\n", f"{first}More.\n"):
        card.write_text(text)
        assert is_changed(card)
        with capture_logs() as logs:
            write_model_card(folder)
        assert [one["event"] for one in logs] == ["card_kept"]
        assert card.read_text() == text
    card.unlink()
    assert not is_changed(card)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"license": "my-own"}, 'license is "my-own"'),
        ({"license": "other"}, "license_name"),
        ({"language": "Runyoro"}, 'language is "Runyoro"'),
        ({"language": ["nyo", "x"]}, 'language is "x"'),
        ({"base_model": "/home/akiiki/base"}, "base_model is"),
        ({"base_model_relation": "child"}, "adapter, merge, quantized, finetune"),
        ({"datasets": ["a b"]}, 'datasets is "a b"'),
        ({"pipeline_tag": "Feature Extraction"}, "pipeline_tag"),
        ({"tags": "speech"}, "tags is"),
    ],
    ids=str,
)
def test_metadata_that_the_hub_would_refuse(fields: dict[str, Any], said: str) -> None:
    """Whoever wrote it: the field, the value, what is accepted."""
    data = ModelCardData()
    for name, value in fields.items():
        data[name] = value
    assert said in str(find_fault(data))


def test_codes_of_languages() -> None:
    """By name or code; nothing is guessed."""
    assert {code_of(name) for name in ("Runyoro", "nyo", " runyoro ", "nyo-UG")} == {"nyo"}
    assert code_of("luo") == "luo"
    assert code_of("Ururimi") is None
    assert all(len(code) in (2, 3) for code in CODES.values())
