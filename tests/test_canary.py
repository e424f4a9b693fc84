"""Canaries: secrets and names planted wherever a user may put them, and looked for in every byte that comes out."""

from __future__ import annotations

import getpass
import json
import shlex
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runyoro_ssl import redaction

RunTask = Callable[[str], tuple[int, str, str]]

SECRETS = {
    "environment variable": "CanaryOfTheEnvironment",
    "plugin option": "CanaryOfAnOption",
    "plugin that tells": "CanaryToldByAPlugin",
    "address in the metadata": "CanaryOfMetadata",
    "address of a recording": "CanaryOfARecording",
    "licence": "CanaryOfALicence",
    "command line": "CanaryOfTheCommand",
}
PRIVATE = {
    "speaker": "CanarySpeaker",
    "recording": "CanaryTape",
    "folder": "CanaryFolder",
    "user": "CanaryUser",
    "host": "CanaryHost",
}
PLUGIN = """
from runyoro_ssl import hookimpl

class Picky:
    def __init__(self, token):
        self.token = token

    def __call__(self, utterance):
        return f"refused by https://me:{self.token}@host" if "Tape3" in utterance.source else None

class Careless(Picky):
    def open(self, run):
        raise ValueError(f"{self.token} was refused, {run.config}")

@hookimpl
def runyoro_manifest_filters(register):
    register("picky", Picky)

@hookimpl
def runyoro_logging_backends(register):
    register("careless", Careless)
"""


