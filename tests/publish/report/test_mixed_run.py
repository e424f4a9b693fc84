"""What page and card tell of a run on several datasets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import short_run
from runyoro_ssl.dataset.layout import REPORT, TRAIN
from runyoro_ssl.dataset.material import describe_together
from runyoro_ssl.model.source import RESULT_FILE
from runyoro_ssl.publish.card import CARD, write_model_card
from runyoro_ssl.publish.facts import read_facts
from runyoro_ssl.publish.report.found import find_run
from runyoro_ssl.publish.report.sources import HEADER, picture_of_sources, rows_of_sources
from runyoro_ssl.publish.report.write import write_report
from support.pages import text_of
from support.trainer import run


@pytest.fixture(scope="module")
def mixed(dataset: Path, donor: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a target and a replay, whose folder's name is somebody's."""
    folder = tmp_path_factory.mktemp("models") / "mixed"
    sources = f'train.sources=[{{path="{dataset}"}}, {{path="{donor}", name="akiiki", role="replay", share=0.25}}]'
    run(short_run(dataset, tiny_model, folder, sources, "train.max_steps=8", "train.eval_steps=4"))
    return folder


def test_page_shows_each_source(mixed: Path) -> None:
    """How much was heard of it, and its held-out loss before and now, as a table and as curves beside each other."""
    found = find_run(mixed)
    assert found is not None
    target, replay = rows_of_sources(found)
    assert len(target) == len(HEADER)
    assert target[:2] == ["dataset", "target"]
    assert replay[:2] == ["akiiki", "replay"]
    assert float(target[2].rstrip(" %")) == pytest.approx(75, abs=8)
    [picture] = picture_of_sources(found)
    assert [name for name, *_ in picture.sources] == ["eval/contrastive_loss", "eval/akiiki/contrastive_loss"]
    text = text_of(write_report(mixed).read_text())
    assert "Loss by source" in text
    assert "together with other sources" in text
    assert "train.sources" not in text


def test_card_tells_of_sources_and_names_nobody(mixed: Path, donor: Path) -> None:
    """Shares and roles, and all recordings; no name and no path."""
    write_model_card(mixed)
    card = (mixed / CARD).read_text()
    result = json.loads((mixed / "result.json").read_text())
    heard = [source["hours_heard"] for source in result["sources"]]
    assert f"Of the {sum(heard):.2f} hours of audio that it heard, {heard[1] / sum(heard):.1%} was" in card
    assert "a replay" in card
    assert "akiiki" not in card
    assert str(donor.parent) not in card
    report = json.loads((donor / REPORT).read_text())
    assert result["material"]["recordings"] == 18 + report["splits"][TRAIN]["recordings"]


def test_licences_of_all_sources_are_added_up(dataset: Path, donor: Path, tmp_path: Path) -> None:
    """Two under one licence are twice as long under it; where one source tells nothing, nothing is told of the rest."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder, source in zip(folders, (dataset, donor), strict=True):
        folder.mkdir()
        report = json.loads((source / REPORT).read_text())
        (folder / REPORT).write_text(json.dumps({**report, "licences": {"cc-by-4.0": report["seconds_kept"]}}))
    together = describe_together(folders)
    assert together is not None
    [[text, seconds]] = together["licences"]
    assert (text, seconds) == ("cc-by-4.0", pytest.approx(together["seconds"]))
    (folders[1] / REPORT).unlink()
    assert describe_together(folders) is None


def test_a_card_of_several_sources_carries_no_licence_of_one_alone(mixed: Path, tmp_path: Path) -> None:
    """Where the sums of all are not known, those of the target do not stand for them."""
    folder = tmp_path / "copy"
    shutil.copytree(mixed, folder)
    result = json.loads((folder / RESULT_FILE).read_text())
    (folder / RESULT_FILE).write_text(json.dumps({**result, "material": None}))
    assert read_facts(folder).material == {}
