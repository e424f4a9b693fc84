"""Five minutes of training on synthetic speech help a model with random weights, and the verdict says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import verdicts

from runyoro_ssl.config import HardwareConfig
from runyoro_ssl.evaluate.heard.features import FeatureCache
from runyoro_ssl.evaluate.record import Evaluation
from runyoro_ssl.evaluate.request import EvaluationRequest
from runyoro_ssl.evaluate.run import evaluate
from runyoro_ssl.model.listener import to_listen

STEPS = 600
PHONES = ("phones.abx_within", "phones.abx_across", "phones.probe")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_training_on_speech_helps_and_on_white_noise_does_not(tmp_path: Path) -> None:
    """As much of either: "helped", phones told apart better for certain; of noise neither that nor a better fit."""
    start = verdicts.make_start(tmp_path)
    on_speech = judged(tmp_path, start, verdicts.train(tmp_path, "on-speech", start, "target", STEPS))
    assert on_speech.verdict.kind == "helped"
    for key in PHONES:
        measure = on_speech.get(key)
        assert measure is not None
        assert measure.difference_interval is not None
        least, most = measure.difference_interval.low, measure.difference_interval.high
        assert (most < 0) if measure.better == "lower" else (least > 0), key
    on_noise = judged(tmp_path, start, verdicts.train(tmp_path, "on-noise", start, "noise", STEPS))
    assert on_noise.verdict.kind in {"no evidence", "hurt"}


def judged(work: Path, base: Path, adapted: Path) -> Evaluation:
    """What is found of two models on held-out synthetic speech, with its phones."""
    cache = FeatureCache(work / "features", max_bytes=1 << 30)
    request = EvaluationRequest(
        base,
        adapted,
        work / "target",
        None,
        work / "phn",
        transcripts=False,
        max_minutes=3.0,
        cache=cache,
        hardware=to_listen(HardwareConfig()),
    )
    return evaluate(request).evaluation
