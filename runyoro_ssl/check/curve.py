"""The losses of twenty steps, beside those of the same steps on the CPU in fp32."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from runyoro_ssl.bench.subjects import build_model
from runyoro_ssl.check.agreement import precision, precisions
from runyoro_ssl.check.finding import Finding, number_or_none
from runyoro_ssl.check.learner import Learner
from runyoro_ssl.check.settings import CheckSettings, Way

CHECK = "loss curve"
NUM_STEPS = 20
RATE_SCALE = 4.0
"""Of the default learning rate, which in twenty steps teaches a new model next to nothing."""
LOSS_SCALE = 1024.0
MICRO_BATCHES = ((2.0, 2.0), (2.0, 1.6, 1.1))
"""Taken in turn; seconds of each clip."""
LIMITS = {"fp32": 1e-2, "tf32": 5e-2, "fp16": 5e-2, "bf16": 1.5e-1}
"""Of the difference of any step, in nats, while the loss falls by two. Measured on a CPU: 7e-2 in bf16."""


def check_curve(settings: CheckSettings) -> Iterator[Finding]:
    """A row for each precision. The best code is taken, none is drawn: devices draw differently from one seed."""
    model = build_model(settings.small, "cpu").eval()
    expected = losses(copy.deepcopy(model), "cpu", "fp32")
    attention = settings.way.attention
    for name in precisions(settings):
        yield _judge(name, expected, losses(copy.deepcopy(model), settings.device, name, attention))


def losses(model: Any, device: str, name: str, attention: str = "sdpa") -> list[float]:
    """The contrastive losses of the steps, in nats, in a precision of `agreement.LIMITS`."""
    way = Way("fp32" if name == "tf32" else name, 0.0, attention=attention)
    learner = Learner.of(model, device, way, total_steps=NUM_STEPS)
    learner.stepper.rate_scale = RATE_SCALE
    learner.scale_losses(LOSS_SCALE)
    batches = [learner.batch(clips) for clips in MICRO_BATCHES]
    with precision(device, name):
        return [learner.learn(step, batches[step % len(batches)]) for step in range(1, NUM_STEPS + 1)]


def _judge(name: str, expected: list[float], seen: list[float]) -> Finding:
    differences = torch.tensor(seen) - torch.tensor(expected)
    largest = float(differences.abs().max())  # NaN, if there is one
    wrong = not largest <= LIMITS[name]
    learns = seen[-1] < seen[0]
    return Finding(
        CHECK,
        f"{NUM_STEPS} steps, {name}",
        f"{seen[0]:.3f} to {seen[-1]:.3f} nats, at most {largest:.1e} from the CPU's",
        f"at most {LIMITS[name]:.0e} from {expected[0]:.3f} to {expected[-1]:.3f}",
        "wrong" if wrong or not learns else "ok",
        "do not train here in this precision; send doctor.json" if wrong else "" if learns else "send doctor.json",
        {"largest_difference": number_or_none(largest), "losses": list(map(number_or_none, seen)), "cpu": expected},
    )
