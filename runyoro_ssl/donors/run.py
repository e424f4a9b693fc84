"""`invoke donors`, readable top to bottom: hear target and pools, say how near they are, take the nearest clips."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from runyoro_ssl.bars import progress
from runyoro_ssl.donors.choice import choose
from runyoro_ssl.donors.describe import Selection, describe
from runyoro_ssl.donors.found import Donors
from runyoro_ssl.donors.hearing import FeatureSource, LayerFeatures, SpectralFeatures, open_ear
from runyoro_ssl.donors.leaks import refuse_leaks
from runyoro_ssl.donors.lines import check_lines
from runyoro_ssl.donors.measure import Similarities, measure
from runyoro_ssl.donors.pools import Candidates, Pool, gather, open_pools
from runyoro_ssl.donors.request import LOG_MEL, DonorsRequest
from runyoro_ssl.donors.write import check_output, refuse_overlap, write_dataset
from runyoro_ssl.errors import DonorsError
from runyoro_ssl.evaluate.heard.clips import HeldOut, choose_trained
from runyoro_ssl.evaluate.heard.subjects import LogMel, open_network
from runyoro_ssl.evaluate.judged import MIN_CLIP_SEC
from runyoro_ssl.model.extractor import load_sampling_rate
from runyoro_ssl.model.listener import without_upper_layers
from runyoro_ssl.prepare.shards.store import Store

OF_CLIPS = 4000
"""Of the target, that are looked at to choose those that are heard."""
MIDDLE = 1 / 2
"""Of the way up is the layer that is heard: where sounds are told apart, and voices less than below."""


def find_donors(request: DonorsRequest) -> Donors:
    """Find donors for a target, and write them as a dataset that `train` takes.

    Raises:
        RunyoroError: A dataset or the base cannot be used; a pool holds speech of the target; there is too little.
    """
    check_output(request.output_dir, overwrite=request.overwrite)
    refuse_overlap(request.output_dir, [request.target, *request.pools])
    rate = load_sampling_rate(str(request.base), request.revision)
    (target,) = open_pools([request.target], rate)
    pools = open_pools(request.pools, rate)
    check_lines(pools)
    request.cache_dir.mkdir(parents=True, exist_ok=True)
    heard = _choose_target(request, target, rate)
    candidates = gather(pools)
    store = Store.beside(request.output_dir.resolve())
    with store.locked("invoke donors") as lock:
        source = _open_source(request, rate)
        refuse_leaks(target, pools, rate)
        measured = _measure(request, source, heard, candidates)
        chosen = _choose(request, measured, candidates, rate)
        selection = Selection(candidates, measured, chosen, rate)
        found = write_dataset(request, describe(request, _name(source), heard, selection), selection, store.finished)
        lock.check()
        store.put_in_place()
        shutil.rmtree(store.replaced, ignore_errors=True)
    return found


def _choose_target(request: DonorsRequest, target: Pool, rate: int) -> HeldOut:
    if max(target.split.data.column("num_samples").to_pylist()) < MIN_CLIP_SEC * rate:
        raise DonorsError(f"--target {target.path}: each of its clips is shorter than {MIN_CLIP_SEC} s; give speech")
    seconds = 60 * request.max_target_minutes
    heard = choose_trained(target.path, sampling_rate=rate, max_seconds=seconds, seed=request.seed, of_clips=OF_CLIPS)
    if heard.in_a.all():
        raise DonorsError(
            f"--target {target.path}: one clip of it is heard, two are needed; raise --max-target-minutes"
        )
    return heard


def _open_source(request: DonorsRequest, rate: int) -> FeatureSource:
    """The layer that is heard, without those above it; or spectra."""
    if request.layer == LOG_MEL:
        return SpectralFeatures(LogMel(rate))
    network = open_network("base", Path(request.base), request.hardware)
    last = network.listener.num_layers
    layer = round(MIDDLE * last) if request.layer is None else request.layer
    if layer > last:
        raise DonorsError(f"--layer {layer}: there are 0 (what the first is given) to {last}, and {LOG_MEL}")
    without_upper_layers(network.listener, layer)
    return LayerFeatures(network, layer)


def _name(source: FeatureSource) -> str:
    return f"layer {source.layer}" if isinstance(source, LayerFeatures) else LOG_MEL


def _measure(request: DonorsRequest, source: FeatureSource, target: HeldOut, candidates: Candidates) -> Similarities:
    rate = target.sampling_rate
    of_half = sum(clip.num_samples for clip, in_a in zip(target.clips, target.in_a, strict=True) if in_a)
    whole = target.seconds + (of_half + int(candidates.num_samples.sum())) / rate
    with _hearing(whole) as advance:

        def on_clip(num_samples: int) -> None:
            advance(num_samples / rate)

        ear = open_ear(
            source,
            target,
            num_units=request.num_units,
            seed=request.seed,
            cache_dir=request.cache_dir,
            on_clip=on_clip,
        )
        return measure(ear, target, candidates, seed=request.seed, on_clip=on_clip)


@contextmanager
def _hearing(seconds: float) -> Iterator[Callable[[float], object]]:
    """A function (seconds heard) -> None, which moves a bar."""
    with progress("s of audio") as bar:
        task = bar.add_task("Hearing", total=round(seconds))
        yield lambda more: bar.advance(task, more)


def _choose(request: DonorsRequest, measured: Similarities, candidates: Candidates, rate: int) -> np.ndarray:
    """Which candidates are taken: bool (N,)."""
    similarity = np.where(candidates.is_first(), measured.clips, np.nan)
    wanted = round(3600 * request.hours * rate)
    chosen = choose(
        similarity,
        candidates.num_samples,
        [candidates.speaker, candidates.recording],
        max_samples=wanted,
        max_of_group=round(request.max_speaker_share * wanted),
    )
    if not chosen.any():
        raise DonorsError("no clip of the pools is long enough to be compared: a second of speech is needed")
    return chosen
