"""`invoke evaluate`: two models on held-out speech, from the command line to a verdict."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import build_tiny_model, short_run, transformers
from runyoro_ssl.config import Config
from runyoro_ssl.evaluate.heard import features
from runyoro_ssl.evaluate.record import EVALUATION, read_evaluation
from support.trainer import run

RunTask = Callable[[str], tuple[int, str, str]]
MakeConfig = Callable[..., Config]


@pytest.fixture
def trained(train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A run of four steps, with two checkpoints; tests stand in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    return run(train_config("run")).output_dir


@pytest.fixture(scope="module")
def one_run(dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a run for tests that change nothing of it."""
    return run(short_run(dataset, tiny_model, tmp_path_factory.mktemp("one") / "run")).output_dir


def test_a_run_beside_its_base(trained: Path, run_task: RunTask) -> None:
    """All that can be measured without labels; a few steps are no evidence. The second time is from the cache."""
    status, out, err = run_task(f"evaluate --adapted {trained}")
    assert status == 0, err
    assert "No evidence" in out
    assert "20 s" in out or "0.3 min" in out
    found = read_evaluation(trained)
    assert found is not None
    numbers = {one.key: one.num_groups for one in found.measures}
    assert (numbers["fit.contrastive_loss"], numbers["units.stability"]) == (6, 0)  # half of six are too few
    assert "intervals over 6 clips" in " ".join(out.split())
    families = {one.family for one in found.measures}
    assert {"fit", "memory", "geometry", "units", "retrieval"} <= families
    assert "model-index" in (trained / "README.md").read_text()
    assert (trained / "report.html").stat().st_size > 10_000
    for one in found.measures:
        assert {"base", "adapted"} <= one.values.keys(), one.key
        assert one.source
    assert {"log-mel", "random"} <= set(found.get("retrieval.dtw").values)  # type: ignore[union-attr]  # it is there
    assert {curve.key for curve in found.curves} >= {"change.cka", "geometry.effective_rank"}
    assert all(len(curve.values["log-mel"]) == 1 for curve in found.curves if curve.key != "change.cka")
    assert "forgetting" in found.left_out
    kept = sorted(Path("data/features").iterdir())
    assert run_task(f"evaluate --adapted {trained}")[0] == 0
    assert sorted(Path("data/features").iterdir()) == kept
    again = read_evaluation(trained)
    assert again is not None
    assert [one.values for one in again.measures] == [one.values for one in found.measures]


