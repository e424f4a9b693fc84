"""What is held out: speakers where they are told apart, else recordings, and only what can be judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from structlog.testing import capture_logs

from runyoro_ssl.dataset.read import load_splits
from runyoro_ssl.errors import ConfigError, DatasetError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import Prepared, prepare
from runyoro_ssl.prepare.split import SplitItem, choose_validation, decide_group
from runyoro_ssl.resolve import load_config

RATE = 16_000
SOMEBODY = [f"s{n % 7}" for n in range(20)]


def items_of(speakers: list[str | None]) -> list[SplitItem]:
    """A recording for each."""
    return [SplitItem(f"f{n}", f"r{n}", speaker, 100) for n, speaker in enumerate(speakers)]


@pytest.mark.parametrize(
    ("speakers", "group"),
    [
        ([*SOMEBODY], "speaker"),
        ([*SOMEBODY, None], "speaker"),
        (["a", None, None], "speaker"),
        (["a", "a", "a"], "recording"),
        ([None, None, None], "recording"),
    ],
)
def test_auto_holds_out_speakers_where_there_are_two(speakers: list[str | None], group: str) -> None:
    """Unnamed recordings are nobody's; one speaker, or none named, leaves recordings."""
    assert decide_group(items_of(speakers), "auto") == group


def test_auto_does_not_count_a_speaker_that_cannot_be_judged() -> None:
    """Of two speakers one is a dead microphone: recordings of the other are held out."""
    items = items_of(["a", "a", "dead", "dead", "a"])

    def can_judge(index: int) -> bool:
        return items[index].speaker == "a"

    assert decide_group(items, "auto", can_judge=can_judge) == "recording"
    for seed in range(20):
        held_out = choose_validation(items, share=0.2, by="recording", seed=seed, can_judge=can_judge)
        out = [can_judge(index) for index, is_out in enumerate(held_out) if is_out]
        left = [can_judge(index) for index, is_out in enumerate(held_out) if not is_out]
        assert all(out)
        assert any(left)


def test_speakers_held_out_are_those_of_before() -> None:
    """Pinned with the version that knew no "auto": a corpus that was prepared keeps its validation."""
    items = items_of([*SOMEBODY])
    held_out = choose_validation(items, share=0.2, by="speaker", seed=0)
    assert {item.speaker for item, out in zip(items, held_out, strict=True) if out} == {"s4"}


def noise(seconds: float, seed: int) -> np.ndarray:
    """Noise at speech level."""
    return np.clip(np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)), -1, 1)


Lines = list[dict[str, Any]]
Waves = dict[str, tuple[str | None, np.ndarray]]
"""Name of a recording -> speaker, samples."""


def prepared(folder: Path, model: Path, waves: Mapping[str, tuple[str | None, np.ndarray]], *settings: str) -> Prepared:
    """Prepare recordings name -> (speaker, samples), whatever the filters would say of them."""
    lines: Lines = []
    for name, (speaker, wave) in waves.items():
        sf.write(folder / name, wave, RATE)
        lines.append({"audio_filepath": name, "duration": len(wave) / RATE, "speaker": speaker})
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return again(folder, model, *settings)


def again(folder: Path, model: Path, *settings: str, overwrite: bool = False) -> Prepared:
    """Prepare what is there."""
    config = load_config(
        profile="cpu-smoke",
        settings=["prepare.segment=fixed", 'plugins.filters=["duration", "clipping"]', *settings],
        flags={
            "hardware": {"num_workers": 1},
            "model": {"model_name_or_path": str(model)},
            "prepare": {"manifest_path": folder / "m.jsonl", "output_dir": folder / "dataset"},
        },
    )
    return prepare(config, load_plugins(config), overwrite=overwrite)


