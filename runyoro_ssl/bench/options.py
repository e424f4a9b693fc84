"""The options of a bench, for `invoke bench` and for `python -m runyoro_ssl.bench`. The standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.option import Option, OptionKind, shown

DEVICES = ("cuda", "mps", "cpu")
PRECISIONS = ("fp32", "bf16", "fp16")
BenchPart = Literal["objective", "feature_encoder", "step", "epoch"]
PARTS: tuple[BenchPart, ...] = get_args(BenchPart)


def about(kind: OptionKind, text: str, *, choices: tuple[str, ...] = (), needs_all: bool = False) -> dict[str, Any]:
    """What help says of a field. `needs_all`: not where only torch, transformers and accelerate are installed."""
    return {"kind": kind, "help": text, "choices": choices, "needs_all": needs_all}


@dataclass(frozen=True)
class BenchOptions:
    """What to measure. Not given: what suits the machine."""

    size: str = field(default="small", metadata=about("text", "Model, of random weights.", choices=tuple(SIZES)))
    device: str | None = field(
        default=None, metadata=about("text", "Where to compute. Not given: the best device present.", choices=DEVICES)
    )
    precision: str | None = field(
        default=None, metadata=about("text", "Of our side. Not given: bf16 on CUDA, else fp32.", choices=PRECISIONS)
    )
    reference_precision: str | None = field(
        default=None,
        metadata=about("text", "Of transformers' side. Not given: fp32 on a CPU, else as ours.", choices=PRECISIONS),
    )
    steps: int = field(default=5, metadata=about("int", "Timed runs of each side."))
    parts: str = field(default=",".join(PARTS), metadata=about("text", "What to measure."))
    clip_seconds: float = field(default=15.0, metadata=about("float", "Length of the clips of a step."))
    batch_seconds: float | None = field(
        default=None, metadata=about("float", "Audio of a micro-batch. Not given: by size and device.")
    )
    compile: bool = field(default=False, metadata=about("switch", "torch.compile each Transformer layer on our side."))
    without_reference: bool = field(default=False, metadata=about("switch", "Measure ours alone."))
    protection: bool = field(
        default=False,
        metadata=about("switch", "Measure instead what checkpoints and the watches cost a run.", needs_all=True),
    )
    data: bool = field(
        default=False,
        metadata=about("switch", "Measure prepare and reading instead, beside datasets.map.", needs_all=True),
    )
    audio_dir: Path | None = field(
        default=None,
        metadata=about("path", "With --data or --protection: recordings, not synthetic speech.", needs_all=True),
    )
    minutes: float = field(default=20.0, metadata=about("float", "With --data: audio to use.", needs_all=True))
    hours: float | None = field(
        default=None,
        metadata=about(
            "float",
            "With --data: prepare so many hours once instead, and tell memory; 100 take 25 GB of disk.",
            needs_all=True,
        ),
    )
    json: Path | None = field(default=None, metadata=about("path", "File to write the rows to."))


def options_of_bench(*, everywhere: bool = False) -> list[Option]:
    """The options as a command line needs them; `everywhere`: those that work without all of the packages."""
    return options_of_class(BenchOptions, "What to measure", everywhere=everywhere)


def options_of_class(schema: Any, group: str, *, everywhere: bool = False) -> list[Option]:
    """The options that are the fields of a dataclass, which `about` says what help says of."""
    return [
        Option(
            name=one.name,
            kind=one.metadata["kind"],
            help=one.metadata["help"],
            group=group,
            default=shown(one.default),
            choices=one.metadata["choices"],
        )
        for one in fields(schema)
        if not (everywhere and one.metadata["needs_all"])
    ]
