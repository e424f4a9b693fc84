"""The three ways to a task: `invoke`, `runyoro-ssl`, `python -m runyoro_ssl`; and what is said of a mistyped word."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tasks
from conftest import ROOT
from runyoro_ssl.commands.tasks import ALL, HELP
from runyoro_ssl.train.__main__ import as_task

RunTask = Callable[[str], tuple[int, str, str]]
INVOKE = [sys.executable, "-m", "invoke"]
MODULE = [sys.executable, "-m", "runyoro_ssl"]


def start(command: list[str], *, cwd: Path = ROOT) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command, in a terminal of 100 columns."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", [["--list"], []])
def test_tasks_are_listed(words: list[str], tmp_path: Path) -> None:
    """By `--list`, and by nothing at all; by the module from any folder."""
    for command, cwd in ((INVOKE, ROOT), (MODULE, tmp_path)):
        status, out, err = start([*command, *words], cwd=cwd)
        assert (status, err) == (0, "")
        for name in HELP:
            assert f"  {name} " in out


def test_invoke_has_every_task() -> None:
    """tasks.py names those of the program, and each by its own name."""
    assert sorted(tasks.__all__) == sorted(HELP)
    assert [getattr(tasks, task.name) for task in ALL] == list(ALL)


def test_help_is_the_same_everywhere(tmp_path: Path) -> None:
    """Groups, defaults and choices; only the program's name differs."""
    _, of_invoke, _ = start([*INVOKE, "train", "--help"])
    _, of_module, _ = start([*MODULE, "train", "--help"], cwd=tmp_path)
    assert of_invoke.partition("\n")[2] == of_module.partition("\n")[2]
    for text in ("masking: Which frames the model must predict:", "--learning-rate=FLOAT", "[5e-05]", "--fp16"):
        assert text in of_invoke


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["trian"], 'no task trian (did you mean "train"?); there are: bench, '),
        (["train", "--learnin-rate", "1"], 'train has no option --learnin-rate (did you mean "--learning-rate"?)'),
        (["train", "--learnin_rate=1"], '(did you mean "--learning-rate"?)'),
        (["train", "--max-steps", "--seed", "3"], "--max-steps needs a value"),
        (["train", "--seed"], "--seed needs a value"),
        (["train", "--adam-beta2", "0.9"], "give that setting as --set train.adam_beta2=VALUE"),
        (["train", "--batch_seconds=9"], "give that setting as --set hardware.batch_seconds=VALUE"),
        (["--help", "trian"], 'no task trian (did you mean "train"?)'),
        (["--lst"], 'has no option --lst (did you mean "--list"?)'),
        (["plugins", "--set", "trian.seed=1"], 'no setting "trian" (did you mean "train"?)'),
        (["plugins", "--set", "train.sede=1"], '(did you mean "seed"?)'),
        (["plugins", "--set", "train.mask_time_prob=1"], '(did you mean "masking.mask_time_prob"?)'),
        (["plugins", "--profile", "mps-m5"], '(did you mean "mps-m4"?)'),
        (["plugins", "--set", "plugins.collator=paded"], 'no collator "paded" in the loaded plugins (did you mean'),
        (["bench", "--size", "smal"], '--size is "smal" (did you mean "small"?)'),
    ],
)
def test_mistyped_words_get_their_neighbour(run_task: RunTask, words: list[str], complaint: str) -> None:
    """One line, status 1."""
    status, out, err = run_task(shlex.join(words))
    assert (status, out) == (1, "")
    assert complaint in " ".join(err.split())
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("words", [["trian"], ["train", "--learnin_rate=1"], ["train", "--seed"]])
def test_mistakes_are_the_same_everywhere(words: list[str], tmp_path: Path) -> None:
    """From the real `invoke`, and from the module in another folder."""
    for command, cwd in ((INVOKE, ROOT), (MODULE, tmp_path)):
        status, out, err = start([*command, *words], cwd=cwd)
        assert (status, out) == (1, "")
        assert err.startswith("error ")
        assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_home_that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of users that run services: nothing in it is looked for before a task begins."""
    monkeypatch.setenv("HOME", "/dev/null")
    status, _, err = start([*MODULE, "train", "--max-steps", "many"], cwd=tmp_path)
    assert (status, err.count("\n")) == (1, 1), err


@pytest.mark.parametrize("command", [INVOKE, MODULE])
def test_underscores_are_taken_for_dashes(command: list[str]) -> None:
    """As other trainers write their options: the value is read."""
    status, _, err = start([*command, "train", "--mask_time_prob=often", "--max_steps", "3"])
    assert status == 1
    assert 'masking.mask_time_prob is "often"' in err


def test_plugins_of_the_folder_one_stands_in(tmp_path: Path) -> None:
    """The program from another folder: without `plugins/` there, and with it."""
    status, out, _ = start([*MODULE, "plugins"], cwd=tmp_path)
    assert status == 0
    assert "village" not in out
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "runyoro_village.py").write_text(
        "from runyoro_ssl import hookimpl\n\n@hookimpl\n"
        "def runyoro_manifest_filters(register):\n    register('village', lambda: (lambda utterance: None))\n"
    )
    status, out, _ = start([*MODULE, "plugins"], cwd=tmp_path)
    assert status == 0
    assert "village" in out


def test_the_former_name_of_the_trainer_still_works(tmp_path: Path) -> None:
    """`python -m runyoro_ssl.train` is `python -m runyoro_ssl train`, and takes any setting as an option."""
    status, _, err = start([sys.executable, "-m", "runyoro_ssl.train", "--max-steps", "many"], cwd=tmp_path)
    assert status == 1
    assert 'train.max_steps is "many"' in err
    assert as_task(["--adam-beta2", "0.95", "--batch_seconds=8", "--max-steps", "3", "--sede=1"]) == [
        "train",
        *("--set", "train.adam_beta2=0.95"),
        *("--set", "hardware.batch_seconds=8"),
        *("--max-steps", "3"),
        "--sede=1",
    ]
