"""What weights, gradients and moments take in a process, whole or sharded."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

from runyoro_ssl.model.activations import Activations
from runyoro_ssl.model.counts import Counts, OptimizerKind, state_bytes


@dataclass(frozen=True)
class States:
    """The bytes of weights, gradients and moments in one process, and of what it has of them for a while.

    `accumulated`: gradients that are there before a backward pass begins. `averages`: a moving average of what learns.
    `gathered`: of sharded weights.
    """

    weights: int
    gradients: int
    moments: int
    accumulated: int
    casts: int
    averages: int = 0
    gathered: int = 0

    @classmethod
    def of(
        cls,
        counts: Counts,
        network: Activations,
        optimizer: OptimizerKind,
        *,
        averaged: bool,
        accumulates: bool,
        num_processes: int,
        sharded: bool,
    ) -> States:
        """The states of a model of these counts, in one of so many processes."""
        weights, gradients = 4 * (counts.parameters + counts.of_adapters), 4 * counts.num_trained
        if network.holds_halves:
            weights -= 2 * counts.frozen_matrices
        moments, averages = state_bytes(counts.trained, optimizer), gradients if averaged else 0
        if not sharded:
            # DDP's buckets are the gradients, and stay.
            accumulated = gradients if accumulates or num_processes > 1 else 0
            return cls(weights, gradients, moments, accumulated, network.casts(), averages)
        of_each = functools.partial(_share, num_processes)
        layer = _layer_parameters(network.config)
        rest = counts.parameters - network.config.num_hidden_layers * layer
        # A layer's weights and gradients, the next one's weights and what they came in, two sums on their way.
        gathered = 2 * 4 * rest + layer * (4 * network.element + 2 * 4)
        casts = min(network.casts(), network.element * rest)
        learned = of_each(gradients)
        return cls(
            of_each(weights), learned, of_each(moments), learned, casts, averages=of_each(averages), gathered=gathered
        )


def _share(num_processes: int, num_bytes: int) -> int:
    """What one process holds of so many bytes."""
    return math.ceil(num_bytes / num_processes)


def _layer_parameters(config: Any) -> int:
    """Parameters of one Transformer layer: products, biases and two norms."""
    hidden, inner = config.hidden_size, config.intermediate_size
    return int(4 * hidden * (hidden + 1) + 2 * hidden * inner + inner + hidden + 4 * hidden)
