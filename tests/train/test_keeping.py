"""Which model a finished run keeps: a mean or a mixture where that is better for certain, else its best checkpoint."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from conftest import transformers
from runyoro_ssl.commands import smoke
from runyoro_ssl.commands.train import show
from runyoro_ssl.config import Config, ModelConfig
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.evaluate import by_loss
from runyoro_ssl.evaluate.heard.clips import HeldOut, choose_clips
from runyoro_ssl.evaluate.heldout import validate
from runyoro_ssl.evaluate.measures.fit import ClipFit
from runyoro_ssl.model.listener import load_listener
from runyoro_ssl.publish.card import write_model_card
from runyoro_ssl.publish.report.final import final_of
from runyoro_ssl.publish.report.write import write_report
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train import keeping
from runyoro_ssl.train.checkpoints.averages import read_averages
from runyoro_ssl.train.describe import summary_rows
from runyoro_ssl.train.disk_space import CheckpointSpace
from runyoro_ssl.train.final import save_final_model
from support.lost import held_out_is_lost
from support.trainer import Trainer, build, equal, kill, run, wait_until, weights

MakeConfig = Callable[..., Config]
Quality = Callable[[dict[str, torch.Tensor]], float]
"""Of weights, how many nats the loss is below that of guessing."""
EVERY = ("train.save_steps=1", "train.eval_steps=2", "train.save_total_limit=0", "train.learning_rate=1e-3")
RESUME = "train.resume_from_checkpoint=last"
CHANCE = 4.6


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Quality], list[dict[str, torch.Tensor]]]:
    """A function: models have the loss that is planted for their weights; it gives all that were measured."""

    def planted(quality: Quality) -> list[dict[str, torch.Tensor]]:
        heard: list[dict[str, torch.Tensor]] = []

        def measure(listener: Any, _builder: Any, held_out: HeldOut, on_clip: Callable[[], object]) -> list[ClipFit]:
            state = {name: one.detach().cpu().clone() for name, one in listener.model.state_dict().items()}
            heard.append(state)
            mass = np.full((2, 16), 50.0)
            gains = [quality(state) + 0.01 * np.sin(number) for number in range(len(held_out.clips))]
            for _ in gains:
                on_clip()
            return [ClipFit(100 * (CHANCE - gain), 100 * CHANCE, 30.0, 100.0, mass, mass) for gain in gains]

        monkeypatch.setattr(keeping, "measure_validation", measure)
        return heard

    return planted


def mean(models: Sequence[dict[str, torch.Tensor]], shares: Sequence[float]) -> dict[str, torch.Tensor]:
    """The slow weighted sum, in float64."""
    pairs = [*zip(shares, models, strict=True)]
    return {name: sum(share * one[name].double() for share, one in pairs).float() for name in models[0]}  # type: ignore[union-attr]  # of tensors


def close_to(target: dict[str, torch.Tensor]) -> Quality:
    """The better, the nearer to these weights."""

    def quality(state: dict[str, torch.Tensor]) -> float:
        return 1 - math.log(1e-6 + sum(float((state[name] - target[name]).abs().mean()) for name in target))

    return quality


def saved(out: Path) -> dict[str, Any]:
    """result.json."""
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


def test_clips_one_by_one_are_the_validation(train_config: MakeConfig) -> None:
    """The same clips, masks and negatives as in training: the same numbers, to rounding."""
    built = build(train_config("run"))
    held_out = choose_clips(
        built.config.train.processed_dataset_path, sampling_rate=16_000, max_seconds=keeping.ALL_SEC
    )
    listener = load_listener(ModelConfig(model_name_or_path=built.base_model), built.config.hardware)
    fits = by_loss.measure_validation(listener, built.judged[0].batches, held_out, lambda: None)
    found = by_loss.as_validation(fits, built.model.config.diversity_loss_weight)
    expected = validate(built.accelerator, built.model, built.judged[0].batches, built.judged[0].plan)
    assert found == pytest.approx(expected, rel=1e-4)
    assert len(fits) == sum(len(batch.clips) for batch in built.judged[0].plan)


def test_mixture_that_is_better_becomes_the_final_model(
    train_config: MakeConfig, tiny_model: Path, plant: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that harmed: of its mixtures with the base, the nearest to that. Result, table, card and page say so."""
    base = weights(tiny_model)
    heard = plant(close_to(base))
    result = run(train_config("run", *EVERY, "train.interpolate=[0.5, 0.25]"))
    out = result.output_dir
    best = int(saved(out)["checkpoint"].rpartition("-")[2])
    adapted = weights(out / f"checkpoint-{best}")
    expected = mean([base, adapted], [0.75, 0.25])
    assert all(torch.allclose(weights(out)[name], expected[name], atol=1e-7) for name in expected)
    assert len(heard) == 3
    assert equal(heard[-1], weights(out))
    found = saved(out)["final_model"]
    assert (found["name"], found["kind"]) == ("25 % adapted, 75 % base", "interpolation")
    assert [one["name"] for one in found["candidates"]] == [
        f"checkpoint-{best}",
        "50 % adapted, 50 % base",
        "25 % adapted, 75 % base",
    ]
    assert found["candidates"][0]["verdict"] is None
    assert found["candidates"][2]["verdict"] == "fits better"
    assert f"beside checkpoint-{best}: the held-out loss is" in found["why"]
    assert "nats below that of guessing, the other's" in found["why"]
    assert result.final_model == "25 % adapted, 75 % base"
    below = found["candidates"][2]["values"]["fit.below_guessing"]
    assert saved(out)["validations"]["best"]["eval/contrastive_loss"] == pytest.approx(CHANCE - below)
    assert result.best["step"] == best
    _, info = transformers.Wav2Vec2ForPreTraining.from_pretrained(out, output_loading_info=True)
    assert not any(info.values())
    show(result, {})
    assert "25 % adapted" in " ".join(capsys.readouterr().out.split())
    write_model_card(out)
    assert "Of the run that is described here, this is: 25 % adapted, 75 % base." in (out / "README.md").read_text()
    page = write_report(out).read_text()
    assert "Which model became the final one" in page
    assert "50 % adapted, 50 % base" in page
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "way",
    [
        pytest.param((), id="all"),
        pytest.param(("adapter.kind=lora", "adapter.rank=4"), id="lora", marks=pytest.mark.long),
    ],
)
def test_moving_average_that_is_better_becomes_the_final_model(
    train_config: MakeConfig, tiny_model: Path, plant: Any, way: tuple[str, ...]
) -> None:
    """As a plain model; of adapters, what their averages come to."""
    heard = plant(close_to(weights(tiny_model)))
    result = run(train_config("run", *way, *EVERY, "train.ema_decay=0.9"))
    out = result.output_dir
    assert result.final_model == "moving average at step 4"
    assert equal(weights(out), heard[1])
    averages, now, came = read_averages(out / "checkpoint-4"), weights(out), weights(tiny_model)
    if not way:
        assert equal({name: now[name] for name in averages}, averages)
    else:
        name = "wav2vec2.encoder.layers.0.attention.q_proj"
        down, up = (averages[f"{name}.lora_{side}.default.weight"] for side in "AB")
        assert torch.allclose(now[f"{name}.weight"], came[f"{name}.weight"] + 32 / 4 * up @ down, atol=1e-7)
    _, info = transformers.Wav2Vec2ForPreTraining.from_pretrained(out, output_loading_info=True)
    assert not any(info.values())


