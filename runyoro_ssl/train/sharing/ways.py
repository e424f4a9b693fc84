"""The ways in which processes share a model: alone, a copy in each (DDP), a part in each (FSDP2).

                alone           replicas (DDP)                          shards (FSDP2)
    weights     here            in each process                         a part in each; a layer's are gathered to run it
    gradients   here            summed in buckets, while the backward   summed layer by layer, while the backward pass
                                pass of the last micro-batch goes on    of every micro-batch goes on; a part in each
    moments     here            in each process                         a part in each

DDP and FSDP give the mean over processes, and losses are scaled by their number to make it a sum. All processes must
take part in each sum, whatever they have to do: one without a micro-batch runs an idle one (`batches.idle`).

Two rules of others' experience. A layer that layer drop leaves out in one process and not in another must still be
gathered by both (fairscale#796), and be given gradients (pytorch#148334): see `model.layer_drop`. And a micro-batch
whose gradients are summed must not run short of memory, as the others would wait for ever: see `Replicas.divide`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.batches.forward import ObjectiveNetwork, run_objective
from runyoro_ssl.batches.idle import idle_batch
from runyoro_ssl.model.layer_drop import give_zeros, run_for_nothing
from runyoro_ssl.processes import gather_over_processes

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Portion:
    """A micro-batch, or the part of this number of one, where memory is short. Idle ones have no clips."""

    batch: TrainingBatch
    number: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether it teaches nothing."""
        return not self.batch.plan.pieces

    @property
    def size(self) -> int:
        """Samples, padding included."""
        return self.batch.waveforms.numel()


class Sharing(Protocol):
    """A way of sharing a model among the processes of a run.

    Attributes:
        network: What `run_objective` takes in training.
        judged: What it takes in validation.
        in_step: Forward passes, too, need all processes: each must run equally many.
        num_processes: The factor by which losses are scaled.
    """

    network: Any
    judged: Any
    in_step: bool
    num_processes: int

    def divide(self, parts: Sequence[Portion]) -> tuple[list[Portion], list[Portion]]:
        """Divide this process's parts of an update into those whose gradients stay here, and those that are summed."""

    def kept_here(self) -> AbstractContextManager[None]:
        """A context in which gradients are not summed over processes."""

    def went_through(self, parts: Sequence[Portion]) -> None:
        """Take note of parts that did not run short of memory."""

    def forget_gradients(self, optimizer: Any) -> None:
        """Make ready for the next update."""

    def load(self, model: Any, weights: Mapping[str, torch.Tensor]) -> None:
        """Give the model, as it is shared, these whole weights."""


class Alone:
    """One process: nothing is shared."""

    in_step = False
    num_processes = 1

    def __init__(self, model: Any) -> None:
        self.network = self.judged = model

    def divide(self, parts: Sequence[Portion]) -> tuple[list[Portion], list[Portion]]:
        """All stay here."""
        return list(parts), []

    def kept_here(self) -> AbstractContextManager[None]:
        """Nothing is summed anyway."""
        return nullcontext()

    def went_through(self, parts: Sequence[Portion]) -> None:
        """Nobody waits for this process."""

    def forget_gradients(self, optimizer: Any) -> None:
        """Free them."""
        optimizer.zero_grad()

    def load(self, model: Any, weights: Mapping[str, torch.Tensor]) -> None:
        """In place."""
        model.load_state_dict(weights)


class Replicas:
    """A copy of the model in each process: DDP, by Accelerate.

    Gradients are views of the buckets, so that they exist once; therefore they are zeroed and not freed.
    """

    in_step = False

    def __init__(self, accelerator: Any, model: Any) -> None:
        from accelerate.utils import DistributedDataParallelKwargs

        accelerator.ddp_handler = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        self.judged = model
        self.network = accelerator.prepare(ObjectiveNetwork(accelerator, model, give_zeros))
        self.num_processes = accelerator.num_processes
        self._accelerator, self._proven, self._idle = accelerator, 0, Portion(idle_batch(model.config))
        self._settle()

    def _settle(self) -> None:
        """Let DDP make its buckets, and anew in the order in which gradients come: while nothing else needs memory.

        From then on gradients are views of them.
        """
        devices = [self._accelerator.device] if self._accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            for _ in range(2):
                self.network.zero_grad(set_to_none=True)
                objective = run_objective(
                    self._accelerator, self.network, self._idle.batch.to(self._accelerator.device)
                )
                objective.loss.backward()  # type: ignore[no-untyped-call]

    def divide(self, parts: Sequence[Portion]) -> tuple[list[Portion], list[Portion]]:
        """The last is summed as its backward pass goes on, if so large a one went through before.

        Else an idle one follows it: where memory is short in one process, all can begin the update anew.
        """
        *rest, last = parts or [self._idle]
        if last.size <= max([self._proven, self._idle.size, *(part.size for part in rest)]):
            return rest, [last]
        return [*rest, last], [self._idle]

    def kept_here(self) -> AbstractContextManager[None]:
        """DDP adds up without summing."""
        return self._accelerator.no_sync(self.network)  # type: ignore[no-any-return]

    def went_through(self, parts: Sequence[Portion]) -> None:
        """Those of their size will, too."""
        self._proven = max([self._proven, *(part.size for part in parts)])

    def forget_gradients(self, optimizer: Any) -> None:
        """Zero them."""
        optimizer.zero_grad(set_to_none=False)

    def load(self, model: Any, weights: Mapping[str, torch.Tensor]) -> None:
        """In place, in each process."""
        model.load_state_dict(weights)


class Shards:
    """A part of the model in each process: FSDP2.

    torch's own, since Accelerate's takes GPUs only, and the computation of this model's root is not in its `forward`.
    """

    in_step = True

    def __init__(self, accelerator: Any, model: Any) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        half = HALF.get(accelerator.mixed_precision)
        # Autocast says what is computed in which precision; so the rest, the objective's own weights, stays in fp32.
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for layer in model.wav2vec2.encoder.layers:
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        network = ObjectiveNetwork(accelerator, model, run_for_nothing)
        # Between passes no process holds more than its part: what loads or saves it need not ask.
        self.network = self.judged = fully_shard(network, mesh=mesh, reshard_after_forward=True)
        self.num_processes = accelerator.num_processes
        self._accelerator, self._idle = accelerator, Portion(idle_batch(model.config))

    def divide(self, parts: Sequence[Portion]) -> tuple[list[Portion], list[Portion]]:
        """All are summed; with idle ones in as many as the process has that has most."""
        most = max(gather_over_processes(self._accelerator, len(parts)))
        return [], [*parts, *[self._idle] * (most - len(parts))]

    def kept_here(self) -> AbstractContextManager[None]:
        """Nothing is kept here."""
        return nullcontext()

    def went_through(self, parts: Sequence[Portion]) -> None:
        """A process that is short of memory ends the run: the others wait for it within each forward pass."""

    def forget_gradients(self, optimizer: Any) -> None:
        """Free them."""
        optimizer.zero_grad()

    def load(self, model: Any, weights: Mapping[str, torch.Tensor]) -> None:
        """Each process takes its part."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        set_model_state_dict(model, dict(weights), options=StateDictOptions(full_state_dict=True))
