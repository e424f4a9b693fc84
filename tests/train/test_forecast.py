"""`invoke train --dry-run`: the plan, the time and what it takes, measured on the real thing, with nothing written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl.config import AdapterConfig, Config, ModelConfig
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.model.load import load_model_config
from runyoro_ssl.model.memory import count_parameters
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.train import disk_space
from runyoro_ssl.train import forecast as forecasting
from runyoro_ssl.train.download import missing_download
from runyoro_ssl.train.forecast import Forecast, _too_large_to_load, forecast
from support.disks import resize
from support.trainer import build, run

MakeConfig = Callable[..., Config]
RunTask = Callable[[str], tuple[int, str, str]]
GIB = 1 << 30


def told(config: Config) -> tuple[Forecast, dict[str, str]]:
    """What is said of a run, and its rows by name."""
    found = forecast(config, load_plugins(config))
    return found, {name: value for name, value in found.rows}  # noqa: C416 - rows are lists


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def command(config: Config) -> str:
    """The command line of a configuration's run."""
    train, hardware = config.train, config.hardware
    return (
        f"train --dry-run --profile cpu-smoke --processed-dataset-path {train.processed_dataset_path} "
        f"--model-name-or-path {config.model.model_name_or_path} --output-dir {train.output_dir} --max-steps 40 "
        f"--set hardware.batch_seconds={hardware.batch_seconds} --set hardware.update_seconds={hardware.update_seconds}"
    )


def test_table_and_status(train_config: MakeConfig, run_task: RunTask, tmp_path: Path, dataset: Path) -> None:
    """Clips, steps, epochs, micro-batches, intervals in minutes, checkpoints with their size, time, memory, disk."""
    config = train_config("run")
    before = tree(tmp_path), tree(dataset)
    status, out, err = run_task(command(config))
    assert status == 0, err
    assert (tree(tmp_path), tree(dataset)) == before
    assert "checkpoint_saved" not in err
    assert "fits" in out
    found, rows = told(train_config("run", "train.max_steps=40", "train.save_steps=8"))
    assert (tree(tmp_path), tree(dataset)) == before
    assert rows["training data"].startswith("18 clips")
    assert re.fullmatch(r"40, each of \d+ s of audio; \S+ epochs; from step 0", rows["steps"])
    assert "micro-batches an epoch" in rows["plan"]
    assert rows["checkpoint"].startswith("every 8 steps (")
    assert rows["checkpoints in all"] == "5 by steps, 0.3 MiB each"
    assert ": if it started now, until " in rows["time"]
    assert "; measured on " in rows["step"]
    assert " predicted, at most " in rows["memory"]
    assert " are needed" in rows["memory free"]
    (on_disk,) = (value for name, value in rows.items() if name == "disk")
    assert "free: 5 checkpoints of 0.3 MiB" in on_disk
    assert (rows["fits"], found.problem) == ("yes", None)


def test_time_is_that_of_the_run(train_config: MakeConfig) -> None:
    """As measured: by the updates left and the validations, of a fresh run and of one that goes on."""
    found, _ = told(train_config("fresh", "train.max_steps=1000"))
    assert found.seconds is not None
    half, rows = told(train_config("half", "train.max_steps=500", "train.save_steps=500"))
    assert half.seconds is not None
    assert 0.1 * found.seconds < half.seconds < found.seconds
    assert rows["validation"] == "at the end"


def test_resumed_run_is_told_from_where_it_is(train_config: MakeConfig, capfd: pytest.CaptureFixture[str]) -> None:
    """Of what is left; a damaged checkpoint stays where it is, for the real run to set aside.

    Where a run is and none is resumed, a new one is told of, and that it needs another folder.
    """
    settings = ("train.max_steps=4", "train.resume_from_checkpoint=last")
    out = run(train_config("run", *settings)).output_dir
    assert told(train_config("run", *settings))[1]["time"] == "nothing is left to train"
    (out / "model.safetensors").unlink()
    (out / "checkpoint-4" / "config.json").write_text("damaged")
    before = tree(out)
    found, rows = told(train_config("run", *settings))
    assert "from step 2" in rows["steps"]
    assert (tree(out), found.problem) == (before, None)
    found, rows = told(train_config("run"))
    assert ("from step 0" in rows["steps"], found.problem, tree(out)) == (True, None, before)
    assert "for a new one, give another --output-dir, e.g." in capfd.readouterr().out


