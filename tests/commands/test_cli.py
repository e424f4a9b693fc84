"""The tasks as a user runs them: exit statuses, one-line errors, what is printed."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT
from runyoro_ssl import logs
from runyoro_ssl.commands.ending import command
from runyoro_ssl.errors import RunyoroError
from runyoro_ssl.processes import in_words

RunTask = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("manifest --audio-dir nowhere", "nowhere: no such folder"),
        ("manifest --bogus", "invoke manifest has no option --bogus"),
        ("manifest --audio-dir . --num-workers three", 'hardware.num_workers is "three"'),
        ("prepare --manifest-path nowhere.jsonl", "no such manifest"),
        ("prepare --profile mps-m5", 'did you mean "mps-m4"?'),
        ("prepare --max-duration-sec long", 'prepare.max_duration_sec is "long"'),
        ("train --profile cpu-smoke --processed-dataset-path nowhere --model-name-or-path {model}", "no such dataset"),
        (
            "train --profile cpu-smoke --model-name-or-path ./nowhere --processed-dataset-path {dataset}",
            "no such folder",
        ),
        ("train --max-steps many", 'train.max_steps is "many"'),
        ("train --fp16 --bf16", "exclude each other"),
        ("train --fp16 --profile cpu-smoke", "fp16 needs a GPU"),
        ("train --resume-from-checkpoint nowhere --processed-dataset-path {dataset}", "no such checkpoint"),
        ("plugins --set plugins.collator=jpeg", 'no collator "jpeg"'),
        ("plugins --config nowhere.toml", "no such file"),
        ("doctor --verbose", "invoke doctor has no option --verbose"),
        ("smoke --seed x", "seed"),
        ("smoke --audio-dir nowhere", "nowhere: no such folder"),
        ("nonsense", "no task nonsense"),
    ],
)
def test_wrong_input_is_one_line_and_status_1(  # noqa: PLR0917 - fixtures
    run_task: RunTask, tiny_model: Path, dataset: Path, empty_folder: Path, command: str, complaint: str
) -> None:
    """What, where, the value seen; no traceback; nothing written."""
    status, out, err = run_task(command.format(model=tiny_model, dataset=dataset))
    assert status == 1, err
    assert complaint in " ".join((out + err).split())
    assert "Traceback" not in err
    assert not list(empty_folder.iterdir())


def test_whole_way(run_task: RunTask, corpus: Path, tiny_model: Path, tmp_path: Path) -> None:
    """manifest, prepare, train, resume: status 0, tables, files in their places."""
    manifest = f"manifest --audio-dir {corpus} --output {tmp_path}/m.jsonl --speaker-from '^([^/]+)/'"
    prepare = f"prepare --manifest-path {tmp_path}/m.jsonl --output-dir {tmp_path}/d --model-name-or-path {tiny_model}"
    train = (
        f"train --profile cpu-smoke --processed-dataset-path {tmp_path}/d --model-name-or-path {tiny_model} "
        f"--output-dir {tmp_path}/run --mask-time-prob 0.5 --set hardware.batch_seconds=8 --max-steps"
    )
    for line, expected in (
        (manifest, "│ recordings  │ 24 "),
        (prepare, "│   validation "),
        (prepare, "already_prepared"),
        (f"{train} 2", "│ loss, nats per masked frame "),
        (f"{train} 3 --resume-from-checkpoint last --override-mismatch", "resumed step=2"),
    ):
        status, out, err = run_task(line)
        assert status == 0, err
        assert expected in out + err.replace("  ", "")
    assert "mask_time_prob = 0.5" in (tmp_path / "run" / "run.toml").read_text()
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert steps == sorted(steps)
    assert steps[-1] == 3


def test_default_profile_suits_the_machine_and_is_said(run_task: RunTask, tmp_path: Path) -> None:
    """`invoke train` without --profile says which it took."""
    _, _, err = run_task(f"train --output-dir {tmp_path} --model-name-or-path ./nowhere")
    assert "profile_chosen" in err


def rows_of(out: str) -> dict[str, list[str]]:
    """The rows of a printed table by their first cell."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    return {row[0]: row[1:] for row in cells}


