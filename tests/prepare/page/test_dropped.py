"""Dropped audio on the page: some of each reason, from many recordings, to hear where it decodes; with whose it is."""

from __future__ import annotations

import base64
import io
import json
import pickle
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.audio.synth import SAMPLE_RATE as RATE
from runyoro_ssl.audio.synth import make_lexicon, make_voices, synthesise
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.plugin.spec import Because
from runyoro_ssl.prepare.accounts import Drop
from runyoro_ssl.prepare.page.dropped import Heard, choose_drops, hear_drops
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.resolve import load_config

Lines = list[dict[str, Any]]


def speech(number: int, seconds: float) -> np.ndarray:
    """So much synthetic speech: a voice and words of its own for every number."""
    rng = np.random.default_rng(number)
    voice, lexicon = make_voices(1, rng)[0], make_lexicon(8, rng)
    wave, _ = synthesise([lexicon[int(rng.integers(8))] for _ in range(8 + 4 * round(seconds))], voice, rng)
    spoken: np.ndarray = np.resize(wave, round(seconds * RATE)).astype(np.float32)
    return spoken


def write(folder: Path, waves: dict[str, np.ndarray], **speakers: str) -> Lines:
    """Write recordings, and give their lines."""
    for name, wave in waves.items():
        sf.write(folder / name, wave, RATE)
    return [
        {"audio_filepath": name, "duration": len(wave) / RATE, "speaker": speakers.get(name.partition(".")[0])}
        for name, wave in waves.items()
    ]


def prepared(folder: Path, model: Path, lines: Lines, *settings: str) -> tuple[str, Lines]:
    """Prepare lines; the page, and what `dropped.jsonl` holds."""
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = load_config(
        profile="cpu-smoke",
        settings=["prepare.segment=fixed", *settings],
        flags={
            "hardware": {"num_workers": 1},
            "model": {"model_name_or_path": str(model)},
            "prepare": {"manifest_path": folder / "m.jsonl", "output_dir": folder / "dataset"},
        },
    )
    prepare(config, load_plugins(config))
    page = (folder / "dataset" / "prepare_report.html").read_text(encoding="utf-8")
    dropped = (folder / "dataset" / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    return page, [json.loads(line) for line in dropped]


def cards_of(page: str) -> list[str]:
    """Each dropped stretch as the page shows it."""
    return re.findall(r'<article class="lost card".*?</article>', page, flags=re.DOTALL)


def sound_of(card: str) -> np.ndarray:
    """What its player plays."""
    (uri,) = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', card)
    wave: np.ndarray = sf.read(io.BytesIO(base64.b64decode(uri)), dtype="float32")[0]
    return wave


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of what both have."""
    size = min(len(one), len(other))
    return float(np.corrcoef(one[:size], other[:size])[0, 1])


def test_dropped_is_heard_where_it_was(tmp_path: Path, tiny_model: Path) -> None:
    """A copy, a short clip, and a part of a long recording: place, detail, speaker, and its own sound."""
    long = speech(1, 9)
    waves = {"a.wav": speech(2, 4), "copy.wav": speech(2, 4), "short.wav": speech(3, 1.5), "b.wav": speech(4, 4)}
    lines = write(tmp_path, {**waves, "tape.wav": long}, a="Akiiki", copy="Birungi")
    tape = lines.pop()
    lines += [{**tape, "offset": 3.25, "duration": 1.5}, {"audio_filepath": "gone.wav", "duration": 5}]
    page, dropped = prepared(tmp_path, tiny_model, lines, 'plugins.filters=["duration", "duplicates"]')
    cards = {re.findall(r'class="source">([^<]+)<', card)[0]: card for card in cards_of(page)}
    assert set(cards) == {line["source"] for line in dropped} == {"copy.wav", "short.wav", "tape.wav", "gone.wav"}
    (copy,) = [line for line in dropped if line["source"] == "copy.wav"]
    assert re.fullmatch(r"(9\d|100)% is in a\.wav@0\.000 \(speaker Akiiki\)", copy["detail"])
    assert (copy["speaker"], copy["recording"]) == ("Birungi", "copy.wav")
    assert copy["detail"] in cards["copy.wav"]
    assert "Birungi" in cards["copy.wav"]
    assert likeness(sound_of(cards["copy.wav"]), waves["a.wav"]) > 0.9
    assert likeness(sound_of(cards["tape.wav"]), long[round(3.25 * RATE) :]) > 0.9
    assert "0:03.2" in cards["tape.wav"]
    assert "<audio" not in cards["gone.wav"]
    assert "Not to be heard: missing file" in cards["gone.wav"]


def test_ten_of_each_reason_from_many_recordings(tmp_path: Path, tiny_model: Path) -> None:
    """Of 30 short clips, 24 of one recording and 6 of others, all of those and as many as fit are shown."""
    lines = write(tmp_path, {"a.wav": speech(1, 4), "b.wav": speech(2, 4), "tape.wav": speech(3, 24)})
    tape = lines.pop()
    lines += [{**tape, "offset": float(n), "duration": 1.0} for n in range(24)]
    lines += write(tmp_path, {f"{n}.wav": speech(10 + n, 1) for n in range(6)})
    page, dropped = prepared(tmp_path, tiny_model, lines, 'plugins.filters=["duration"]')
    sources = [re.findall(r'class="source">([^<]+)<', card)[0] for card in cards_of(page)]
    assert len(dropped) == 30
    assert len(sources) == 10
    assert {f"{n}.wav" for n in range(6)} < set(sources)


def drops_of(count: int, reason: str = "noise") -> list[Drop]:
    """A recording for each."""
    return [Drop(f"{n}.wav", 0.0, RATE * 60, reason, recording=f"{n}.wav") for n in range(count)]


def test_choice_does_not_depend_on_the_order() -> None:
    """It is drawn by the places; the reason with most audio is first."""
    drops = [*drops_of(30), *drops_of(50, "hum")]
    chosen = choose_drops(drops)
    assert chosen == choose_drops(drops[::-1])
    assert [(reason, len(part)) for reason, part in chosen.items()] == [("hum", 10), ("noise", 10)]
    assert [drop.source for drop in chosen["hum"]] != [f"{n}.wav" for n in range(10)], "not the first ones"


def test_players_are_bounded(tmp_path: Path) -> None:
    """15 s each, 300 s together, whatever was dropped: a long recording, a hundred reasons; in seconds, 2.6 MB."""
    sf.write(tmp_path / "one.wav", speech(1, 60), RATE)

    def played(drops: list[Drop]) -> list[Heard]:
        return [heard for part in hear_drops(drops, lambda _: tmp_path / "one.wav", RATE).values() for heard in part]

    assert [heard.played_sec for heard in played(drops_of(3))] == [15.0] * 3
    started = time.monotonic()
    many = played([drop for n in range(12) for drop in drops_of(20, f"reason {n}")])
    assert time.monotonic() - started < 30
    assert len(many) == 120
    assert sum(heard.played_sec for heard in many) == pytest.approx(300)
    assert sum(len(heard.audio) for heard in many) < 2_600_000


@pytest.mark.parametrize("reason", [Reason.PROCESS_CRASHED, Reason.TIME_LIMIT, Reason.OUT_OF_MEMORY])
def test_what_ended_a_worker_is_not_tried_again(reason: Reason) -> None:
    """The page is made in the main process, which must live."""

    def path_of(_source: str) -> Path:
        raise AssertionError

    ((heard,),) = hear_drops(drops_of(1, reason), path_of, RATE).values()
    assert (heard.audio, heard.silent_because) == ("", "it ended or kept what read it")


def test_what_does_not_decode_is_said(tmp_path: Path) -> None:
    """No file, no audio in it, nothing at that place, and a stretch of nothing."""
    (tmp_path / "noise.wav").write_bytes(np.random.default_rng(0).bytes(4000))
    sf.write(tmp_path / "short.wav", speech(1, 2), RATE)
    drops = [Drop(name, 90.0, RATE, "noise", recording=name) for name in ("noise.wav", "gone.wav", "short.wav")]
    drops.append(Drop("short.wav", 0.0, 0, "noise", recording="short.wav"))
    (heard,) = hear_drops(drops, lambda source: tmp_path / source, RATE).values()
    assert all(one.audio == "" for one in heard)
    told = [one.silent_because.partition(":")[0] for one in heard]
    assert told == ["missing file", "unreadable", "nothing of it decodes", "no samples"]


def test_names_that_look_like_markup_are_text(tmp_path: Path, tiny_model: Path) -> None:
    """Of a file, a speaker, a reason and a detail."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "runyoro_hostile.py").write_text(
        "from runyoro_ssl import hookimpl\n"
        "from runyoro_ssl.plugin.spec import Because\n"
        "class Hostile:\n"
        "    def __call__(self, utterance):\n"
        "        return Because('<b>r', '<script>d') if utterance.speaker else None\n"
        "@hookimpl\ndef runyoro_manifest_filters(register):\n    register('hostile', Hostile)\n"
    )
    lines = write(tmp_path, {f"<i>{n}.wav": speech(n, 3) for n in range(3)})
    lines[0]["speaker"] = "<script>s"
    page, _ = prepared(tmp_path, tiny_model, lines, f"plugins.dir={folder}", 'plugins.filters=["hostile"]')
    (card,) = cards_of(page)
    assert page.count("<script>") == 1
    assert all(text in card for text in ("&lt;script&gt;d", "&lt;script&gt;s", "&lt;i&gt;0.wav"))


