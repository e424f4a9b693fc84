"""The task `convert`, and files of fairseq2 given as a model: from the file to a run that has learned from it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from runyoro_ssl.dataset.read import Clips, load_splits
from runyoro_ssl.disk.durable import verify
from runyoro_ssl.errors import ConvertError
from runyoro_ssl.evaluate import both_ways
from runyoro_ssl.evaluate.both_ways import BothWays, listen_both_ways, settle
from runyoro_ssl.foreign import write
from runyoro_ssl.foreign.beside import converted_beside
from runyoro_ssl.foreign.names import FAIRSEQ2
from runyoro_ssl.foreign.note import NOTE
from runyoro_ssl.foreign.write import convert_file
from runyoro_ssl.model.listener import to_listen
from runyoro_ssl.resolve import load_config
from support.disks import resize
from support.foreign import write_foreign

RunTask = Callable[[str], tuple[int, str, str]]
RATE = 16_000


@pytest.fixture
def file(tiny_model: Path, tmp_path: Path) -> Path:
    """A model that knows nothing, as fairseq2 writes one. It has two heads of attention."""
    return write_foreign(tiny_model, tmp_path / "omni.pt", FAIRSEQ2)


@pytest.fixture
def num_heads(tiny_model: Path) -> int:
    """Of that model."""
    return int(json.loads((tiny_model / "config.json").read_text())["num_attention_heads"])


@pytest.fixture
def _guesses_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(both_ways, "MIN_BELOW_GUESSING", -100.0)


@pytest.mark.usefixtures("_guesses_pass")
def test_from_the_file_to_a_run(run_task: RunTask, file: Path, num_heads: int, dataset: Path, tmp_path: Path) -> None:
    """What was converted is heard, once, before the first step; its run is like any other."""
    status, out, err = run_task(f"convert {file} --num-heads {num_heads}")
    assert status == 0, err
    assert "fairseq2" in out
    assert "0.57" in out  # 2 x 0.999995 ^ 250,000
    folder = file.with_suffix("")
    train = f"train --profile cpu-smoke --processed-dataset-path {dataset} --output-dir {tmp_path}/run"
    train += f" --model-name-or-path {file}"
    status, out, err = run_task(f"{train} --max-steps 2")
    assert status == 0, err
    assert err.count("model_heard") == 1
    assert json.loads((folder / NOTE).read_text())["heard"]["seconds"] > 0
    status, out, err = run_task(f"{train} --max-steps 3 --resume-from-checkpoint last --override-mismatch")
    assert status == 0, err
    assert "model_heard" not in err


@pytest.mark.usefixtures("_guesses_pass")
def test_heard_before_it_chooses_donors(
    *, run_task: RunTask, file: Path, num_heads: int, corpus: Path, dataset: Path, tmp_path: Path
) -> None:
    """As before it learns; `embed` has no dataset, and says that it was not heard."""
    assert run_task(f"convert {file} --num-heads {num_heads}")[0] == 0
    folder = file.with_suffix("")
    recording = next(corpus.rglob("*.wav"))
    _, _, err = run_task(f"embed {recording} --model {file} --output {tmp_path}/f.npz --profile cpu-smoke")
    assert "model_not_heard" in err
    assert f"invoke convert {file} --output-dir {folder} --data DATASET" in err
    status, _, err = run_task(
        f"donors --target {dataset} --pool {dataset} --model-name-or-path {file} --output-dir {tmp_path}/d "
        f"--cache-dir {tmp_path}/c --profile cpu-smoke"
    )
    assert status == 1, err  # the pool is the target
    assert "heard" in json.loads((folder / NOTE).read_text())


def test_preparing_for_a_file(run_task: RunTask, file: Path, corpus: Path, tmp_path: Path) -> None:
    """It is not converted yet: all that is asked is the rate, which such files have in common."""
    assert run_task(f"manifest --audio-dir {corpus} --output {tmp_path}/m.jsonl")[0] == 0
    status, _, err = run_task(
        f"prepare --manifest-path {tmp_path}/m.jsonl --output-dir {tmp_path}/ds --model-name-or-path {file} --dry-run"
    )
    assert status == 0, err
    assert not file.with_suffix("").exists()
    prepare = f"prepare --manifest-path {tmp_path}/m.jsonl --output-dir {tmp_path}/ds --model-name-or-path"
    status, _, err = run_task(f"{prepare} {file.name}")
    assert status == 1
    assert f'model "{file.name}": no such file; check the path' in err


@pytest.mark.usefixtures("_guesses_pass")
def test_heard_while_it_is_converted(run_task: RunTask, file: Path, num_heads: int, dataset: Path) -> None:
    """Its losses both ways are told, and kept."""
    status, out, err = run_task(f"convert {file} --num-heads {num_heads} --data {dataset}")
    assert status == 0, err
    assert "loss on your clips, as they are" in out
    assert "heard" in json.loads((file.with_suffix("") / NOTE).read_text())
    assert verify(file.with_suffix("")) is None


@pytest.mark.usefixtures("_guesses_pass")
def test_converted_again_it_is_only_heard(run_task: RunTask, file: Path, num_heads: int, dataset: Path) -> None:
    """The same table; before several processes train, one does this."""
    convert = f"convert {file} --num-heads {num_heads}"
    first = run_task(convert)
    weights = file.with_suffix("") / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert first[0] == 0, first[2]
    assert run_task(convert)[:2] == first[:2]
    status, _, err = run_task(f"convert {file} --num-heads {2 * num_heads}")
    assert status == 1
    assert f"was made with {num_heads} heads of attention, not {2 * num_heads}; remove it" in err
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WORLD_SIZE", "2")
        status, _, err = run_task(f"train --processed-dataset-path {dataset} --model-name-or-path {file}")
        assert status == 1
        (advice,) = re.findall(r"before several: `invoke (convert .*?)`", err)
    status, out, err = run_task(advice)
    assert status == 0, err
    assert "loss of guessing" in out
    assert weights.stat().st_mtime_ns == written


def test_a_model_that_guesses_is_refused(run_task: RunTask, file: Path, num_heads: int, dataset: Path) -> None:
    """It is damaged, or no model of speech: nothing is left of it."""
    status, _, err = run_task(f"convert {file} --num-heads {num_heads} --data {dataset}")
    assert status == 1
    assert "guesses on your speech" in err
    assert not file.with_suffix("").exists()


def test_what_is_foretold_better_is_done(file: Path, num_heads: int, tmp_path: Path) -> None:
    """The feature extractor normalises clips, or does not."""
    folder = convert_file(file, tmp_path / "it", num_heads=num_heads).folder
    for normalised, as_they_are in ((3.0, 2.5), (2.5, 3.0)):
        settle(folder, BothWays(normalised, as_they_are, guessing=4.6, seconds=60.0))
        extractor = json.loads((folder / "preprocessor_config.json").read_text())
        assert extractor["do_normalize"] == (normalised < as_they_are)
        assert (extractor["sampling_rate"], extractor["return_attention_mask"]) == (RATE, True)
    with pytest.raises(ConvertError, match="guesses on your speech"):
        settle(folder, BothWays(math.nan, math.nan, guessing=4.6, seconds=60.0))
    with pytest.raises(ConvertError, match=r"guesses on your speech \(4.50 nats on normalised clips, 4.40 as they are"):
        settle(folder, BothWays(4.5, 4.4, guessing=4.6, seconds=60.0))
    with pytest.raises(ConvertError, match="guesses on your speech"):
        settle(folder, BothWays(math.nan, math.nan, guessing=4.6, seconds=60.0))


def test_both_ways_differ_by_the_normalisation_alone(
    file: Path, num_heads: int, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of clips that are normalised already, both losses are one."""
    folder = convert_file(file, tmp_path / "it", num_heads=num_heads).folder
    clips = Clips(load_splits(dataset, sampling_rate=RATE)["validation"])
    hardware = to_listen(load_config(profile="cpu-smoke").hardware)
    found = listen_both_ways(folder, clips, hardware, sampling_rate=RATE)
    assert found.normalised != found.as_they_are
    assert 0 < found.seconds < 120

    def normalised(self: Clips, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        waveform = read(self, clip, start, num_samples)
        return np.asarray((waveform - waveform.mean()) / waveform.std(), np.float32)

    read = Clips.waveform
    monkeypatch.setattr(Clips, "waveform", normalised)
    again = listen_both_ways(folder, clips, hardware, sampling_rate=RATE)
    assert again.normalised == pytest.approx(again.as_they_are, abs=1e-3)


def test_a_file_is_converted_once(file: Path, num_heads: int) -> None:
    """A folder that was made of another file, or by others, is not taken for it."""
    folder = convert_file(file, file.with_suffix(""), num_heads=num_heads).folder
    assert converted_beside(file) == folder
    os.utime(file, ns=(0, 0))
    with pytest.raises(ConvertError, match=r"was not made from omni\.pt as it is now"):
        converted_beside(file)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(ConvertError, match=r"was not made from omni\.pt"):
        converted_beside(file)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("convert", "convert what? Give the file"),
        ("convert nowhere.pt", "nowhere.pt: no such file"),
        ("convert nowhere.pt --num-heads 0", "--num-heads is"),
        ("convert .", ".: a folder; give the .pt"),
        ("convert ''", ".: a folder; give the .pt"),
        ("convert nowhere.pt --data nowhere", "nowhere: no such dataset"),
        ("train --dry-run --model-name-or-path nowhere.pt", "model nowhere.pt: no such file"),
        ("convert folder.pt", "folder.pt: a folder; give the .pt"),
        ("convert omniasr-w2v-300m", "doctor --fetch --model-name-or-path facebook/omniASR-W2V-300M` fetches and conv"),
        ("convert noending", "would have the name of the file; give another --output-dir"),
        ("convert noending --output-dir noending", "would have the name of the file; give another --output-dir"),
        ("convert nowhere.pt other.pt", "what is other.pt"),
        ("train --model-name-or-path nowhere.pt", "model nowhere.pt: no such file"),
    ],
)
def test_wrong_input(run_task: RunTask, words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line, status 1."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noending").touch()
    (tmp_path / "folder.pt").mkdir()
    status, _, err = run_task(words)
    assert status == 1
    assert said in err


