"""Clips that cannot be read: told once, counted over the run, and too many at some point."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from conftest import ClipsInMemory, transformers
from runyoro_ssl.batches.build import BatchBuilder
from runyoro_ssl.batches.plan import MicroBatch
from runyoro_ssl.batches.unreadable import Unreadable
from runyoro_ssl.builtins.collators import PaddedCollator
from runyoro_ssl.config import Config, MaskingConfig
from runyoro_ssl.errors import LoaderError
from runyoro_ssl.evaluate.heldout import validate
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.train.checkpoints.resume import Start
from runyoro_ssl.train.setup import build_run, make_accelerator


class Unsound(ClipsInMemory):
    """Clips of which the odd ones cannot be read."""

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Fails as a disk does."""
        if clip % 2:
            raise OSError("Input/output error")
        return super().waveform(clip, start, num_samples)


def builder() -> BatchBuilder:
    """A builder over ten unsound clips."""
    clips = Unsound(np.random.default_rng(row).uniform(-0.5, 0.5, 8000).astype(np.float32) for row in range(10))
    config = transformers.Wav2Vec2Config()
    return BatchBuilder(clips, config, MaskingConfig(), PaddedCollator(), (), True, True, 0)  # noqa: FBT003


def test_clips_are_told_once_and_batches_without_any_left_out() -> None:
    """However often they come; the count lasts through a checkpoint."""
    made = builder()
    batches = [made[MicroBatch.of(clips)] for clips in ((0, 1), (1, 3), (4, 6))]
    unreadable = Unreadable(num_clips=10, max_share=0.2)
    with capture_logs() as logs:
        assert unreadable.leave_out(batches) == [batches[0], batches[2]]
        assert unreadable.leave_out(batches[:1]) == batches[:1]
        resumed = Unreadable(num_clips=10, max_share=0.2)
        resumed.load_state_dict(json.loads(json.dumps(unreadable.state_dict())))
        resumed.leave_out(batches)
    assert [(line["event"], line["row"]) for line in logs] == [("clip_unreadable", 1), ("clip_unreadable", 3)]
    assert "Input/output error" in logs[0]["because"]
    assert unreadable.share == resumed.share == 0.2
    assert unreadable.state_dict() == resumed.state_dict() == {"rows": [1, 3]}


def test_too_many_end_the_run() -> None:
    """One more than the share, and as long as they come; the error names rows, the reason and what to do."""
    made = builder()
    unreadable = Unreadable(num_clips=10, max_share=0.2)
    unreadable.leave_out([made[MicroBatch.of((0, 1, 2, 3))]])
    for _ in range(2):
        with pytest.raises(LoaderError, match=r"3 of 10 .* 0\.2: rows 1, 3, 5 .*Input/output error.*invoke prepare"):
            unreadable.leave_out([made[MicroBatch.of((5, 6))]])
    sound = [made[MicroBatch.of((6, 8))]]
    assert unreadable.leave_out(sound) == sound  # the dataset was made anew, and the run goes on
    assert unreadable.state_dict() == {"rows": [1, 3, 5]}


def test_validation_goes_without_them(train_config: Callable[..., Config]) -> None:
    """Its numbers are those of the other clips, alone in their micro-batch or not; one warning a clip."""
    config = train_config()
    setup = build_run(config, load_plugins(config), make_accelerator(config.hardware), Start())
    plan = [MicroBatch.of([1]), MicroBatch.of([0, 2], index=1)]

    class Damaged:
        """The split without its rows 1 and 2."""

        def __getattr__(self, name: str) -> Any:
            return getattr(setup.eval_batches.clips, name)

        def waveform(self, clip: int, *window: Any) -> Any:
            """Fails as the reader of a damaged file does."""
            if clip in {1, 2}:
                raise ValueError("damaged")
            return setup.eval_batches.clips.waveform(clip, *window)

    expected = validate(setup.accelerator, setup.model, setup.eval_batches, [MicroBatch.of([0])])
    with capture_logs() as logs:
        got = validate(setup.accelerator, setup.model, replace(setup.eval_batches, clips=Damaged()), plan)
    assert expected is not None
    assert got == expected
    assert [line["row"] for line in logs] == [1, 2]
