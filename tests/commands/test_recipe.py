"""`train --recipe`: settings for an amount of speech, printed with their sources, and replaced by whatever is given."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl.builtins import augmentations
from runyoro_ssl.commands.given import resolve
from runyoro_ssl.config import Config
from runyoro_ssl.config.recipe import RECIPES, recipe_for
from runyoro_ssl.dataset.layout import REPORT
from runyoro_ssl.errors import ConfigError
from support.trainer import run

UNTOLD = r"does not tell how much speech there is .*give --recipe minutes, hours or days"


def of(name: str, **given: Any) -> Config:
    """The configuration of a run by a recipe."""
    return resolve("train", {"recipe": name, "profile": "cpu-smoke", **given})


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_setting_of_a_recipe_is_one(recipe: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It is in the configuration, and on the screen with where it is from."""
    config = of(recipe.name).model_dump(mode="json")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for one in recipe.advised:
        section, name = one.setting.split(".")
        assert config[section][name] == one.value != Config().model_dump(mode="json")[section][name]
        assert one.setting in said
        assert "arXiv" in one.because
    assert f"Recipe {recipe.name}" in said
    registered: list[str] = []
    augmentations.runyoro_augmentations(lambda name, _: registered.append(name))
    assert set(config["plugins"]["augmentations"]) <= set(registered)


def test_whatever_is_given_replaces_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags, --set and a file; a run of another length has the usual warm-up, and passes are not overruled by steps."""
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nwarmup_steps = 5\n")
    config = of("minutes", learning_rate=1e-4, set=["train.interpolate=[]"], config=file)
    assert (config.train.learning_rate, config.train.warmup_steps, config.train.interpolate) == (1e-4, 5, ())
    assert config.train.max_steps == 8000
    assert "you gave it; the recipe has 5e-06" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    passes = of("minutes", num_train_epochs=3).train
    assert (passes.max_steps, passes.warmup_steps) == (None, None)
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "train.max_steps as usual you gave the length of the run; the recipe has 8000" in said
    short = of("minutes", max_steps=7).train
    assert (short.max_steps, short.warmup_steps) == (7, None)
    assert of("minutes", max_steps=7, warmup_steps=2).train.warmup_steps == 2


def test_one_of_several_processes_shows_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All have its settings."""
    for rank, shown in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert of("minutes").train.max_steps == 8000
        assert ("Recipe minutes" in capsys.readouterr().out) == shown


def test_none_changes_nothing() -> None:
    """Recipes are asked for."""
    assert resolve("train", {"profile": "cpu-smoke"}).train == Config().train.model_copy(
        update={"output_dir": resolve("train", {"profile": "cpu-smoke"}).train.output_dir}
    )


@pytest.mark.parametrize(
    ("hours", "name"), [(0.0, "minutes"), (0.99, "minutes"), (1, "hours"), (19.9, "hours"), (20, "days")]
)
def test_a_recipe_by_hours(hours: float, name: str) -> None:
    """Each amount has one."""
    assert recipe_for(hours).name == name


def test_auto_goes_by_the_dataset(dataset: Path, tmp_path: Path) -> None:
    """By its training split; one that does not tell is named, with what to give."""
    assert of("auto", processed_dataset_path=dataset).train.max_steps == 8000
    other = tmp_path / "large"
    shutil.copytree(dataset, other)
    report = json.loads((other / REPORT).read_text())
    report["splits"]["train"]["seconds"] = 30 * 3600
    (other / REPORT).write_text(json.dumps(report))
    assert of("auto", processed_dataset_path=other).train.max_steps is None
    (other / REPORT).unlink()
    with pytest.raises(ConfigError, match=UNTOLD):
        of("auto", processed_dataset_path=other)
    with pytest.raises(ConfigError, match=r"--recipe is \"weeks\": .*'minutes'"):
        of("weeks")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, *(f'{{"splits": {{"train": {{"seconds": {n}}}}}}}' for n in ("NaN", "1e999", -5, 0, 10**400))],
)
def test_a_report_that_tells_nonsense(dataset: Path, tmp_path: Path, text: str) -> None:
    """No recipe is chosen by it."""
    shutil.copytree(dataset, tmp_path / "dataset")
    (tmp_path / "dataset" / REPORT).write_text(text)
    with pytest.raises(ConfigError, match=UNTOLD):
        of("auto", processed_dataset_path=tmp_path / "dataset")


def test_a_report_that_never_ends(dataset: Path, tmp_path: Path) -> None:
    """A pipe is not waited for."""
    shutil.copytree(dataset, tmp_path / "dataset")
    (tmp_path / "dataset" / REPORT).unlink()
    os.mkfifo(tmp_path / "dataset" / REPORT)
    with pytest.raises(ConfigError, match=UNTOLD):
        of("auto", processed_dataset_path=tmp_path / "dataset")


def test_a_run_that_goes_on_keeps_its_settings(train_config: Callable[..., Config]) -> None:
    """Whatever recipe is named now."""
    config = train_config("run", "train.max_steps=2")
    run(config)
    again = of("minutes", output_dir=config.train.output_dir, resume_from_checkpoint="last")
    assert (again.train.learning_rate, again.train.max_steps) == (config.train.learning_rate, 2)
