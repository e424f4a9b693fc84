"""A pool that holds the target's speech is refused, whatever it is called, however it was encoded, wherever cut."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile as sf

from runyoro_ssl.donors.leaks import refuse_leaks
from runyoro_ssl.donors.pools import Pool, open_pools
from runyoro_ssl.errors import DonorsError
from support.pools import prepared, row, synthetic


@pytest.fixture(scope="module")
def place(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target, and a pool of other speech."""
    folder = tmp_path_factory.mktemp("leaks")
    synthetic(folder / "target", tiny_model, "target", seed=0, num_clips=16)
    synthetic(folder / "pool", tiny_model, "pool", seed=1, num_clips=16)
    return folder


def opened(path: Path) -> Pool:
    """A dataset as it is compared."""
    (pool,) = open_pools([path], 16_000)
    return pool


def complaint(target: Path, *pools: Path) -> str:
    """What is said of them: one line."""
    with pytest.raises(DonorsError) as raised:
        refuse_leaks(opened(target), [opened(pool) for pool in pools], 16_000)
    said = str(raised.value)
    assert "\n" not in said
    return said


def test_other_speech_passes(place: Path) -> None:
    """Of voices that are nearly the same, too."""
    refuse_leaks(opened(place / "target"), [opened(place / "pool")], 16_000)


def test_the_target_itself(place: Path, tmp_path: Path) -> None:
    """And a copy of it, in whatever folder: how many clips, and one by its name; held-out ones are counted, too."""
    shutil.copytree(place / "target", tmp_path / "copy")
    said = complaint(place / "target", place / "pool", tmp_path / "copy")
    assert f"--pool {tmp_path / 'copy'}: 16 of its clips" in said
    assert "have the same samples, such as" in said


def test_one_clip_under_another_name(place: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Of another speaker, so it says; a copy of a clip that the target holds out."""
    clip = next(json.loads(line) for line in (place / "target" / "clips.jsonl").open() if '"validation"' in line)
    shutil.copy(clip["audio_filepath"], tmp_path / "somebody.wav")
    rows = [json.loads(line) for line in (place / "pool.jsonl").read_text().splitlines()]
    pool = prepared([*rows, row(tmp_path / "somebody.wav", speaker="somebody")], tmp_path / "pool", tiny_model)
    said = complaint(place / "target", pool)
    assert "1 of its clips and clips of the target" in said
    assert f"somebody.wav@0.000 is {clip['id']}" in said


def test_the_same_sound_encoded_anew(place: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Softer, as Ogg Vorbis, without its first 0.3 s: no sample is the same, and all of it is heard."""
    source = sorted((place / "target-audio").rglob("*.wav"))[3]
    wave, rate = sf.read(source, dtype="float32")
    sf.write(tmp_path / "radio.ogg", 0.4 * wave[round(0.3 * rate) :], rate)
    rows = [json.loads(line) for line in (place / "pool.jsonl").read_text().splitlines()]
    pool = prepared([*rows, row(tmp_path / "radio.ogg", speaker="radio")], tmp_path / "pool", tiny_model)
    said = complaint(place / "target", pool)
    assert "1 of its clips and clips of the target" in said
    assert "sound the same, such as" in said
    assert f"radio.ogg@0.000 is {source}" in said
