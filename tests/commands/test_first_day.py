"""The mistakes of a first day: each is one line, with status 1, that says what to type instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import short_run
from support.trainer import run

RunTask = Callable[[str], tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with nothing in it but a user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("train --lr 1e-5", "did you mean --learning-rate?"),
        ("train --epochs 3", "did you mean --num-train-epochs?"),
        ("train --epoch 3", "did you mean --num-train-epochs?"),
        ("train --step 3", "--logging-steps or --max-steps or --save-steps?"),
        ("train --batch-size 4", "did you mean --per-device-train-batch-size?"),
        ("train --model x", "did you mean --model-name-or-path?"),
        ("train --device mps", "give that setting as --set hardware.device=VALUE"),
        ("train --learning-rte 1", 'did you mean "--learning-rate"?'),
        ("trian", 'did you mean "train"?'),
        ("prepare trian", 'did you mean "train"?'),
        ("manifest --audio-dir my recordings", 'quote both: --audio-dir "my recordings"'),
        ("manifest --audio-dir=my recordings", 'quote both: --audio-dir "my recordings"'),
        ("manifest recordings", "what is recordings? An option goes before it"),
        ("train --max-steps 2 --seed 1 --max-steps 4", "what is 4? --max-steps is given twice"),
        ("train --max-steps=2 --seed 1 --max-steps=4", "what is 4? --max-steps is given twice"),
        ("manifest --audio-dir recordingz", "no such folder; give the folder of your recordings as --audio-dir"),
        ("prepare", "no such manifest; write one with `invoke manifest --audio-dir"),
        ("train", "no such dataset; make it with `invoke prepare"),
        ("train --profile mps-m4", "device mps is not present on this machine (cpu); profiles that work here"),
        ("prepare --set plugins.filters=duration", """a list is needed: --set 'plugins.filters=["duration"]'"""),
        ("prepare --set plugins.filters=duration,snr", """--set 'plugins.filters=["duration", "snr"]'"""),
        ("train \u2014dry-run", "begins with a long dash; type two short ones: --dry-run"),
        ("train --max-steps 5 extra", "what is extra?"),
        ("runs my run other", 'quote both: "run other"'),
        ("manifest --audio-dir . --speaker-from foldr", 'did you mean "folder"?'),
        (
            "train --resume-from-checkpoint lst",
            "lst: no such checkpoint; give `last`, or a folder like",
        ),
        ("train --resume-from-checkpoint last", "there is no run to go on with; give its --output-dir"),
        ("train --learning-rate 5e-5x", 'train.learning_rate is "5e-5x": a number is needed, such as 0.001'),
        ("train --learning-rate 0,00005", "a number is needed, such as 0.001"),
        ("train --num-train-epochs 2.5", 'train.num_train_epochs is "2.5": a whole number is needed'),
        ("train --set hardware.batch_seconds=lots", 'a number is needed, such as 0.001, or "auto"'),
        ("smoke --seed x", '--seed is "x": a whole number is needed'),
        ("train -dry-run", "no such dataset; make it with"),
        ("train -learning_rate=x", "a number is needed"),
        ("prepare --set plugins.filters=[duration,snr]", 'a list is e.g. ["one", "two"]'),
    ],
)
def test_a_line_mends_it(typed: str, said: str, run_task: RunTask) -> None:
    """With the word that was meant, the quotes that lack, or the task that comes first."""
    status, _, err = run_task(typed)
    (line,) = [line for line in err.splitlines() if "profile_chosen" not in line]
    assert (status, said in line) == (1, True), line


def test_underscores_are_dashes(run_task: RunTask) -> None:
    """As Python writes the same names."""
    status, _, err = run_task("prepare --manifest_path nowhere.jsonl")
    assert (status, "nowhere.jsonl: no such manifest" in err) == (1, True)


def test_no_model_is_fetched_for_a_dataset_that_is_not_there(run_task: RunTask) -> None:
    """What is here is looked at first: of 1.27 GB, none is asked for."""
    for typed in ("train", "train --dry-run"):
        _, _, err = run_task(f"{typed} --profile cpu-smoke --model-name-or-path someone/else")
        assert "data/processed/ssl_dataset: no such dataset" in err


def test_from_elsewhere(
    corpus: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_task: RunTask
) -> None:
    """A manifest made from a relative path is read from any folder; a dataset elsewhere is missed by its path."""
    (tmp_path / "recordings").symlink_to(corpus)
    assert run_task("manifest --audio-dir recordings")[0] == 0
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    given = f"--manifest-path ../data/manifest/audio_manifest.jsonl --model-name-or-path {tiny_model}"
    status, out, err = run_task(f"prepare {given} --output-dir ../dataset")
    assert status == 0, err
    assert "../dataset/prepare_report.html" in out
    status, _, err = run_task("train --processed-dataset-path dataset --profile cpu-smoke")
    assert (status, "dataset: no such dataset" in err) == (1, True)


def test_same_output_folder_twice(dataset: Path, tiny_model: Path, tmp_path: Path, run_task: RunTask) -> None:
    """A run is never written over: go on with it, or give another folder."""
    run(short_run(dataset, tiny_model, tmp_path / "run"))
    given = f"--processed-dataset-path {dataset} --model-name-or-path {tiny_model} --profile cpu-smoke"
    status, _, err = run_task(f"train {given} --output-dir run --max-steps 4")
    assert status == 1
    assert "run already holds a run" in err
    assert "for a new one, give another --output-dir, e.g. run-2; to go on with this one, --resume" in err
    status, _, err = run_task(f"train {given} --output-dir run --resume-from-checkpoint last")
    assert (status, "run_is_finished" in err) == (0, True)


def test_same_manifest_twice(corpus: Path, run_task: RunTask) -> None:
    """A list that was made is not replaced unasked."""
    assert run_task(f"manifest --audio-dir {corpus}")[0] == 0
    status, _, err = run_task(f"manifest --audio-dir {corpus}")
    assert (status, "add --overwrite to replace it, or give another --output" in err) == (1, True)


def test_speakers_are_not_lost_unasked(corpus: Path, run_task: RunTask) -> None:
    """The list is made again with new recordings in it, and the option that named the speakers is forgotten."""
    again = f"manifest --audio-dir {corpus} --overwrite"
    assert run_task(f"{again} --speaker-from folder")[0] == 0
    status, _, err = run_task(again)
    assert (status, "names 4 speakers, and this command none: add --speaker-from" in err) == (1, True)
    assert run_task(f"{again} --speaker-from folder")[0] == 0
    for rest in ("[1]\n", "no JSON", '{"speaker": null}\n'):
        damaged = f'{{"audio_filepath": "one.wav"}}\n{rest}'
        Path("other.jsonl").write_text(damaged)
        assert run_task(f"{again} --output other.jsonl")[0] == 0