def test_run_too_large_for_memory(train_config: MakeConfig, run_task: RunTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 1 and a line with the setting to lower; not one update is tried. Weights alone too large: not loaded."""
    monkeypatch.setattr(forecasting, "measure", lambda _: pytest.fail("tried"))
    monkeypatch.setattr(forecasting, "free_memory", lambda _: 1 << 20)
    status, out, err = run_task(command(train_config("run")))
    assert status == 1
    assert "not measured" in out
    assert "memory: the run takes" in err
    assert "hardware.batch_seconds" in err
    monkeypatch.setattr(forecasting, "build_run", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr(forecasting, "free_memory", lambda _: 1000)
    assert run_task(command(train_config("run")))[0] == 1


def test_disk_too_small(train_config: MakeConfig, disk: Path) -> None:
    """What the checkpoints that stand there at once take, of what is free, and what to do."""
    resize(disk, 35 << 19)  # 16 MiB are counted for logs and the file system
    small = f"train.output_dir={disk / 'run'}"
    found, rows = told(train_config("run", "train.max_steps=40", small))
    assert found.problem is not None
    assert "5 checkpoints of 0.3 MiB (those kept, the best, one being written)" in found.problem
    assert found.problem.endswith("make room, or a lower --save-total-limit")
    assert rows["fits"] == f"no: {found.problem}"
    assert told(train_config("run", "train.max_steps=40", small, "train.save_total_limit=1"))[0].problem is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--save-steps 0", "train.save_steps"),
        ("--processed-dataset-path nowhere", "nowhere"),
        ("--dry-rum", "--dry-run"),
        ("--logging-steps often", "logging_steps"),
    ],
)
def test_wrong_input_is_a_line(train_config: MakeConfig, run_task: RunTask, options: str, said: str) -> None:
    """Status 1; the option is named."""
    status, _, err = run_task(f"{command(train_config('run'))} {options}")
    assert status == 1
    assert said in err
    assert "Traceback" not in err


def test_weights_that_adapters_halve_are_counted_so(train_config: MakeConfig) -> None:
    """On CUDA, where frozen matrices are held as autocast casts them, half the bytes may do; elsewhere not."""
    config = train_config("run", "adapter.kind=lora")
    weights = 4 * count_parameters(load_model_config(config.model))
    on_cuda = config.model_copy(update={"hardware": config.hardware.model_copy(update={"device": "cuda"})})
    whole = on_cuda.model_copy(update={"adapter": AdapterConfig()})
    assert [bool(_too_large_to_load(each, weights - 1)) for each in (config, on_cuda, whole)] == [True, False, True]
    (problem,) = _too_large_to_load(on_cuda, weights // 4)
    assert "the model does not fit; close what else takes memory there, or use" in problem
    assert "--adapters" not in problem


def test_real_run_is_refused_where_not_one_checkpoint_fits(train_config: MakeConfig, disk: Path) -> None:
    """At once, with what it takes; nothing is written."""
    resize(disk, 256 << 10)
    with pytest.raises(TrainingError, match=r"a checkpoint of this model takes 0.3 MiB .* free: make room"):
        run(train_config("run", f"train.output_dir={disk / 'run'}"))
    assert list(disk.iterdir()) == []


def test_real_run_warns_where_not_all_fit(
    train_config: MakeConfig, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on: there may be room by then."""
    warned: list[dict[str, Any]] = []
    monkeypatch.setattr(disk_space.log, "warning", lambda event, **words: warned.append({"event": event, **words}))
    resize(disk, 35 << 19)
    for limit in (0, 1):
        settings = (f"train.output_dir={disk / 'run'}", "train.max_steps=40", f"train.save_total_limit={limit}")
        disk_space.check_space(build(train_config("run", *settings)))
    assert [line["event"] for line in warned] == ["disk_may_fill"]
    assert "20 checkpoints of 0.3 MiB (all are kept)" in warned[0]["needed"]
    assert "--save-total-limit" in warned[0]["advice"]


def test_download_is_counted(train_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hub model that is not in the cache; none of a folder, or of what is there. Without room it is not begun."""
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    needed = missing_download(ModelConfig(model_name_or_path="facebook/wav2vec2-xls-r-300m"))
    assert needed is not None
    assert (needed.folder, needed.num_bytes) == (cache, 1_269_737_156)
    unknown = missing_download(ModelConfig(model_name_or_path="somebody/model"))
    assert unknown is not None
    assert unknown.words() == "download of somebody/model: size not known"
    assert missing_download(ModelConfig(model_name_or_path=str(tmp_path))) is None
    assert missing_download(ModelConfig(model_name_or_path="/no/such/folder")) is None
    snapshot = cache / "models--somebody--model" / "snapshots" / ("12ab" * 10)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (snapshot / name).write_text("")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("12ab" * 10)
    assert missing_download(ModelConfig(model_name_or_path="somebody/model")) is None
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: 1 * GIB)
    monkeypatch.setattr(forecasting, "load_model_config", lambda _: pytest.fail("asked the hub"))
    found, rows = told(train_config("run", "model.model_name_or_path=facebook/wav2vec2-xls-r-300m"))
    assert found.problem is not None
    assert "1.18 GiB of 1.00 GiB free: download of facebook/wav2vec2-xls-r-300m: 1.18 GiB" in found.problem
    assert set(rows) == {"disk", "fits"}
    assert f"({cache})" in rows["disk"]
    shutil.rmtree(cache)