@pytest.mark.parametrize("kind", ["file", "folder", "link to nowhere", "link to itself"])
def test_what_others_have_there_is_left(
    run_task: RunTask, file: Path, num_heads: int, tmp_path: Path, kind: str
) -> None:
    """Nobody is told to remove it: it may be years of work."""
    theirs = tmp_path / "theirs"
    if kind == "file":
        theirs.write_text("years of work")
    elif kind == "folder":
        theirs.mkdir()
    else:
        theirs.symlink_to("theirs" if kind == "link to itself" else "nowhere")
    status, _, err = run_task(f"convert {file} --num-heads {num_heads} --output-dir {theirs}")
    assert status == 1
    assert "it is left as it is" in err
    assert "remove" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["omni.pt", "theirs"]


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("model.safetensors", Path.unlink),
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        (NOTE, lambda path: path.write_text(path.read_text().replace('"num_weights"', '"many"'))),
        (
            NOTE,
            lambda path: path.write_text(re.sub(r'"temperature": [\d.]+', '"temperature": "warm"', path.read_text())),
        ),
    ],
)
def test_a_damaged_folder_is_told(
    run_task: RunTask, file: Path, num_heads: int, name: str, spoil: Callable[[Path], object]
) -> None:
    """Converted again, it is looked at; before, it was said to be well."""
    convert = f"convert {file} --num-heads {num_heads}"
    assert run_task(convert)[0] == 0
    spoil(file.with_suffix("") / name)
    status, _, err = run_task(convert)
    assert status == 1
    assert f"{name}" in err
    assert "and convert" in err
    assert "again" in err