def test_mean_of_the_last_may_be_mixed_with_the_base(train_config: MakeConfig, tiny_model: Path, plant: Any) -> None:
    """What is mixed is the best of checkpoint and means; both by the slow reference."""
    asked = (*EVERY, "train.max_steps=2", "train.average_last=2", "train.interpolate=[0.5]")
    plant(lambda _: 1.0)
    out = run(train_config("run", *asked)).output_dir
    assert saved(out)["final_model"]["kind"] == "checkpoint"  # a tie
    assert equal(weights(out), weights(out / saved(out)["checkpoint"]))
    base, *last = (weights(one) for one in (tiny_model, out / "checkpoint-1", out / "checkpoint-2"))
    for target, name, kind in (
        (mean(last, [0.5, 0.5]), "mean of checkpoints 1, 2", "average"),
        (
            mean([base, *last], [0.5, 0.25, 0.25]),
            "50 % of the mean of checkpoints 1, 2, 50 % base",
            "interpolation",
        ),
    ):
        plant(close_to(target))
        run(train_config("run", *asked, RESUME))
        found = saved(out)["final_model"]
        assert (found["name"], found["kind"]) == (name, kind)
        assert all(torch.allclose(weights(out)[one], target[one], atol=1e-7) for one in target)


def test_kill_while_choosing_loses_nothing(train_config: MakeConfig, tiny_model: Path, plant: Any) -> None:
    """The best checkpoint is the final model by then; the same command chooses again."""
    settings = (*EVERY, "train.max_steps=2", "train.interpolate=[0.5]", "train.ema_decay=0.9")

    def killed(_state: dict[str, torch.Tensor]) -> float:
        if len(heard) == 2:  # the first is the checkpoint
            raise KeyboardInterrupt
        return 1.0

    heard = plant(killed)
    with pytest.raises(KeyboardInterrupt):
        run(train_config("run", *settings))
    out = train_config("run").train.output_dir
    assert equal(weights(out), weights(out / saved(out)["checkpoint"]))
    assert "final_model" not in saved(out)
    plant(close_to(weights(tiny_model)))
    result = run(train_config("run", *settings, RESUME))
    assert result.final_model == "50 % of the moving average at step 2, 50 % base"
    assert saved(out)["final_model"]["name"] == result.final_model


