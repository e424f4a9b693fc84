"""Features and units of recordings: those of plain transformers, whatever the length; and what is refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from praatio import textgrid
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from conftest import build_tiny_model, transformers
from runyoro_ssl import embed
from runyoro_ssl.audio.decode import decode
from runyoro_ssl.embed.encoder import choose_layers, features_of, load_encoder
from runyoro_ssl.embed.units import Units, find_units, stretches
from runyoro_ssl.embed.windows import cut, listen
from runyoro_ssl.errors import EmbedError, RunyoroError
from runyoro_ssl.evaluate.measures.units import Sample, fit_units
from runyoro_ssl.model.frames import Frames
from runyoro_ssl.model.listener import Listener
from runyoro_ssl.resolve import load_config

RunTask = Callable[[str], tuple[int, str, str]]


@pytest.fixture(scope="module")
def files(corpus: Path) -> list[Path]:
    """Three recordings of 2.5 s."""
    return sorted(corpus.rglob("*.wav"))[:3]


@pytest.fixture(scope="module")
def long(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of over a minute, in stereo at 44.1 kHz."""
    parts = [decode(path, sample_rate=44_100) for path in sorted(corpus.rglob("*.wav"))[:20]]
    path = tmp_path_factory.mktemp("long") / "long.flac"
    sf.write(path, np.repeat(np.concatenate(parts)[:, None], 2, axis=1), 44_100)
    return path


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Listener:
    """The tiny model."""
    return load_encoder(load_config(flags={"model": {"model_name_or_path": str(tiny_model)}}))


