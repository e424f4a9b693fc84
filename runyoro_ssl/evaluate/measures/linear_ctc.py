"""A linear layer from frames to characters, learned by CTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import nn

NUM_STEPS = 300
BATCH_FRAMES = 750
"""15 s: a step takes 10 ms, most of it in the loss."""
LOGIT_STEP = 0.8
"""The learning rate is this over the size of the features: a step then moves a logit equally far, whatever their size.
Rates from a third to three times that were tried (Luganda: log-mel, 80, and a random expansion of it, 1024; letters in
noise, 64 and 1024; from 1 and 10 minutes): none was better throughout, one rate for all was much worse at an end."""
BLANK = 0


@dataclass(frozen=True)
class CtcExample:
    """A clip to learn from: standardised features float32 (F, H), and its characters, int64 (L,), 1 and up."""

    frames: torch.Tensor
    characters: torch.Tensor

    @classmethod
    def of(cls, frames: torch.Tensor, text: str, alphabet: str) -> Self:
        """An example of features and text."""
        places = [alphabet.index(one) + 1 for one in text]
        return cls(frames, torch.tensor(places, dtype=torch.int64))


def fit_linear_ctc(
    examples: Sequence[CtcExample],
    num_classes: int,
    *,
    seed: int,
    num_steps: int = NUM_STEPS,
) -> nn.Linear:
    """Learn a linear layer (H -> classes, 0 is the blank) by Adam, in a fixed number of steps of 15 s each.

    The rate falls to 0 along half a cosine. Weights start at 0, and clips come in a random order by `seed`.
    """
    layer = nn.Linear(examples[0].frames.shape[1], num_classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(layer.parameters(), lr=LOGIT_STEP / layer.in_features)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    loss_of = nn.CTCLoss(blank=BLANK, reduction="sum")
    rng = np.random.default_rng([seed, 1])
    queue: list[int] = []
    for _ in range(num_steps):
        batch: list[CtcExample] = []
        while not batch or sum(len(one.frames) for one in batch) < min(BATCH_FRAMES, sum_frames(examples)):
            queue = queue or rng.permutation(len(examples)).tolist()
            batch.append(examples[queue.pop()])
        optimizer.zero_grad()
        loss = _loss(layer, loss_of, batch)
        loss.backward()  # type: ignore[no-untyped-call] # torch's own
        optimizer.step()
        schedule.step()
    return layer


def sum_frames(examples: Sequence[CtcExample]) -> int:
    """All frames of examples."""
    return sum(len(one.frames) for one in examples)


def _loss(layer: nn.Linear, loss_of: nn.CTCLoss, batch: Sequence[CtcExample]) -> torch.Tensor:
    """Nats per character."""
    lengths = [len(one.frames) for one in batch]
    logits = layer(torch.cat([one.frames for one in batch])).log_softmax(-1)
    padded = nn.utils.rnn.pad_sequence(logits.split(lengths))  # (T, clips, classes)
    characters = [one.characters for one in batch]
    sizes = torch.tensor([len(one) for one in characters])
    total: torch.Tensor = loss_of(padded, torch.cat(characters), torch.tensor(lengths), sizes)
    return total / sizes.sum()


@torch.no_grad()
def decode(layer: nn.Linear, frames: torch.Tensor, alphabet: str) -> str:
    """The text of the best class of each frame: repeats are one, blanks none."""
    best = torch.unique_consecutive(layer(frames).argmax(-1)).tolist()
    return "".join(alphabet[one - 1] for one in best if one != BLANK)
