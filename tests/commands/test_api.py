"""The tasks as functions: settings as keywords, a result back, errors raised, nothing heavy imported before use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import runyoro_ssl
from conftest import ROOT
from runyoro_ssl import doctor, manifest, plugins, prepare, train
from runyoro_ssl.errors import ConfigError, ManifestError
from runyoro_ssl.prepare.pipeline import Prepared


def test_whole_way(corpus: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """manifest, prepare, train: what each gives back is what it wrote."""
    found = manifest(audio_dir=corpus, output=tmp_path / "m.jsonl", speaker_from="^([^/]+)/", num_workers=1)
    assert (found.num_files, found.output) == (24, tmp_path / "m.jsonl")
    chosen = {"plugins.filters": ["duration"], "prepare.validation_share": 0.2}
    prepared = prepare(
        manifest_path=found.output,
        output_dir=tmp_path / "dataset",
        model_name_or_path=tiny_model,
        set=chosen,
        num_workers=1,
    )
    assert isinstance(prepared, Prepared)
    assert prepared.report["clips_kept"] == 24
    again = prepare(
        manifest_path=found.output, output_dir=tmp_path / "dataset", model_name_or_path=tiny_model, set=chosen
    )
    assert isinstance(again, Prepared)
    assert again.up_to_date
    result = train(
        processed_dataset_path=prepared.output_dir,
        model_name_or_path=tiny_model,
        output_dir=tmp_path / "run",
        profile="cpu-smoke",
        max_steps=2,
        adam_beta2=0.95,
        loggers=["jsonl"],
    )
    assert (result.step, result.ending.kind) == (2, "finished")
    assert result.best["eval/contrastive_loss"] > 0
    assert "adam_beta2 = 0.95" in (tmp_path / "run" / "run.toml").read_text()
    assert "held-out speech" not in capsys.readouterr().out  # what a task shows at its end is the caller's


def test_dry_run_and_tables_come_back() -> None:
    """What the tasks print as tables."""
    assert any(row.name == "duration" and row.is_enabled for row in plugins(no_plugins=True))
    assert any(row[0] == "torch" for row in doctor().libraries)


@pytest.mark.parametrize(
    ("call", "kind", "complaint"),
    [
        (lambda: train(max_stepz=3, profile="cpu-smoke"), ConfigError, 'did you mean "max_steps"'),
        (lambda: train(max_steps="many", profile="cpu-smoke"), ConfigError, 'train.max_steps is "many"'),
        (lambda: prepare(manifest_path="nowhere.jsonl", model_name_or_path="x"), ManifestError, "no such manifest"),
        (lambda: manifest(audio_dir="nowhere"), ConfigError, "nowhere: no such folder"),
        (lambda: prepare(set={"prepare.sede": 1}), ConfigError, 'did you mean "seed"'),
        (lambda: prepare(overwite=True), ConfigError, 'did you mean "overwrite"'),
        (lambda: prepare(profle="cuda"), ConfigError, 'did you mean "profile"'),
        (lambda: manifest(outptu="m.jsonl"), ConfigError, 'did you mean "output"'),
        (lambda: prepare(set=3), ConfigError, "give a mapping"),
        (lambda: prepare(set="prepare.sede=1"), ConfigError, 'did you mean "seed"'),
        (lambda: runyoro_ssl.smoke(sede=1), ConfigError, 'did you mean "seed"'),
        (lambda: runyoro_ssl.bench(sice="small"), ConfigError, 'did you mean "size"'),
    ],
)
def test_mistakes_are_raised_and_not_printed(
    call: object, kind: type[Exception], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the errors of `runyoro_ssl.errors`, with the message that the task would end with."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=complaint):
        call()  # type: ignore[operator]


def test_nothing_heavy_is_imported_before_use() -> None:
    """Whatever was imported before, each name is the task."""
    code = (
        "import sys\n"
        "from runyoro_ssl import bench, doctor, manifest, plugins, prepare, smoke, train\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'pyarrow', 'soundfile', 'accelerate'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
        "import runyoro_ssl.prepare.manifest, runyoro_ssl.train.optim\n"
        "from runyoro_ssl import prepare as again, train as once_more\n"
        "assert callable(again) and callable(once_more) and callable(bench)\n"
        "import inspect; assert 'given' in inspect.signature(train).parameters\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