def test_signal_while_choosing_ends_with_the_best_checkpoint(train_config: MakeConfig, plant: Any) -> None:
    """At once, and the log says how to choose again."""
    heard = plant(lambda _: 1.0)
    done = build(train_config("run", "train.interpolate=[0.5]", "train.max_steps=2"))
    run(train_config("run", "train.max_steps=2"))
    done.step, done.watch.validations = 2, {"best": {"step": 2, "eval/objective": 1.0}, "last": {"step": 2}}
    with capture_logs() as logs:
        assert save_final_model(done, lambda: bool(heard)) == "checkpoint-2"
    (said,) = (line for line in logs if line["event"] == "final_model_not_compared")
    assert "--resume-from-checkpoint last chooses again" in said["because"]
    assert len(heard) == 1


def test_what_cannot_be_measured_is_left_out(
    train_config: MakeConfig, tiny_model: Path, plant: Any, tmp_path: Path
) -> None:
    """A base that is gone, too few checkpoints: a warning that names it, and the others are measured."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    plant(lambda _: 1.0)
    asked = ("train.max_steps=2", "train.average_last=3", "train.interpolate=[0.5]", f"model.model_name_or_path={base}")
    run(train_config("run", *EVERY, *asked))
    (base / "model.safetensors").write_bytes(b"none")
    with capture_logs() as logs:
        result = run(train_config("run", *EVERY, *asked, RESUME))
    left_out = {line["name"]: line["because"] for line in logs if line["event"] == "candidate_left_out"}
    assert left_out["mean of the last 3 checkpoints"] == "of 3 checkpoints 2 are there"
    assert str(base) in left_out["50 % adapted, 50 % base"]
    assert result.final_model == saved(result.output_dir)["checkpoint"]


def test_nothing_is_compared_unless_asked(train_config: MakeConfig, plant: Any) -> None:
    """By default the best checkpoint is the final model, and no time goes into anything else."""
    heard = plant(lambda _: 1.0)
    result = run(train_config("run", "train.max_steps=2"))
    assert heard == []
    assert "final_model" not in saved(result.output_dir)
    assert result.final_model == saved(result.output_dir)["checkpoint"]


@pytest.mark.long
@pytest.mark.parametrize("way", ["none", "full"])
def test_several_processes_choose_once(train_config: MakeConfig, way: str) -> None:
    """Copied or sharded: the main process hears all of it, and the others end."""
    asked = ("train.average_last=2", "train.interpolate=[0.5]", "train.ema_decay=0.9", f"hardware.sharding={way}")
    trainer = Trainer(train_config("run", *EVERY, *asked), train_config("run").train.output_dir.with_suffix(".log"))
    trainer.finish_in_two()
    assert len(saved(trainer.out)["final_model"]["candidates"]) == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.average_last=1"], "train.average_last is 1, and the mean of one checkpoint is that checkpoint"),
        (["train.average_last=-2"], 'train.average_last is "-2"'),
        (["train.average_last=5"], "train.average_last is 5, and --save-total-limit 3 keeps fewer checkpoints; raise"),
        (["train.interpolate=[2]"], r'train.interpolate.0 is "2": input should be less than 1'),
        (["train.interpolate=[0]"], "input should be greater than 0"),
        (["train.interpolate=0.5"], r"a list is needed: --set 'train.interpolate=\[0.5\]'"),
    ],
)
def test_nonsense_is_a_line(settings: list[str], said: str) -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match=said) as refused:
        load_config(settings=settings)
    assert "\n" not in str(refused.value)


def test_what_is_compared_is_said_and_has_room(train_config: MakeConfig) -> None:
    """In the table before the first step; on the disk, a model that is heard, and the average as one."""
    asked = ("train.average_last=2", "train.interpolate=[0.5, 0.75]", "train.ema_decay=0.9")
    built = build(train_config("run", *asked))
    (row,) = (row[1] for row in summary_rows(built) if row[0] == "final model")
    assert row.endswith("decay 0.9; the mean of the last 2 checkpoints; mixtures with the base (50 %, 75 % adapted)")
    space = CheckpointSpace.of(built)
    (need,) = (one for one in space.needs() if one.what == "models compared with it")
    assert need.num_bytes == 2 * space.weights
    assert CheckpointSpace.of(build(train_config("other"))).compared == 0


@pytest.mark.parametrize("found", [{}, {"final_model": 3}, {"final_model": {"name": "x", "candidates": [{}]}}])
def test_page_does_without_what_is_damaged(found: dict[str, Any]) -> None:
    """As if nothing had been compared."""
    assert final_of(found) is None


@pytest.mark.long
def test_killed_for_real_while_choosing(train_config: MakeConfig) -> None:
    """SIGKILL while a mixture lies there: the best checkpoint is the final model; later nothing is left of it."""
    config = train_config("run", *EVERY, "train.average_last=2", "train.interpolate=[0.5]", "train.ema_decay=0.9")
    trainer = Trainer(config, config.train.output_dir.with_suffix(".log"))
    process = trainer.start()
    assert wait_until(lambda: any(trainer.out.glob(".tmp-*mixture*")), process)
    kill(process)
    assert any(trainer.out.glob(".tmp-*"))
    assert equal(weights(trainer.out), weights(trainer.out / saved(trainer.out)["checkpoint"]))
    trainer.finish("--resume-from-checkpoint", "last")
    assert len(saved(trainer.out)["final_model"]["candidates"]) == 4
    assert not any(trainer.out.glob(".tmp-*"))


@pytest.mark.long
def test_run_whose_last_steps_harm_keeps_a_mixture(tmp_path: Path) -> None:
    """A base that has learned, and a few steps at a huge rate that stays: what little of them is taken is better."""
    config = smoke.smoke_config(tmp_path, 0, synthetic=True)
    smoke._synthesise(tmp_path / "recordings", 0)
    smoke._manifest(config, tmp_path / "recordings")
    smoke._build_model(tmp_path / "tiny-model", 0)
    smoke._prepare(config)
    first, learned = smoke._train(config)
    assert learned["eval/contrastive_loss"] < first["eval/contrastive_loss"] - 0.1
    harm: dict[str, Any] = {"max_steps": 6, "save_steps": 2, "eval_steps": 2, "learning_rate": 2e-3, "warmup_steps": 0}
    harm |= {"constant_after_warmup": True, "ema_decay": 0.5, "average_last": 2, "interpolate": [0.1, 0.5]}
    harmed = load_config(
        base=config.model_dump(exclude={"plugins"}),
        settings={
            "model.model_name_or_path": str(tmp_path / "run"),
            "train.output_dir": str(tmp_path / "harmed"),
            "health.enabled": False,
            **{f"train.{name}": value for name, value in harm.items()},
        },
    )
    result = run(harmed)
    found = saved(tmp_path / "harmed")["final_model"]
    loss = {one["name"]: one["values"]["fit.contrastive_loss"] for one in found["candidates"]}
    assert found["kind"] == "interpolation"
    assert min(loss, key=lambda name: loss[name]) == found["name"] == result.final_model
    assert result.best["eval/contrastive_loss"] < result.last["eval/contrastive_loss"] - 0.05
    model = harmed.model.model_copy(update={"model_name_or_path": str(result.output_dir)})
    train = harmed.train.model_copy(update={"output_dir": tmp_path / "heard"})
    again = build(harmed.model_copy(update={"model": model, "train": train}))
    expected = validate(again.accelerator, again.model, again.judged[0].batches, again.judged[0].plan)
    assert expected is not None
    assert result.best["eval/contrastive_loss"] == pytest.approx(expected["eval/contrastive_loss"], abs=1e-3)


def test_held_out_speech_that_is_gone_keeps_the_checkpoint(
    train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be compared: no number is made up, and the last checkpoint is the final model."""
    held_out_is_lost(monkeypatch)
    result = run(train_config("run", "train.max_steps=2", "train.interpolate=[0.5]"))
    assert result.final_model == "checkpoint-2"
    (measured, _) = saved(result.output_dir)["final_model"]["candidates"]
    assert not [name for name in measured["values"] if name.endswith(("loss", "accuracy", "guessing"))]
    write_report(result.output_dir)
