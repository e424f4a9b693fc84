"""What the output folder holds already: used, extended, refused with the reason, or replaced after saying why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runyoro_ssl.config import Config
from runyoro_ssl.dataset.layout import CLIPS, FINGERPRINT
from runyoro_ssl.dataset.read import Clips, load_splits, read_fingerprint
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.clips import CLIPS_VERSION
from runyoro_ssl.prepare.pipeline import Prepared, prepare
from runyoro_ssl.prepare.shards import origin
from runyoro_ssl.prepare.shards.store import SETTINGS
from runyoro_ssl.resolve import load_config

MakeConfig = Callable[..., Config]


@pytest.fixture
def prepared(dataset: Path, tmp_path: Path) -> Path:
    """The prepared corpus with its shards, a copy."""
    shutil.copytree(dataset.parent, tmp_path / "prepared")
    return tmp_path / "prepared" / dataset.name


@pytest.fixture
def config_of(prepared: Path, corpus_manifest: Path, tiny_model: Path) -> MakeConfig:
    """A function (*settings) -> the configuration by which it was prepared, with other settings."""

    def make(*settings: str) -> Config:
        return load_config(
            profile="cpu-smoke",
            settings=[
                "hardware.num_workers=1",
                f"model.model_name_or_path={tiny_model}",
                f"prepare.manifest_path={corpus_manifest}",
                f"prepare.output_dir={prepared}",
                "prepare.validation_share=0.2",
                'plugins.filters=["duration", "silence", "clipping"]',
                *settings,
            ],
        )

    return make


def run(config: Config, *, overwrite: bool = False) -> Prepared:
    """`invoke prepare`."""
    return prepare(config, load_plugins(config), overwrite=overwrite)


def make_old(prepared: Path) -> None:
    """Rewrite a fingerprint, and the settings of shards, as versions without CLIPS_VERSION wrote them."""
    now = json.loads((prepared / FINGERPRINT).read_text())
    hashed = "7864d73c55ecf11595ca337304293e0cd11a188c119ab147ee4c03d8872e6552"
    old = {
        "format": 1,
        "sampling_rate": now["sampling_rate"],
        "settings": now["settings"],
        "filters_sha256": dict.fromkeys(now["settings"]["filters"], hashed),
        "code_sha256": "d461c7f6db4a4a3119f55d59ad0b46dfd9c979411709c0b1826393316725ada6",
        "versions": {"runyoro_ssl": "0.1.0", **now["versions"], "torch": "2.11.0", "datasets": "4.4", "numpy": "2.0"},
        "split": now["split"],
        "clips_sha256": "6e76a55e20d8225860c193073ef084846225cbe7c193ae61a7e436346333c949",
        "input_sha256": now["input_sha256"],
        "sha256": "5e9ca448f6d9bf9a08eed895470ff6c223262511285c1c60f9f29af27d794be3",
        **{name: now[name] for name in ("splits", "unsettled", "content_sha256")},
    }
    (prepared / FINGERPRINT).write_text(json.dumps(old, indent=2))
    store = prepared.with_name(f"{prepared.name}.shards")
    (shards,) = store.glob(16 * "[0-9a-f]")
    shards = shards.rename(store / old["clips_sha256"][:16])
    model = {"sampling_rate": now["sampling_rate"], "format": 1}
    (shards / SETTINGS).write_text(
        json.dumps({"model": model, **{name: old[name] for name in ("settings", "versions", "filters_sha256")}})
    )
    (store / "lock").touch()


def test_old_dataset_is_read_and_not_replaced_unasked(prepared: Path, config_of: MakeConfig) -> None:
    """Of a version without CLIPS_VERSION: train's doors take it, prepare says who wrote it and what to do."""
    make_old(prepared)
    assert read_fingerprint(prepared)["format"] == 1
    assert len(Clips(load_splits(prepared, sampling_rate=16_000)["train"]).waveform(0)) > 0
    before = (prepared / FINGERPRINT).read_bytes()
    with pytest.raises(
        ConfigError,
        match=r"made otherwise: it was written by runyoro_ssl 0\.1\.0, before there was a CLIPS_VERSION "
        r"\(train reads the dataset as it is\); add --overwrite to replace it \(all clips are made anew\), or "
        r"give another",
    ):
        run(config_of())
    assert (prepared / FINGERPRINT).read_bytes() == before