def test_one_speaker_is_no_error(tmp_path: Path, tiny_model: Path) -> None:
    """Recordings are held out; report, fingerprint, page and log say so, and what the scores then flatter."""
    waves = {f"{n}.wav": ("akiiki", noise(3, n)) for n in range(4)}
    with capture_logs() as logs:
        report = prepared(tmp_path, tiny_model, waves).report
    (told, few) = [line["note"] for line in logs if line["event"] == "validation_split"]
    assert told == report["split_warnings"][0]
    assert '"akiiki" is the only speaker named, so recordings are held out; the scores then flatter' in told
    assert few.startswith("only 3.0 s are held out: under 60 s")
    assert report["split_by"] == "recording"
    assert json.loads((tmp_path / "dataset" / "fingerprint.json").read_text())["split_by"] == "recording"
    assert "Held out: whole recordings." in (tmp_path / "dataset" / "prepare_report.html").read_text()
    assert "is the only speaker named" in (tmp_path / "dataset" / "prepare_report.html").read_text()


def test_much_more_held_out_than_wanted_is_told(tmp_path: Path, tiny_model: Path) -> None:
    """Of two speakers one is held out, which may be half of it; the way to hold out less is named."""
    waves = {f"{speaker}{n}.wav": (speaker, noise(14, n)) for speaker in ("akiiki", "amooti") for n in range(6)}
    (told,) = prepared(tmp_path, tiny_model, waves).report["split_warnings"]
    assert told == (
        "50% of what is kept is held out, 5% was wanted: each speaker is held out whole; "
        "--set prepare.split_by=recording holds out recordings instead"
    )


def test_nobody_told_speakers_apart(tmp_path: Path, tiny_model: Path) -> None:
    """Recordings are held out, with the way to name speakers; where some are named, how many are not."""
    report = prepared(tmp_path, tiny_model, {f"{n}.wav": (None, noise(3, n)) for n in range(4)}).report
    assert report["split_by"] == "recording"
    assert "no recording says who speaks" in report["split_warnings"][0]
    assert "--speaker-from" in report["split_warnings"][0]
    waves = {f"{n}.wav": (f"s{n}" if n < 3 else None, noise(3, n)) for n in range(4)}
    (tmp_path / "more").mkdir()
    report = prepared(tmp_path / "more", tiny_model, waves).report
    assert report["split_by"] == "speaker"
    assert report["split_warnings"][0].startswith("1 of 4 recordings do not say who speaks")


def test_voices_in_both_splits_are_counted(tmp_path: Path, tiny_model: Path) -> None:
    """Who holds out recordings though speakers are known is told what that flatters."""
    waves = {f"{n}.wav": (f"s{n // 4}", noise(3, n)) for n in range(8)}
    report = prepared(tmp_path, tiny_model, waves, "prepare.split_by=recording").report
    assert "1 of 2 speakers are in both splits; the scores then flatter" in report["split_warnings"][0]


@pytest.mark.parametrize("seed", range(4))
def test_dead_microphones_are_not_held_out(tmp_path: Path, tiny_model: Path, seed: int) -> None:
    """Whatever is drawn: of silence, a constant, a tone and snippets none becomes the validation split."""
    dead = {
        "silence.wav": ("a", np.zeros(3 * RATE)),
        "constant.wav": ("b", np.full(3 * RATE, 0.05)),
        "tone.wav": ("c", 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)),
        "snippet.wav": ("d", noise(0.15, 9)),
    }
    waves = {**dead, **{f"{n}.wav": (f"s{n}", noise(3, n)) for n in range(3)}}
    settings = (f"prepare.seed={seed}", "prepare.min_duration_sec=0.1", "prepare.validation_share=0.3")
    prepared(tmp_path, tiny_model, waves, *settings)
    splits = load_splits(tmp_path / "dataset", sampling_rate=RATE)
    assert not set(splits["validation"]["speaker"]) & set("abcd")
    assert set("abcd") < set(splits["train"]["speaker"])


