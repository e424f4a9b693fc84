"""`invoke prepare --dry-run`: what each filter would drop, and what would be kept, before there is a dataset.

It makes the shards that `prepare` makes, which finds them; beside each clip they hold what every filter says of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.config import Config, PrepareConfig
from runyoro_ssl.errors import DatasetError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.page.amounts import plural
from runyoro_ssl.plugin.manager import Plugins
from runyoro_ssl.plugin.spec import CorpusFilter
from runyoro_ssl.prepare.accounts import Account, ClipRecord
from runyoro_ssl.prepare.clips.corpus_filtering import ask_corpus_filter
from runyoro_ssl.prepare.dividing import StoredClip, divide
from runyoro_ssl.prepare.existing import tell_of_shards
from runyoro_ssl.prepare.pipeline import opened
from runyoro_ssl.prepare.shards.job import Job
from runyoro_ssl.prepare.shards.run import make_clips
from runyoro_ssl.prepare.shards.shard import StoredLine
from runyoro_ssl.prepare.shards.store import check_replaceable

log = get_logger()

COLUMNS = ["what", "enabled", "count", "minutes", "alone", "minutes alone"]


@dataclass(frozen=True)
class Amount:
    """So much audio: how many there are of what, and samples at the model's rate."""

    counted: str
    num_samples: int

    @classmethod
    def of(cls, clips: Sequence[ClipRecord]) -> Amount:
        """The amount of some clips."""
        return cls(plural(len(clips), "clip"), sum(clip.num_samples for clip in clips))


def dry_run(config: Config, plugins: Plugins) -> list[list[str]]:
    """Try a preparation, and tell in rows of `COLUMNS`: audio in, what cannot be used, what filters drop, what is kept.

    The first row is the whole, and those below add up to it; what stands in brackets is no part of it. "count" and
    "minutes" are what a filter drops when the enabled ones above it come first, in brackets, for one that is not
    enabled, what it would drop of what is kept. "alone" is what it would drop if it were the only one. What was decoded
    stays beside the output folder, and `prepare` finds it there.

    Raises:
        As `prepare`, but for a split that would be empty, which is a warning.
    """
    check_replaceable(config.prepare.output_dir.resolve(), overwrite=True)
    with opened(config, plugins, every_filter=True) as (store, job, _):
        tell_of_shards(store, job)
        made = make_clips(config, plugins, job, store.open_shards(job), store.jobs)
        return _rows(config.prepare, job, made, plugins.enabled("filter"))


def _rows(settings: PrepareConfig, job: Job, made: Sequence[StoredLine], enabled: Sequence[str]) -> list[list[str]]:
    accounts = [line.account for line in made]
    whole = job.left_out.samples_in + sum(account.samples_in for account in accounts)
    num_lines = job.left_out.lines_in + len(accounts)
    parts: list[tuple[str, str, Amount, Amount | None]] = [
        (reason, "", amount, None) for reason, amount in _unusable(job, accounts)
    ]
    clips = [clip for account in accounts for clip in _all_clips(account)]
    corpus = dict(job.corpus_filters)
    # Corpus filters come after the others, as in `prepare`; those that are not enabled come last.
    names = [*(name for name, _ in job.maker.filters.filters), *corpus]
    left = clips
    for name in [name for name in names if name in enabled]:
        gone = _dropped(name, corpus, left, job.sample_rate)
        alone = gone if left is clips else _dropped(name, corpus, clips, job.sample_rate)
        parts.append((name, "yes", Amount.of(gone), Amount.of(alone)))
        identities = {id(clip) for clip in gone}  # lines that overlap may give two clips of one name
        left = [clip for clip in left if id(clip) not in identities] if gone else left
    if gone := _not_judged(settings, job, made, left):
        parts.append((Reason.NOT_JUDGED, "", Amount.of(gone), None))
    identities = {id(clip) for clip in gone}
    left = [clip for clip in left if id(clip) not in identities] if gone else left
    parts.append(("kept", "", Amount.of(left), None))
    first = ["in", "", plural(num_lines, "line"), f"{_hundredths(whole, job.sample_rate) / 100:.2f}", "", ""]
    rest = [_row_in_brackets(name, corpus, clips, left, job.sample_rate) for name in names if name not in enabled]
    return [first, *_adding_up(parts, job.sample_rate), *rest]


