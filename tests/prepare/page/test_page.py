"""The corpus page: complete in itself, true to its numbers, safe, and sensible when little is known."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from conftest import ROOT
from runyoro_ssl.audio.reasons import Reason, explain
from runyoro_ssl.dataset.layout import CLIPS, PAGE, REPORT
from runyoro_ssl.page.amounts import amount_of_time, clock, number, share
from runyoro_ssl.page.charts import histogram, named_bars, seconds_by
from runyoro_ssl.page.pictures import audio_uri, log_mel, mel_place, spectrogram_uri
from runyoro_ssl.prepare.accounts import Account, ClipRecord, Drop, Tally
from runyoro_ssl.prepare.page.examples import choose_examples
from runyoro_ssl.prepare.page.write import write_page
from runyoro_ssl.prepare.report import build_report
from support.pages import Elements, text_of

RATE = 16_000
PACKAGE = ROOT / "runyoro_ssl"
USUAL = {"snr_db": 25.0, "level_dbfs": -24.0, "bandwidth_hz": 7000.0, "clipped_share": 0.0, "hum_db": 0.0, "music": 0.0}
HOSTILE = '<script>alert("x")</script>'


def record(place: int, *, measures: dict[str, float] = USUAL, **changed: Any) -> ClipRecord:
    """A usual clip of its own recording; every fourth is held out."""
    facts: dict[str, Any] = {
        "id": f"r{place}.wav@0.000",
        "recording": f"r{place}.wav",
        "speaker": f"speaker {place % 5}",
        "language": ("nyo", "ttj")[place % 2],
        "source": f"r{place}.wav",
        "offset_sec": 0.0,
        "licence": None,
        "num_samples": 2 * RATE,
        "crc32": 0,
        "split": "train" if place % 4 else "validation",
        "measures": measures,
    }
    return ClipRecord(**(facts | changed))


def varied(count: int) -> list[ClipRecord]:
    """Clips whose measures differ a little, in a fixed way."""
    draws = np.random.default_rng(0).standard_normal((count, len(USUAL)))
    spread = (4.0, 3.0, 300.0, 0.0002, 1.0, 0.03)
    return [
        record(
            place,
            measures={name: USUAL[name] + size * float(x) for name, size, x in zip(USUAL, spread, row, strict=True)},
        )
        for place, row in enumerate(draws)
    ]


def account_of(clips: Sequence[ClipRecord], dropped: Mapping[str, tuple[int, float]]) -> dict[str, Any]:
    """The report of a preparation that kept these clips and dropped reason -> (clips, seconds)."""
    tally = Tally()
    for clip in clips:
        tally.add(Account("", samples_in=clip.num_samples, clips=[clip]), clip.source)
    for reason, (count, seconds) in dropped.items():
        drops = [Drop("gone.wav", 0.0, round(RATE * seconds / count), reason) for _ in range(count)]
        tally.add(Account("", samples_in=sum(drop.num_samples for drop in drops), drops=drops), "gone.wav")
    return build_report(tally, clips, RATE, tally.samples_in / RATE)


@pytest.fixture(scope="module")
def speech(corpus: Path) -> np.ndarray:
    """About 2.5 s of speech, float32 (T,), 16 kHz."""
    return next(sf.read(path, dtype="float32")[0] for path in sorted(corpus.rglob("*.wav")))


@pytest.fixture
def page(tmp_path: Path, speech: np.ndarray) -> Callable[..., str]:
    """Writes a page, each clip the same half second of speech, and reads it."""

    def write(
        clips: Sequence[ClipRecord],
        report: Mapping[str, Any] | None = None,
        waveform_of: Callable[[int], np.ndarray] = lambda _: speech[: RATE // 2],
        title: str = "A corpus",
    ) -> str:
        path = tmp_path / "prepare_report.html"
        write_page(path, account_of(clips, {}) if report is None else report, clips, waveform_of, title=title)
        html = path.read_text(encoding="utf-8")
        Elements().read(html)
        return html

    return write


def decoded(uri: str, kind: str) -> bytes:
    """The content of a data URI of this kind."""
    head, _, content = uri.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(content, validate=True)


def test_page_needs_nothing_else(page: Callable[..., str]) -> None:
    """Every source is a data URI, every link stays on the page, no style imports: it works offline, from anywhere."""
    html = page(varied(30))
    elements = Elements().read(html)
    assert {tag for tag, _ in elements} & {"link", "iframe", "object", "embed", "base"} == set()
    for tag, attributes in elements:
        for name in {"src", "href", "srcset", "poster", "data", "action"} & attributes.keys():
            assert re.match(r"data:(image/png|audio/mpeg);base64,|#\w", attributes[name] or ""), (tag, name)
    assert not re.search(r"url\(|@import|https?://", html)


def test_only_our_script_may_run(page: Callable[..., str]) -> None:
    """The policy allows the page's own script by its hash, data pictures and sounds, and no connection."""
    html = page(varied(4))
    policy = next(attributes["content"] for tag, attributes in Elements().read(html) if "http-equiv" in attributes)
    assert policy is not None
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert policy.endswith(f"script-src 'sha256-{digest}'")


