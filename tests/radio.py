"""A radio day of which every second is known: real clips, pauses, noise beds, synthetic music, repeats re-encoded."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf

RATE = 16_000
ACTIVE_DB = -35.0
"""A frame of a clip is speech when it comes this near to the clip's loudest tenth ..."""
ABOVE_NOISE_DB = 6.0
"""... and stands so far above its quietest twentieth: the real clips have rooms around them."""
FRAME = 400
SCALE_HZ = (130.8, 146.8, 164.8, 174.6, 196.0, 220.0, 246.9, 261.6)


@dataclass
class Day:
    """A waveform float32 (T,), and what each sample of it is.

    `speech`: bool (T,), where somebody speaks for the first time. `other`: bool (T,), music and noise with nobody
    speaking. `repeats`: (start, stop) of every clip that was heard before.
    """

    waveform: np.ndarray
    speech: np.ndarray
    other: np.ndarray
    repeats: list[tuple[int, int]]


@dataclass
class Mixer:
    """Puts pieces one after the other, and notes what they are."""

    rng: np.random.Generator
    waves: list[np.ndarray] = field(default_factory=list)
    speech: list[np.ndarray] = field(default_factory=list)
    other: list[np.ndarray] = field(default_factory=list)
    repeats: list[tuple[int, int]] = field(default_factory=list)
    num_samples: int = 0

    def add(self, wave: np.ndarray, *, speech: np.ndarray | None = None, other: bool = False) -> None:
        """Append a waveform."""
        self.waves.append(wave.astype(np.float32))
        self.speech.append(np.zeros(len(wave), bool) if speech is None else speech)
        self.other.append(np.full(len(wave), other))
        self.num_samples += len(wave)

    def pause(self, low_sec: float, high_sec: float) -> None:
        """Near-silence, as in a studio."""
        self.add(self.rng.normal(0, 1e-4, round(self.rng.uniform(low_sec, high_sec) * RATE)))

    def repeat(self, wave: np.ndarray) -> None:
        """Append a clip that was heard before, and note it."""
        self.repeats.append((self.num_samples, self.num_samples + len(wave)))
        self.add(wave)

    def day(self) -> Day:
        """The whole."""
        return Day(
            np.concatenate(self.waves), np.concatenate(self.speech), np.concatenate(self.other), list(self.repeats)
        )


def radio_day(clips: Iterator[np.ndarray], hours: float, seed: int = 0) -> Day:
    """Mix programmes of speech, music, noise and repeated announcements until `hours` are full."""
    rng = np.random.default_rng(seed)
    mixer = Mixer(rng)
    heard: list[np.ndarray] = []
    while mixer.num_samples < hours * 3600 * RATE:
        _programme(mixer, clips, heard)
        mixer.pause(0.8, 2.0)
        mixer.add(music(rng, rng.uniform(15, 60)), other=True)
        mixer.pause(1.2, 2.0)
        if len(heard) > 12:
            _announcements(mixer, heard)
        if rng.random() < 0.4:
            mixer.add(noise(rng, rng.uniform(10, 40)), other=True)
            mixer.pause(0.5, 1.5)
    return mixer.day()


def clips_of(bantu: Path, seed: int = 0) -> Iterator[np.ndarray]:
    """The real clips, float32 (T,), in a random order, each once."""
    lines = [json.loads(line) for line in (bantu / "manifest.jsonl").open(encoding="utf-8")]
    for index in np.random.default_rng(seed).permutation(len(lines)):
        yield sf.read(bantu / lines[index]["audio_filepath"], dtype="float32")[0]