def reference(model: Path, path: Path) -> np.ndarray:
    """All hidden states of a recording heard whole, by transformers alone. float32 (F, L + 1, H)."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(model)
    plain = transformers.Wav2Vec2Model.from_pretrained(model).eval()
    heard = extractor(decode(path, sample_rate=16_000), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        states = plain(heard.input_values, output_hidden_states=True).hidden_states
    return torch.stack(states, dim=2)[0].numpy()


def windowed(encoder: Listener, path: Path, window_sec: float) -> np.ndarray:
    """The same, window by window."""
    heard, _ = listen(path, encoder.frames, normalize=encoder.normalizes)
    layers = range(encoder.num_layers + 1)
    parts = [
        features_of(encoder, one.samples, layers)[one.first : one.last]
        for one in cut(heard, encoder.frames, window_sec)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize(
    "overrides",
    [{}, {"do_stable_layer_norm": False, "feat_extract_norm": "group", "conv_bias": False}],
    ids=["layer norms", "group norm"],
)
def test_features_are_those_of_transformers(files: list[Path], tmp_path: Path, overrides: dict[str, Any]) -> None:
    """Every layer, of a recording that one window holds; its frames at their times."""
    model = build_tiny_model(tmp_path / "model", **overrides)
    embed(files=files, model=model, layer="all", output=tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as found:
        assert found["layers"].tolist() == [0, 1, 2]
        for path in files:
            features, times = found[f"{path.name}/features"], found[f"{path.name}/times"]
            assert features.dtype == np.float32
            np.testing.assert_allclose(features, reference(model, path), atol=2e-5)
            np.testing.assert_allclose(times, (np.arange(len(features)) * 320 + 200) / 16_000)


def test_a_layer_is_chosen(files: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    """Two thirds of the way up, unless another is asked for."""
    whole = reference(tiny_model, files[0])
    for layer, index in ((None, 1), ("0", 0), ("2", 2), ("last", 2)):
        output = tmp_path / f"{layer}.npz"
        assert embed(files=files[0], model=tiny_model, layer=layer, output=output).layers == [index]
        with np.load(output) as found:
            np.testing.assert_allclose(found[f"{files[0].name}/features"], whole[:, index], atol=2e-5)
    assert [choose_layers(None, count) for count in (12, 24)] == [[8], [16]]


def test_parquet_has_a_row_for_each_frame_and_layer(files: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    """The same numbers."""
    embed(files=files, model=tiny_model, layer="all", output=tmp_path / "f.parquet")
    table = parquet.read_table(tmp_path / "f.parquet").to_pydict()
    rows = list(zip(table["file"], table["time_sec"], table["layer"], table["features"], strict=True))
    for path in files:
        whole = reference(tiny_model, path)
        mine = [row for row in rows if row[0] == path.name]
        assert [(row[1], row[2]) for row in mine] == [
            (pytest.approx((frame * 320 + 200) / 16_000), layer) for frame in range(len(whole)) for layer in range(3)
        ]
        np.testing.assert_allclose([row[3] for row in mine], whole.reshape(-1, 32), atol=2e-5)


def test_long_recording_is_heard_in_windows(encoder: Listener, tiny_model: Path, long: Path) -> None:
    """No window is longer than asked; no frame is missing or twice.

    What reaches no further than its margin is equal; what attention adds is near.
    """
    whole = reference(tiny_model, long)
    heard, _ = listen(long, encoder.frames, normalize=True)
    for window_sec in (8.0, 12.0, 30.0):
        windows = list(cut(heard, encoder.frames, window_sec))
        assert max(len(one.samples) for one in windows) <= window_sec * 16_000
        assert [one.start for one in windows[1:]] == [one.start + one.last - one.first for one in windows[:-1]]
        found = windowed(encoder, long, window_sec)
        assert found.shape == whole.shape
        np.testing.assert_allclose(found[:, 0], whole[:, 0], atol=2e-4)
        spread = np.linalg.norm(whole - whole.mean(axis=0), axis=(0, 2))
        assert (np.linalg.norm(found - whole, axis=(0, 2)) < 0.02 * spread).all()
    np.testing.assert_allclose(windowed(encoder, long, 90.0), whole, atol=2e-4)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 398, 399, 400, 401, 533, 534, 535, 800, 1201])
def test_every_frame_is_of_one_window(num_frames: int, tmp_path: Path) -> None:
    """Whatever the length: also where the last window is short."""
    frames = Frames(320, 400, 16_000)
    count = frames.num_samples(num_frames) + 7
    samples = np.random.default_rng(0).normal(size=count).astype(np.float32) / 10
    sf.write(tmp_path / "x.wav", samples, 16_000, subtype="FLOAT")
    heard, _ = listen(tmp_path / "x.wav", frames, normalize=False)
    covered: list[int] = []
    for one in cut(heard, frames, 8.0):
        assert len(one.samples) <= 8.0 * 16_000
        begin = (one.start - one.first) * 320
        np.testing.assert_array_equal(one.samples, samples[begin : begin + len(one.samples)])
        covered += range(one.start, one.start + one.last - one.first)
        assert one.last <= frames.count(len(one.samples))
    assert covered == list(range(num_frames))


def test_units_are_nearest_centres(files: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    """Of every frame of every recording, as stretches without a gap; in a CSV, and as a tier for Praat."""
    output = tmp_path / "u.csv"
    made = embed(files=files, model=tiny_model, units="5", output=output)
    assert made.files.keys() >= {"units"}
    centres = Units.load(tmp_path / "u.centres.npz")
    assert centres.layer == 1
    rows = list(csv.DictReader(output.open()))
    for path in files:
        features = reference(tiny_model, path)[:, 1]
        distances = ((features[:, None] - centres.centres[None]) ** 2).sum(axis=2)
        mine = [row for row in rows if row["file"] == path.name]
        labels = [int(row["unit"]) for row in mine for _ in range(frames_of(row, mine, len(features)))]
        assert labels == distances.argmin(axis=1).tolist()
        assert all(one["end_sec"] == other["start_sec"] for one, other in pairwise(mine))
        grid = textgrid.openTextgrid(
            str(tmp_path / "u.TextGrids" / f"{path.stem}.TextGrid"), includeEmptyIntervals=True
        )
        tier = grid.getTier("units")
        assert [entry.label for entry in tier.entries] == [row["unit"] for row in mine]
        assert [f"{entry.start:.3f}" for entry in tier.entries] == [row["start_sec"] for row in mine]


def frames_of(row: dict[str, str], rows: list[dict[str, str]], num_frames: int) -> int:
    """The number of frames in a stretch."""
    begin = round(float(row["start_sec"]) / 0.02)
    return (num_frames if row is rows[-1] else round(float(row["end_sec"]) / 0.02)) - begin


def test_others_are_labelled_with_the_same_units(files: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    """As they were at first; and features may be written beside."""
    embed(files=files, model=tiny_model, units=7, layer="2", output=tmp_path / "a.csv")
    embed(files=files, model=tiny_model, units=tmp_path / "a.centres.npz", output=tmp_path / "b.npz")
    assert (tmp_path / "b.csv").read_text() == (tmp_path / "a.csv").read_text()
    assert not (tmp_path / "b.centres.npz").exists()
    with np.load(tmp_path / "b.npz") as found:
        np.testing.assert_allclose(found[f"{files[0].name}/features"], reference(tiny_model, files[0])[:, 2], atol=2e-5)
    with pytest.raises(EmbedError, match="of layer 2"):
        embed(files=files, model=tiny_model, units=tmp_path / "a.centres.npz", layer="1", output=tmp_path / "c.csv")
    other = build_tiny_model(tmp_path / "wider", hidden_size=64)
    with pytest.raises(EmbedError, match="32 numbers a frame, this one has 64"):
        embed(files=files, model=other, units=tmp_path / "a.centres.npz", output=tmp_path / "c.csv")
    for alike in (build_tiny_model(tmp_path / "alike"), build_tiny_model(tmp_path / "flat", num_hidden_layers=1)):
        weights = load_file(alike / "model.safetensors")
        save_file({name: 2 * tensor for name, tensor in weights.items()}, alike / "model.safetensors", {"format": "pt"})
        with pytest.raises(EmbedError, match="were found with another model"):
            embed(files=files, model=alike, units=tmp_path / "a.centres.npz", output=tmp_path / "c.csv")


def test_a_recording_that_was_cut_off_is_said(encoder: Listener, long: Path, tmp_path: Path) -> None:
    """By its header; it is used as far as it goes."""
    whole = long.read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    heard, notes = listen(tmp_path / "cut.flac", encoder.frames, normalize=True)
    assert heard.num_samples > 0
    assert "its header says" in " ".join(map(str, notes.flaws))
    assert listen(long, encoder.frames, normalize=True)[1].flaws == []


def test_same_units_every_time(files: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    """By the seed."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        embed(files=files, model=tiny_model, units=5, seed=seed, output=tmp_path / f"{name}.csv")
    first, again, other = (Units.load(tmp_path / f"{name}.centres.npz").centres for name in "abc")
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sample_is_drawn_evenly() -> None:
    """From all frames, whatever comes first; with all of them, units are those of an evaluation."""
    frames = np.arange(10_000, dtype=np.float32)[:, None]
    sample = Sample(1000, np.random.default_rng(0))
    for part in np.array_split(frames, 13):
        sample.show(part)
    assert (sample.num_shown, len(sample.frames)) == (10_000, 1000)
    assert np.unique(sample.frames).size == 1000
    assert abs(sample.frames.mean() - 4999.5) < 3 * 2887 / np.sqrt(1000)
    few = Sample(100_000, np.random.default_rng(0))
    few.show(frames)
    means = fit_units(frames, np.random.default_rng(0), 4)
    np.testing.assert_array_equal(
        find_units(few, 4, 1, seed=0, model="").centres, means.cluster_centers_.astype(np.float32)
    )