def test_strings_of_the_data_are_text(page: Callable[..., str]) -> None:
    """A name that looks like markup is shown as it is, wherever it stands."""
    names: dict[str, Any] = dict.fromkeys(("id", "recording", "speaker", "language", "licence", "source"), HOSTILE)
    clips = [record(0, **names), record(1)]
    html = page(clips, account_of(clips, {HOSTILE: (1, 2.0)}), title=HOSTILE)
    assert html.count("<script>") == 1
    assert "alert(" in text_of(html)
    assert all("alert" not in name for _, attributes in Elements().read(html) for name in attributes)


def test_same_corpus_gives_the_same_bytes(page: Callable[..., str]) -> None:
    """No time stamp, no order of a set: two pages can be compared."""
    assert page(varied(40)) == page(varied(40))


def test_account_shows_every_reason_with_its_share(page: Callable[..., str]) -> None:
    """Kept and each reason, with time and per cent of the input; a known one is explained, a plugin's own is not."""
    clips = [record(place) for place in range(60)]
    html = page(clips, account_of(clips, {"silence": (3, 60.0), "my plugin": (2, 20.0)}))
    words = text_of(html)
    assert "kept 2.0 min 60.0 % 60 silence 1.0 min 30.0 % 3" in words
    assert " ".join(explain("silence")) in words
    assert "my plugin 20.0 s 10.0 % 2 3,200,000 samples in, 1,920,000 kept, 1,280,000 dropped: it adds up" in words
    widths = re.findall(r'<i class="(?:kept|reason-\d)" style="flex-grow:([\d.]+)"', html)
    assert [float(width) for width in widths] == [60.0, 30.0, 10.0]


def test_account_that_does_not_add_up_says_so(page: Callable[..., str]) -> None:
    """A second that went nowhere is not smoothed over."""
    clips = varied(3)
    report = account_of(clips, {"silence": (1, 2.0)})
    report["samples"]["in"] += 5
    assert "dropped: 5 unaccounted for!" in text_of(page(clips, report))


def test_clip_is_traceable_to_its_second(page: Callable[..., str]) -> None:
    """Each card names the manifest's file and the place in it."""
    clips = [record(0, source="field/day 2.wav", offset_sec=3725.4), record(1)]
    assert "field/day 2.wav 1:02:05.4 \N{EN DASH} 1:02:07.4" in text_of(page(clips))


def test_every_example_is_heard_and_seen(page: Callable[..., str], speech: np.ndarray) -> None:
    """Twenty players and twenty spectrograms, each with words for who cannot see them; nothing else is decoded."""
    asked: list[int] = []

    def waveform_of(clip: int) -> np.ndarray:
        asked.append(clip)
        return speech

    elements = Elements().read(page(varied(50), waveform_of=waveform_of))
    players = [attributes for tag, attributes in elements if tag == "audio"]
    pictures = [attributes for tag, attributes in elements if tag == "img"]
    assert len(players) == len(pictures) == len(asked) == len(set(asked)) == 20
    assert all("controls" in player and player["aria-label"] for player in players)
    assert all(picture["alt"] for picture in pictures)
    assert all(attributes["aria-label"] for tag, attributes in elements if attributes.get("role") == "img")
    assert all("scope" in attributes for tag, attributes in elements if tag == "th")


def test_long_clip_is_heard_for_fifteen_seconds(page: Callable[..., str], speech: np.ndarray) -> None:
    """The page stays small, and says that there is more."""
    html = page([record(0, num_samples=40 * RATE)], waveform_of=lambda _: np.resize(speech, 40 * RATE))
    (uri,) = re.findall(r'<audio[^>]* src="([^"]*)"', html)
    assert sf.info(io.BytesIO(decoded(uri, "audio/mpeg"))).duration == pytest.approx(15.0, abs=0.1)
    assert "The first 15 s of 40.0 s." in text_of(html)


