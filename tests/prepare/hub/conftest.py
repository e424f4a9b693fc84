"""A hub for the tests of this room: the libraries' own code, a double that they ask, and folders that are thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.model.source import hub_reachable
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
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", double.address)
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        monkeypatch.setattr("time.sleep", lambda _: None)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        HfFileSystem.clear_instance_cache()
        hub_reachable.cache_clear()
        yield double
    hub_reachable.cache_clear()


@pytest.fixture
def recordings(corpus: Path) -> list[dict[str, Any]]:
    """Rows of 24 recordings of 2.5 s, by 4 speakers in turn."""
    paths = sorted(corpus.rglob("*.wav"), key=lambda path: (path.name, path.parent.name))
    return [
        {"audio": {"bytes": path.read_bytes(), "path": path.name}, "speaker_id": path.parent.name} for path in paths
    ]


@pytest.fixture
def configured(tiny_model: Path, tmp_path: Path) -> Callable[..., Config]:
    """A function (address, *settings) -> the configuration of a preparation from it."""

    def make(address: str, *settings: str) -> Config:
        return load_config(
            settings=['plugins.filters=["duration"]', "hardware.num_workers=1", *settings],
            flags={
                "model": {"model_name_or_path": str(tiny_model)},
                "prepare": {"manifest_path": address, "output_dir": tmp_path / "dataset"},
            },
        )

    return make
