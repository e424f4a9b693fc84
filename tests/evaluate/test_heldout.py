"""Held-out numbers: they depend on the model and the clips, and on nothing of how they are measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from structlog.testing import capture_logs

from runyoro_ssl.batches import forward
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.config import Config
from runyoro_ssl.dataset.content import checksum
from runyoro_ssl.dataset.layout import FINGERPRINT
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.evaluate.heldout import validate
from runyoro_ssl.train.training_run import TrainingRun
from support.datasets_by_hand import change_fingerprint
from support.trainer import build, run

MakeConfig = Callable[..., Config]
RATE = 16_000


def validated(setup: TrainingRun) -> dict[str, float]:
    """Validate; nothing stops it."""
    numbers = validate(setup.accelerator, setup.model, setup.judged[0].batches, setup.judged[0].plan)
    assert numbers is not None
    return numbers


def test_metrics_do_not_depend_on_micro_batches(train_config: MakeConfig) -> None:
    """Validation gives the same numbers whatever the batch size."""
    numbers = []
    for seconds in (3, 40):
        config = train_config("sizes", f"hardware.batch_seconds={seconds}")
        setup = build(config)
        numbers.append(validated(setup))
    assert {"eval/objective", "eval/accuracy", "eval/hard_perplexity"} <= numbers[0].keys()
    for name, value in numbers[0].items():
        assert value == pytest.approx(numbers[1][name], rel=1e-4), name


def test_validation_does_not_depend_on_the_masks_of_training(train_config: MakeConfig) -> None:
    """Runs with different mask settings can be compared: held-out masks are always the default ones."""
    numbers = []
    for setting in ("masking.mask_time_prob=0.65", "masking.mask_time_prob=0.3", "masking.mask_feature_prob=0.3"):
        config = train_config("masks", setting)
        setup = build(config)
        numbers.append(validated(setup)["eval/objective"])
    assert len(set(numbers)) == 1


def test_validation_short_of_memory_gives_the_same_numbers(
    train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes before the first step, with micro-batches as large: in halves, it measures the same."""
    config = train_config("short", "hardware.batch_seconds=30")
    setup = build(config)
    assert max(len(batch.clips) for batch in setup.judged[0].plan) > 2
    whole = validated(setup)
    real = forward.run_objective

    def short_of_memory(accelerator: Any, model: Any, batch: Any) -> Any:
        if len(batch.waveforms) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(accelerator, model, batch)

    monkeypatch.setattr("runyoro_ssl.evaluate.heldout.run_objective", short_of_memory)
    parts = validated(setup)
    assert parts == pytest.approx(whole, rel=1e-4)


def test_validation_goes_without_them(train_config: Callable[..., Config]) -> None:
    """Its numbers are those of the other clips, alone in their micro-batch or not; one warning a clip."""
    setup = build(train_config())
    plan = [MicroBatch.of([1]), MicroBatch.of([0, 2], index=1)]

    class Damaged:
        """The split without its rows 1 and 2."""

        def __getattr__(self, name: str) -> Any:
            return getattr(setup.judged[0].batches.clips, name)

        def waveform(self, clip: int, *window: Any) -> Any:
            """Fails as the reader of a damaged file does."""
            if clip in {1, 2}:
                raise ValueError("damaged")
            return setup.judged[0].batches.clips.waveform(clip, *window)

    expected = validate(setup.accelerator, setup.model, setup.judged[0].batches, [MicroBatch.of([0])])
    with capture_logs() as logs:
        got = validate(setup.accelerator, setup.model, replace(setup.judged[0].batches, clips=Damaged()), plan)
    assert got == expected
    assert [line["row"] for line in logs] == [1, 2]


def with_validation(dataset: Path, folder: Path, waves: list[np.ndarray]) -> Path:
    """A dataset made elsewhere: the training split of another, and these waveforms held out."""
    splits = datasets.load_from_disk(str(dataset))
    row = splits["validation"][0]
    rows = [{**row, "id": str(n), "audio": list(wave), "num_samples": len(wave)} for n, wave in enumerate(waves)]
    rows = [{**row, "crc32": checksum(wave)} for row, wave in zip(rows, waves, strict=True)]
    held_out = datasets.Dataset.from_list(rows, features=splits["validation"].features)
    datasets.DatasetDict({"train": splits["train"], "validation": held_out}).save_to_disk(str(folder))
    fingerprint = json.loads((dataset / FINGERPRINT).read_text())
    fingerprint["splits"]["validation"]["clips"] = len(waves)
    (folder / FINGERPRINT).write_text(json.dumps(fingerprint))
    change_fingerprint(folder)
    return folder


def noise(seconds: float) -> np.ndarray:
    """Noise, int16."""
    return np.random.default_rng(0).normal(0, 3000, round(seconds * RATE)).astype(np.int16)


TONE = (9000 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)).astype(np.int16)


@pytest.mark.parametrize(
    ("waves", "complaint"),
    [
        (
            [np.full(3 * RATE, 1638, np.int16)] * 2,
            "of 2 clips 0 are shorter than a mask, .*, and in none of 2 others does",
        ),
        (
            [np.zeros(3 * RATE, np.int16), TONE],
            "of 2 clips 0 are shorter than a mask, .*, and in none of 2 others does",
        ),
        ([noise(0.15)] * 3, "of 3 clips 3 are shorter than a mask, .*, and in none of 0 others does"),
        ([noise(0.15), TONE], "of 2 clips 1 are shorter than a mask, .*, and in none of 1 others does"),
    ],
    ids=["dead microphones", "silence and a tone", "snippets", "a snippet and a tone"],
)
def test_validation_that_cannot_be_judged_is_refused_at_the_start(
    dataset: Path, tmp_path: Path, train_config: MakeConfig, waves: list[np.ndarray], complaint: str
) -> None:
    """One line, with what to do, before anything is written: such a run would end without a model."""
    folder = with_validation(dataset, tmp_path / "made elsewhere", waves)
    with pytest.raises(TrainingError, match=f"{complaint}.*no model could be chosen.*prepare --overwrite"):
        run(train_config("run", f"train.processed_dataset_path={folder}"))
    assert not (tmp_path / "run").exists()


def test_validation_that_is_doubtful_is_said(dataset: Path, tmp_path: Path, train_config: MakeConfig) -> None:
    """Some clips of no use, and few seconds: two warnings, and the run goes on."""
    folder = with_validation(dataset, tmp_path / "made elsewhere", [noise(4), TONE, noise(0.15)])
    with capture_logs() as logs:
        build(train_config("run", f"train.processed_dataset_path={folder}"))
    told = {line["event"]: line for line in logs if line["event"].startswith("validation")}
    assert told["validation_in_part_useless"]["clips"] == "2 of 3"
    assert "--min-duration-sec 0.21 --set 'plugins.filters=" in told["validation_in_part_useless"]["advice"]
    assert told["validation_is_small"]["seconds"] == 4.0


def test_good_validation_is_not_remarked(dataset: Path, tmp_path: Path, train_config: MakeConfig) -> None:
    """A minute of what can be judged."""
    folder = with_validation(dataset, tmp_path / "made elsewhere", [noise(15)] * 5)
    with capture_logs() as logs:
        build(train_config("run", f"train.processed_dataset_path={folder}"))
    assert [line for line in logs if line["event"].startswith("validation")] == []