def test_what_a_run_replayed_tells_what_it_forgot(
    train_config: MakeConfig, dataset: Path, donor: Path, run_task: RunTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without being asked; a donor tells nothing of that."""
    monkeypatch.chdir(train_config().train.output_dir.parent)
    for role in ("replay", "donor"):
        sources = f'train.sources=[{{path="{dataset}"}}, {{path="{donor}", role="{role}", share=0.2}}]'
        folder = run(train_config(role, sources, "train.max_steps=2")).output_dir
        status, _, err = run_task(f"evaluate --adapted {folder}")
        assert status == 0, err
        found = read_evaluation(folder)
        assert found is not None
        assert ("forgetting" in {one.family for one in found.measures}) == (role == "replay")


def test_a_run_is_found_from_another_folder(
    trained: Path, tiny_model: Path, dataset: Path, run_task: RunTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its dataset and its base are where they were from where it was started."""
    home = trained.parent
    (home / "data").mkdir()
    (home / "data" / "set").symlink_to(dataset)
    (home / "tiny").symlink_to(tiny_model)
    text = (trained / "run.toml").read_text()
    text = text.replace(str(dataset), "data/set").replace(str(tiny_model), "tiny").replace(str(trained), trained.name)
    (trained / "run.toml").write_text(text)
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    assert run_task(f"evaluate --adapted ../{trained.name}")[0] == 0


def test_a_model_beside_itself_differs_in_nothing(trained: Path, dataset: Path, run_task: RunTask) -> None:
    """Every difference is 0, and there is no evidence."""
    status, _, err = run_task(f"evaluate --base {trained} --adapted {trained} --data {dataset} --output-dir out")
    assert status == 0, err
    found = json.loads(Path("out", EVALUATION).read_text())
    assert found["verdict"]["kind"] == "no evidence"
    assert found["verdict"]["sentence"].startswith("Both models are the same")
    assert {one["difference"] for one in found["measures"]} == {0.0}
    assert not (trained / EVALUATION).exists()


def test_which_model_to_keep(trained: Path, run_task: RunTask) -> None:
    """Every checkpoint and the mixtures by the same measures; the best is saved as a plain model."""
    status, out, err = run_task(f"evaluate --run {trained} --interpolate 0.5,1 --average last-2 --save-best kept/best")
    assert status == 0, err
    found = read_evaluation(trained)
    assert found is not None
    names = [one.name for one in found.candidates]
    assert names == [
        "checkpoint-2",
        "checkpoint-4",
        "50 % adapted, 50 % base",
        "100 % adapted, 0 % base",
        "mean of the last 2",
    ]
    assert set(found.best.values()) <= {*names, "base", "adapted"}
    assert [one.same_as for one in found.candidates] == [None, "adapted", None, "adapted", None]
    shown = " ".join(out.split())
    assert f"to keep: {found.best['to keep']}; none of the others is better than base" in shown
    assert f"this is: {found.best['to keep']}" in Path("kept/best/README.md").read_text()
    assert "| base model | final model of the run | this model |" in Path("kept/best/README.md").read_text()
    loaded = load_file("kept/best/model.safetensors")
    assert loaded.keys() == load_file(trained / "model.safetensors").keys()
    whole = next(one for one in found.candidates if one.name == "100 % adapted, 0 % base").values[
        "fit.contrastive_loss"
    ]
    assert whole == pytest.approx(found.get("fit.contrastive_loss").values["adapted"])  # type: ignore[union-attr]
    status, _, err = run_task(f"evaluate --run {trained} --interpolate 0.5 --save-best kept/best")
    assert (status, "kept/best is there" in err) == (1, True)


def test_a_model_that_is_saved_without_a_run_has_no_card(
    trained: Path, tiny_model: Path, dataset: Path, run_task: RunTask
) -> None:
    """That is said, as publishing asks for one."""
    plain = trained.parent / "plain"
    shutil.copytree(trained / "checkpoint-4", plain)
    given = f"--adapted {plain} --base {tiny_model} --data {dataset} --interpolate 0.5 --save-best kept"
    status, out, err = run_task(f"evaluate {given}")
    assert status == 0, err
    assert "kept has no README.md, as no run is known" in " ".join(out.split())


@pytest.mark.long
def test_candidates_leave_the_cache_as_small_as_it_was(
    trained: Path, run_task: RunTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for any, there are never more features than base and one candidate have; with the same numbers."""
    command = f"evaluate --run {trained} --interpolate 0,0.3,0.6 --average last-2"
    assert run_task(command)[0] == 0
    expected = read_evaluation(trained)
    assert len(list(Path("data/features").iterdir())) > 12
    kept: list[int] = []
    compute = features._compute

    def counting(folder: Path, *args: Any, **named: Any) -> None:
        compute(folder, *args, **named)
        kept.append(sum((one / features.META).is_file() for one in Path("none").iterdir()))

    monkeypatch.setattr(features, "_compute", counting)
    monkeypatch.setattr(features, "FeatureCache", partial(features.FeatureCache, max_bytes=0))
    status, _, err = run_task(f"{command} --cache-dir none")
    assert status == 0, err
    found = read_evaluation(trained)
    assert expected is not None
    assert found is not None
    assert [one.values for one in found.candidates] == [one.values for one in expected.candidates]
    assert [one.values for one in found.curves] == [one.values for one in expected.curves]
    assert max(kept) == 12  # clean, with noise and faster, of four
    assert max(kept[12:]) <= 6  # of two
    assert list(Path("none").iterdir()) == []


def test_a_collapsed_model_hurts(trained: Path, run_task: RunTask) -> None:
    """All frames on one code: whatever the loss."""
    collapsed = trained.parent / "collapsed"
    shutil.copytree(trained, collapsed)
    weights = load_file(collapsed / "model.safetensors")
    weights["quantizer.weight_proj.bias"] = 100 * torch.eye(32)[0] + 100 * torch.eye(32)[16]
    save_file(weights, collapsed / "model.safetensors", {"format": "pt"})
    status, out, err = run_task(f"evaluate --adapted {collapsed}")
    assert status == 0, err
    assert "Adapting hurt" in out
    assert "it has collapsed" in " ".join(out.split())


def test_a_model_without_a_head_has_no_loss(trained: Path, run_task: RunTask) -> None:
    """The rest is measured, and it is said what is left out and why."""
    bare = trained.parent / "bare"
    shutil.copytree(trained, bare)
    weights = {
        name: tensor
        for name, tensor in load_file(bare / "model.safetensors").items()
        if not name.startswith(("quantizer", "project"))
    }
    save_file(weights, bare / "model.safetensors", {"format": "pt"})
    status, out, err = run_task(f"evaluate --adapted {bare}")
    assert status == 0, err
    assert "no pre-training head" in " ".join(out.split())
    found = read_evaluation(bare)
    assert found is not None
    assert found.verdict.kind == "no evidence"
    assert found.get("units.stability") is not None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "the usual folder of a run is not there; train first, by"),
        ("--adapted nothing", "--adapted nothing: no such folder"),
        ("--adapted {model}/config.json", "is a file; give its folder"),
        ("--adapted empty --base {model}", "is empty; give a folder with config.json"),
        ("--adapted {run} --base nothing", "--base nothing: no such folder"),
        ("--adapted {run} --base /no/where", 'model "/no/where": no such folder'),
        ("--adapted {run} --base {model}/config.json", "is a file; give its folder"),
        ("--adapted {run} --base empty", "is empty; give a folder with config.json"),
        ("--adapted {hubert} --base {model}", 'is of type "hubert"'),
        ("--adapted {run} --other-data nothing", "--other-data nothing: no such dataset; give the folder that"),
        ("--adapted {run} --other-data empty", "not a prepared dataset"),
        ("--adapted {run} --data empty", "not a prepared dataset"),
        ("--run nothing", "--run nothing: no such folder"),
        ("--run empty", "is empty; give a folder with config.json"),
        ("--adapted {run} --run {model}/config.json", "config.json: no such folder; give that of a run"),
        ("--adapted {run} --run empty", "empty: no checkpoint is in it"),
        ("--adapted {run} --data nothing", "no such dataset"),
        ("--adapted {run} --base {rate}", "take other rates"),
        ("--adapted {run} --max-minutes 0", "greater than 0"),
        ("--adapted {run} --interpolate half", "shares from 0 to 1"),
        ("--adapted {run} --average 3x", "last-N is needed"),
        ("--run {run} --average last-9", "it has 2 checkpoints"),
        ("--adapted {run} --save-best x", "needs something to choose from"),
        ("--base {model} --adapted {model}", "is no run that tells its dataset"),
        ("--adapted {run} --other-data {data}", "of its clips are heard as --data, too"),
        ("--adapted {run} --tier tones", "--tier tones is of alignments"),
        ("--adapted {run} --max-minutes 0.01", "--max-minutes 0.01 is of 1 clips, which are too few"),
        ("--adapted {run} --alignments nowhere", "no such folder of alignments"),
        ("--adapted {run} --output-dir {model}/config.json", "config.json is a file; give a folder"),
        ("--adapted {run} --output-dir {model}/config.json/below", "config.json is a file; give a folder"),
        ("--adapted {run} --cache-dir {model}/config.json/below", "error --cache-dir "),
        ("--adapted {run} --base {wide} --interpolate 0.5", "they do not mix"),
    ],
)
def test_wrong_input_is_a_line(
    *,
    one_run: Path,
    tiny_model: Path,
    dataset: Path,
    run_task: RunTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    said: str,
) -> None:
    """With what to give instead, before anything is heard."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runyoro_ssl.evaluate.run.gather", None)
    Path("empty").mkdir()
    rate = build_tiny_model(Path("8k"), sampling_rate=8_000) if "{rate}" in given else Path()
    wide = build_tiny_model(Path("wide"), intermediate_size=128) if "{wide}" in given else Path()
    transformers.HubertConfig().save_pretrained("hubert")
    places = {"run": one_run, "model": tiny_model, "rate": rate, "wide": wide, "hubert": "hubert", "data": dataset}
    status, _, err = run_task("evaluate " + given.format(**places))
    lines = [line for line in err.splitlines() if "profile_chosen" not in line]
    assert (status, len(lines), said in lines[-1]) == (1, 1, True), err


def test_what_a_run_tells_is_gone(trained: Path, run_task: RunTask) -> None:
    """Its dataset, or its base: a line says which, and what to give."""
    path = trained / "run.toml"
    text = path.read_text()
    for setting, remedy in (("processed_dataset_path", "--data"), ("model_name_or_path", "--base")):
        path.write_text(re.sub(f'{setting} = ".*"', f'{setting} = "/gone/away"', text))
        status, _, err = run_task(f"evaluate --adapted {trained}")
        assert (status, "/gone/away" in err, "is not there; give" in err, remedy in err) == (1, True, True, True), err
