"""The five hooks, and the objects that pass through them.

A hook is called once, when plugins are loaded, with `register` and the resolved configuration. It registers named
factories: `register("name", factory)`. The configuration names what is used; `factory(**options)` then makes it.
What a factory makes must be picklable (a class with `__call__`, not a closure): worker processes receive it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from runyoro_ssl import hookspec

if TYPE_CHECKING:
    import numpy as np
    import torch

    from runyoro_ssl.config import Config


class Because(str):
    """A reason to drop a clip, with a detail: `Because("near-duplicate", "of a.wav@3.000")`.

    It is the reason, a string like any other that a filter may return; reports count by that. The detail is for people
    who look the clip up, and stands beside it in `dropped.jsonl` and on the page.
    """

    __slots__ = ("detail",)
    detail: str

    def __new__(cls, reason: str, detail: str) -> Self:
        """Make it of both."""
        because = str.__new__(cls, reason)
        because.detail = detail
        return because

    def __reduce__(self) -> tuple[type[Because], tuple[str, str]]:
        return Because, (str(self), self.detail)


@dataclass(frozen=True)
class Utterance:
    """One candidate clip of `prepare`, after decoding, resampling and cutting.

    `waveform` is float32 (num_samples,) in [-1, 1] at `sample_rate` Hz, mono. `source` is the path of the manifest.
    `metadata` holds every other field of the manifest line.
    """

    id: str
    source: str
    recording: str
    speaker: str | None
    language: str | None
    offset_sec: float
    waveform: np.ndarray
    sample_rate: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    speech_share: float | None = None
    """Share of the clip that the segmenter took for speech; None: not measured."""

    @property
    def num_samples(self) -> int:
        """Samples at `sample_rate`."""
        return len(self.waveform)

    @property
    def duration_sec(self) -> float:
        """Seconds."""
        return len(self.waveform) / self.sample_rate


@dataclass(frozen=True)
class Clip:
    """One training clip as a collator sees it: `waveform` float32 (T,), not yet normalised."""

    index: int
    waveform: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """What a collator returns: `waveforms` float32 (B, T), zero beyond `num_samples` int64 (B,).

    `waveforms` is the trainer's from then on, which normalises it in place: a new tensor, not a view of kept memory.
    """

    waveforms: torch.Tensor
    num_samples: torch.Tensor


@dataclass(frozen=True)
class Run:
    """What a logging backend is told when a run starts. `config` is the resolved configuration, secrets removed.

    `is_new`: nothing was done so far; what a run that ended before its first checkpoint left here counts no longer.
    `is_validated`: the validation that belongs to `start_step` was made; else it follows.
    """

    output_dir: Path
    name: str
    config: Mapping[str, Any]
    start_step: int
    total_steps: int
    is_new: bool = False
    is_validated: bool = True


class LoggingBackend(Protocol):
    """Where metrics go. Only the main process logs."""

    def open(self, run: Run) -> None:
        """The run starts, or goes on from `run.start_step`."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Numbers of one optimizer step: `epoch`, and `train/…` or `eval/…`."""

    def close(self, status: str) -> None:
        """The run ended: "finished", "stopped" or "failed"; or it is "rolled back", and `open` follows."""


@dataclass(frozen=True)
class Candidate:
    """A clip that every filter before let pass, as a corpus filter sees it. `measured` is what its `measure` gave."""

    id: str
    source: str
    recording: str
    speaker: str | None
    language: str | None
    offset_sec: float
    num_samples: int
    sample_rate: int
    measured: Any


@runtime_checkable
class CorpusFilter(Protocol):
    """A filter that judges clips beside each other."""

    def measure(self, utterance: Utterance) -> Any:
        """What to know of a clip: bytes, or a JSON value. Runs in a worker process."""

    def select(self, candidates: Sequence[Candidate]) -> Sequence[str | None]:
        """The reason to drop each clip, or None. Runs in the main process, on the clips in manifest order.

        A reason may be a `Because`: a reason with a detail.
        """


Filter = Callable[[Utterance], str | None]
"""The reason to drop the utterance, or None. A reason is a short category: reports count by it; for more, `Because`."""
Augmentation = Callable[["torch.Tensor", "torch.Generator"], "torch.Tensor"]
"""(waveform float32 (T,), generator) -> float32 (T',). Draws only from the generator."""
Collator = Callable[[Sequence[Clip], Sequence["torch.Generator"]], Batch]
"""Clips and one generator for each, to one batch."""
OpenExecutor = Callable[[str, int, Path], Executor]
"""(what follows `name://` in `prepare.executor`, number of workers, a folder that all workers see) -> Executor.

A task that ends its process must fail its own future only. `shutdown(cancel_futures=True)` ends running tasks too.
"""
Register = Callable[[str, Callable[..., Any]], None]


@hookspec
def runyoro_manifest_filters(register: Register, config: Config) -> None:
    """Register filters for `prepare`: factory(**options) -> (Utterance) -> reason to drop, or None.

    Or factory(**options) -> CorpusFilter, which sees the clips together.
    """


@hookspec
def runyoro_augmentations(register: Register, config: Config) -> None:
    """Register augmentations for `train`: factory(**options) -> (waveform, generator) -> waveform."""


@hookspec
def runyoro_collators(register: Register, config: Config) -> None:
    """Register collators for `train`: factory(**options) -> (clips, generators) -> Batch."""


@hookspec
def runyoro_logging_backends(register: Register, config: Config) -> None:
    """Register logging backends for `train`: factory(**options) -> LoggingBackend."""


@hookspec
def runyoro_executors(register: Register, config: Config) -> None:
    """Register places where `prepare` may run: factory(**options) -> OpenExecutor."""