def test_old_dataset_is_replaced_when_asked(prepared: Path, config_of: MakeConfig) -> None:
    """The reason is said before the work; the clips are the same; nothing is left of the old shards and their lock."""
    clips = (prepared / CLIPS).read_bytes()
    make_old(prepared)
    with capture_logs() as lines:
        assert not run(config_of(), overwrite=True).up_to_date
    (said,) = [line for line in lines if line["event"] == "replacing_dataset"]
    assert "written by runyoro_ssl 0.1.0" in said["because"]
    assert said["so"] == "all clips are made anew"
    assert (prepared / CLIPS).read_bytes() == clips
    store = prepared.with_name(f"{prepared.name}.shards")
    assert [path.name for path in store.iterdir()] == [read_fingerprint(prepared)["clips_sha256"][:16]]


def test_shards_of_an_interrupted_try_are_told_of(prepared: Path, config_of: MakeConfig) -> None:
    """There is no dataset yet, only shards with other settings: what differs is said before all is made anew."""
    shutil.rmtree(prepared)
    with capture_logs() as lines:
        run(config_of("prepare.vad_threshold=0.6", "plugins.options.silence.threshold_dbfs=-60"))
    (said,) = [line for line in lines if line["event"] == "shards_not_used"]
    assert said["because"] == (
        "prepare.vad_threshold 0.5 -> 0.6; plugins.options.silence.threshold_dbfs (unset) -> -60"
    )


def test_new_clips_version_makes_anew(prepared: Path, config_of: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with both numbers."""
    assert run(config_of()).up_to_date
    monkeypatch.setattr(origin, "CLIPS_VERSION", CLIPS_VERSION + 1)
    with pytest.raises(ConfigError, match=r"otherwise: CLIPS_VERSION \d+ -> \d+; add --overwrite .*all clips"):
        run(config_of())
    assert prepared.exists()


@pytest.mark.parametrize("library", [*origin.DECODING, *origin.RECORDED])
def test_only_libraries_that_decode_decide(
    config_of: MakeConfig, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """Another version of a decoder, the resampler or the speech detector is refused by name; of others it is used."""

    def version(name: str) -> str:
        return "99" if name == library else metadata.version(name)

    monkeypatch.setattr(origin, "version", version)
    if library in origin.RECORDED:
        assert run(config_of()).up_to_date
        return
    with pytest.raises(ConfigError, match=rf"made otherwise: {library} \d[\w.]* -> 99; add --overwrite"):
        run(config_of())


def test_other_split_costs_no_decoding(prepared: Path, config_of: MakeConfig) -> None:
    """It is refused with its name; when it is asked for, the clips of the shards are used again."""
    with pytest.raises(ConfigError, match=r"prepare\.seed 0 -> 5; add --overwrite to replace it \(clips that are kept"):
        run(config_of("prepare.seed=5"))
    store = prepared.with_name(f"{prepared.name}.shards")
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.arrow")}
    run(config_of("prepare.seed=5"), overwrite=True)
    assert before
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.arrow")} == before


def test_overwriting_what_is_up_to_date_says_so(prepared: Path, config_of: MakeConfig) -> None:
    """Nothing differs, and the clips are used again."""
    before = (prepared / FINGERPRINT).read_bytes()
    with capture_logs() as lines:
        run(config_of(), overwrite=True)
    (said,) = [line for line in lines if line["event"] == "replacing_dataset"]
    assert said["because"] == "--overwrite asks for it; it was made alike"
    assert said["so"] == "clips that are kept in its shards are used again"
    assert (prepared / FINGERPRINT).read_bytes() == before


def test_built_in_filters_count_by_the_version(config_of: MakeConfig) -> None:
    """No file of this package is hashed: CLIPS_VERSION stands for all of them."""
    config = config_of()
    assert origin.describe_origin(config, load_plugins(config), 16_000)["plugin_files"] == {}