def test_dead_clip_of_a_speaker_held_out_is_dropped(tmp_path: Path, tiny_model: Path) -> None:
    """It can neither be judged, nor trained on: the speaker is held out. It is in the account."""
    waves = {f"{name}{n}.wav": (name, noise(3, seed)) for seed, (name, n) in enumerate([("a", 0), ("a", 1), ("b", 0)])}
    waves |= {f"dead of {name}.wav": (name, np.full(3 * RATE, 0.05)) for name in "ab"}
    report = prepared(tmp_path, tiny_model, waves).report
    assert report["dropped"] == {"cannot be judged": {"clips": 1, "seconds": 3.0}}
    assert report["samples"]["in"] == report["samples"]["kept"] + 3 * RATE
    (drop,) = map(json.loads, (tmp_path / "dataset" / "dropped.jsonl").read_text().splitlines())
    assert drop["detail"] == "its frames are all alike"
    held_out = set(load_splits(tmp_path / "dataset", sampling_rate=RATE)["validation"]["speaker"])
    assert {drop["speaker"]} == held_out


def test_error_of_an_empty_split_says_what_went(tmp_path: Path, tiny_model: Path) -> None:
    """Only one recording survives: the others were too short; or nothing that is left can be judged."""
    waves = {f"{n}.wav": (f"s{n}", noise(3 if n == 0 else 1, n)) for n in range(4)}
    with pytest.raises(DatasetError, match=r"one recording \(\"0.wav\"\).*Dropped before: too short 3$"):
        prepared(tmp_path, tiny_model, waves)
    waves = {f"{n}.wav": (f"s{n}", np.full(3 * RATE, 0.05)) for n in range(4)}
    with pytest.raises(DatasetError, match="fewer than two of 4 recordings hold a clip whose loss tells anything"):
        prepared(tmp_path, tiny_model, waves)


def test_speakers_wholly_dropped_are_named(tmp_path: Path, tiny_model: Path) -> None:
    """With why, in the log, the report and the page; recordings by count."""
    waves: Waves = {f"{n}.wav": (f"s{n % 3}", noise(3, n)) for n in range(6)}
    waves |= {
        "x.wav": ("Mugisha", noise(1, 20)),
        "y.wav": ("Mugisha", np.sign(noise(3, 21))),
        "z.wav": (None, noise(1, 22)),
        "part of s0.wav": ("s0", noise(1, 23)),
    }
    with capture_logs() as logs:
        report = prepared(tmp_path, tiny_model, waves).report
    assert report["absent"] == {
        "speakers": {"Mugisha": {"recordings": 2, "seconds": {"clipping": 3.0, "too short": 1.0}}},
        "recordings": {"too short": 3, "clipping": 1},
    }
    told = {line["event"]: line for line in logs}
    assert told["speakers_wholly_dropped"]["who"] == "Mugisha (clipping, too short)"
    assert told["recordings_wholly_dropped"]["count"] == 4
    page = (tmp_path / "dataset" / "prepare_report.html").read_text()
    assert "Nothing was kept of 1 speaker: Mugisha (clipping 3.0 s, too short 1.0 s)." in page


def test_dataset_of_before_auto_is_up_to_date(tmp_path: Path, tiny_model: Path) -> None:
    """Made with "speaker", the former default, or with "auto" where that means it: the same, and nothing is done."""
    waves = {f"{n}.wav": (f"s{n}", noise(3, n)) for n in range(4)}
    assert not prepared(tmp_path, tiny_model, waves, "prepare.split_by=speaker").up_to_date
    fingerprint = tmp_path / "dataset" / "fingerprint.json"
    values = json.loads(fingerprint.read_text())
    del values["split_by"]
    fingerprint.write_text(json.dumps(values))
    assert again(tmp_path, tiny_model).up_to_date
    with pytest.raises(ConfigError, match=r"prepare.split_by speaker -> recording"):
        again(tmp_path, tiny_model, "prepare.split_by=recording")
    again(tmp_path, tiny_model, "prepare.seed=1", overwrite=True)
    assert again(tmp_path, tiny_model, "prepare.seed=1", "prepare.split_by=speaker").up_to_date
