"""Transcripts: normalised, and only of clips that are the whole of their manifest line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.audio.synth import SAMPLE_RATE, make_lexicon, make_voices, synthesise
from runyoro_ssl.dataset.read import load_splits, read_fingerprint
from runyoro_ssl.evaluate.labels.places import SourcePart, read_stretches
from runyoro_ssl.evaluate.labels.transcripts import (
    EMPTY_TEXT,
    NO_TEXT,
    PIECE,
    normalise,
    read_metadata,
    transcripts_of,
)
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.resolve import load_config

MAX_SEC = 4.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Essaawa zaagenda: okuwera kkumi N\u2019EKITUNDU!", "essaawa zaagenda okuwera kkumi n'ekitundu"),
        ("  Kw\u0301a-2,  “ng'” \u2014 ?", "kẃa 2 ng'"),
        ("\u2018Webale\u2019, yagamba.", "webale yagamba"),
        ("ŊŊ\tÉ\u00a0e", "ŋŋ é e"),
        ("... '", ""),
    ],
)
def test_text_becomes_what_is_heard(text: str, expected: str) -> None:
    """Lower case, NFC, no punctuation but apostrophes in words, digits as they are."""
    assert normalise(text) == expected


@pytest.fixture(scope="module")
def cut_dataset(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Lines with text, prepared: short recordings, one that is cut, and turns of a longer file."""
    folder = tmp_path_factory.mktemp("lines")
    rng = np.random.default_rng(0)
    voices, lexicon = make_voices(3, rng), make_lexicon(6, rng)
    lines = []
    for index, seconds in enumerate([2.5, 2.5, 9.0, 2.5, 2.5, 2.5]):
        words = [lexicon[int(rng.integers(6))] for _ in range(round(seconds / 0.5))]
        wave, _ = synthesise(words, voices[index % 3], rng)
        sf.write(folder / f"{index}.wav", wave, SAMPLE_RATE)
        duration = len(wave) / SAMPLE_RATE
        line = {
            "audio_filepath": f"{index}.wav",
            "duration": duration,
            "speaker": f"s{index % 3}",
            "text": f"Text {index}!",
        }
        lines.append(line)
    turns = np.concatenate([sf.read(folder / f"{index}.wav", dtype="float32")[0] for index in (0, 1, 3)])
    sf.write(folder / "turns.wav", turns, SAMPLE_RATE)
    third = len(turns) / SAMPLE_RATE / 3
    lines += [
        {
            "audio_filepath": "turns.wav",
            "duration": third,
            "offset": third * turn,
            "speaker": "s1",
            "text": f"Turn {turn}",
        }
        for turn in range(3)
    ]
    lines[0]["text"] = " ... "
    del lines[1]["text"]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = load_config(
        profile="cpu-smoke",
        flags={
            "hardware": {"num_workers": 1},
            "model": {"model_name_or_path": str(tiny_model)},
            "prepare": {
                "manifest_path": folder / "manifest.jsonl",
                "output_dir": folder / "dataset",
                "validation_share": 0.3,
                "max_duration_sec": MAX_SEC,
                "min_duration_sec": 0.5,
            },
            "plugins": {"filters": ["duration"]},
        },
    )
    prepare(config, load_plugins(config))
    return folder / "dataset"


def test_a_piece_never_has_the_text_of_its_line(cut_dataset: Path) -> None:
    """Of what `prepare` writes: whole recordings and turns of a file have theirs, pieces have none."""
    splits = load_splits(cut_dataset, sampling_rate=SAMPLE_RATE)
    rows = [row for split in splits.values() for row in split.select_columns(["id", "source"])]
    longest = read_fingerprint(cut_dataset)["settings"]["max_duration_sec"]
    assert longest == MAX_SEC
    found = transcripts_of(
        [row["id"] for row in rows],
        [row["source"] for row in rows],
        read_stretches(cut_dataset, SAMPLE_RATE),
        read_metadata(splits, {row["source"] for row in rows}),
        longest,
    )
    texts = {(row["source"], text) for row, text in zip(rows, found.texts, strict=True)}
    whole = {(f"{index}.wav", f"text {index}") for index in (3, 4, 5)}
    turns = {("turns.wav", f"turn {turn}") for turn in range(3)}
    assert texts == {("0.wav", None), ("1.wav", None), ("2.wav", None), *whole, *turns}
    num_pieces = sum(row["source"] == "2.wav" for row in rows)
    assert num_pieces > 1
    assert found.left_out == {EMPTY_TEXT: 1, NO_TEXT: 1, PIECE: num_pieces}


def test_a_clip_beside_what_was_dropped_may_be_a_piece() -> None:
    """Where both together are longer than a clip may be, the line may have been cut; a shorter one was not."""
    metadata = {name: json.dumps({"text": "a", "offset": 0, "duration": 0}) for name in ("x", "y")}

    def text(*stretches: SourcePart) -> str | None:
        return transcripts_of(["x"], ["f"], {"f": stretches}, metadata, 15.0).texts[0]

    clip = SourcePart(10.0, 16.0, "x")
    assert text(clip) == "a"
    assert text(SourcePart(2.0, 10.0, reason="no speech"), clip) == "a"
    assert text(SourcePart(0.0, 10.0, reason="no speech"), clip) is None
    assert text(SourcePart(0.0, 10.0, reason="no speech"), SourcePart(3.0, 4.0, reason="too short"), clip) is None
    assert text(SourcePart(0.0, 9.5, reason="no speech"), clip) == "a"
    assert text(clip, SourcePart(16.0, 26.0, "y")) is None
    assert text(clip, SourcePart(16.0, 16.1, reason="non-finite samples")) is None
    metadata["y"] = json.dumps({"text": "b", "offset": 0, "duration": 0})
    assert text(clip, SourcePart(16.0, 26.0, "y")) == "a"
