"""A job: everything that is decided before anything is decoded, what to prepare, how, and under which name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.config import Config, PrepareConfig
from runyoro_ssl.dataset.layout import SPLIT_BY
from runyoro_ssl.dataset.read import read_fingerprint
from runyoro_ssl.errors import DatasetError, ManifestError, OutOfReachError
from runyoro_ssl.foreign.signs import is_foreign
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.extractor import load_sampling_rate
from runyoro_ssl.model.folder import check_folder
from runyoro_ssl.plugin.manager import Plugins, ensure_picklable
from runyoro_ssl.plugin.sources import BUILT_IN
from runyoro_ssl.plugin.spec import CorpusFilter
from runyoro_ssl.prepare.accounts import Account, Drop, Tally
from runyoro_ssl.prepare.clips.filtering import ClipFilters
from runyoro_ssl.prepare.clips.make import ClipMaker
from runyoro_ssl.prepare.clips.segment import PauseSettings
from runyoro_ssl.prepare.hours import draw, nothing_fits
from runyoro_ssl.prepare.manifest import ManifestEntry
from runyoro_ssl.prepare.shards.origin import describe_origin, sha256_of, versions
from runyoro_ssl.prepare.shards.shard import Line, with_keys
from runyoro_ssl.prepare.split import Group, SplitItem, decide_group
from runyoro_ssl.redaction import redact

log = get_logger()

log = get_logger()


@dataclass(frozen=True)
class Job:
    """One preparation, described.

    `lines` are the manifest's without repeats and without those that `max_hours` leaves out, `not_drawn`; `left_out` is
    the account of both. `origin` is all that decides the dataset, see `describe_origin`, and the input.
    """

    maker: ClipMaker
    lines: list[Line]
    not_drawn: list[Line]
    left_out: Tally
    corpus_filters: tuple[tuple[str, CorpusFilter], ...]
    origin: dict[str, Any]
    seconds_in_manifest: float

    @property
    def sample_rate(self) -> int:
        """The model's rate, Hz."""
        return self.maker.sample_rate

    @property
    def clips_sha256(self) -> str:
        """Hash of all but the input that decides clips: what was made under another cannot be used."""
        return str(self.origin["clips_sha256"])

    @property
    def group(self) -> Group:
        """What will be held out whole, as far as the manifest tells."""
        return decide_group([self.split_item(line) for line in self.lines], self.origin["split"][SPLIT_BY])

    def file_of(self, source: str) -> Path:
        """The file that reports call `source`."""
        return self.maker.manifest_dir / self._paths.get(source, source)

    @cached_property
    def _paths(self) -> dict[str, str]:
        return {line.entry.source: line.entry.audio_filepath for line in self.lines}

    def split_item(self, line: Line) -> SplitItem:
        """A line as the split sees it, before it is decoded."""
        entry = line.entry
        file = real_path(self.maker.manifest_dir, entry)
        return SplitItem(file, entry.recording_id, entry.speaker, round(entry.duration * self.sample_rate))


def describe_job(
    config: Config, plugins: Plugins, manifest: Path, entries: Sequence[ManifestEntry], *, every_filter: bool = False
) -> Job:
    """Describe a preparation before anything is decoded.

    Args:
        config: The resolved configuration.
        plugins: Where the filters come from.
        manifest: Where `entries` were read from.
        entries: Its lines.
        every_filter: Ask all filters about every clip: those that are built in and not enabled, too. The clips kept
            are the same.

    Raises:
        ManifestError: A line leaves the manifest's folder.
        CheckpointError, PluginError: The model or a filter cannot be used.
    """
    settings = config.prepare
    if not settings.allow_outside:
        check_inside(manifest, entries)
    if not is_foreign(config.model.model_name_or_path):  # such files all have one rate
        check_folder(config.model.model_name_or_path)
    rate = _sampling_rate(config)
    built = plugins.filters(tried_filters(plugins) if every_filter else None)
    ensure_picklable("filter", built)
    filters = tuple((name, one) for name, one in built if not isinstance(one, CorpusFilter))
    corpus_filters = tuple((name, one) for name, one in built if isinstance(one, CorpusFilter))
    enabled = plugins.enabled("filter")
    others = frozenset(name for name, _ in built if name not in enabled)
    trial = _name_trial(config, [name for name, _ in built]) if every_filter else ""
    clip_filters = ClipFilters(filters, corpus_filters, others, trial)
    maker = _clip_maker(settings, manifest, rate, clip_filters)
    unique, left_out = without_repeats(maker, entries)
    origin = describe_origin(config, plugins, rate)
    lines, not_drawn = draw_lines(with_keys(unique, manifest.parent, origin["clips_sha256"]), settings)
    for line in not_drawn:
        _leave_out(line.entry, Reason.NOT_DRAWN, left_out, rate)
    origin["input_sha256"] = sha256_of([line.content for line in lines] + [drop.source for drop in left_out.drops])
    origin["sha256"] = sha256_of(origin)
    seconds = round(sum(entry.duration for entry in entries), 6)
    return Job(maker, lines, not_drawn, left_out, corpus_filters, origin, seconds)


