"""Why audio is dropped or rejected: every reason of ours, what it means in plain words, and what to do about it."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """The short category that reports count by; `meaning` and `remedy` are for people. Plugins have words of their own.

    Its value stands in reports and datasets: it is never changed.
    """

    meaning: str
    remedy: str

    def __new__(cls, value: str, meaning: str, remedy: str) -> Self:
        """Make a member of its value and texts."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning, member.remedy = meaning, remedy
        return member

    # Of files, when they are found or decoded
    MISSING_FILE = (
        "missing file",
        "The manifest names a file that is not there.",
        "Check the path and the mounted disks, then run invoke manifest and invoke prepare again.",
    )
    EMPTY_FILE = (
        "empty file",
        "The file has 0 bytes.",
        "Copy or download it again.",
    )
    UNREADABLE = (
        "unreadable",
        "The decoder could not read the file: damaged, or not the format that its name says.",
        "Play it in another program; convert it to WAV or FLAC if that works, otherwise copy it again.",
    )
    NOT_OPENED = (
        "cannot be opened",
        "The system would not let the file be read: permissions, or a disk that failed.",
        "Mend that and run invoke prepare again: it tries such files anew.",
    )
    TRUNCATED = (
        "truncated",
        "Less audio decodes than the file's header promises: an interrupted copy or download.",
        "Copy or download it again.",
    )
    NO_SAMPLES = (
        "no samples",
        "Nothing decodes at this place: the file, or the part that the manifest names, holds no audio.",
        "Check the offset in the manifest against the length of the file.",
    )
    NON_FINITE = (
        "non-finite samples",
        "The file holds numbers that are not numbers (NaN or infinity).",
        "Export it again from the program that made it.",
    )
    SAMPLE_RATE = (
        "implausible sample rate",
        "The header states a sampling rate that no recorder uses.",
        "The header is damaged: copy or export the file again.",
    )
    CHANNELS = (
        "implausible channels",
        "The header states more channels than any recorder has.",
        "The header is damaged: copy or export the file again.",
    )
    TOO_LONG = (
        "too long",
        "Longer than the longest clip while nothing may be cut, or than the longest recording.",
        "Allow cutting with --segment vad, or raise prepare.max_recording_sec if the file is what it says.",
    )
    PROCESS_CRASHED = (
        "process crashed",
        "Reading or judging the file ended the process that did it, twice; the other files were not touched by that.",
        "Convert the file to WAV or FLAC with another program. If it is a plugin's fault, mend the plugin.",
    )
    TIME_LIMIT = (
        "time limit",
        "Nothing came out of the file for a minute: a damaged file that keeps its reader busy.",
        "Convert it with another program, or raise prepare.time_limit_sec if the disk is that slow.",
    )
    OUT_OF_MEMORY = (
        "out of memory",
        "Reading or judging the file took more memory than there was.",
        "Use fewer workers (--num-workers), close other programs, and run invoke prepare again.",
    )
    # Of `invoke manifest` alone
    FILE_NAME = (
        "file name is not UTF-8",
        "The file's name cannot be written down in a manifest.",
        "Rename the file.",
    )
    UNREADABLE_FOLDER = (
        "unreadable folder",
        "The system would not let the folder be listed: permissions, or a disk that failed.",
        "Mend that and run invoke manifest again.",
    )
    LINKED_FOLDER = (
        "linked folder",
        "A link to a folder; links are not followed, so that no recording comes twice.",
        "Give the folder it leads to as --audio-dir if its recordings are wanted.",
    )
    # Of manifest lines
    NOT_DRAWN = (
        "not drawn",
        "Only so many hours were asked for, and the lot fell on other recordings.",
        "Nothing. For more, raise --max-hours, or leave it away.",
    )
    REPEATED_LINE = (
        "repeated line",
        "The manifest names the same part of the same file more than once.",
        "Nothing. The first line was used; clean the manifest when it is convenient.",
    )
    SHORTER_THAN_STATED = (
        "shorter than stated",
        "Less audio decodes than the manifest says.",
        "Run invoke manifest again: the file has changed since, or the segment reaches past its end.",
    )
    CHANGED = (
        "changed while it was read",
        "The file was longer when its speech was looked for than when its clips were cut.",
        "Let the copy or the synchronisation end, and run invoke prepare again.",
    )
    # Of what a recording was cut into
    NO_SPEECH = (
        "no speech",
        "No speech was found: pauses, noise, or handling of the microphone.",
        "Normal for recordings that were not cut by hand. If speech is lost, loosen the speech detector.",
    )
    # Of the built-in filters
    TOO_SHORT = (
        "too short",
        "The clip is shorter than the minimum; too little context to learn from.",
        "Nothing, if it is little. Otherwise lower prepare.min_duration_sec, or join neighbouring segments.",
    )
    SILENCE = (
        "silence",
        "Hardly any part of the clip rises above the silence threshold: a recorder left running, a dead channel.",
        "Listen to a few. If they hold quiet speech, lower the filter's threshold.",
    )
    LITTLE_SPEECH = (
        "little speech",
        "Only a small part of the clip is speech.",
        "Listen to a few. If people do speak in them, lower plugins.options.speech.min_share.",
    )
    CLIPPING = (
        "clipping",
        "Too many samples sit at full scale: the recording level was too high, and the peaks are gone.",
        "Look for an original before it was amplified. Clipping cannot be undone; next time record lower.",
    )
    NOISE = (
        "noise",
        "The speech barely rises above the background noise.",
        "Listen to a few. Field noise can be useful; loosen the limit if the words are clear.",
    )
    MUSIC = (
        "music",
        "Music or singing covers the clip: jingles, beds, hymns.",
        "Check that spoken parts beside the music were kept. Sung text is a different matter from speech.",
    )
    NARROW_BAND = (
        "narrow band",
        "Nothing above a few kHz: telephone, or strongly compressed audio that was resampled upwards.",
        "Look for a better copy. Loosen the limit if such audio is what the model will meet later.",
    )
    HUM = (
        "hum",
        "Mains hum at 50 or 60 Hz and its multiples stands above the speech.",
        "A high-pass filter on the originals often saves these clips.",
    )
    DC_OFFSET = (
        "DC offset",
        "The waveform does not centre on zero: a fault of the sound card.",
        "A high-pass filter on the originals mends it fully.",
    )
    NEAR_DUPLICATE = (
        "near-duplicate",
        "The same audio is in the corpus already, under another name or in another encoding.",
        "Nothing. One copy was kept, so that no clip stands in both splits.",
    )
    SPEAKER_CAP = (
        "speaker cap",
        "The speaker has as much as was allowed already, so that no voice outweighs the others.",
        "Nothing. Which clips stay was drawn by lot.",
    )
    RECORDING_CAP = (
        "recording cap",
        "The recording has as much as was allowed already, so that no room outweighs the others.",
        "Nothing. Which clips stay was drawn by lot.",
    )


def explain(reason: str) -> tuple[str, str]:
    """What a reason means, and what to do; two empty strings for one that a plugin made up."""
    known = next((one for one in Reason if one == reason), None)
    return (known.meaning, known.remedy) if known else ("", "")
