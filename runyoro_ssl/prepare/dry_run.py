"""`invoke prepare --dry-run`: what each filter would drop, before anything is written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from runyoro_ssl.config import Config
from runyoro_ssl.plugin.manager import Plugins
from runyoro_ssl.plugin.spec import CorpusFilter
from runyoro_ssl.prepare.accounts import ClipRecord
from runyoro_ssl.prepare.clips.corpus_filtering import ask_corpus_filter
from runyoro_ssl.prepare.hub.fetch import local_manifest
from runyoro_ssl.prepare.manifest import read_manifest
from runyoro_ssl.prepare.shards.job import Job, describe_job
from runyoro_ssl.prepare.shards.run import try_clips

COLUMNS = ["what", "enabled", "clips", "minutes", "after those above"]


def dry_run(config: Config, plugins: Plugins) -> list[list[str]]:
    """Try a preparation, and tell in rows of `COLUMNS`: audio in, what cannot be used, what filters drop, what is kept.

    "minutes" is what a filter would drop alone. "after those above" is what it drops when the enabled filters above
    it come first; for one that is not enabled, what enabling it last would drop.

    Raises:
        As `prepare`.
    """
    # Beside the output: there, other machines see it.
    home = next(folder for folder in config.prepare.output_dir.absolute().parents if folder.exists())
    with tempfile.TemporaryDirectory(prefix=".prepare-dry-run-", dir=home) as scratch:
        manifest = local_manifest(config, Path(scratch))
        job = describe_job(config, plugins, manifest, read_manifest(manifest), every_filter=True)
        accounts = try_clips(config, plugins, job, Path(scratch))
    tally = job.left_out
    for line, account in zip(job.lines, accounts, strict=True):
        tally.add(account, line.entry.source)
    clips = [clip for account in accounts for clip in account.clips]
    rate = job.sample_rate
    rows = [["in", "", str(tally.lines_in), _minutes(tally.samples_in, rate), ""]]
    rows += [
        [reason, "", str(times), _minutes(samples, rate), ""] for reason, (times, samples) in tally.dropped().items()
    ]
    return rows + _filter_rows(job, plugins.enabled("filter"), clips)


def _filter_rows(job: Job, enabled: tuple[str, ...], clips: list[ClipRecord]) -> list[list[str]]:
    corpus = dict(job.corpus_filters)
    simple = [name for name, _ in job.maker.filters.filters]
    # Corpus filters come after the others, as in `prepare`; those that are not enabled come last.
    order = [name for name in [*simple, *corpus] if name in enabled]
    order += [name for name in [*simple, *corpus] if name not in enabled]
    rows: list[list[str]] = []
    left = list(clips)
    kept = left
    for name in order:
        alone = _dropped(name, corpus, clips, job.sample_rate)
        then = _dropped(name, corpus, left, job.sample_rate)
        if name in enabled:
            gone = {id(clip) for clip in then}  # lines that overlap may give two clips of one name
            left = kept = [clip for clip in left if id(clip) not in gone]
        rows.append(
            [
                name,
                "yes" if name in enabled else "no",
                str(len(alone)),
                _minutes(_samples(alone), job.sample_rate),
                _minutes(_samples(then), job.sample_rate),
            ]
        )
    return [*rows, ["kept", "", str(len(kept)), _minutes(_samples(kept), job.sample_rate), ""]]


def _dropped(
    name: str, corpus: Mapping[str, CorpusFilter], clips: list[ClipRecord], sample_rate: int
) -> list[ClipRecord]:
    """The clips that one filter drops."""
    if name not in corpus:
        return [clip for clip in clips if name in clip.drop_reasons]
    return [clips[index] for index in ask_corpus_filter(name, corpus[name], clips, sample_rate)]


def _samples(clips: list[ClipRecord]) -> int:
    return sum(clip.num_samples for clip in clips)


def _minutes(num_samples: int, sample_rate: int) -> str:
    return f"{num_samples / sample_rate / 60:.1f}"
