"""Real recordings, where they are at hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.dataset.read import load_splits
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.prepare.scan import scan
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train.run import train


def config_for(manifest: Path, output_dir: Path, model: Path, *settings: str) -> Config:
    """The configuration that prepares a manifest."""
    return load_config(
        profile="cpu-smoke",
        settings=settings,
        flags={
            "model": {"model_name_or_path": str(model)},
            "prepare": {"manifest_path": manifest, "output_dir": output_dir},
        },
    )


def count_files(folder: Path) -> int:
    """Files anywhere below a folder."""
    return sum(path.is_file() for path in folder.rglob("*"))


@pytest.mark.usefixtures("fresh_workers")
def test_messy_folder_goes_through_whole(messy: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Files of every kind: each is used or rejected with a reason; the kept samples are finite and add up."""
    found = scan(messy, tmp_path / "m.jsonl")
    assert found.num_files + len(found.rejected) + found.num_other == count_files(messy)
    assert found.rejected_by_reason["empty file"] >= 4
    assert all(reason for _, reason, _ in found.rejected)
    config = config_for(tmp_path / "m.jsonl", tmp_path / "d", tiny_model)
    report = prepare(config, load_plugins(config)).report
    samples = report["samples"]
    assert samples["in"] == samples["kept"] + sum(samples["dropped"].values())
    assert report["seconds_in"] == pytest.approx(found.seconds, rel=1e-3)


def test_bad_files_in_a_manifest_are_counted(messy: Path, tiny_model: Path, tmp_path: Path) -> None:
    """All of them named in a manifest, decodable or not: counted reasons, no traceback."""
    lines = [{"audio_filepath": str(path), "duration": 3.0} for path in sorted(messy.rglob("*")) if path.is_file()]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = config_for(tmp_path / "m.jsonl", tmp_path / "d", tiny_model)
    report = prepare(config, load_plugins(config)).report
    assert report["lines_in"] == count_files(messy)
    assert report["dropped"]["unreadable"]["clips"] > 10
    samples = report["samples"]
    assert samples["in"] == samples["kept"] + sum(samples["dropped"].values())


def test_real_clips_are_stored_as_decoded(bantu: Path, tiny_model: Path, tmp_path: Path) -> None:
    """A real FLAC comes out of the dataset sample for sample; splits share no speaker."""
    import soundfile as sf

    lines = [json.loads(line) for line in (bantu / "manifest.jsonl").open(encoding="utf-8")][::20]
    for line in lines:
        line["audio_filepath"] = str(bantu / line["audio_filepath"])
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = config_for(tmp_path / "m.jsonl", tmp_path / "d", tiny_model)
    prepare(config, load_plugins(config))
    splits = load_splits(tmp_path / "d", sampling_rate=16_000)
    speakers = [set(split["speaker"]) for split in splits.values()]
    assert not speakers[0] & speakers[1]
    row = next(row for row in splits["train"] if row["num_samples"] < 14 * 16_000)
    expected, _ = sf.read(row["source"], dtype="int16")
    np.testing.assert_array_equal(row["audio"], expected)


def test_training_on_real_speech(
    bantu: Path, tiny_model: Path, tmp_path: Path, train_config: Callable[..., Config]
) -> None:
    """A few steps on Luganda, from files to a checkpoint: the held-out loss falls."""
    folder = tmp_path / "audio"
    for path in sorted((bantu / "audio" / "lug").glob("*.flac"))[:40]:
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder)
    scan(folder, tmp_path / "m.jsonl")
    config = config_for(tmp_path / "m.jsonl", tmp_path / "d", tiny_model)
    prepare(config, load_plugins(config))
    result = train(
        trained := train_config(
            "real", f"train.processed_dataset_path={tmp_path / 'd'}", "train.max_steps=10", "train.learning_rate=2e-3"
        ),
        load_plugins(trained),
    )
    assert result.last["eval/contrastive_loss"] < result.first["eval/contrastive_loss"] - 0.02