def test_plugins_and_doctor_print_their_tables(run_task: RunTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plugin with its source, hook and state; every profile with whether it works here."""
    monkeypatch.chdir(ROOT)
    status, out, _ = run_task("plugins --set 'plugins.filters=[\"loudness\"]'")
    assert status == 0
    rows = rows_of(out)
    assert rows["silence"] == ["filter", "built in", "runyoro_manifest_filters", "no"]
    assert rows["loudness"][1].startswith("plugins/runyoro_loudness_filter.py")
    assert [rows[name][-1] for name in ("loudness", "padded", "csv")] == ["yes", "yes", "no"]
    status, out, _ = run_task("doctor")
    assert status == 0
    rows = rows_of(out)
    assert rows["cpu-smoke"] == ["cpu", "yes"]
    assert rows["mps-m4"][0] == "mps"
    assert {"FFmpeg, by PyAV", "memory"} <= rows.keys()


def test_bug_shows_its_traceback_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not the user's to mend is a bug, and says so."""

    @command
    def buggy() -> None:
        raise LookupError("inner")

    with pytest.raises(SystemExit) as stopped:
        buggy()
    err = capsys.readouterr().err
    assert stopped.value.code == 2
    assert "Traceback" in err
    assert "please report" in err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "/data/x"), "No space left on device"),
        (RunyoroError("mend [me]"), "mend [me]"),
        (MemoryError("Unable to allocate 9 GiB"), "too little memory, or a limit on it"),
        (
            ImportError("lib.so: failed to map segment from shared object"),
            "a limit on it (ulimit -v, that of a job) (lib.so",
        ),
    ],
)
def test_mendable_errors_are_status_1(capsys: pytest.CaptureFixture[str], error: Exception, said: str) -> None:
    """A full disk is one line too; brackets in a message are not markup."""

    @command
    def failing() -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        failing()
    err = capsys.readouterr().err
    assert stopped.value.code == 1
    assert said in err
    assert "Traceback" not in err


def test_a_link_to_itself_is_named(run_task: RunTask, tmp_path: Path) -> None:
    """Wherever a path is asked for."""
    (tmp_path / "loop").symlink_to("loop")
    for words in (
        f'train --dry-run --set \'train.sources=[{{path="a"}}, {{path="{tmp_path}/loop"}}]\'',
        f"prepare --manifest-path {tmp_path}/none.jsonl --output-dir {tmp_path}/loop",
    ):
        status, _, err = run_task(words)
        assert status == 1, err
        assert err.count("error") == 1


def test_want_of_addresses_that_c_code_hides(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bug, where they are limited; else it is."""

    @command
    def failing() -> None:
        raise SystemError("error return without exception set")

    for limit, status in ((1 << 30, 1), (resource.RLIM_INFINITY, 2)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        with pytest.raises(SystemExit) as stopped:
            failing()
        assert stopped.value.code == status
        assert ("too little memory" in capsys.readouterr().err) == (status == 1)


def test_secrets_stay_out_of_messages_and_logs(capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens and credentials in URLs are replaced, by key or by look."""
    logs.configure()
    logs.get_logger().info("fetching", url="https://me:hunter2@example.org/x", hf_token="abc")  # noqa: S106
    logs.get_logger().info("found hf_AbCdEfGhIjKlMn in the environment")
    err = capsys.readouterr().err
    assert "example.org" in err
    for secret in ("hunter2", "abc", "hf_AbCd"):
        assert secret not in err


@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long), (signal.SIGINT, 130)]
)
def test_signal_ends_the_real_program_after_saving(
    dataset: Path, tiny_model: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """A started `invoke train` that is told to stop saves, says how to go on, and exits 128 + signal."""
    command = [sys.executable, "-m", "invoke", "train", "--profile", "cpu-smoke", "--max-steps", "100000"]
    command += ["--processed-dataset-path", str(dataset), "--model-name-or-path", str(tiny_model)]
    command += ["--output-dir", str(tmp_path / "run"), "--logging-steps", "1", "--set", "hardware.update_seconds=8"]
    command += ["--dataloader-num-workers", "1"]
    # A session of its own, and the signal to its whole group: loader workers get it too, as from Ctrl-C.
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        log = tmp_path / "run" / "metrics.jsonl"
        for _ in range(1200):
            if log.exists() and log.read_text().count("train/objective") >= 2:
                break
            time.sleep(0.1)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
    assert log.exists(), err
    assert process.returncode == status, err
    assert f"stopped by {in_words(number)} at step" in err
    assert "--resume-from-checkpoint last" in " ".join(err.split())
    assert list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGXCPU])