def test_stretches() -> None:
    """Frames of one unit in a row are one; the last reaches to the end of the recording."""
    found = list(stretches(np.array([3, 3, 1, 3]), 0.02, 0.0925))
    assert [(round(one.start_sec, 3), round(one.end_sec, 4), one.unit) for one in found] == [
        (0.0, 0.04, 3),
        (0.04, 0.06, 1),
        (0.06, 0.0925, 3),
    ]


def test_names_that_are_alike(files: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    """Are told apart by their folders; a recording that is given twice is one."""
    paths = []
    for number, place in enumerate(("a", "b")):
        (tmp_path / place).mkdir()
        paths.append(tmp_path / place / "x.wav")
        paths[-1].write_bytes(files[number].read_bytes())
    made = embed(files=[*paths, paths[0]], model=tiny_model, units=3, output=tmp_path / "u.csv")
    assert list(made.frames) == [path.as_posix() for path in paths]
    assert len(list((tmp_path / "u.TextGrids").iterdir())) == 2


def test_command_line(files: list[Path], tiny_model: Path, tmp_path: Path, run_task: RunTask) -> None:
    """Recordings stand where they like, before or after options."""
    output = tmp_path / "f.npz"
    status, out, err = run_task(f"embed --overwrite {files[0]} --model {tiny_model} {files[1]} --output={output}")
    assert status == 0, err
    assert str(output) in out
    with np.load(output) as found:
        assert {name for name in found if name.endswith("/times")} == {f"{path.name}/times" for path in files[:2]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "no recording is given"),
        ("nowhere.wav", "nowhere.wav: no such file"),
        ("{folder}", "is a folder"),
        ("{text}", "notes.txt: unreadable"),
        ("{short}", "too short for a frame"),
        ("{file} --layer 3", '--layer is "3"; there are 0'),
        ("{file} --layer top", '--layer is "top"'),
        ("{file} --output {folder}/f.mat", "ends in .npz or .parquet"),
        ("{file} --output {folder}/f.csv", ".csv is for --units"),
        ("{file} --output {folder}/there.npz", "is there; give another --output, or --overwrite"),
        ("{file} --output {folder}/no/f.npz", "there is no folder"),
        ("{file} --units 1", '--units is "1"'),
        ("{file} --units 90", "frames are too few"),
        ("{file} --units 5 --layer all", "--units are of one layer"),
        ("{file} --units {folder}/none.npz", "none.npz: no such file"),
        ("{file} --units {text}", "holds no units"),
        ("{file} --window-sec 2", "--window-sec"),
        ("{file} --model {folder}", "has no preprocessor_config.json"),
    ],
    ids=lambda value: value if "{" in value or not value else "",
)
def test_wrong_words(
    files: list[Path], tiny_model: Path, tmp_path: Path, run_task: RunTask, *, words: str, said: str
) -> None:
    """One line, status 1, and nothing is written."""
    sf.write(tmp_path / "short.wav", np.zeros(100), 16_000)
    (tmp_path / "notes.txt").write_text("no audio at all")
    (tmp_path / "there.npz").write_text("mine")
    text, short = tmp_path / "notes.txt", tmp_path / "short.wav"
    command = f"embed {words.format(file=files[0], folder=tmp_path, text=text, short=short)}"
    command += "" if "--model" in command else f" --model {tiny_model}"
    command += "" if "--output" in command else f" --output {tmp_path}/{'u.csv' if '--units' in command else 'f.npz'}"
    status, _, err = run_task(command)
    assert status == 1, err
    assert said in " ".join(err.split())
    assert {path.name for path in tmp_path.iterdir()} == {"short.wav", "notes.txt", "there.npz"}
    assert (tmp_path / "there.npz").read_text() == "mine"


def test_out_of_memory_is_a_line(encoder: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr("runyoro_ssl.model.listener.encode", fail)
    with pytest.raises(RunyoroError, match=r"does not hold 1 s at once; give a shorter --window-sec"):
        features_of(encoder, np.zeros(16_000, np.float32), [1])
