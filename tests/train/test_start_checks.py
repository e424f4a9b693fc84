"""What cannot train well is said before the first step, and whoever follows the advice is rid of it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile as sf
from structlog.testing import capture_logs

from runyoro_ssl.config import Config, MaskingConfig, TrainConfig
from runyoro_ssl.dataset.read import Clips
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.prepare.scan import scan
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train.start_checks import check_masks, check_schedule, check_training_clips
from support.trainer import build

MakeConfig = Callable[..., Config]
RATE = 16_000
SILENCE = np.zeros(3 * RATE, np.float32)
DEAD = np.full(3 * RATE, 0.05, np.float32)
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)).astype(np.float32)


@pytest.mark.parametrize(
    ("num_frames", "settings", "complaint"),
    [
        ([120] * 50, {"mask_time_prob": 0.02, "mask_time_min_spans": 0}, "39 of 50 sampled clips with too few"),
        ([120] * 50, {"mask_time_length": 200}, "50 of 50 sampled clips with too few"),
        ([9] * 30 + [120] * 30, {}, "30 of 60 sampled clips with too few"),
        ([4] * 50, {"mask_time_length": 8, "mask_time_prob": 0.1, "mask_time_min_spans": 0}, "50 of 50 sampled"),
        ([120] * 50, {"mask_time_prob": 1.0, "mask_time_length": 1}, "in 50 every frame is masked"),
        ([10] * 50, {}, "in 50 every frame is masked"),
        ([120] * 50, {"mask_time_prob": 0.95, "mask_time_length": 1}, "hardly one is left to see"),
    ],
)
def test_masks_that_cannot_train_are_refused_with_others_that_can(
    num_frames: list[int], settings: dict[str, Any], complaint: str
) -> None:
    """Spans too few or longer than clips, nothing left to see: the settings advised are tried, and do."""
    masking = MaskingConfig(**settings)
    with pytest.raises(TrainingError, match=complaint) as raised:
        check_masks(num_frames, masking, seed=0)
    (advice,) = re.findall(r"Use (.+) \(now ", str(raised.value))
    flags = dict(re.findall(r"(?:--set masking\.|--)([a-z_-]+)[= ]([\d.]+)", advice))
    advised = {name.replace("-", "_"): float(value) for name, value in flags.items()}
    assert advised
    check_masks(num_frames, MaskingConfig(**{**masking.model_dump(), **advised}), seed=0)


def test_clips_shorter_than_a_span_need_a_shorter_span() -> None:
    """A higher share of masked frames would not help them: it is not advised."""
    with pytest.raises(TrainingError, match=r"Use --mask-time-length 8 \(now mask_time_length 10\)$"):
        check_masks([9] * 50 + [12] * 20, MaskingConfig(), seed=0)
    with pytest.raises(TrainingError, match="prepare longer ones"):
        check_masks([1] * 50, MaskingConfig(), seed=0)


def test_few_clips_wholly_masked_are_said() -> None:
    """One in a hundred."""
    with capture_logs() as logs:
        summary = check_masks([120] * 99 + [10], MaskingConfig(), seed=0)
    assert summary.num_whole == 1
    assert [(line["event"], line["clips"]) for line in logs] == [("clips_wholly_masked", "1 of 100")]
    with capture_logs() as logs:
        check_masks([120] * 100, MaskingConfig(), seed=0)
    assert logs == []


@pytest.mark.parametrize("warmup", [100, 500])
def test_warm_up_that_outlasts_the_run_is_said(warmup: int, train_config: MakeConfig) -> None:
    """With the rate that is reached. The steps advised, and none at all, do."""
    with capture_logs() as logs:
        check_schedule(TrainConfig(warmup_steps=warmup, learning_rate=1e-3), 100)
    (line,) = logs
    assert line["event"] == "warmup_longer_than_run"
    (advised,) = re.findall(r"--warmup-steps (\d+)", line["advice"])
    with capture_logs() as logs:
        check_schedule(TrainConfig(warmup_steps=int(advised)), 100)
        check_schedule(TrainConfig(), 100)
    assert logs == []
    with capture_logs() as logs:
        build(train_config("run", "train.max_steps=4", "train.warmup_steps=4"))
    assert [line["steps"] for line in logs if line["event"] == "warmup_longer_than_run"] == [4]


def clips_of(folder: Path, waves: list[np.ndarray]) -> Clips:
    """These waveforms as a split."""
    rows = [{"audio": (wave * 32767).astype(np.int16), "num_samples": len(wave)} for wave in waves]
    features = datasets.Features(
        {"audio": datasets.LargeList(datasets.Value("int16")), "num_samples": datasets.Value("int32")}
    )
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(folder))
    return Clips(datasets.load_from_disk(str(folder)))


def test_training_clips_of_no_use_are_said(tmp_path: Path) -> None:
    """Silence, dead microphones and tones, with their rows; where most are, there is nothing to train on."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    with capture_logs() as logs:
        check_training_clips(
            clips_of(tmp_path / "some", [noise, SILENCE, noise, DEAD, TONE, noise]), sampling_rate=RATE
        )
    (line,) = logs
    assert (line["clips"], line["rows"]) == ("3 of 6", [1, 3, 4])
    with capture_logs() as logs:
        check_training_clips(clips_of(tmp_path / "none", [noise] * 3), sampling_rate=RATE)
    assert logs == []
    with pytest.raises(TrainingError, match=r"in 3 of 4 training clips nothing changes.*prepare --overwrite"):
        check_training_clips(clips_of(tmp_path / "most", [noise, SILENCE, DEAD, TONE]), sampling_rate=RATE)