def _row_in_brackets(
    name: str, corpus: Mapping[str, CorpusFilter], clips: list[ClipRecord], left: list[ClipRecord], rate: int
) -> list[str]:
    alone = Amount.of(_dropped(name, corpus, clips, rate))
    then = alone if left is clips else Amount.of(_dropped(name, corpus, left, rate))
    return [name, "no", f"({then.counted})", f"({_minutes(then, rate)})", alone.counted, _minutes(alone, rate)]


def _adding_up(parts: Sequence[tuple[str, str, Amount, Amount | None]], rate: int) -> Iterator[list[str]]:
    """The rows of what the whole consists of: their minutes are rounded so that they add up to its minutes."""
    before = 0
    for name, enabled, amount, alone in parts:
        after = before + amount.num_samples
        minutes = f"{(_hundredths(after, rate) - _hundredths(before, rate)) / 100:.2f}"
        before = after
        beside = ["", ""] if alone is None else [alone.counted, _minutes(alone, rate)]
        yield [name, enabled, amount.counted, minutes, *beside]


def _unusable(job: Job, accounts: Sequence[Account]) -> Iterator[tuple[str, Amount]]:
    """What is in no clip at all, by reason, largest first: whole manifest lines, and parts of others."""
    samples: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for drop in job.left_out.drops:
        samples[drop.reason] += drop.num_samples
        lines[drop.reason] += 1
    for account in accounts:
        clips = {(clip.offset_sec, clip.num_samples) for clip in account.tried}
        drops = [drop for drop in account.drops if (drop.offset_sec, drop.num_samples) not in clips]
        is_whole = len(drops) == 1 and not account.clips and not account.tried
        for drop in drops:
            samples[drop.reason] += drop.num_samples
            (lines if is_whole else parts)[drop.reason] += 1
    for reason, count in samples.most_common():
        kinds = ((lines[reason], "line"), (parts[reason], "part"))
        yield reason, Amount(", ".join(plural(number, kind) for number, kind in kinds if number), count)


def _not_judged(
    settings: PrepareConfig, job: Job, made: Sequence[StoredLine], left: Sequence[ClipRecord]
) -> list[ClipRecord]:
    """The clips that would be held out, and cannot be judged; what else is to say of the split is said."""
    wanted = {id(clip): clip for clip in left}
    tally, clips = replace(job.left_out, drops=list(job.left_out.drops)), []
    for line, stored in zip(job.lines, made, strict=True):
        tally.add(stored.account, line.entry.source, line.entry.recording_id, line.entry.speaker)
        file = job.split_item(line).file
        rows = zip(stored.account.clips, stored.rows, strict=True)
        clips += [StoredClip(clip, file, (stored.arrow, row)) for clip, row in rows if id(clip) in wanted]
    try:
        division = divide(clips, tally, settings, job.sample_rate)
    except DatasetError as error:
        log.warning("cannot_be_split", because=str(error))
        return []
    for warning in division.warnings:
        log.warning("validation_split", note=warning)
    kept = {clip.row for clip in division.clips}
    return [clip.record for clip in clips if clip.row not in kept]


def _all_clips(account: Account) -> list[ClipRecord]:
    """Every clip of a line, in order, kept or not."""
    return sorted([*account.clips, *account.tried], key=lambda clip: clip.offset_sec)


def _dropped(
    name: str, corpus: Mapping[str, CorpusFilter], clips: Sequence[ClipRecord], sample_rate: int
) -> list[ClipRecord]:
    """The clips that one filter drops."""
    if name not in corpus:
        return [clip for clip in clips if name in clip.drop_reasons]
    return [clips[index] for index in ask_corpus_filter(name, corpus[name], clips, sample_rate)]


def _hundredths(num_samples: int, sample_rate: int) -> int:
    """Of a minute."""
    return round(100 * num_samples / sample_rate / 60)


def _minutes(amount: Amount, sample_rate: int) -> str:
    return f"{_hundredths(amount.num_samples, sample_rate) / 100:.2f}"
