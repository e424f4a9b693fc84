"""Preparation: every sample accounted for, nothing shared between splits, nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.config import Config
from runyoro_ssl.dataset.read import load_splits
from runyoro_ssl.errors import ConfigError, DatasetError, PluginError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.prepare.split import SplitItem, choose_validation
from runyoro_ssl.resolve import load_config

RATE = 16_000
MakeConfig = Callable[..., Config]


def noise(seconds: float, rate: int = RATE, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """Noise at speech level."""
    return np.clip(np.random.default_rng(seed).normal(0, level, round(seconds * rate)), -1, 1)


@pytest.fixture
def prepare_config(tiny_model: Path, tmp_path: Path) -> MakeConfig:
    """A function (*settings) -> the configuration that prepares `tmp_path/m.jsonl` into `tmp_path/dataset`."""

    def make(*settings: str) -> Config:
        return load_config(
            profile="cpu-smoke",
            # What is tested here is noise, in which there is no speech, and often the same.
            settings=["prepare.segment=fixed", 'plugins.filters=["duration", "silence", "clipping"]', *settings],
            flags={
                "hardware": {"num_workers": 1},
                "model": {"model_name_or_path": str(tiny_model)},
                "prepare": {"manifest_path": tmp_path / "m.jsonl", "output_dir": tmp_path / "dataset"},
            },
        )

    return make


def write_manifest(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write `m.jsonl`."""
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(config: Config, **options: bool) -> dict[str, Any]:
    """Prepare, and return the report."""
    return prepare(config, load_plugins(config), **options).report


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Every fate a clip can have."""
    lines = []

    def add(name: str, wave: np.ndarray, rate: int = RATE, **fields: Any) -> None:
        sf.write(tmp_path / name, wave, rate)
        lines.append({"audio_filepath": name, "duration": len(wave) / rate, **fields})

    add("plain.wav", noise(5), speaker="a", language="nyo", village="Hoima")
    add("stereo.flac", np.stack([noise(4), noise(4, seed=1)], axis=1), speaker="a")
    add("high rate.wav", noise(6, 44_100), 44_100, speaker="b")
    add("long.flac", noise(33.333), speaker="c", text="a long one")
    add("short.wav", noise(1), speaker="c")
    add("silent.wav", np.zeros(3 * RATE), speaker="c")
    add("overdriven.wav", np.sign(noise(3)), speaker="c")
    add("cut off.wav", noise(3), speaker="c")
    lines[-1]["duration"] = 9.0
    (tmp_path / "empty.wav").touch()
    lines.append({"audio_filepath": "empty.wav", "duration": 4.25})
    lines.append({"audio_filepath": "gone.wav", "duration": 7})
    lines.append({"audio_filepath": "long.flac", "offset": 2.0, "duration": 3.0, "recording": "long.flac"})
    write_manifest(tmp_path, lines)
    return tmp_path


def test_report_accounts_for_every_sample(mixed: Path, prepare_config: MakeConfig) -> None:
    """In = kept + dropped by each reason, exactly; and it is what the dataset holds."""
    report = run(prepare_config())
    samples = report["samples"]
    assert samples["in"] == samples["kept"] + sum(samples["dropped"].values())
    assert report["seconds_in"] == pytest.approx(report["seconds_kept"] + report["seconds_dropped"])
    assert {reason: drop["clips"] for reason, drop in report["dropped"].items()} == {
        "too short": 1,
        "silence": 1,
        "clipping": 1,
        "shorter than stated": 1,
        "empty file": 1,
        "missing file": 1,
    }
    assert report["dropped"]["shorter than stated"]["seconds"] == 9.0
    assert (report["lines_cut"], report["pieces_of_cut_lines"]) == (1, 3)
    splits = load_splits(mixed / "dataset", sampling_rate=RATE)
    held = [row for split in splits.values() for row in split]
    assert sum(row["num_samples"] for row in held) == samples["kept"]
    assert all(len(row["audio"]) == row["num_samples"] for row in held)
    dropped = [json.loads(line) for line in (mixed / "dataset" / "dropped.jsonl").read_text().splitlines()]
    assert {line["source"] for line in dropped} >= {"gone.wav", "silent.wav"}


def test_dataset_is_plain_hugging_face(mixed: Path, prepare_config: MakeConfig) -> None:
    """`datasets.load_from_disk` reads it; samples are int16 of the recording, fields are carried along."""
    run(prepare_config())
    splits = datasets.load_from_disk(str(mixed / "dataset"))
    assert set(splits) == {"train", "validation"}
    rows = {row["id"]: row for split in splits.values() for row in split}
    plain = rows["plain.wav@0.000"]
    expected, _ = sf.read(mixed / "plain.wav", dtype="int16")
    assert plain["audio"] == expected.tolist()
    assert (plain["speaker"], plain["language"], plain["recording"]) == ("a", "nyo", "plain.wav")
    assert json.loads(plain["metadata"])["village"] == "Hoima"
    assert rows["high rate.wav@0.000"]["num_samples"] == 6 * RATE
    segment = rows["long.flac@2.000"]
    whole, _ = sf.read(mixed / "long.flac", dtype="int16")
    assert segment["audio"] == whole[2 * RATE : 5 * RATE].tolist()


def test_long_clip_is_cut_without_loss(mixed: Path, prepare_config: MakeConfig) -> None:
    """Its pieces, in order, are the recording."""
    run(prepare_config())
    splits = datasets.load_from_disk(str(mixed / "dataset"))
    pieces = [row for split in splits.values() for row in split if row["id"].startswith("long.flac@")]
    pieces = [row for row in pieces if row["id"] != "long.flac@2.000"]
    pieces.sort(key=lambda row: json.loads(row["metadata"])["offset"])
    whole, _ = sf.read(mixed / "long.flac", dtype="int16")
    assert [sample for row in pieces for sample in row["audio"]] == whole.tolist()


def test_number_of_workers_changes_nothing(corpus_manifest: Path, tiny_model: Path, tmp_path: Path) -> None:
    """One or two worker processes write the same bytes."""
    contents = []
    for workers in (1, 2):
        config = load_config(
            flags={
                "hardware": {"num_workers": workers},
                "model": {"model_name_or_path": str(tiny_model)},
                "prepare": {"manifest_path": corpus_manifest, "output_dir": tmp_path / str(workers)},
            }
        )
        run(config)
        contents.append([path.read_bytes() for path in sorted((tmp_path / str(workers)).rglob("*.arrow"))])
    assert len(contents[0]) == 2, "a file for each split"
    assert contents[0] == contents[1]


@pytest.mark.usefixtures("mixed")
def test_second_run_is_up_to_date_and_a_changed_one_refused(prepare_config: MakeConfig) -> None:
    """The same input and settings do nothing; others need --overwrite; a foreign folder is never touched."""
    config = prepare_config()
    run(config)
    assert prepare(config, load_plugins(config)).up_to_date
    changed = prepare_config("prepare.max_duration_sec=10")
    with pytest.raises(ConfigError, match=r"made otherwise: prepare.max_duration_sec 15.0 -> 10.0; add --overwrite"):
        run(changed)
    assert run(changed, overwrite=True)["pieces_of_cut_lines"] == 4


def test_foreign_output_folder_is_refused(mixed: Path, prepare_config: MakeConfig) -> None:
    """Nothing in it is touched."""
    (mixed / "dataset").mkdir()
    (mixed / "dataset" / "precious.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="not a prepared dataset; give another"):
            run(prepare_config(), overwrite=overwrite)
    assert (mixed / "dataset" / "precious.txt").read_text() == "mine"


def test_failure_leaves_the_old_dataset(mixed: Path, prepare_config: MakeConfig) -> None:
    """--overwrite replaces only when the new dataset is complete."""
    run(prepare_config())
    before = (mixed / "dataset" / "fingerprint.json").read_bytes()
    with pytest.raises(DatasetError, match=r"no clip is left of 11 lines \(.*silence"):
        run(prepare_config("plugins.options.silence.threshold_dbfs=0"), overwrite=True)
    assert (mixed / "dataset" / "fingerprint.json").read_bytes() == before


def test_filter_that_raises_is_named(mixed: Path, prepare_config: MakeConfig) -> None:
    """With its name, the clip, and the line of its file."""
    folder = mixed / "plugins"
    folder.mkdir()
    (folder / "runyoro_raises.py").write_text(
        "from runyoro_ssl import hookimpl\n"
        "class Raises:\n"
        "    def __call__(self, utterance):\n"
        "        return 1 / 0\n"
        "@hookimpl\n"
        "def runyoro_manifest_filters(register):\n"
        "    register('raises', Raises)\n"
    )
    config = prepare_config(f"plugins.dir={folder}", 'plugins.filters=["raises"]')
    with pytest.raises(
        PluginError, match=r'filter "raises" failed on plain.wav@0.000: ZeroDivision.*runyoro_raises.py:4'
    ):
        run(config)


@pytest.mark.parametrize("seed", range(5))
def test_splits_share_no_recording_and_no_speaker(seed: int) -> None:
    """Clips linked through recordings or speakers stay together; the share is near what was asked."""
    rng = np.random.default_rng(seed)
    items = [
        SplitItem(
            str(index),
            f"r{rng.integers(60)}",
            None if rng.random() < 0.3 else f"s{rng.integers(25)}",
            int(rng.integers(9)) + 1,
        )
        for index in range(100)
    ]
    held_out = choose_validation(items, share=0.1, by="speaker", seed=seed)
    sides = [[item for item, out in zip(items, held_out, strict=True) if out is side] for side in (False, True)]
    assert sides[0]
    assert sides[1]
    for name in ("recording", "speaker"):
        known = [{getattr(item, name) for item in side} - {None} for side in sides]
        assert not known[0] & known[1]


def test_split_hits_its_share_when_groups_are_small() -> None:
    """With 200 equal recordings, 5 % is 10 of them, and the choice follows the seed."""
    items = [SplitItem(str(index), f"r{index}", None, 100) for index in range(200)]
    first = choose_validation(items, share=0.05, by="recording", seed=0)
    assert sum(first) == 10
    assert first == choose_validation(items, share=0.05, by="recording", seed=0)
    assert first != choose_validation(items, share=0.05, by="recording", seed=1)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_no_split_is_empty_whatever_the_share(share: float) -> None:
    """One of two recordings is on either side."""
    items = [SplitItem(str(index), f"r{index}", None, 100) for index in range(2)]
    assert sorted(choose_validation(items, share=share, by="recording", seed=0)) == [False, True]


def test_what_is_held_out_stays_so_when_the_corpus_grows() -> None:
    """One more speaker, and lines in another order: nobody who was held out is now trained on, nor the reverse."""
    items = [SplitItem(f"f{n}", f"r{n}", f"s{n}", 100) for n in range(40)]
    before = {
        item for item, out in zip(items, choose_validation(items, share=0.1, by="speaker", seed=0), strict=True) if out
    }
    grown = [SplitItem("new", "new", "new", 100), *reversed(items)]
    after = {
        item for item, out in zip(grown, choose_validation(grown, share=0.1, by="speaker", seed=0), strict=True) if out
    }
    assert len(before) == 4
    assert before - {grown[0]} == after - {grown[0]}


def test_empty_validation_split_is_explained() -> None:
    """One speaker: hold out recordings, said with the setting. One recording: nothing can be held out."""
    one_speaker = [SplitItem(str(index), f"r{index}", "akiiki", 1) for index in range(3)]
    with pytest.raises(DatasetError, match=r'one speaker \("akiiki"\).*prepare.split_by=recording'):
        choose_validation(one_speaker, share=0.1, by="speaker", seed=0)
    assert sum(choose_validation(one_speaker, share=0.1, by="recording", seed=0)) == 1
    with pytest.raises(DatasetError, match="one recording"):
        choose_validation([SplitItem("f", "r", None, 1)] * 3, share=0.1, by="recording", seed=0)


def test_damaged_dataset_is_noticed(mixed: Path, prepare_config: MakeConfig) -> None:
    """A missing Arrow file, a missing fingerprint, a missing folder: each has its line."""
    run(prepare_config())
    folder = mixed / "dataset"
    for path in (folder / "validation").glob("*.arrow"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"damaged.*--overwrite"):
        load_splits(folder, sampling_rate=RATE)
    (folder / "fingerprint.json").unlink()
    with pytest.raises(DatasetError, match="not a prepared dataset"):
        load_splits(folder, sampling_rate=RATE)
    with pytest.raises(DatasetError, match="no such dataset; make it with"):
        load_splits(mixed / "elsewhere", sampling_rate=RATE)


def test_same_audio_under_two_names_stays_in_one_split(tmp_path: Path, prepare_config: MakeConfig) -> None:
    """`./a.wav`, a link to it, and segments with different recording names are one file; exact repeats are dropped."""
    for name in ("a.wav", "b.wav"):
        sf.write(tmp_path / name, noise(9, seed=ord(name[0])), RATE)
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    lines: list[dict[str, Any]] = [{"audio_filepath": name, "duration": 9} for name in ("a.wav", "./a.wav", "link.wav")]
    lines += [{"audio_filepath": "a.wav", "offset": 3 * n, "duration": 3, "recording": f"part {n}"} for n in range(3)]
    write_manifest(tmp_path, [*lines, {"audio_filepath": "b.wav", "duration": 9}])
    report = run(prepare_config())
    assert report["dropped"] == {"repeated line": {"clips": 2, "seconds": 18.0}}
    sources = [set(split["source"]) for split in datasets.load_from_disk(str(tmp_path / "dataset")).values()]
    assert sorted(map(sorted, sources)) == [["a.wav"], ["b.wav"]]


def test_duration_without_offset_is_the_first_part(tmp_path: Path, prepare_config: MakeConfig) -> None:
    """A line that states 4 s of a 9 s file means its first 4 s; a rounded duration means the whole file."""
    sf.write(tmp_path / "a.wav", noise(9), RATE)
    sf.write(tmp_path / "b.wav", noise(5.0004, seed=1), RATE)
    write_manifest(tmp_path, [{"audio_filepath": "a.wav", "duration": 4}, {"audio_filepath": "b.wav", "duration": 5.0}])
    run(prepare_config())
    splits = datasets.load_from_disk(str(tmp_path / "dataset"))
    lengths = {row["source"]: row["num_samples"] for split in splits.values() for row in split}
    assert lengths == {"a.wav": 4 * RATE, "b.wav": round(5.0004 * RATE)}


def test_what_decides_the_output_is_noticed(mixed: Path, prepare_config: MakeConfig) -> None:
    """Other audio of the same length, an edited filter, a deleted split: none is taken for up to date."""
    folder = mixed / "plugins"
    folder.mkdir()
    code = (
        "from runyoro_ssl import hookimpl\n"
        "class Keep:\n"
        "    def __call__(self, utterance):\n"
        "        return None\n"
        "@hookimpl\n"
        "def runyoro_manifest_filters(register):\n"
        "    register('keep', Keep)\n"
    )
    (folder / "runyoro_keep.py").write_text(code)
    config = prepare_config(f"plugins.dir={folder}", 'plugins.filters=["keep"]')
    run(config)
    first = json.loads((mixed / "dataset" / "fingerprint.json").read_text())["content_sha256"]
    sf.write(mixed / "plain.wav", noise(5, seed=9), RATE)
    with pytest.raises(
        ConfigError, match=r"made otherwise: 1 of 11 manifest lines, or their files, changed or are gone; add"
    ):
        run(config)
    run(config, overwrite=True)
    assert json.loads((mixed / "dataset" / "fingerprint.json").read_text())["content_sha256"] != first
    (folder / "runyoro_keep.py").write_text(code + "# edited\n")
    with pytest.raises(ConfigError, match=r'made otherwise: the file of filter "keep" \(\w{8}\) -> \(\w{8}\); add'):
        run(config)
    run(config, overwrite=True)
    shutil.rmtree(mixed / "dataset" / "train")
    with pytest.raises(ConfigError, match=r"already holds a dataset; add --overwrite"):
        run(config)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("return False", r'filter "odd" returned False.*a string, or None'),
        ("utterance.waveform[:] = 0", r'filter "odd" failed.*read-only'),
        ("raise SystemExit(0)", r'filter "odd" failed.*SystemExit'),
    ],
)
def test_filter_that_misbehaves_is_named(mixed: Path, prepare_config: MakeConfig, body: str, complaint: str) -> None:
    """A wrong return value, an attempt to change the audio, an exit: never silent, never status 0."""
    folder = mixed / "plugins"
    folder.mkdir()
    (folder / "runyoro_odd.py").write_text(
        "from runyoro_ssl import hookimpl\n"
        f"class Odd:\n    def __call__(self, utterance):\n        {body}\n"
        "@hookimpl\ndef runyoro_manifest_filters(register):\n    register('odd', Odd)\n"
    )
    with pytest.raises(PluginError, match=complaint):
        run(prepare_config(f"plugins.dir={folder}", 'plugins.filters=["odd"]'))


def test_impossible_names_are_counted(tmp_path: Path, prepare_config: MakeConfig) -> None:
    """A name no file can have, and a headerless file, cost one clip each."""
    for name in ("a.wav", "b.wav"):
        sf.write(tmp_path / name, noise(4, seed=ord(name[0])), RATE)
    (tmp_path / "x.raw").write_bytes(b"\0" * 1000)
    odd = ("n" * 300 + ".wav", "zero\0byte.wav", "x.raw")
    write_manifest(tmp_path, [{"audio_filepath": name, "duration": 4} for name in ("a.wav", "b.wav", *odd)])
    report = run(prepare_config())
    assert {reason: drop["clips"] for reason, drop in report["dropped"].items()} == {"unreadable": 2, "missing file": 1}
    assert report["clips_kept"] == 2


def test_one_group_is_refused_before_decoding(tmp_path: Path, prepare_config: MakeConfig) -> None:
    """A single recording, or, where speakers are asked for, a single one: known from the manifest, no file decoded."""
    write_manifest(tmp_path, [{"audio_filepath": f"{n}.wav", "duration": 4, "speaker": "akiiki"} for n in range(3)])
    with pytest.raises(DatasetError, match="split_by=recording"):
        run(prepare_config("prepare.split_by=speaker"))
    write_manifest(tmp_path, [{"audio_filepath": "a.wav", "offset": 4 * n, "duration": 4} for n in range(3)])
    with pytest.raises(DatasetError, match="all 3 clips come from one recording"):
        run(prepare_config())
