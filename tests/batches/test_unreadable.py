"""Clips that cannot be read: told once, counted over the run, and too many at some point."""

from __future__ import annotations

import json

import numpy as np
import pytest
from structlog.testing import capture_logs

from conftest import ClipsInMemory, transformers
from runyoro_ssl.batches.build import BatchBuilder
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.batches.unreadable import Unreadable
from runyoro_ssl.builtins.collators import PaddedCollator
from runyoro_ssl.config import MaskingConfig
from runyoro_ssl.errors import LoaderError


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