PLUGIN = """
from runyoro_ssl import hookimpl
from runyoro_ssl.plugin.spec import Because

class Quiet:
    def __call__(self, utterance):
        peak = float(abs(utterance.waveform).max())
        return Because("quiet", f"peak {peak:.2f}; token hf_" + 30 * "a") if utterance.source == "0.wav" else None

class Last:
    def measure(self, utterance):
        return None
    def select(self, candidates):
        return ["plain" if clip.source == "1.wav" else Because("last", "of " + candidates[0].id)
                if clip.source == "2.wav" else None for clip in candidates]

@hookimpl
def runyoro_manifest_filters(register):
    register("quiet", Quiet)
    register("last", Last)
"""


def test_plugins_may_tell_more_than_a_reason(tmp_path: Path, tiny_model: Path) -> None:
    """Filters of one clip and of the corpus: a detail stands in `dropped.jsonl`; a plain string still does."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "runyoro_tell.py").write_text(PLUGIN)
    lines = write(tmp_path, {f"{n}.wav": speech(n, 3) for n in range(5)})
    settings = (f"plugins.dir={tmp_path / 'plugins'}", 'plugins.filters=["quiet", "last"]')
    _, dropped = prepared(tmp_path, tiny_model, lines, *settings)
    told = {line["reason"]: line["detail"] for line in dropped}
    assert told["plain"] == ""
    assert told["last"] == "of 1.wav@0.000"
    assert re.match(r"peak 0\.\d\d; token", told["quiet"])
    assert 30 * "a" not in told["quiet"], "no secret is written"


def test_because_is_its_reason() -> None:
    """A string like any other, equal and hashed as that; its detail survives the way between processes."""
    because = Because("near-duplicate", "of a")
    assert because == "near-duplicate"
    assert {because: 1}.keys() == {"near-duplicate"}
    copied = pickle.loads(pickle.dumps(because))  # noqa: S301 - our own
    assert (copied, copied.detail) == ("near-duplicate", "of a")
