"""Preparing and reading a dataset, beside `datasets.map` with transformers' feature extractor."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from runyoro_ssl.bars import progress
from runyoro_ssl.bench.corpus import SAMPLE_RATE, synthesise, write_clips
from runyoro_ssl.bench.long import bench_hours, bench_long
from runyoro_ssl.bench.measure import Comparison, What, alternate
from runyoro_ssl.bench.watched import core_seconds_of_children, prepare_config, remove_prepared
from runyoro_ssl.errors import ManifestError
from runyoro_ssl.torchaudio_compat import import_transformers

BATCH_SECONDS = 32.0
"""Audio seconds of one micro-batch when reading, padding included."""


def bench_data(
    *, audio_dir: Path | None, runs: int, minutes: float = 20.0, hours: float | None = None
) -> list[Comparison]:
    """Rows "prepare" of WAV and of FLAC files, a row "read", and those of long recordings; all in a temporary folder.

    Args:
        audio_dir: Recordings of any format that `manifest` takes; None: synthetic speech.
        runs: Timed runs of each side.
        minutes: Audio used, at most. It is written as 16 kHz files of at most 15 s, the same for both sides; joined,
            it is a long recording.
        hours: Instead of all these, rows of a corpus so large, made of copies of the long recording.

    Raises:
        ManifestError: `audio_dir` is no folder, or holds no two readable clips of 2 s.
        ConfigError: The disk has too little room for `hours`.
    """
    if audio_dir is not None and not audio_dir.is_dir():
        raise ManifestError(f"{audio_dir}: no such folder; check the path")
    transformers = import_transformers()
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    with tempfile.TemporaryDirectory(prefix="runyoro-bench-") as scratch, _quiet_datasets():
        folder = Path(scratch)
        for part in (extractor, transformers.Wav2Vec2Config()):
            part.save_pretrained(folder / "model")
        write_clips(audio_dir or synthesise(folder / "synthetic", minutes), folder, minutes)
        if hours is not None:
            return list(bench_hours(folder, hours))
        rows = [_bench_prepare(folder, extension, extractor, runs) for extension in ("wav", "flac")]
        return [*rows, _bench_read(folder, extractor, runs), *bench_long(folder, runs)]


def _bench_prepare(folder: Path, extension: str, extractor: Any, runs: int) -> Comparison:
    """`prepare` with one worker, its start included, beside `datasets.map`, which works in this process."""
    from runyoro_ssl.plugin.manager import load_plugins
    from runyoro_ssl.prepare.pipeline import prepare
    from runyoro_ssl.prepare.scan import scan

    audio_dir, manifest = folder / extension, folder / f"{extension}.jsonl"
    scan(audio_dir, manifest, speaker_from="(.+)")  # whose voices are in both splits is no matter here
    prepared, mapped = folder / f"{extension}-prepared", folder / f"{extension}-mapped"
    config = prepare_config(folder, manifest, prepared)
    plugins = load_plugins(config)

    def ours() -> dict[str, Any]:
        remove_prepared(prepared)
        return prepare(config, plugins).report

    def reference() -> None:
        shutil.rmtree(mapped, ignore_errors=True)
        map_with_extractor(audio_dir, extractor, mapped)

    meters = _alternate(f"prepare {extension}", ours, reference, runs)
    report = meters[0].result
    seconds_in, seconds_kept = report["seconds_in"], report["seconds_kept"]
    sizes = [sum(path.stat().st_size for path in home.rglob("*.arrow")) for home in (prepared, mapped)]
    start_seconds = statistics.median(_start_worker() for _ in range(3))
    extra = {
        "start_seconds": start_seconds,
        "ratio_without_start": statistics.median(meters[1].seconds)
        / (statistics.median(meters[0].seconds) - start_seconds),
        "bytes": sizes[0],
        "reference_bytes": sizes[1],
        # The filters may have dropped a clip.
        "bytes_ratio": (sizes[0] / seconds_kept) / (sizes[1] / seconds_in),
    }
    return _row("prepare", extension, meters, seconds_in, extra)


def map_with_extractor(audio_dir: Path, extractor: Any, output_dir: Path) -> None:
    """What transformers' own pre-training example does: one clip at a time, normalised, as float32.

    Decoding is soundfile's, for the Audio feature of datasets needs torchcodec.
    """
    from datasets import Dataset

    paths = sorted(str(path) for path in audio_dir.rglob("*") if path.is_file())
    made = Dataset.from_dict({"path": paths}).map(
        partial(_extract, extractor),
        remove_columns=["path"],
        load_from_cache_file=False,
        cache_file_name=str(audio_dir.with_suffix(".cache")),
    )
    made.save_to_disk(str(output_dir))


def _extract(extractor: Any, row: dict[str, str]) -> dict[str, Any]:
    import soundfile as sf

    waveform, rate = sf.read(row["path"], dtype="float32")
    return {"input_values": extractor(waveform, sampling_rate=rate).input_values[0]}


def _start_worker() -> float:
    """Seconds to start a decoding process, give it nothing to do, and end it."""
    from runyoro_ssl.builtins.executors.processes import ProcessExecutor
    from runyoro_ssl.prepare.shards.shard import Shard
    from runyoro_ssl.prepare.workers import opened, run

    def start() -> None:
        # A function beside the real work: the worker imports what that takes.
        with opened(ProcessExecutor(1)) as executor:
            list(run(executor, Shard.one_by_one, [Shard(())], in_flight=1))

    return alternate(start, None, runs=1, warmup=0)[0][0]


def _bench_read(folder: Path, extractor: Any, runs: int) -> Comparison:
    """Rows of the dataset on disk to normalised, padded batches, in the order of an epoch; one thread on both sides."""
    import torch
    from datasets import load_from_disk

    from runyoro_ssl.batches.build import BatchBuilder
    from runyoro_ssl.builtins.collators import PaddedCollator
    from runyoro_ssl.config import MaskingConfig
    from runyoro_ssl.dataset.read import Clips, load_splits

    split = load_splits(folder / "wav-prepared", sampling_rate=SAMPLE_RATE)["train"]
    mapped = load_from_disk(str(folder / "wav-mapped"))
    plan = plan_reading(split)
    builder = BatchBuilder(
        clips=Clips(split),
        model_config=None,
        masking=MaskingConfig(),
        collator=PaddedCollator(),
        augmentations=(),
        do_normalize=True,
        use_attention_mask=True,
        seed=0,
    )

    def ours() -> None:
        for batch in plan:
            builder.read(batch)

    def reference() -> None:
        for batch in plan:
            extractor.pad([mapped[clip] for clip in batch.clips], padding=True, return_tensors="pt")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        meters = _alternate("read", ours, reference, runs)
    finally:
        torch.set_num_threads(threads)
    return _row("read", "dataset", meters, sum(split["num_samples"]) / SAMPLE_RATE, {})


def plan_reading(split: Any) -> list[Any]:
    """The micro-batches of an epoch: clips of like length together, in random order."""
    from runyoro_ssl.batches.micro_batches import PlanSettings
    from runyoro_ssl.batches.plan import plan_epoch

    settings = PlanSettings(batch_samples=BATCH_SECONDS * SAMPLE_RATE, update_samples=BATCH_SECONDS * SAMPLE_RATE)
    updates = plan_epoch(tuple(split["num_samples"]), settings, seed=0, epoch=0)
    return [batch for update in updates for batch in update]


@dataclass
class _Meter:
    """A function, the seconds of its timed calls, and the core seconds of all calls, child processes included."""

    function: Callable[[], Any]
    advance: Callable[[], Any]
    seconds: list[float] = field(default_factory=list)
    core_seconds: list[float] = field(default_factory=list)
    result: Any = None

    def __call__(self) -> None:
        start = _core_seconds()
        self.result = self.function()
        self.core_seconds.append(_core_seconds() - start)
        self.advance()


def _core_seconds() -> float:
    return time.process_time() + core_seconds_of_children()


def _alternate(what: str, ours: Callable[[], Any], reference: Callable[[], Any], runs: int) -> list[_Meter]:
    with progress("runs") as bar:
        task = bar.add_task(f"Timing {what}", total=2 * (runs + 1))
        meters = [_Meter(function, partial(bar.advance, task)) for function in (ours, reference)]
        meters[0].seconds, meters[1].seconds = alternate(meters[0], meters[1], runs=runs, warmup=1)
    return meters


def _row(what: What, size: str, meters: list[_Meter], audio_seconds: float, extra: dict[str, Any]) -> Comparison:
    ours, reference = meters
    runs = len(ours.seconds)
    return Comparison(
        what=what,
        size=size,
        precision="int16",
        reference_precision="float32",
        ours=ours.seconds,
        reference=reference.seconds,
        extra={
            "audio_seconds": audio_seconds,
            "audio_seconds_per_second": audio_seconds / statistics.median(ours.seconds),
            "reference_audio_seconds_per_second": audio_seconds / statistics.median(reference.seconds),
            "core_seconds": statistics.median(ours.core_seconds[-runs:]),
            "reference_core_seconds": statistics.median(reference.core_seconds[-runs:]),
            **extra,
        },
    )


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not quiet:
            enable_progress_bars()