def test_notices_of_batch_systems_clean_up(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    """In tasks other than a run, and in one that has not begun: as SIGTERM; by default they end it at once."""
    cleaned: list[bool] = []

    @command
    def task() -> None:
        try:
            assert signal.getsignal(number) != signal.SIG_DFL
            os.kill(os.getpid(), number)
            time.sleep(1)
        finally:
            cleaned.append(True)

    with pytest.raises(SystemExit) as ended:
        task()
    assert (ended.value.code, cleaned) == (128 + number, [True])
    assert "terminated; nothing unfinished was kept" in capfd.readouterr().err
    assert signal.getsignal(number) == signal.SIG_DFL


@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_a_destructor_is_not_lost(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    """Python prints what is raised there, and goes on; so it is where libsndfile calls back."""

    class Signalled:
        def __del__(self) -> None:
            signal.raise_signal(number)

    @command
    def work() -> None:
        Signalled()
        for _ in range(100):
            time.sleep(0.1)

    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == 128 + number
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_preparation_without_leftovers(
    tiny_model: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """`invoke prepare` told to stop leaves no worker and no dataset; what is done stays, to go on with."""
    import numpy as np
    import soundfile as sf

    lines = []
    sf.write(tmp_path / "0.flac", np.random.default_rng(0).normal(0, 0.1, 48_000 * 60), 48_000)
    for index in range(40):
        if index:
            (tmp_path / f"{index}.flac").hardlink_to(tmp_path / "0.flac")
        lines.append(json.dumps({"audio_filepath": f"{index}.flac", "duration": 60.0}) + "\n")
    (tmp_path / "m.jsonl").write_text("".join(lines))
    command = [sys.executable, "-m", "invoke", "prepare", "--manifest-path", str(tmp_path / "m.jsonl")]
    command += ["--output-dir", str(tmp_path / "d"), "--model-name-or-path", str(tiny_model), "--num-workers", "1"]
    command += ["--segment", "fixed", "--set", "prepare.shard_seconds=60"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        for _ in range(1200):
            if any(tmp_path.glob("d.shards/*/*.arrow")):
                break
            time.sleep(0.05)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "nothing unfinished was kept" in err
    assert any(tmp_path.glob("d.shards/*/*.json"))
    assert not (tmp_path / "d").exists()


WINDOWS = """
import platform, sys
import invoke, psutil, structlog, rich.progress  # what they take of the system is not ours
sys.modules.update(fcntl=None, resource=None)
platform.system = lambda: "Windows"
from runyoro_ssl.__main__ import main
sys.argv = ["runyoro-ssl", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [(["--list"], 0, "prepare"), (["train", "--help"], 0, "--max-steps"), (["train"], 1, "install it in WSL2")],
)
def test_windows_is_told_what_works(arguments: list[str], status: int, said: str) -> None:
    """What needs no more than Windows has works; a task says in one line why not, and what instead."""
    command = [sys.executable, "-c", WINDOWS, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert said in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bogus"], "has no option --bogus"),
        (["--max-steps", "--seed", "3"], "--max-steps needs a value"),
        (["--set", "train.max_steps=true"], "needs a value"),
    ],
)
def test_module_form_reports_mistakes_as_the_task_does(arguments: list[str], complaint: str) -> None:
    """`python -m runyoro_ssl.train`: one line, status 1."""
    command = [sys.executable, "-m", "runyoro_ssl.train", "--profile", "cpu-smoke", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert complaint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_paths_are_no_markup(run_task: RunTask, corpus: Path, tmp_path: Path) -> None:
    """Brackets, commas and accents in a path are printed as they are."""
    folder = tmp_path / "[interviews] a, é"
    status, out, err = run_task(f"manifest --audio-dir {corpus} --output '{folder}/m.jsonl'")
    assert status == 0, err
    assert "[interviews]a,é" in "".join(out.split())  # a long path is folded
