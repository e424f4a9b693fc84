"""trainer_state.json is checked here, where a run goes on from it: before a model is loaded, and in one line.

A checkpoint's manifest says that the file is as it was written. By whom, and with what in it, it does not say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from runyoro_ssl.batches.micro_batches import PlanSettings
from runyoro_ssl.config import HardwareConfig
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.redaction import shortly
from runyoro_ssl.train.checkpoints.format import STATE, other_checkpoint, written_otherwise
from runyoro_ssl.train.health.journal import MAX_ROLLBACKS
from runyoro_ssl.train.health.state import HealthState, Learned, Recent

Size = Annotated[FiniteFloat, Field(ge=1, le=1e10)]
"""Samples: 1e10 are a week of speech in one step."""
MAX_LENGTHS, MAX_PARTS, MAX_CLIPS = 1000, 1 << 20, 1_000_000
MEASURES = ("step", "eval/objective", "eval/contrastive_loss", "eval/chance_loss")
"""Of a validation: what is compared with later ones."""


class _Part(BaseModel):
    """What a newer version adds is ignored; nothing is turned into another type."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Plan(_Part):
    batch_samples: Size
    update_samples: Size
    clips_per_batch: Annotated[int, Field(ge=1, le=MAX_CLIPS)] | None = None
    batches_per_update: Annotated[int, Field(ge=1, le=MAX_CLIPS)] | None = None
    num_lengths: Annotated[int, Field(ge=0, le=MAX_LENGTHS)] = 0


class _Sums(_Part):
    contrastive_loss: float
    diversity_loss: float
    num_correct: float
    chance_loss: float
    num_masked: float
    code_mass: list[list[float]] | None


class _Health(_Part):
    rollbacks: Annotated[int, Field(ge=0, le=MAX_ROLLBACKS)]
    behind: int | None = None


class _Unreadable(_Part):
    rows: list[NonNegativeInt]


class _State(_Part):
    step: NonNegativeInt
    epoch: Annotated[FiniteFloat, Field(ge=0)]
    total_steps: PositiveInt
    num_updates: NonNegativeInt
    num_averaged: NonNegativeInt = 0
    num_parts: Annotated[int, Field(ge=1, le=MAX_PARTS)]
    scaler: dict[str, Any] | None
    validations: dict[str, dict[str, float]]
    window: _Sums
    health: _Health
    concerns: list[str]
    unreadable: _Unreadable
    plan: _Plan
    dataset_sha256: str
    beside_sha256: list[str] = []
    heard_samples: list[NonNegativeInt] = []
    base_model: str
    base_revision: str | None = None
    base_sha256: str | None = None
    config: dict[str, dict[str, Any]]
    hardware: dict[str, Any]
    machine: str | None = None


def check_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Refuse the state of a checkpoint from which no run can go on.

    Raises:
        CheckpointError: Names the value, or what this version does not know.
    """
    if problem := _find_wrong_type(state) or _find_nonsense(state):
        raise _refusal(folder, problem)
    try:
        HealthState.read(state["health"])
    except ValueError as error:
        raise written_otherwise(folder, state, str(error)) from None
    if unknown := sorted(state["plan"].keys() - {one.name for one in fields(PlanSettings)}):
        raise written_otherwise(folder, state, f"its plan of batches has {', '.join(unknown)}, not known here")


def _find_wrong_type(state: Mapping[str, Any]) -> str | None:
    """The first value of a type, or out of a range, that nothing here writes."""
    place = ""
    try:
        _State.model_validate_json(json.dumps(state))
        place = "health."
        for part in (Learned, Recent):
            TypeAdapter(part).validate_json(json.dumps(state["health"]), strict=True)
        place = "hardware."
        names = HardwareConfig.model_fields.keys() & state["hardware"].keys()
        HardwareConfig.model_validate({name: state["hardware"][name] for name in names})
    except ValidationError as error:
        return place + _explain(error)
    return None


def _find_nonsense(state: Mapping[str, Any]) -> str | None:
    """What cannot be, though each value for itself could."""
    step, total_steps, num_updates = state["step"], state["total_steps"], state["num_updates"]
    if not num_updates <= step <= total_steps or state.get("num_averaged", 0) > num_updates:
        return f"step is {step}, of {total_steps}, after {num_updates} updates"
    for kind, numbers in state["validations"].items():
        if lacking := [name for name in MEASURES if name not in numbers]:
            return f"validations.{kind} lacks {lacking[0]}"
        if not 0 <= numbers["step"] <= step:
            return f"validations.{kind}.step is {numbers['step']}, past step {step}"
    if len({len(codes) for codes in state["window"]["code_mass"] or ()}) > 1:
        return "window.code_mass has rows of unlike length"
    return None


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if "-" not in str(part))  # members of a union
    if first["type"] == "missing":
        return f"{where} is missing"
    return f"{where} is {shortly(first['input'])}: {first['msg'].lower()}"


def _refusal(folder: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{folder / STATE}: {problem}; the file is as it was written, but no run can go on from it: "
        f"{other_checkpoint(folder)}"
    )
