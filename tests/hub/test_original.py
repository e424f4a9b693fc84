"""Omnilingual's models from a double of the hub: one file of fairseq2, fetched once, converted once, beside itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from runyoro_ssl.commands.foreign import as_folder
from runyoro_ssl.errors import CheckpointError, ConvertError
from runyoro_ssl.foreign import shape
from runyoro_ssl.foreign.names import FAIRSEQ2
from runyoro_ssl.hub.fetch import _ask
from runyoro_ssl.hub.known import KNOWN, SHORT_NAMES
from runyoro_ssl.hub.place import hub_reachable, repository_folder
from runyoro_ssl.model.extractor import load_sampling_rate
from support.foreign import write_foreign
from support.hub_double import HubDouble

RunTask = Callable[[str], tuple[int, str, str]]
OMNI, SHORT = "facebook/omniASR-W2V-300M", "omniasr-w2v-300m"
FILE = "omniASR-W2V-300M.pt"


@pytest.fixture
def omni(hub: HubDouble, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> HubDouble:
    """The hub with such a model in miniature: a README and the file. Its width is taken for a published one."""
    folder = hub.folder(OMNI, kind="models")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    write_foreign(tiny_model, folder / FILE, FAIRSEQ2)
    monkeypatch.setattr(shape, "HEADS", {32: 2})
    return hub


@pytest.mark.parametrize("name", [SHORT, OMNI, SHORT.upper()])
def test_it_is_fetched_and_converted_once(omni: HubDouble, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its short name, too; later nothing is asked, and offline it is there."""
    folder = as_folder(name)
    assert Path(folder).is_relative_to(repository_folder(OMNI) / "snapshots")
    assert (Path(folder) / "model.safetensors").is_file()
    sent = omni.sent(FILE)
    assert sent > 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_reachable.cache_clear()
    _ask.cache_clear()
    assert as_folder(name) == folder
    assert omni.sent(FILE) == sent


def test_preparing_fetches_nothing(omni: HubDouble) -> None:
    """All that it asks is the sampling rate, which is known."""
    assert {load_sampling_rate(name) for name in (SHORT, OMNI)} == {16_000}
    assert not omni.requests


def test_training_from_its_name(
    omni: HubDouble, run_task: RunTask, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is like any other; the second call hears nothing anew."""
    monkeypatch.setattr("runyoro_ssl.evaluate.both_ways.MIN_BELOW_GUESSING", -100.0)
    train = f"train --profile cpu-smoke --model-name-or-path {SHORT} --processed-dataset-path {dataset} --max-steps 1"
    status, _, err = run_task(f"{train} --output-dir {tmp_path}/run")
    assert status == 0, err
    assert "model_converted" in err
    assert "model_heard" in err
    assert omni.sent(FILE) > 0
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"base_model: {OMNI}\n" in card
    assert "license: apache-2.0\n" in card
    assert str(tmp_path) not in card


def test_doctor_fetches_it_when_it_is_told(omni: HubDouble, run_task: RunTask) -> None:
    """Else it says how; with it here, it says what training takes."""
    doctor = f"doctor --profile cpu-smoke --model-name-or-path {SHORT}"
    status, _, err = run_task(doctor)
    assert status == 1
    assert "is not here; `invoke doctor --fetch --model-name-or-path facebook/omniASR-W2V-300M` fetches it" in err
    assert not omni.sent(FILE)
    status, out, err = run_task(f"{doctor} --fetch")
    assert status == 0, err
    assert "Memory of training" in out
    status, _, err = run_task(doctor)
    assert status == 0, err


def test_a_hub_without_the_file(hub: HubDouble, tiny_model: Path) -> None:
    """What is lacking is named."""
    shutil.copytree(tiny_model, hub.folder(OMNI, kind="models"), dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match=r"the hub has no file ending in \.pt of it"):
        as_folder(SHORT)


def test_what_is_no_such_model_passes(tiny_model: Path, tmp_path: Path) -> None:
    """Folders, and names of other models, as they were given; a file that is not there is named."""
    for name in (str(tiny_model), "facebook/wav2vec2-xls-r-300m"):
        assert as_folder(name) == name
    with pytest.raises(ConvertError, match=r"nowhere\.pt: no such file"):
        as_folder(str(tmp_path / "nowhere.pt"))


def test_short_names_are_of_known_models() -> None:
    """And their sizes are those of their weights in fp32."""
    assert set(SHORT_NAMES) == {"omniasr-w2v-300m", "omniasr-w2v-1b", "omniasr-w2v-3b"}
    assert [KNOWN[name].num_bytes for name in SHORT_NAMES.values()] == [
        4 * weights for weights in (317_390_592, 965_514_752, 3_064_124_672)
    ]
