"""Fixtures: a double of the hub that the libraries' own code asks, and somebody who visits it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl.audio.decode import AudioInfo, probe
from runyoro_ssl.config import Config
from runyoro_ssl.errors import AudioError, ManifestError
from runyoro_ssl.hub.fetch import _ask
from runyoro_ssl.hub.place import hub_reachable
from runyoro_ssl.prepare.hub.fetch import local_manifest
from runyoro_ssl.resolve import load_config
from support.hub_double import HubDouble, hub_double


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubDouble]:
    """A hub without a dataset, for a person who has no token and no patience."""
    from huggingface_hub import HfFileSystem, constants

    with hub_double(tmp_path / "hub") as double:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, double.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", double.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol that the double does not speak
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # as every task does
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", double.address)
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        monkeypatch.setattr("time.sleep", lambda _: None)
        # A worker of its own for each few recordings would take longer than all else here.
        monkeypatch.setattr("runyoro_ssl.prepare.hub.fetch.probe_all", lambda files, _: map(_measure, files))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        HfFileSystem.clear_instance_cache()
        hub_reachable.cache_clear()
        _ask.cache_clear()
        yield double
    hub_reachable.cache_clear()
    _ask.cache_clear()


def _measure(path: Path) -> tuple[Path, AudioInfo | AudioError]:
    try:
        return path, probe(path)
    except AudioError as error:
        return path, error


@pytest.fixture
def recordings(corpus: Path) -> list[dict[str, Any]]:
    """Rows of 24 recordings of 2.5 s, by 4 speakers in turn."""
    paths = sorted(corpus.rglob("*.wav"), key=lambda path: (path.name, path.parent.name))
    return [
        {"audio": {"bytes": path.read_bytes(), "path": path.name}, "speaker_id": path.parent.name} for path in paths
    ]


@dataclass(frozen=True)
class Visitor:
    """Somebody who prepares datasets of the hub."""

    model: Path
    folder: Path

    def configured(self, address: str, *settings: str) -> Config:
        """The configuration of a preparation from an address, into `dataset` of the folder."""
        return load_config(
            settings=['plugins.filters=["duration"]', "hardware.num_workers=1", *settings],
            flags={
                "model": {"model_name_or_path": str(self.model)},
                "prepare": {"manifest_path": address, "output_dir": self.folder / "dataset"},
            },
        )

    def command(self, address: str) -> str:
        """The command line of a preparation from an address, into `dataset` of the folder."""
        return f"prepare --manifest-path {address} --output-dir {self.folder}/dataset --model-name-or-path {self.model}"

    def fetch(self, address: str, *settings: str, into: str = "downloads") -> Path:
        """The manifest of what was fetched."""
        return local_manifest(self.configured(address, *settings), self.folder / into)

    def complaint(self, address: str, *settings: str, into: str = "downloads") -> str:
        """What is said of a dataset that cannot be had: one line, that begins with its address."""
        with pytest.raises(ManifestError) as raised:
            self.fetch(address, *settings, into=into)
        said = str(raised.value)
        assert "\n" not in said
        assert said.startswith(address.partition("?")[0])
        return said


@pytest.fixture
def visitor(hub: HubDouble, tiny_model: Path, tmp_path: Path) -> Visitor:
    """A visitor of the hub, with a folder."""
    assert hub.address
    return Visitor(tiny_model, tmp_path / "home")