@pytest.fixture
def home(corpus: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that names somebody, with recordings, a manifest, a model and a plugin, on a machine that does, too."""
    monkeypatch.setattr(redaction, "_hidden", set())
    monkeypatch.setenv("CANARY_TOKEN", SECRETS["environment variable"])
    for name in ("USER", "LOGNAME"):
        monkeypatch.setenv(name, PRIVATE["user"])
    monkeypatch.setattr(getpass, "getuser", lambda: PRIVATE["user"])
    monkeypatch.setattr(socket, "gethostname", lambda: PRIVATE["host"])
    folder = tmp_path / PRIVATE["folder"]
    (folder / "plugins").mkdir(parents=True)
    (folder / "plugins" / "runyoro_canary.py").write_text(PLUGIN)
    shutil.copytree(tiny_model, folder / "base")
    lines = [{"audio_filepath": f"https://me:{SECRETS['address of a recording']}@host/x.wav", "duration": 3.0}]
    for number, path in enumerate(sorted(corpus.rglob("*.wav"))[::2]):
        name = f"{PRIVATE['recording']}{number}.wav"
        shutil.copy(path, folder / name)
        lines.append(
            {
                "audio_filepath": name,
                "duration": 2.5,
                "speaker": f"{PRIVATE['speaker']}{number % 3}",
                "licence": f"https://host/terms?access_token={SECRETS['licence']}",
                "origin": {"at": [f"https://me:{SECRETS['address in the metadata']}@host/{number}"]},
                "note": f"fetched with {SECRETS['environment variable']}",
            }
        )
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def commands(home: Path) -> list[str]:
    """`prepare` and `train`, with secrets among the options."""
    common = (
        f"--model-name-or-path {home}/base --profile cpu-smoke --set plugins.dir={home}/plugins "
        f"--set plugins.options.picky.token={SECRETS['plugin option']} "
    )
    prepare = (
        f"prepare {common} --manifest-path {home}/m.jsonl --output-dir {home}/out/d --num-workers 1 "
        """--set 'plugins.filters=["duration", "picky"]' --set prepare.validation_share=0.3"""
    )
    train = (
        f"train {common} --processed-dataset-path {home}/out/d --output-dir {home}/out/run --max-steps 2 "
        "--set hardware.batch_seconds=6 --set hardware.update_seconds=6 "
        """--set 'plugins.loggers=["console", "jsonl", "tensorboard", "careless"]' """
        f"""--set 'plugins.options.careless={{token="{SECRETS["plugin that tells"]}"}}'"""
    )
    return [prepare, train]


def holding(canary: str, *places: Path) -> list[str]:
    """Files among these, or below, that have the canary in their name or their bytes."""
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
    return [
        str(file) for file in files if canary in file.name or (file.is_file() and canary.encode() in file.read_bytes())
    ]


def test_no_canary_gets_out(run_task: RunTask, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret in any file or line; no name of a file, place, person or machine in what is published."""
    printed = ""
    for command in commands(home):
        monkeypatch.setattr(sys, "argv", ["invoke", *shlex.split(command), "--hub-token", SECRETS["command line"]])
        status, out, err = run_task(command)
        assert status == 0, err
        printed += out + err
    run = home / "out" / "run"
    assert "logger_disabled" in printed
    assert "--hub-token" in (run / "run.toml").read_text()
    assert (
        len([*run.glob("checkpoint-*"), *run.glob("tensorboard/*"), *(home / "out" / "d.shards").rglob("*.arrow")]) > 2
    )
    for kind, canary in SECRETS.items():
        assert holding(canary, home / "out") == [], kind
        assert canary not in printed, kind

    published = [path for path in run.iterdir() if path.name.startswith(("checkpoint-", "model", "config", "prep"))]
    names = {path.name for path in published}
    assert names == {"checkpoint-2", "model.safetensors", "config.json", "preprocessor_config.json"}
    assert (run / "README.md").read_text()
    for kind in ("speaker", "recording"):
        assert holding(PRIVATE[kind], *published) == [], kind
    models = [path for path in published if path.is_file()]
    for kind, canary in PRIVATE.items():
        assert holding(canary, run / "README.md", *models) == [], kind
    # The search does find what is there.
    assert holding(PRIVATE["speaker"], home / "out" / "d")


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (
            "prepare --manifest-path https://me:{secret}@host/m.jsonl",
            "[redacted]@host/m.jsonl: no such manifest",
        ),
        (
            "prepare --set model.model_name_or_path=https://{secret}@host/model --manifest-path {home}/m.jsonl",
            'model "https://[redacted]@host/model": no such folder',
        ),
        (
            "train --processed-dataset-path {dataset} --model-name-or-path https://me:{secret}@host/model",
            'model "https://[redacted]@host/model": no such folder',
        ),
        (
            "train --processed-dataset-path https://me:{secret}@host/d --model-name-or-path {home}/base",
            "https:/[redacted]@host/d: no such dataset",
        ),
        ("train --set train.max_steps=hf://me:{secret}@host", 'train.max_steps is "hf://[redacted]@host"'),
        (
            "train --set plugins.options.x.token={secret} --set plugins.dir={home}/plugins",
            'no plugin has the name "x"',
        ),
        (
            "train --set plugins.options.x.token={secret} --set plugins.options.x=3",
            'plugins.options.x is "3"',
        ),
        ("plugins --set plugins.options.x={{token='{secret}'}}", 'plugins.options.x is "{token=[redacted]'),
        ("plugins --set password={secret}", 'no setting "password"'),
        ("doctor --model-name-or-path https://me:{secret}@host/model", 'model "https://[redacted]@host/model"'),
    ],
)
def test_no_canary_in_the_line_of_an_error(
    run_task: RunTask, home: Path, dataset: Path, command: str, complaint: str
) -> None:
    """What is wrong with a setting is said without its credentials."""
    secret = SECRETS["command line"]
    status, out, err = run_task(command.format(secret=secret, home=home, dataset=dataset))
    assert status == 1, err
    assert complaint in " ".join(err.split())
    assert secret not in out + err


def test_address_of_a_dataset_takes_no_credentials(run_task: RunTask, home: Path) -> None:
    """They would go on to libraries; the line says where they belong."""
    secret = SECRETS["command line"]
    status, out, err = run_task(f"prepare --model-name-or-path {home}/base --manifest-path hf://me:{secret}@org/name")
    assert status == 1
    assert "set HF_TOKEN" in " ".join(err.split())
    assert secret not in out + err
