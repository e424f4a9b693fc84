"""Saved on the device, loaded again, gone on with: the same bits? And do ordinary runs repeat?"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from runyoro_ssl.batches.forward import run_objective
from runyoro_ssl.bench.subjects import build_model
from runyoro_ssl.check.agreement import LIMITS, worst_gradient
from runyoro_ssl.check.blocks import gradients_of
from runyoro_ssl.check.finding import Finding, not_done, number_or_none
from runyoro_ssl.check.learner import Learner, release
from runyoro_ssl.check.settings import CheckSettings
from runyoro_ssl.model.checks import DROPOUTS
from runyoro_ssl.model.draws import derive_seed
from runyoro_ssl.model.load import load_model
from runyoro_ssl.torchaudio_compat import import_transformers
from runyoro_ssl.train.checkpoints.format import (
    load_generators,
    load_optimizer,
    load_state,
    num_updates,
    take_snapshot,
    verify_checkpoint,
    write_checkpoint,
)
from runyoro_ssl.train.checkpoints.generators import generator_states, restore_generators

CHECK = "resume"
SAVED_AFTER, LAST_STEP = 2, 4
CLIPS = (2.0, 1.6, 1.1)


def check_resume(settings: CheckSettings) -> Iterator[Finding]:
    """Whether an ordinary step repeats bit for bit; and, with algorithms that do, whether a resumed run does."""
    yield _check_repeat(settings)
    release(settings.device)
    with deterministic(settings.device), tempfile.TemporaryDirectory() as folder:
        try:
            yield _check_resume(settings, Path(folder))
        except RuntimeError as error:
            if "deterministic" not in str(error):  # want of an algorithm that does the same twice; a run needs none
                raise
            yield not_done(CHECK, "saved and resumed", f"no deterministic algorithms on {settings.device}")


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Only algorithms that do the same twice; on MPS, where torch knows of few, as far as there are."""
    torch.use_deterministic_algorithms(mode=True, warn_only=device == "mps")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=False)


def _check_repeat(settings: CheckSettings) -> Finding:
    learner = Learner.new(settings.small, settings.device, settings.way)
    first, again = _gradients(learner), _gradients(learner)
    differ = sum(not torch.equal(first[name], again[name]) for name in first)
    largest, worst = worst_gradient(first, again)
    wrong = not largest <= LIMITS[settings.precision]
    return Finding(
        CHECK,
        f"an ordinary step again, {settings.precision}",
        f"{differ} of {len(first)} gradients differ, at most {largest:.1e}" if differ else "every bit the same",
        f"at most {LIMITS[settings.precision]:.0e}; on a GPU not the same bits",
        "wrong" if wrong else "ok",
        f"the gradient of {worst} is another each time; send doctor.json" if wrong else "",
        {"differ": differ, "gradients": len(first), "largest_difference": number_or_none(largest)},
    )


def _gradients(learner: Learner) -> dict[str, torch.Tensor]:
    batch = learner.batch(CLIPS)
    torch.manual_seed(derive_seed("repeat"))
    learner.model.zero_grad()
    objective = run_objective(learner.accelerator, learner.model, batch)
    objective.loss.backward()  # type: ignore[no-untyped-call]
    return gradients_of(learner.model.named_parameters())


def _check_resume(settings: CheckSettings, folder: Path) -> Finding:
    torch.manual_seed(derive_seed("resume"))
    learner = Learner.of(build_model(settings.small, settings.device), settings.device, settings.way)
    _learn(learner, 1, SAVED_AFTER)
    checkpoint = save(learner, SAVED_AFTER, folder)
    problem = verify_checkpoint(checkpoint)
    _learn(learner, SAVED_AFTER + 1, LAST_STEP)
    expected = _weights(learner)
    resumed = load(checkpoint, settings)
    _learn(resumed, SAVED_AFTER + 1, LAST_STEP)
    seen = _weights(resumed)
    differ = [name for name in expected if not torch.equal(expected[name], seen[name])]
    right = not differ and problem is None
    return Finding(
        CHECK,
        f"saved after step {SAVED_AFTER}, resumed to step {LAST_STEP}, {settings.precision}",
        problem or (f"{len(differ)} of {len(expected)} weights differ" if differ else "every bit the same"),
        "every bit the same, with deterministic algorithms",
        "ok" if right else "wrong",
        "" if right else "runs go on, but not as if nothing had happened; send doctor.json",
        {"differ": len(differ), "weights": len(expected), "largest_difference": _largest(expected, seen)},
    )


def _learn(learner: Learner, first: int, last: int) -> None:
    batch = learner.batch(CLIPS)
    for step in range(first, last + 1):
        learner.learn(step, batch)


def save(learner: Learner, step: int, folder: Path) -> Path:
    """Write a checkpoint as a run does."""
    scaler = learner.accelerator.scaler
    optimizer = learner.stepper.optimizer.optimizer
    state = {
        "step": step,
        "num_updates": num_updates(optimizer),
        "scaler": scaler.state_dict() if scaler else None,
    }
    generators = generator_states(learner.accelerator.device)
    extractor = import_transformers().Wav2Vec2FeatureExtractor(return_attention_mask=True)
    snapshot = take_snapshot(learner.model, optimizer, generators, state)
    return write_checkpoint(folder, snapshot, learner.model, extractor)


def load(checkpoint: Path, settings: CheckSettings) -> Learner:
    """A learner that goes on from a checkpoint, loaded as a run does."""
    way = settings.way
    base: Any = SimpleNamespace(
        model_name_or_path=str(checkpoint),
        revision=None,
        allow_pickle=False,
        allow_new_head=False,
        **dict.fromkeys(DROPOUTS),
    )
    hardware: Any = SimpleNamespace(
        device=settings.device,
        attention=way.attention,
        gradient_checkpointing=False,  # both are set up by the learner
        compile=False,
    )
    learner = Learner.of(load_model(base, hardware), settings.device, way)
    state = load_state(checkpoint)
    load_optimizer(checkpoint, learner.model, learner.stepper.optimizer.optimizer, num_updates=state["num_updates"])
    if learner.accelerator.scaler is not None and state["scaler"]:
        learner.accelerator.scaler.load_state_dict(state["scaler"])
    restore_generators(load_generators(checkpoint), learner.accelerator.device)
    return learner


def _weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in learner.model.state_dict().items()}


def _largest(expected: Mapping[str, torch.Tensor], seen: Mapping[str, torch.Tensor]) -> float | None:
    return number_or_none(max(float((seen[name] - expected[name]).abs().max()) for name in expected))