def prepared(folder: Path, model: Path, *options: str) -> Any:
    """The splits of these recordings prepared, with options as on the command line."""
    settings = [value for flag, value in pairwise(options) if flag == "--set"]
    flags: dict[str, Any] = {"manifest_path": folder / "manifest.jsonl", "output_dir": folder / "dataset"}
    if "--min-duration-sec" in options:
        flags["min_duration_sec"] = options[options.index("--min-duration-sec") + 1]
    config = load_config(
        profile="cpu-smoke",
        settings=settings,
        flags={"model": {"model_name_or_path": str(model)}, "prepare": flags},
    )
    prepare(config, load_plugins(config), overwrite=True)
    return datasets.load_from_disk(str(folder / "dataset"))


def advised(text: str) -> list[str]:
    """The options of the command that a text advises."""
    (command,) = re.findall(r"`invoke prepare --overwrite ([^`]+)`", text)
    return shlex.split(command)


def test_advice_on_useless_clips_is_followed(
    bantu: Path, tiny_model: Path, tmp_path: Path, train_config: MakeConfig
) -> None:
    """Real speech with silence, a dead channel, a tone and snippets among it: prepared as advised, all is well."""
    audio = tmp_path / "audio"
    audio.mkdir()
    lines = [json.loads(line) for line in (bantu / "manifest.jsonl").open(encoding="utf-8")]
    for number, line in enumerate(lines[:40:2]):
        wave, rate = sf.read(bantu / line["audio_filepath"], dtype="float32")
        sf.write(audio / f"{number:02}.wav", wave, rate)
        sf.write(audio / f"snippet-{number:02}.wav", wave[rate : rate + rate // 8], rate)
    for name, wave in {"silence": SILENCE, "dead": DEAD, "tone": TONE}.items():
        for copy in range(3):
            sf.write(audio / f"{name}-{copy}.wav", wave, RATE)
    scan(audio, tmp_path / "manifest.jsonl")
    options = ["--min-duration-sec", "0.05", "--set", 'plugins.filters=["duration"]', "--set", "prepare.segment=none"]
    train_options: list[str] = []
    seen: set[str] = set()
    told: dict[str, Any] = {}
    for _ in range(3):
        prepared(tmp_path, tiny_model, *options)
        config = train_config("run", f"train.processed_dataset_path={tmp_path / 'dataset'}", *train_options)
        with capture_logs() as logs:
            try:
                build(config)
            except TrainingError as error:
                logs.append({"event": "refused", "advice": str(error)})
        told = {line["event"]: line for line in logs if "advice" in line}
        for line in told.values():
            options += advised(line["advice"]) if "useless" in line["event"] else []
            spans = re.findall(r"Use --mask-time-length (\d+)", line["advice"])
            train_options += [f"masking.mask_time_length={frames}" for frames in spans]
        seen |= told.keys()
    assert {"training_clips_useless", "refused"} <= seen
    assert told.keys() <= {"validation_is_small"}
