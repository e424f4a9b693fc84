"""Recordings longer than a clip: every sample is in a clip or accounted for, and every clip can be traced."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.dataset.read import load_splits
from runyoro_ssl.errors import ManifestError, PluginError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.prepare.scan import scan
from runyoro_ssl.resolve import load_config

RATE = 16_000
Prepare = Callable[..., dict[str, Any]]


@pytest.fixture
def prepare_lines(tiny_model: Path, tmp_path: Path) -> Prepare:
    """A function (lines, *settings) -> the report of preparing them into `tmp_path/dataset`."""

    def run(lines: list[dict[str, Any]], *settings: str) -> dict[str, Any]:
        (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        config = config_for(tmp_path, tiny_model, *settings)
        return prepare(config, load_plugins(config)).report

    return run


def config_for(folder: Path, model: Path, *settings: str) -> Any:
    """Prepare `m.jsonl`."""
    return load_config(
        profile="cpu-smoke",
        settings=['plugins.filters=["duration"]', *settings],
        flags={
            "hardware": {"num_workers": 1},
            "model": {"model_name_or_path": str(model)},
            "prepare": {"manifest_path": folder / "m.jsonl", "output_dir": folder / "dataset"},
        },
    )


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise at speech level, of int16 steps."""
    samples = np.random.default_rng(seed).normal(0, 3000, round(seconds * RATE)).clip(-32768, 32767)
    return samples.astype(np.int16)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of both splits."""
    return [row for split in load_splits(folder / "dataset", sampling_rate=RATE).values() for row in split]


def check_sums(report: dict[str, Any]) -> None:
    """In = kept + dropped."""
    samples = report["samples"]
    assert samples["in"] == samples["kept"] + sum(samples["dropped"].values())


def test_clips_of_a_talk_can_be_traced_to_their_second(bantu: Path, tmp_path: Path, prepare_lines: Prepare) -> None:
    """Each is, sample for sample, what the recording holds at its offset; the rest is counted as no speech."""
    paths = sorted((bantu / "audio" / "lug").glob("*.flac"))[:8]
    parts = [part for path in paths for part in (sf.read(path, dtype="int16")[0], np.zeros(3 * RATE, np.int16))]
    talk = np.concatenate(parts)
    sf.write(tmp_path / "talk.flac", talk, RATE)
    sf.write(tmp_path / "other.wav", noise(5), RATE)
    report = prepare_lines(
        [
            {"audio_filepath": "talk.flac", "duration": len(talk) / RATE, "speaker": "a"},
            {"audio_filepath": "talk.flac", "offset": 2.0, "duration": 20.0, "speaker": "a"},
            {"audio_filepath": "other.wav", "duration": 5, "speaker": "b"},
        ]
    )
    check_sums(report)
    assert report["samples"]["in"] == len(talk) + 20 * RATE + 5 * RATE
    assert report["dropped"]["no speech"]["seconds"] > 0.7 * 8 * 3
    clips = {clip["id"]: clip for clip in map(json.loads, (tmp_path / "dataset" / "clips.jsonl").open())}
    of_the_talk = [row for row in rows_of(tmp_path) if clips[row["id"]]["recording"] == "talk.flac"]
    assert sum(row["num_samples"] for row in of_the_talk) > 0.5 * len(talk)
    for row in of_the_talk:
        clip = clips[row["id"]]
        start = round(clip["offset"] * RATE)
        np.testing.assert_array_equal(row["audio"], talk[start : start + round(clip["duration"] * RATE)])
        assert clip["measures"]["speech_share"] > 0.3
        assert json.loads(row["metadata"])["offset"] == clip["offset"]


@pytest.mark.parametrize("segment", ["fixed", "vad"])
def test_broken_recording_is_used_as_far_as_it_goes(
    segment: str, bantu: Path, tmp_path: Path, prepare_lines: Prepare
) -> None:
    """What is missing is counted by what the manifest states, and the flaw is told."""
    paths = sorted((bantu / "audio" / "lug").glob("*.flac"))[:12]
    talk = np.concatenate([sf.read(path, dtype="int16")[0] for path in paths])
    sf.write(tmp_path / "talk.flac", talk, RATE)
    whole = (tmp_path / "talk.flac").read_bytes()
    (tmp_path / "talk.flac").write_bytes(whole[: len(whole) // 2])
    sf.write(tmp_path / "other.wav", noise(5), RATE)
    report = prepare_lines(
        [
            {"audio_filepath": "talk.flac", "duration": len(talk) / RATE},
            {"audio_filepath": "other.wav", "duration": 5},
        ],
        f"prepare.segment={segment}",
    )
    check_sums(report)
    assert report["samples"]["in"] == len(talk) + 5 * RATE
    assert set(report["flawed_recordings"]) == {"talk.flac"}
    assert 0.2 * len(talk) < sum(row["num_samples"] for row in rows_of(tmp_path)) < 0.7 * len(talk)
    missing = report["dropped"].get("unreadable", report["dropped"].get("shorter than stated"))
    assert missing["seconds"] > 0.3 * len(talk) / RATE


def test_damaged_recording_is_listed_as_far_as_it_goes(bantu: Path, tmp_path: Path, prepare_lines: Prepare) -> None:
    """`manifest` gives it the length that decodes, and says what is wrong; a short one is rejected."""
    (tmp_path / "audio").mkdir()
    paths = sorted((bantu / "audio" / "lug").glob("*.flac"))[:12]
    for name, part in (("long", paths), ("short", paths[:2]), ("whole", paths[:3])):
        talk = np.concatenate([sf.read(path, dtype="int16")[0] for path in part])
        path = tmp_path / "audio" / f"{name}.flac"
        sf.write(path, talk, RATE)
        if name != "whole":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = scan(tmp_path / "audio", tmp_path / "found.jsonl")
    assert (found.num_files, len(found.flaws), [row[0] for row in found.rejected]) == (2, 1, ["short.flac"])
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").open()]
    assert [("flaw" in line, line["recording"]) for line in lines] == [(True, "long.flac"), (False, "whole.flac")]
    report = prepare_lines(lines, "prepare.segment=fixed")
    check_sums(report)
    assert report["dropped"] == {}


def test_file_that_could_not_be_opened_is_tried_again(
    tmp_path: Path, prepare_lines: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that passes is not kept: the same command, later, has the clip."""
    lines = []
    for name in ("a", "b", "c"):
        sf.write(tmp_path / f"{name}.wav", noise(4, ord(name)), RATE)
        lines.append({"audio_filepath": f"{name}.wav", "duration": 4})
    monkeypatch.setattr("runyoro_ssl.plugin.manager.Plugins.executor", lambda *_, **_more: ThreadPoolExecutor(1))
    real = Path.open

    def fail(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == "b.wav":
            raise OSError(5, "Input/output error")
        return real(path, *args, **options)

    with monkeypatch.context() as faulty:
        faulty.setattr(Path, "open", fail)
        assert prepare_lines(lines)["dropped"] == {"cannot be opened": {"clips": 1, "seconds": 4.0}}
    assert prepare_lines(lines)["clips_kept"] == 3


def test_measure_that_is_no_json_is_named(tmp_path: Path, tiny_model: Path) -> None:
    """A corpus filter that gives a numpy number: its name, not a traceback."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "runyoro_loudest.py").write_text(
        "from runyoro_ssl import hookimpl\n"
        "class Loudest:\n"
        "    def measure(self, utterance):\n        return (utterance.waveform ** 2).mean()\n"
        "    def select(self, candidates):\n        return [None for _ in candidates]\n"
        "@hookimpl\ndef runyoro_manifest_filters(register):\n    register('loudest', Loudest)\n"
    )
    for name in ("a", "b"):
        sf.write(tmp_path / f"{name}.wav", noise(4, ord(name)), RATE)
    lines = "".join(json.dumps({"audio_filepath": f"{name}.wav", "duration": 4}) + "\n" for name in ("a", "b"))
    (tmp_path / "m.jsonl").write_text(lines)
    config = config_for(tmp_path, tiny_model, f"plugins.dir={tmp_path / 'plugins'}", 'plugins.filters=["loudest"]')
    with pytest.raises(PluginError, match=r'filter "loudest" failed on a.wav@0.000: TypeError'):
        prepare(config, load_plugins(config))


def test_nothing_is_cut_unless_allowed(tmp_path: Path, prepare_lines: Prepare) -> None:
    """With `none`, what is too long is dropped whole; so is, always, what is longer than a recording may be."""
    lines = []
    for name, seconds in (("a", 5.0), ("b", 5.0), ("long", 40.0)):
        sf.write(tmp_path / f"{name}.wav", noise(seconds, ord(name[0])), RATE)
        lines.append({"audio_filepath": f"{name}.wav", "duration": seconds})
    lines.append({"audio_filepath": "never opened.wav", "duration": 90_000})
    report = prepare_lines(lines, "prepare.segment=none")
    check_sums(report)
    assert report["dropped"] == {"too long": {"clips": 2, "seconds": 90_040.0}}
    assert report["clips_kept"] == 2


@pytest.mark.parametrize("way", ["dots", "link", "linked folder"])
def test_path_that_leaves_its_folder_is_refused(way: str, tmp_path: Path, tiny_model: Path) -> None:
    """By `..`, a link, or a folder that is one; --allow-outside accepts it. Absolute paths say what they mean."""
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (tmp_path / "away").mkdir()
    for name in ("a.wav", "b.wav"):
        sf.write(tmp_path / "away" / name, noise(4, ord(name[0])), RATE)
    (home / "link.wav").symlink_to(tmp_path / "away" / "a.wav")
    (home / "folder").symlink_to(tmp_path / "away")
    name = {"dots": "sub/../../away/a.wav", "link": "link.wav", "linked folder": "folder/a.wav"}[way]
    lines = [{"audio_filepath": path, "duration": 4} for path in (str(tmp_path / "away" / "b.wav"), name)]
    (home / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = config_for(home, tiny_model)
    with pytest.raises(ManifestError, match=r'audio_filepath ".*" leads out .*; if that is meant, add --allow-out'):
        prepare(config, load_plugins(config))
    assert not (home / "dataset.shards").exists()
    config = config_for(home, tiny_model, "prepare.allow_outside=true")
    assert prepare(config, load_plugins(config)).report["clips_kept"] == 2


@pytest.mark.parametrize("name", ["a b, c.wav", "caf\u00e9.wav", "cafe\u0301.wav", "[x] 'y' \"z\".wav"])
def test_odd_names(name: str, tmp_path: Path, prepare_lines: Prepare) -> None:
    """Spaces, commas, quotes, both normal forms of unicode: each is one file, by its own name."""
    sf.write(tmp_path / name, noise(4), RATE)
    sf.write(tmp_path / "other.wav", noise(4, 1), RATE)
    prepare_lines([{"audio_filepath": path, "duration": 4} for path in (name, "other.wav")])
    assert {row["source"] for row in rows_of(tmp_path)} == {name, "other.wav"}