def _sampling_rate(config: Config) -> int:
    """That of the base model, Hz; where no hub can be asked, that of the dataset which is there.

    Raises:
        CheckpointError: There is neither.
    """
    try:
        return load_sampling_rate(config.model.model_name_or_path, config.model.revision)
    except OutOfReachError as error:
        try:
            rate = int(read_fingerprint(config.prepare.output_dir)["sampling_rate"])
        except DatasetError:
            raise error from None
        log.warning("sampling_rate_of_the_dataset", hz=rate, because=str(error), means="train sees whether it fits")
        return rate


def _clip_maker(settings: PrepareConfig, manifest: Path, sample_rate: int, filters: ClipFilters) -> ClipMaker:
    pauses = PauseSettings(
        settings.min_duration_sec,
        settings.max_duration_sec,
        settings.vad_threshold,
        settings.speech_pad_sec,
        settings.max_pause_sec,
    )
    return ClipMaker(
        manifest.parent.absolute(),  # the workers of a cluster have other working directories
        sample_rate,
        settings.segment,
        pauses,
        filters,
        settings.time_limit_sec,
        settings.max_recording_sec,
    )


def _name_trial(config: Config, filters: Sequence[str]) -> str:
    """Hash of what a dry run asks: of these filters, with their options."""
    options = {name: redact(config.plugins.options.get(name, {})) for name in filters}
    return sha256_of([options, versions(("runyoro_ssl",))])[:16]


def tried_filters(plugins: Plugins) -> list[str]:
    """The filters of a dry run: those enabled, in order, then every other that is built in."""
    enabled = list(plugins.enabled("filter"))
    return enabled + [
        name
        for name, registration in plugins.registered["filter"].items()
        if name not in enabled and registration.plugin.source == BUILT_IN
    ]


def check_inside(manifest: Path, entries: Sequence[ManifestEntry]) -> None:
    """Refuse a manifest whose relative paths lead out of its folder: it may come from somebody else.

    Raises:
        ManifestError: The first such path.
    """
    home = manifest.parent.resolve()
    for name in dict.fromkeys(entry.audio_filepath for entry in entries):
        try:
            outside = not Path(name).is_absolute() and not (home / name).resolve().is_relative_to(home)
        except (OSError, ValueError, RuntimeError):  # no possible name, or links in a circle: it will be unreadable
            continue
        if outside:
            raise ManifestError(
                f'{manifest}: audio_filepath "{name}" leads out of the manifest\'s folder, to '
                f"{(home / name).resolve()}; if that is meant, add --allow-outside"
            )


def real_path(manifest_dir: Path, entry: ManifestEntry) -> str:
    """The file behind a line: links and `..` resolved, so that one file has one name."""
    try:
        return str((manifest_dir / entry.audio_filepath).resolve())
    except (OSError, ValueError, RuntimeError):  # no possible name: it will be counted as unreadable
        return entry.audio_filepath


def without_repeats(maker: ClipMaker, entries: Sequence[ManifestEntry]) -> tuple[list[ManifestEntry], Tally]:
    """Leave out entries that name the same part of the same file again; their tally is the second result."""
    seen: set[tuple[str, float, float]] = set()
    unique: list[ManifestEntry] = []
    tally = Tally()
    for entry in entries:
        part = (real_path(maker.manifest_dir, entry), entry.offset or 0.0, entry.duration)
        if part in seen:
            _leave_out(entry, Reason.REPEATED_LINE, tally, maker.sample_rate)
        else:
            seen.add(part)
            unique.append(entry)
    return unique, tally


def draw_lines(lines: Sequence[Line], settings: PrepareConfig) -> tuple[list[Line], list[Line]]:
    """The lines of the recordings that `prepare.max_hours` draws, and those of the others; in their order.

    Raises:
        ManifestError: No recording is so short.
    """
    if settings.max_hours is None:
        return list(lines), []
    seconds: dict[str, float] = defaultdict(float)
    for line in lines:
        seconds[line.entry.recording_id] += line.entry.duration
    speakers = {line.entry.recording_id: line.entry.speaker for line in reversed(lines)}
    drawn = draw({name: (speakers[name], seconds[name]) for name in seconds}, settings.max_hours, settings.seed)
    if not drawn:
        raise ManifestError(nothing_fits(settings.max_hours, seconds.values()))
    chosen = [line for line in lines if line.entry.recording_id in drawn]
    others = [line for line in lines if line.entry.recording_id not in drawn]
    hours = sum(line.entry.duration for line in chosen) / 3600
    log.info("hours_drawn", hours=round(hours, 3), lines=len(chosen), lines_not_drawn=len(others))
    return chosen, others


def _leave_out(entry: ManifestEntry, reason: Reason, tally: Tally, sample_rate: int) -> None:
    """Count a line that is not worked on."""
    num_samples = round(entry.duration * sample_rate)
    drop = Drop(entry.source, entry.offset or 0.0, num_samples, reason)
    tally.add(Account("", num_samples, drops=[drop]), entry.source, entry.recording_id, entry.speaker)
