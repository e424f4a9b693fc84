"""Golden losses: 20 steps of the real trainer give the numbers in losses.json, for the torch they were made with.

`pytest tests/golden --rewrite-golden` pins them anew, also for another minor version of torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version

from conftest import build_tiny_model
from runyoro_ssl.audio.synth import write_corpus
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.prepare.scan import scan
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train.run import train
from support.pins import check

LOSSES = Path(__file__).with_name("losses.json")
ENCODERS: dict[str, dict[str, Any]] = {
    "layer norm": {},
    "group norm": {"feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False},
}
CLIP_LENGTHS = {"padded": 0, "fitted": 3}
SETTINGS = (
    "hardware.precision=fp32",
    "hardware.batch_seconds=4",
    "hardware.update_seconds=8",
    "masking.mask_feature_prob=0.2",
    "masking.mask_feature_length=4",
    "train.max_steps=20",
    "train.warmup_steps=4",
    "train.learning_rate=1e-3",
    "train.logging_steps=1",
    "train.eval_steps=10",
    'plugins.augmentations=["noise", "speed", "gain"]',
    'plugins.loggers=["jsonl"]',
)
UNPINNED = {"step", "train/audio_seconds_per_second", "train/data_wait_share", "train/memory_mib"}
"""What no two runs share, and what the place in the list tells."""
DIGITS = 8


def tolerance(path: str) -> tuple[float, float]:
    """Ten times and more of what was measured over all 20 steps.

    A CPU repeats every bit. Two threads for one, AVX2 or plain SSE for AVX-512: at most 2e-7 of a loss, 9e-7 of the
    diversity, 7e-6 of the gradient's norm. A weight of the diversity that is 1 % larger changes the loss by 8e-5.
    """
    return (1e-4 if "grad_norm" in path else 1e-5), 0.0


def torch_name() -> str:
    """The torch that numbers hold for: its minor version; builds without MKL draw other Gumbel noise on the CPU."""
    version = Version(torch.__version__)
    has_mkl = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return f"{version.major}.{version.minor}" + ("" if has_mkl else " without MKL")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared `dataset` of 16 synthetic clips by 4 voices, and a seeded model for each encoder."""
    folder = tmp_path_factory.mktemp("golden")
    write_corpus(folder / "corpus", num_clips=16, num_voices=4, num_words=8, clip_sec=2.0)
    scan(folder / "corpus", folder / "manifest.jsonl", speaker_from=r"^([^/]+)/")
    for name, overrides in ENCODERS.items():
        build_tiny_model(folder / name, **overrides)
    config = load_config(
        profile="cpu-smoke",
        flags={
            "hardware": {"num_workers": 1},
            "model": {"model_name_or_path": str(folder / "layer norm")},
            "prepare": {
                "manifest_path": folder / "manifest.jsonl",
                "output_dir": folder / "dataset",
                "validation_share": 0.25,
            },
            # Synthetic words are alike enough to be duplicates.
            "plugins": {"filters": ["duration", "silence", "clipping"]},
        },
    )
    prepare(config, load_plugins(config))
    return folder


@pytest.mark.parametrize("lengths", CLIP_LENGTHS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_losses_are_those_pinned(
    encoder: str, lengths: str, made: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Loss, accuracy, perplexity, gradient norm and rates of each step, and every validation, are what they were."""
    config = load_config(
        profile="cpu-smoke",
        settings=[
            *SETTINGS,
            f"hardware.clip_lengths={CLIP_LENGTHS[lengths]}",
            f"model.model_name_or_path={made / encoder}",
            f"train.processed_dataset_path={made / 'dataset'}",
            f"train.output_dir={tmp_path / 'run'}",
        ],
    )
    train(config, load_plugins(config))
    found: dict[str, list[float]] = {}
    for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        for name, value in json.loads(line).items():
            if name not in UNPINNED:
                found.setdefault(name, []).append(float(f"{value:.{DIGITS}g}"))
    check(pytestconfig, LOSSES, (torch_name(), f"{encoder}, {lengths}"), found, tolerance)
