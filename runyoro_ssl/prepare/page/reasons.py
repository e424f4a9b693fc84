"""What each reason to drop audio means, in plain words, and what to do about it."""

from __future__ import annotations

REASONS: dict[str, tuple[str, str]] = {
    "too short": (
        "The clip is shorter than the minimum; too little context to learn from.",
        "Nothing, if it is little. Otherwise lower prepare.min_duration_sec, or join neighbouring segments.",
    ),
    "silence": (
        "Hardly any part of the clip rises above the silence threshold: a recorder left running, a dead channel.",
        "Listen to a few. If they hold quiet speech, lower the filter's threshold.",
    ),
    "no speech": (
        "No speech was found: pauses, noise, or handling of the microphone.",
        "Normal for recordings that were not cut by hand. If speech is lost, loosen the speech detector.",
    ),
    "clipping": (
        "Too many samples sit at full scale: the recording level was too high, and the peaks are gone.",
        "Look for an original before it was amplified. Clipping cannot be undone; next time record lower.",
    ),
    "noise": (
        "The speech barely rises above the background noise.",
        "Listen to a few. Field noise can be useful; loosen the limit if the words are clear.",
    ),
    "music": (
        "Music or singing covers the clip: jingles, beds, hymns.",
        "Check that spoken parts beside the music were kept. Sung text is a different matter from speech.",
    ),
    "narrow band": (
        "Nothing above a few kHz: telephone, or strongly compressed audio that was resampled upwards.",
        "Look for a better copy. Loosen the limit if such audio is what the model will meet later.",
    ),
    "hum": (
        "Mains hum at 50 or 60 Hz and its multiples stands above the speech.",
        "A high-pass filter on the originals often saves these clips.",
    ),
    "DC offset": (
        "The waveform does not centre on zero: a fault of the sound card.",
        "A high-pass filter on the originals mends it fully.",
    ),
    "too quiet": (
        "The whole clip is far below a usual level.",
        "If the noise is as low as the speech, loosen the limit: the level itself does not matter to the model.",
    ),
    "near-duplicate": (
        "The same audio is in the corpus already, under another name or in another encoding.",
        "Nothing. One copy was kept, so that no clip stands in both splits.",
    ),
    "repeated line": (
        "The manifest names the same part of the same file more than once.",
        "Nothing. The first line was used; clean the manifest when it is convenient.",
    ),
    "missing file": (
        "The manifest names a file that is not there.",
        "Check the path and the mounted disks, then run invoke manifest and invoke prepare again.",
    ),
    "empty file": ("The file has 0 bytes.", "Copy or download it again."),
    "unreadable": (
        "The decoder could not read the file: damaged, or not the format that its name says.",
        "Play it in another program; convert it to WAV or FLAC if that works, otherwise copy it again.",
    ),
    "cannot be opened": (
        "The system would not let the file be read: permissions, or a disk that failed.",
        "Mend that and run invoke prepare again: it tries such files anew.",
    ),
    "changed while it was read": (
        "The file was longer when its speech was looked for than when its clips were cut.",
        "Let the copy or the synchronisation end, and run invoke prepare again.",
    ),
    "out of memory": (
        "Reading or judging the file took more memory than there was.",
        "Use fewer workers (--num-workers), close other programs, and run invoke prepare again.",
    ),
    "truncated": (
        "Less audio decodes than the file's header promises: an interrupted copy or download.",
        "Copy or download it again.",
    ),
    "shorter than stated": (
        "Less audio decodes than the manifest says.",
        "Run invoke manifest again: the file has changed since, or the segment reaches past its end.",
    ),
    "no samples": (
        "Nothing decodes at this place: the file, or the part that the manifest names, holds no audio.",
        "Check the offset in the manifest against the length of the file.",
    ),
    "non-finite samples": (
        "The file holds numbers that are not numbers (NaN or infinity).",
        "Export it again from the program that made it.",
    ),
    "implausible sample rate": (
        "The header states a sampling rate that no recorder uses.",
        "The header is damaged: copy or export the file again.",
    ),
    "implausible channels": (
        "The header states more channels than any recorder has.",
        "The header is damaged: copy or export the file again.",
    ),
    "little speech": (
        "Only a small part of the clip is speech.",
        "Listen to a few. If people do speak in them, lower plugins.options.speech.min_share.",
    ),
    "speaker cap": (
        "The speaker has as much as was allowed already, so that no voice outweighs the others.",
        "Nothing. Which clips stay was drawn by lot.",
    ),
    "recording cap": (
        "The recording has as much as was allowed already, so that no room outweighs the others.",
        "Nothing. Which clips stay was drawn by lot.",
    ),
    "too long": (
        "Longer than the longest clip while nothing may be cut, or than the longest recording.",
        "Allow cutting with --segment vad, or raise prepare.max_recording_sec if the file is what it says.",
    ),
    "process crashed": (
        "Reading or judging the file ended the process that did it, twice; the other files were not touched by that.",
        "Convert the file to WAV or FLAC with another program. If it is a plugin's fault, mend the plugin.",
    ),
    "time limit": (
        "Nothing came out of the file for a minute: a damaged file that keeps its reader busy.",
        "Convert it with another program, or raise prepare.time_limit_sec if the disk is that slow.",
    ),
}
"""Reason -> (what it means, what to do)."""


def explain(reason: str) -> tuple[str, str]:
    """(What it means, what to do); two empty strings for a reason that a plugin made up."""
    return REASONS.get(reason, ("", ""))
