"""Held-out speech that is lost while a run goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runyoro_ssl.batches.build import BatchBuilder
from runyoro_ssl.batches.micro_batches import MicroBatch


def held_out_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out clips that were good when the run began can no longer be read."""
    read = BatchBuilder._waveforms

    def damaged(builder: BatchBuilder, plan: MicroBatch) -> Any:
        kept, waveforms, unreadable = read(builder, plan)
        if builder.stage == "train":
            return kept, waveforms, unreadable
        return replace(kept, pieces=()), [], dict.fromkeys(plan.clips, "gone")

    monkeypatch.setattr(BatchBuilder, "_waveforms", damaged)