def active(wave: np.ndarray) -> np.ndarray:
    """Where somebody speaks in a clean clip: bool (T,)."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    level = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    quiet, loud = np.percentile(level, [5, 90])
    found = np.repeat((level > loud + ACTIVE_DB) & (level > quiet + ABOVE_NOISE_DB), FRAME)
    return np.pad(found, (0, len(wave) - len(found)))


def music(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Chords with harmonics and a slow attack, an arpeggio, drums: float32 (T,)."""
    bar = round(rng.uniform(1.6, 2.4) * RATE)
    time = np.arange(bar) / RATE
    bars = []
    for _ in range(-(-round(seconds * RATE) // bar)):
        root = rng.choice(SCALE_HZ)
        chord = np.sum([_harmonics(root * step, time, 6) for step in (1.0, 1.26, 1.5)], axis=0) * np.minimum(
            1, time / 0.1
        )
        beats = [_struck(root * 2 * step, bar // 8) for step in rng.choice([1.0, 1.26, 1.5, 2.0], 8)]
        arpeggio = np.pad(np.concatenate(beats), (0, bar - 8 * (bar // 8)))
        drums = np.zeros(bar)
        for beat in range(4):
            hit = rng.normal(0, 1, bar // 8) * np.exp(-np.arange(bar // 8) / 400)
            drums[beat * (bar // 4) :][: len(hit)] += hit
        bars.append(0.3 * chord + 0.4 * arpeggio + 0.25 * drums)
    wave: np.ndarray = np.concatenate(bars)[: round(seconds * RATE)].astype(np.float32)
    wave *= 0.25 / np.abs(wave).max()
    return wave


def noise(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Hiss, rumble or hum: float32 (T,)."""
    size = round(seconds * RATE)
    kind = rng.integers(3)
    white = rng.normal(0, 1, size)
    if kind == 0:
        wave = white
    elif kind == 1:
        spectrum = np.fft.rfft(white)
        spectrum /= np.sqrt(np.maximum(1, np.arange(len(spectrum))))
        wave = np.fft.irfft(spectrum, size)
    else:
        time = np.arange(size) / RATE
        wave = _harmonics(50, time, 7) + 0.2 * white
    return (rng.uniform(0.02, 0.1) * wave / np.std(wave)).astype(np.float32)


def reencoded(wave: np.ndarray, format_: str, subtype: str, rate: int = RATE) -> np.ndarray:
    """The clip after a lossy codec: float32, about (T,)."""
    memory = io.BytesIO()
    sf.write(memory, wave, rate, format=format_, subtype=subtype, compression_level=0.9)
    memory.seek(0)
    decoded: np.ndarray = sf.read(memory, dtype="float32")[0]
    return decoded


def _programme(mixer: Mixer, clips: Iterator[np.ndarray], heard: list[np.ndarray]) -> None:
    """Some clips with pauses between, in a third of programmes over a bed of noise at 15 to 25 dB."""
    start = len(mixer.waves)
    for _ in range(mixer.rng.integers(8, 20)):
        wave = next(clips, None)
        if wave is None:
            break
        heard.append(wave)
        mixer.add(wave, speech=active(wave))
        mixer.pause(0.1, 1.5)
    if mixer.rng.random() < 1 / 3 and start < len(mixer.waves):
        size = sum(map(len, mixer.waves[start:]))
        bed = noise(mixer.rng, size / RATE + 1)[:size]
        power = np.mean(np.concatenate(mixer.waves[start:]) ** 2)
        bed *= np.sqrt(power / 10 ** (mixer.rng.uniform(15, 25) / 10)) / np.std(bed)
        edges = np.cumsum([len(wave) for wave in mixer.waves[start:]])[:-1]
        for index, part in enumerate(np.split(bed, edges), start=start):
            mixer.waves[index] = mixer.waves[index] + part


def _announcements(mixer: Mixer, heard: Sequence[np.ndarray]) -> None:
    """Two clips that were heard before, from another tape, at another level, each between pauses."""
    codecs: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda wave: reencoded(wave, "MP3", "MPEG_LAYER_III"),
        lambda wave: reencoded(wave, "OGG", "VORBIS"),
        lambda wave: reencoded(wave, "OGG", "OPUS"),
    ]
    for index in mixer.rng.choice(len(heard) - 10, 2, replace=False):
        codec = codecs[mixer.rng.integers(len(codecs))]
        gain = 10 ** (mixer.rng.uniform(-15, 3) / 20)
        mixer.repeat(np.clip(gain * codec(heard[index]), -1, 1))
        mixer.pause(1.3, 2.0)


def _harmonics(hertz: float, time: np.ndarray, number: int) -> np.ndarray:
    orders = np.arange(1, number + 1)[:, None]
    wave: np.ndarray = (np.sin(2 * np.pi * hertz * orders * time) / orders).sum(axis=0)
    return wave


def _struck(hertz: float, size: int) -> np.ndarray:
    time = np.arange(size) / RATE
    return _harmonics(hertz, time, 6) * np.exp(-6 * time)


@dataclass(frozen=True)
class Figures:
    """What `prepare` made of a day, as shares.

    Of first-time speech kept; of music and noise left out; of repeats found as duplicates; and of the kept clips, as
    many as were taken for duplicates and held first-time speech.
    """

    speech_kept: float
    other_left_out: float
    repeats_found: float
    false_repeats: float


def prepare_day(day: Day, folder: Path, model: Path, *settings: str) -> Figures:
    """Write the day as one recording, beside a short one for validation, prepare both, and look what became of it."""
    from runyoro_ssl.plugin.manager import load_plugins
    from runyoro_ssl.prepare.pipeline import prepare
    from runyoro_ssl.prepare.scan import scan
    from runyoro_ssl.resolve import load_config

    (folder / "audio").mkdir()
    sf.write(folder / "audio" / "day.flac", day.waveform, RATE)
    sf.write(folder / "audio" / "other.wav", 0.1 * np.random.default_rng(1).standard_normal(10 * RATE), RATE)
    scan(folder / "audio", folder / "manifest.jsonl")
    config = load_config(
        settings=settings,
        flags={
            "model": {"model_name_or_path": str(model)},
            "prepare": {"manifest_path": folder / "manifest.jsonl", "output_dir": folder / "dataset"},
        },
    )
    prepare(config, load_plugins(config))
    return assess(day, folder / "dataset")


def assess(day: Day, dataset: Path) -> Figures:
    """Compare a dataset with what the day really was."""
    kept, duplicate = np.zeros((2, len(day.waveform)), bool)
    clips = [json.loads(line) for line in (dataset / "clips.jsonl").open(encoding="utf-8")]
    for clip in clips:
        if clip["recording"] == "day.flac":
            start = round(clip["offset"] * RATE)
            kept[start : start + round(clip["duration"] * RATE)] = True
    false = 0
    for drop in map(json.loads, (dataset / "dropped.jsonl").open(encoding="utf-8")):
        if drop["reason"] == "near-duplicate":
            start = round(drop["offset_sec"] * RATE)
            part = slice(start, start + drop["num_samples"])
            duplicate[part] = True
            false += bool(day.speech[part].any())
    found = [duplicate[start:stop].mean() > 0.5 for start, stop in day.repeats]
    return Figures(
        speech_kept=float(kept[day.speech].mean()),
        other_left_out=float(1 - kept[day.other].mean()),
        repeats_found=float(np.mean(found)),
        false_repeats=false / len(clips),
    )


def main() -> None:
    """`python tests/radio.py SPEECH MODEL --hours 2`: the long form, and its figures."""
    import argparse
    import tempfile

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("speech", type=Path, help="folder with manifest.jsonl, of real clips")
    parser.add_argument("model", type=Path, help="folder of a model, for its feature extractor")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="section.field=value")
    options = parser.parse_args()
    day = radio_day(clips_of(options.speech, options.seed), options.hours, options.seed)
    print(  # noqa: T201 - a figure for a person
        f"{len(day.waveform) / RATE / 3600:.2f} h: first-time speech {day.speech.sum() / RATE / 60:.1f} min, "
        f"music and noise {day.other.sum() / RATE / 60:.1f} min, {len(day.repeats)} repeats"
    )
    with tempfile.TemporaryDirectory(prefix="runyoro-radio-") as scratch:
        print(prepare_day(day, Path(scratch), options.model, *options.set))  # noqa: T201


if __name__ == "__main__":
    main()