def test_several_processes_do_not_convert(
    run_task: RunTask, file: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would write one folder at once."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = run_task(f"train --processed-dataset-path {dataset} --model-name-or-path {file}")
    assert status == 1
    assert f"convert it once, before this: `invoke convert {file}`" in err


def test_a_dry_run_converts_nothing(run_task: RunTask, file: Path, dataset: Path) -> None:
    """It writes nothing, and says what to do first."""
    status, _, err = run_task(f"train --dry-run --processed-dataset-path {dataset} --model-name-or-path {file}")
    assert status == 1
    assert "convert it once, before this" in err
    assert not file.with_suffix("").exists()


def test_one_converts_at_a_time(file: Path, num_heads: int) -> None:
    """Two runs that begin at once with one model: the second is told, and the first is not disturbed."""
    folder, second = file.with_suffix(""), []

    def again(*given: Any, **named: Any) -> None:
        with pytest.raises(ConvertError, match=r"`invoke convert` is already writing here \(.*wait for it") as refused:
            convert_file(file, folder, num_heads=num_heads)
        second.append(refused)
        save_file(*given, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(write, "save_file", again)
        convert_file(file, folder, num_heads=num_heads)
    assert len(second) == 1
    assert verify(folder) is None
    assert sorted(path.name for path in file.parent.iterdir()) == [folder.name, file.name]


def test_no_room_is_a_line(file: Path, num_heads: int, disk: Path) -> None:
    """Nothing is left, and what is needed is said."""
    resize(disk, 100_000)
    with pytest.raises(ConvertError, match=r"0\.0 GB could not be written .*make room") as refused:
        convert_file(file, disk / "it", num_heads=num_heads)
    assert "\n" not in str(refused.value)
    assert list(disk.iterdir()) == []
