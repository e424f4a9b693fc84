"""Open speech for donors: what the hub says of it today; and the page of the documents has all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT
from runyoro_ssl.hub.open_speech import OPEN_SPEECH, READ_IN, check_open_speech
from runyoro_ssl.prepare.hub.address import HubAddress
from support.hub_double import Fault, HubDouble

RunTask = Callable[[str], tuple[int, str, str]]


def add(hub: HubDouble, repository: str, licence: str | None = None) -> Path:
    """A dataset with a card that states a licence."""
    folder = hub.folder(repository)
    tags = [] if licence is None else [f"license:{licence}"]
    (folder / "README.md").write_text(f"---\ntags: {tags}\n---\n")
    return folder


def now(repository: str) -> str:
    """What is said of a dataset."""
    return next(row[-1] for row in check_open_speech() if row[0] == repository)


def test_what_the_hub_says_today(hub: HubDouble) -> None:
    """There, with its licence as stated now; gated, with where to accept; gone; nothing is fetched."""
    add(hub, "google/fleurs", "cc-by-4.0")
    add(hub, "google/WaxalNLP")
    add(hub, "Sunbird/salt", "cc-by-sa-4.0")
    hub.gated["Sunbird/salt"] = "log in"
    assert now("google/fleurs") == "there, cc-by-4.0"
    assert now("google/WaxalNLP") == "there, no licence stated"
    assert now("Sunbird/salt").startswith("it is gated: accept its terms at")
    assert "the hub has no such dataset" in now("DigitalUmuganda/Afrivoice_V2")
    assert hub.asked("/resolve/") == []


def test_one_that_fails_does_not_hide_the_others(hub: HubDouble) -> None:
    """A hub in trouble, and one that is not there."""
    add(hub, "google/fleurs", "cc-by-4.0")
    hub.faults.append(Fault("WaxalNLP", status=503))
    assert "trouble (503)" in now("google/WaxalNLP")
    assert now("google/fleurs") == "there, cc-by-4.0"


def test_without_a_network(hub: HubDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said of each, at once."""
    monkeypatch.setattr("runyoro_ssl.hub.open_speech.hub_reachable", lambda: False)
    assert {row[-1] for row in check_open_speech()} == {"the hub cannot be asked now"}
    assert hub.requests == []


def test_doctor_asks_only_when_asked(hub: HubDouble, run_task: RunTask) -> None:
    """By its option."""
    add(hub, "google/fleurs", "cc-by-4.0")
    status, out, err = run_task("doctor --open-speech")
    assert status == 0, err
    assert "google/fleurs" in out
    assert "Open speech" in out
    num_requests = len(hub.requests)
    assert "Open speech" not in run_task("doctor")[1]
    assert len(hub.requests) == num_requests


def test_addresses_are_those_of_the_page() -> None:
    """Which `prepare` understands; and docs/donors.md names each dataset, and when it was read."""
    page = (ROOT / "docs" / "donors.md").read_text(encoding="utf-8")
    assert READ_IN in page
    for one in OPEN_SPEECH:
        assert f"`{one.repository}`" in page, one.repository
        if one.address:
            assert HubAddress.parse(one.address).name == one.repository
            assert one.address in page
