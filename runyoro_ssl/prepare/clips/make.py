"""Clips made of manifest lines: decoded, cut, filtered. This is what worker processes run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runyoro_ssl.audio.decode import LENGTH_TOLERANCE_SEC, check_length, is_shorter, stream
from runyoro_ssl.audio.measures import measure_utterance
from runyoro_ssl.audio.notes import Notes
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.dataset.content import checksum
from runyoro_ssl.errors import AudioError
from runyoro_ssl.plugin.spec import Utterance
from runyoro_ssl.prepare.accounts import Account, ClipRecord, Drop
from runyoro_ssl.prepare.clips.filtering import ClipFilters, FilterAnswers
from runyoro_ssl.prepare.clips.gaps import around_gaps
from runyoro_ssl.prepare.clips.segment import Cut, PauseSettings, cut_at_pauses, cut_evenly, cut_stream, take_bounds
from runyoro_ssl.prepare.clips.speech import track_speech
from runyoro_ssl.prepare.manifest import ManifestEntry
from runyoro_ssl.prepare.names import explain_missing
from runyoro_ssl.prepare.workers import still_alive

CARRIED = frozenset({"audio_filepath", "duration", "recording", "speaker", "language"})
"""Manifest fields that have a column, or lose their meaning; the others go into `metadata`."""

Keep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class ClipMaker:
    """The maker of clips: turns manifest lines into kept clips and an account of the rest. Picklable, for workers."""

    manifest_dir: Path
    sample_rate: int
    segment: str
    pauses: PauseSettings
    filters: ClipFilters
    time_limit_sec: float
    max_recording_sec: float

    def make(self, key: str, entry: ManifestEntry, keep: Keep) -> Account:
        """Make the clips of a line: each row goes to `keep` as soon as it is made; returns the account."""
        account = Account(key, trial=self.filters.trial)
        notes = Notes()
        try:
            for cut in self._cuts(entry, account, notes):
                account.num_pieces += account.cut
                self._filter(self._utterance(entry, cut), notes.gain, account, keep)
        except AudioError as error:
            if error.reason == Reason.MISSING_FILE:
                error = AudioError(error.reason, explain_missing(entry.source))
            self._give_up(entry, account, error)
        except MemoryError:
            self._give_up(entry, account, AudioError(Reason.OUT_OF_MEMORY, f"{entry.duration:.1f} s are stated"))
        account.flaw = _flaws(entry, notes, account.flaw)
        return account

    def _give_up(self, entry: ManifestEntry, account: Account, error: AudioError) -> None:
        """Drop the rest of a line: what is not in a clip yet will not be."""
        told = account.samples_kept + sum(drop.num_samples for drop in account.drops)
        rest = max(0, round(entry.duration * self.sample_rate) - told)
        account.samples_in = told + rest
        account.drops.append(_drop(entry, told / self.sample_rate, rest, error))

    def _cuts(self, entry: ManifestEntry, account: Account, notes: Notes) -> Iterator[Cut]:
        """The cuts of a line, without its gaps. A short clip that breaks raises; a recording goes as far as it goes."""
        for cut in self._cuts_with_gaps(entry, account, notes):
            start, stop = cut.start, cut.start + len(cut.waveform)
            whole, lost = around_gaps(start, stop, notes.gaps_at(self.sample_rate))
            account.cut = account.cut or bool(lost)
            for first, last in lost:
                error = AudioError(Reason.NON_FINITE)
                account.drops.append(_drop(entry, first / self.sample_rate, last - first, error))
            for first, last in whole:
                yield replace(cut, start=first, waveform=cut.waveform[first - start : last - start])

    def _cuts_with_gaps(self, entry: ManifestEntry, account: Account, notes: Notes) -> Iterator[Cut]:
        if entry.duration > self.max_recording_sec:
            raise AudioError(Reason.TOO_LONG, f"{entry.duration:g} s, over prepare.max_recording_sec")
        if entry.duration <= self.pauses.max_duration_sec:
            yield from self._whole(entry, account, notes)
        elif self.segment == "none":
            raise AudioError(Reason.TOO_LONG, f"{entry.duration:.1f} s, and prepare.segment is none")
        elif self.segment == "fixed":
            yield from self._fixed(entry, account, notes)
        else:
            yield from self._at_pauses(entry, account, notes)

    def _whole(self, entry: ManifestEntry, account: Account, notes: Notes) -> Iterator[Cut]:
        # A little more than is stated: the duration of a manifest may be rounded.
        waveform = np.concatenate([*self._blocks(entry, 1.02 * entry.duration + 2 * LENGTH_TOLERANCE_SEC, notes)])
        seconds = len(waveform) / self.sample_rate
        check_length(seconds, entry.duration, Reason.SHORTER_THAN_STATED, "the manifest")
        if entry.offset is not None or is_shorter(entry.duration, seconds):
            # The manifest speaks of the first part of a longer file.
            waveform = waveform[: round(entry.duration * self.sample_rate)]
        if len(waveform) == 0:
            raise AudioError(Reason.NO_SAMPLES, f"{entry.duration:g} s are less than one")
        account.samples_in = len(waveform)
        bounds = cut_evenly(len(waveform), self._max_samples)
        account.cut = len(bounds) > 1
        for start, stop in bounds:
            yield Cut(start, waveform[start:stop])

    def _fixed(self, entry: ManifestEntry, account: Account, notes: Notes) -> Iterator[Cut]:
        account.cut = True
        decoded = _Counted()
        yield from cut_stream(decoded.until_broken(self._blocks(entry, entry.duration, notes)), self._max_samples)
        self._account_for_rest(entry, account, decoded.num_samples, decoded.error)

    def _at_pauses(self, entry: ManifestEntry, account: Account, notes: Notes) -> Iterator[Cut]:
        account.cut = True
        track = track_speech(self._blocks(entry, entry.duration, notes), self.sample_rate)
        bounds = cut_at_pauses(track, self.pauses)
        end = 0
        for (start, stop), waveform in take_bounds(self._blocks(entry, entry.duration, Notes()), bounds):
            self._leave_out(entry, account, end, start, notes)
            yield Cut(start, waveform, track.speech_share(start, stop, self.pauses.vad_threshold))
            end = stop
        self._leave_out(entry, account, end, track.num_samples, notes)
        self._account_for_rest(entry, account, track.num_samples, track.error)

    def _blocks(self, entry: ManifestEntry, duration_sec: float, notes: Notes) -> Iterator[np.ndarray]:
        """The decoded audio of a line, watched."""
        path = self.manifest_dir / entry.audio_filepath
        still_alive(self.time_limit_sec)
        offset_sec = entry.offset or 0.0
        for block in stream(
            path, sample_rate=self.sample_rate, offset_sec=offset_sec, duration_sec=duration_sec, notes=notes
        ):
            still_alive(self.time_limit_sec)
            yield block

    def _leave_out(self, entry: ManifestEntry, account: Account, start: int, stop: int, notes: Notes) -> None:
        silent, lost = around_gaps(start, stop, notes.gaps_at(self.sample_rate))
        for stretches, error in ((silent, AudioError(Reason.NO_SPEECH)), (lost, AudioError(Reason.NON_FINITE))):
            for first, last in stretches:
                account.drops.append(_drop(entry, first / self.sample_rate, last - first, error))

    def _account_for_rest(
        self, entry: ManifestEntry, account: Account, num_samples: int, error: AudioError | None
    ) -> None:
        """What is missing at the end of a recording; nothing at all is an error of the whole."""
        if num_samples == 0:
            raise error or AudioError(Reason.NO_SAMPLES, "the file decodes to nothing")
        missing = max(0, round(entry.duration * self.sample_rate) - num_samples)
        account.samples_in = num_samples
        if error is None and is_shorter(num_samples / self.sample_rate, entry.duration):
            error = AudioError(Reason.SHORTER_THAN_STATED, f"{num_samples / self.sample_rate:.1f} s decode")
        if error is not None:
            account.flaw = str(error)
            account.samples_in += missing
            account.drops.append(_drop(entry, num_samples / self.sample_rate, missing, error))

    @property
    def _max_samples(self) -> int:
        return round(self.pauses.max_duration_sec * self.sample_rate)

    def _utterance(self, entry: ManifestEntry, cut: Cut) -> Utterance:
        offset_sec = (entry.offset or 0.0) + cut.start / self.sample_rate
        place = {"offset": offset_sec, "duration": len(cut.waveform) / self.sample_rate}
        return Utterance(
            id=f"{Path(entry.source).as_posix()}@{offset_sec:.3f}",
            source=entry.source,
            recording=entry.recording_id,
            speaker=entry.speaker,
            language=entry.language,
            offset_sec=offset_sec,
            waveform=_read_only(cut.waveform),
            sample_rate=self.sample_rate,
            metadata={
                **{name: value for name, value in entry if name not in CARRIED and value is not None},
                **place,
            },
            speech_share=cut.speech_share,
        )

    def _filter(self, utterance: Utterance, gain: float, account: Account, keep: Keep) -> None:
        answers = self.filters(utterance)
        if answers.reason is not None:
            place = utterance.source, utterance.offset_sec, utterance.num_samples
            account.drops.append(Drop(*place, answers.reason, answers.detail))
            if self.filters.trial:
                account.tried.append(_record(utterance, answers))
            return
        row = to_row(utterance)
        measures = {name: round(value, 4) for name, value in vars(measure_utterance(utterance)).items()}
        if utterance.speech_share is not None:
            measures["speech_share"] = round(utterance.speech_share, 4)
        found = {"crc32": checksum(row["audio"]), "measures": measures, "gain": gain}
        account.clips.append(_record(utterance, answers, **found))
        keep(row)


def _record(utterance: Utterance, answers: FilterAnswers, **stored: Any) -> ClipRecord:
    """The record of a clip, with what only one that is stored has."""
    licence = utterance.metadata.get("licence", utterance.metadata.get("license"))
    return ClipRecord(
        id=utterance.id,
        source=utterance.source,
        recording=utterance.recording,
        speaker=utterance.speaker,
        language=utterance.language,
        licence=None if licence is None else str(licence),
        offset_sec=utterance.offset_sec,
        num_samples=utterance.num_samples,
        measured=answers.measured,
        drop_reasons=answers.drop_reasons,
        **stored,
    )


class _Counted:
    """Counts what a stream gives, and keeps the error that ends it."""

    def __init__(self) -> None:
        self.num_samples = 0
        self.error: AudioError | None = None

    def until_broken(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        try:
            for block in blocks:
                self.num_samples += len(block)
                yield block
        except AudioError as error:
            self.error = error


def to_row(utterance: Utterance) -> dict[str, Any]:
    """Make the row of a clip; samples as int16, full scale = 32768."""
    scaled = utterance.waveform * np.float32(32768)
    np.clip(np.rint(scaled, out=scaled), -32768, 32767, out=scaled)  # in place: fresh memory costs more than the work
    samples = scaled.astype(np.int16)
    return {
        "id": utterance.id,
        "audio": samples,
        "num_samples": len(samples),
        "recording": utterance.recording,
        "speaker": utterance.speaker,
        "language": utterance.language,
        "source": utterance.source,
        "metadata": json.dumps(utterance.metadata, ensure_ascii=False),
    }


def _drop(entry: ManifestEntry, start_sec: float, num_samples: int, error: AudioError) -> Drop:
    offset_sec = (entry.offset or 0.0) + start_sec
    return Drop(entry.source, offset_sec, num_samples, error.reason, error.detail)


def _flaws(entry: ManifestEntry, notes: Notes, found: str | None) -> str | None:
    """All that is wrong with a recording: by its line, by what was noticed, by how it ended; None for nothing."""
    told = str((entry.model_extra or {}).get("flaw") or "").split("; ")
    return "; ".join(dict.fromkeys(one for one in [*told, *map(str, notes.flaws), found] if one)) or None


def _read_only(waveform: np.ndarray) -> np.ndarray:
    """A view that a filter cannot change: what it sees is what is stored."""
    view = waveform.view()
    view.flags.writeable = False
    return view