def test_player_is_made_without_calls_back(speech: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a signal raises while libsndfile calls Python is printed and lost: SIGTERM would not end `prepare`."""
    monkeypatch.delattr(sf.SoundFile, "_init_virtual_io")
    assert audio_uri(speech, RATE).startswith("data:audio/mpeg;base64,")


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050])
def test_player_sounds_like_the_clip(speech: np.ndarray, rate: int) -> None:
    """The MP3 decodes to the same speech at the same level, in at most 64 kbit/s."""
    import soxr

    content = decoded(audio_uri(soxr.resample(speech, RATE, rate), rate), "audio/mpeg")
    heard, heard_rate = sf.read(io.BytesIO(content), dtype="float32")
    assert heard_rate == RATE
    assert len(content) * 8 / (len(heard) / RATE) <= 64_000
    expected = soxr.resample(soxr.resample(speech, RATE, rate), rate, RATE)
    size = min(len(heard), len(expected))
    assert np.corrcoef(heard[:size], expected[:size])[0, 1] > 0.95
    assert np.std(heard[:size]) == pytest.approx(np.std(expected), rel=0.1)


@pytest.mark.parametrize("hertz", [200.0, 1000.0, 5000.0])
def test_tone_stands_at_its_frequency(hertz: float) -> None:
    """The brightest row of a tone is where the axis says; a chirp of silence around it is dark."""
    tone = np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32)
    picture = log_mel(np.concatenate([np.zeros(RATE, np.float32), tone]), RATE)
    row = picture[:, -20].argmax()
    assert (row + 1) / (len(picture) + 1) == pytest.approx(float(mel_place(np.array(hertz), RATE)), abs=0.011)
    assert picture[:, :20].max() == 0.0
    assert picture.max() == 1.0


def test_low_frequencies_are_at_the_bottom() -> None:
    """The PNG is read from the top: a low tone is bright in its last rows."""
    from PIL import Image

    tone = np.sin(2 * np.pi * 150 * np.arange(RATE) / RATE).astype(np.float32)
    image = Image.open(io.BytesIO(decoded(spectrogram_uri(tone, RATE), "image/png"))).convert("L")
    brightness = np.asarray(image).mean(axis=1)
    assert brightness.argmax() > 0.85 * len(brightness)


@pytest.mark.parametrize("num_samples", [1, 100, 40 * RATE])
@pytest.mark.parametrize("level", [0.0, 1e-4, 3.0])
def test_odd_waveforms_have_pictures(num_samples: int, level: float) -> None:
    """Shorter than a window, silent, beyond full scale: never an error; silence is black."""
    waveform = np.full(num_samples, level, np.float32)
    assert spectrogram_uri(waveform, RATE)
    assert audio_uri(waveform, RATE)
    assert log_mel(waveform, RATE).shape[1] <= 480
    if level == 0.0:
        assert log_mel(waveform, RATE).max() == 0.0


@pytest.mark.parametrize(
    ("measure", "value", "fault"),
    [
        ("snr_db", 3.0, "low SNR"),
        ("clipped_share", 0.008, "clipping"),
        ("music", 0.9, "music"),
        ("bandwidth_hz", 3400.0, "narrow bandwidth"),
        ("hum_db", 25.0, "mains hum"),
    ],
)
def test_worst_is_the_faulty_clip(page: Callable[..., str], measure: str, value: float, fault: str) -> None:
    """Each kind of fault puts a clip first, and is named on its card."""
    clips = varied(60)
    clips[17] = record(17, measures={**USUAL, measure: value})
    worst, _ = choose_examples(clips)
    assert (worst[0].clip, worst[0].faults) == (17, (fault,))
    assert f"<mark>{fault}</mark>" in page(clips)


def test_what_is_unusual_and_within_limits_has_no_bad_name() -> None:
    """15 dB of hum among clips without, in a corpus where the rest is spotless: first of the list, but no fault."""
    clips = varied(60)
    clips[17] = record(17, measures={**USUAL, "hum_db": 15.0})
    worst, _ = choose_examples(clips)
    assert (worst[0].clip, worst[0].faults) == (17, ())


def test_good_extremes_are_not_bad() -> None:
    """A clip with an outstanding SNR and no hum is not among the worst."""
    clips = varied(60)
    clips[17] = record(17, measures={**USUAL, "snr_db": 70.0, "hum_db": -30.0})
    assert 17 not in {example.clip for example in choose_examples(clips)[0]}


def test_good_measure_does_not_excuse_a_bad_one() -> None:
    """Noise stays noise on a clip without any hum."""
    clips = varied(60)
    clips[17] = record(17, measures={**USUAL, "snr_db": 0.0, "hum_db": -40.0})
    assert choose_examples(clips)[0][0].clip == 17


def test_unknown_is_not_bad() -> None:
    """A clip without an SNR, or with one that is no number, counts as usual."""
    clips = varied(60)
    for place, snr in ((17, float("-inf")), (18, float("nan"))):
        clips[place] = record(place, measures={**USUAL, "snr_db": snr})
    clips[19] = record(19, measures={name: value for name, value in USUAL.items() if name != "snr_db"})
    assert not {17, 18, 19} & {example.clip for example in choose_examples(clips)[0]}


def test_typical_are_near_the_medians() -> None:
    """The clip that is usual in everything comes first, and no clip is both worst and typical."""
    clips = varied(60)
    clips[23] = record(23)
    worst, typical = choose_examples(clips)
    assert typical[0].clip == 23
    assert not {example.clip for example in worst} & {example.clip for example in typical}


def test_one_recording_does_not_fill_the_worst() -> None:
    """At most three of one recording while there are others, worst first all the same."""
    clips = varied(60)
    for place in range(20, 40):
        clips[place] = record(place, recording="bad.wav", measures={**USUAL, "snr_db": 0.0 + place / 100})
    worst = [example.clip for example in choose_examples(clips)[0]]
    assert worst[:3] == [20, 21, 22]
    assert len(worst) == 10
    assert not {23, 24, 25} & set(worst)


def test_only_recording_gives_all_the_worst() -> None:
    """Where there is one recording, its clips are shown."""
    clips = [record(place, recording="a.wav", measures={**USUAL, "snr_db": float(place)}) for place in range(40)]
    worst, typical = choose_examples(clips)
    assert [example.clip for example in worst] == list(range(10))
    assert len(typical) == 10


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9, 15])
@pytest.mark.parametrize("measures", [{}, USUAL])
def test_little_is_known(page: Callable[..., str], count: int, measures: dict[str, float]) -> None:
    """Few clips, no measures, no speakers, no languages: a sensible page, without nan or None."""
    clips = [record(place, measures=measures, speaker=None, language=None) for place in range(count)]
    words = text_of(page(clips))
    assert "No clip is measurably worse than the others." in words
    assert "No speaker is named" in words
    assert not re.search(r"\b(nan|inf|None)\b", words)
    assert ("No clip was kept." in words) is (count == 0)
    assert ("SNR dB How far speech stands above the background. Under 10 dB is noisy. Not measured." in words) is (
        not count or measures is not USUAL
    )


def test_histogram_counts_every_clip_once() -> None:
    """Bars, what is beyond the axis, and what is not known add up to the clips."""
    values = np.concatenate([np.random.default_rng(1).normal(20, 5, 998), [np.nan, 900.0]])
    chart = histogram("SNR", "dB", "", values, np.arange(1000) % 10 == 0, noun="clip")
    counts = [
        int(number_.replace(",", ""))
        for number_ in (re.findall(r"([\d,]+) clips?$", bar.text)[0] for bar in chart.bins)
    ]
    outside = int(re.findall(r"(\d+) clips? beyond", chart.note)[0])
    assert sum(counts) + outside + 1 == 1000
    assert "Known of 999 of 1,000 clips." in chart.note
    assert max(bar.lower + bar.upper for bar in chart.bins) <= 100.0
    assert chart.summary.startswith("Median 20")


@pytest.mark.parametrize("values", [[3.0], [0.0] * 5, [-1e-9, 1e-9], [1e6, 1e6 + 1], [-120.0, 0.0]])
def test_histogram_of_any_range(values: list[float]) -> None:
    """One clip, equal clips, tiny and huge numbers: at least one bar, and the axis holds the median."""
    chart = histogram("Level", "dBFS", "", np.array(values), np.zeros(len(values), dtype=bool), noun="clip")
    assert chart.bins
    assert 0.0 <= chart.median <= 100.0
    assert all(0.0 <= tick.at <= 100.001 for tick in (*chart.x_ticks, *chart.y_ticks))


def test_twenty_speakers_and_the_rest() -> None:
    """The largest twenty by name, then the others in one row, then the unknown: the seconds add up."""
    sums = seconds_by([(f"s{place:02d}", float(place)) for place in range(1, 31)] + [(None, 7.0), ("s30", 1.0)])
    listed = named_bars(sums)
    assert [row.name for row in listed[:2]] == ["s30", "s29"]
    assert [(row.name, row.is_named) for row in listed[20:]] == [("10 others", False), ("not known", False)]
    assert sum(row.seconds for row in listed) == sum(sums.values()) == 473.0


def test_one_voice_that_speaks_most_is_remarked(page: Callable[..., str]) -> None:
    """More than half of the audio by one speaker is said in words; an even corpus has no such remark."""
    clips = varied(20)
    assert "may learn this voice" not in page(clips)
    clips += [record(place, speaker="Akiiki") for place in range(20, 45)]
    assert "Akiiki speaks 55.6 % of it" in text_of(page(clips))


def test_large_corpus_takes_seconds_and_stays_small(page: Callable[..., str], speech: np.ndarray) -> None:
    """30,000 clips, the examples long: the page is drawn in seconds and stays under 4 MB."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(20 * RATE).astype(np.float32)
    html = page(varied(30_000), waveform_of=lambda _: np.resize(speech, 20 * RATE) + noise)
    assert len(html) < 4_000_000


def test_every_reason_is_explained() -> None:
    """What it means and what to do, in sentences; a plugin's own reason is shown without."""
    assert all(one.meaning.endswith(".") and one.remedy.endswith(".") for one in Reason)
    assert explain("silence") == (Reason.SILENCE.meaning, Reason.SILENCE.remedy)
    assert explain("my plugin") == ("", "")


def test_reasons_are_given_by_their_names() -> None:
    """No second literal: what the code says of a file or a clip is a Reason, so that none lacks its texts."""
    rooms = ("audio", "prepare", "builtins")
    code = "".join(path.read_text(encoding="utf-8") for room in rooms for path in (PACKAGE / room).rglob("*.py"))
    assert "AudioError(Reason." in code
    assert not re.findall(r'AudioError\(\s*f?"[^"]+"', code)
    assert not re.findall(r'Reason\("', code)


def test_tiles_tell_what_the_report_says(page: Callable[..., str]) -> None:
    """Each of the eight figures at the top, with its remark."""
    clips = [record(place) for place in range(60)]
    words = text_of(page(clips, account_of(clips, {"silence": (3, 60.0)})))
    assert words.split(" Account Measures")[0].endswith(
        "3.0 min came in 61 manifest lines 2.0 min kept 66.7 % of the input 1.0 min dropped for 1 reason "
        "60 clips median 2.0 s 60 recordings 5 speakers 2 languages 30.0 s validation 25.0 % of what is kept"
    )


def test_splits_and_licences_are_those_of_the_report(page: Callable[..., str]) -> None:
    """Both splits in a table; licences where one is known, with what has none."""
    clips = [record(place, licence="CC0-1.0" if place < 10 else None) for place in range(40)]
    words = text_of(page(clips))
    assert "Time 1.0 min 20.0 s Share 75.0 % 25.0 % Clips 30 10 Recordings 30 10 Speakers 5 5" in words
    assert "Licences Name Picture Time Share CC0-1.0 20.0 s 25.0 % not known 1.0 min 75.0 %" in words
    assert "Licences" not in text_of(page([record(place) for place in range(4)]))


def test_page_of_a_real_preparation(dataset: Path, corpus_manifest: Path) -> None:
    """What `prepare` wrote: every number of the page that its report holds, and the files of the clips it shows."""
    report = json.loads((dataset / REPORT).read_text())
    html = (dataset / PAGE).read_text(encoding="utf-8")
    words = text_of(html)
    assert f"came in {len(corpus_manifest.read_text().splitlines())} manifest lines" in words
    assert f"{report['samples']['in']:,} samples in, {report['samples']['kept']:,} kept" in words
    assert f"Clips {report['splits']['train']['clips']} {report['splits']['validation']['clips']}" in words
    sources = {json.loads(line)["audio_filepath"] for line in (dataset / CLIPS).read_text().splitlines()}
    shown = set(re.findall(r'<span class="source">([^<]+)</span>', html))
    assert shown
    assert shown <= sources


def test_amounts() -> None:
    """Hours, minutes, seconds; places to the tenth; a share that is there is never 0 %."""
    assert [amount_of_time(seconds) for seconds in (0, 59.9, 90, 5400)] == ["0.0 s", "59.9 s", "1.5 min", "1.5 h"]
    assert [clock(seconds) for seconds in (0, 7.26, 59.96, 3599.96, 3725.4)] == [
        "0:00.0", "0:07.3", "1:00.0", "1:00:00.0", "1:02:05.4",
    ]  # fmt: skip
    assert [share(1, 3), share(1, 1_000_000), share(0, 5), share(0, 0)] == ["33.3 %", "< 0.1 %", "0.0 %", "0.0 %"]
    assert [number(1234567.0), number(-0.04, 1), number(-2.5, 1)] == ["1,234,567", "0.0", "\N{MINUS SIGN}2.5"]
