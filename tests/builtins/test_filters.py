"""Built-in filters: each drops the clip that has its fault and keeps real speech."""

from __future__ import annotations

import inspect
import itertools
import pickle
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from conftest import ROOT
from runyoro_ssl.builtins.filters import SpeechFilter
from runyoro_ssl.errors import PluginError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.plugin.spec import Candidate, CorpusFilter, Utterance
from runyoro_ssl.resolve import load_config

RATE = 16_000
CLIP_FILTERS = ("silence", "clipping", "snr", "dc_offset", "hum", "bandwidth", "music")
CORPUS_FILTERS = ("duplicates", "speaker_cap", "recording_cap")


def build(name: str, *settings: str) -> Any:
    """The filter of this name, as `prepare` would build it."""
    config = load_config(settings=[f'plugins.filters=["{name}"]', *settings])
    return load_plugins(config).filters()[0][1]


def utterance(waveform: np.ndarray, **fields: Any) -> Utterance:
    """A clip at 16 kHz."""
    known: dict[str, Any] = {
        "id": "a",
        "source": "a.wav",
        "recording": "a",
        "speaker": None,
        "language": None,
        "offset_sec": 0.0,
    }
    return Utterance(**{**known, **fields}, waveform=np.asarray(waveform, np.float32), sample_rate=RATE)


def candidate(number: int, *, seconds: float = 10.0, **fields: Any) -> Candidate:
    """A clip as a corpus filter sees it."""
    known: dict[str, Any] = {
        "id": f"clip{number}",
        "source": f"{number}.wav",
        "recording": f"{number}",
        "speaker": None,
    }
    known |= {"language": None, "offset_sec": 0.0, "measured": None}
    return Candidate(**{**known, **fields}, num_samples=round(seconds * RATE), sample_rate=RATE)


@pytest.fixture(scope="module")
def clean(bantu: Path) -> list[np.ndarray]:
    """Every 10th real clip."""
    found = [sf.read(path, dtype="float32")[0] for path in sorted(bantu.rglob("*.flac"))[::10]]
    assert len(found) > 90
    return found


def babble_of_frames(seconds: float = 4.0) -> np.ndarray:
    """Noise bursts with pauses, on nearly no noise: a stand-in for speech where there is none at hand."""
    generator = np.random.default_rng(0)
    wave = 0.1 * generator.normal(size=round(seconds * RATE))
    wave *= (np.arange(len(wave)) // 3000) % 2
    return (wave + 1e-4 * generator.normal(size=len(wave))).astype(np.float32)


def faulty() -> dict[str, tuple[str, np.ndarray]]:
    """For each filter the reason, and a clip that it must drop."""
    wave, time_sec = babble_of_frames(), np.arange(4 * RATE) / RATE
    harmonics = np.array([np.sin(2 * np.pi * 50 * number * time_sec) for number in range(1, 5)])
    tones = np.array([np.sin(2 * np.pi * hz * time_sec) for hz in (440, 880, 1320, 1760, 2200, 2640)])
    return {
        "silence": ("silence", np.zeros(4 * RATE)),
        "clipping": ("clipping", np.clip(wave * 100, -1, 1)),
        "snr": ("noise", wave + 0.2 * np.random.default_rng(1).normal(size=len(wave))),
        "dc_offset": ("DC offset", wave - 0.1),
        "hum": ("hum", wave * 0.1 + 0.05 * harmonics.sum(axis=0)),
        "bandwidth": ("narrow band", 0.1 * tones.sum(axis=0)),
        "music": ("music", 0.1 * tones.sum(axis=0)),
    }


@pytest.mark.parametrize("name", CLIP_FILTERS)
def test_fault_is_dropped(name: str) -> None:
    """With the defaults, but for bandwidth, which must be asked."""
    settings = ["plugins.options.bandwidth.min_hz=4250"] if name == "bandwidth" else []
    judge = pickle.loads(pickle.dumps(build(name, *settings)))  # noqa: S301 - our own bytes, as a worker gets them
    reason, wave = faulty()[name]
    assert judge(utterance(wave)) == reason
    assert not isinstance(judge, CorpusFilter)


@pytest.mark.parametrize("name", CLIP_FILTERS)
def test_clean_speech_is_kept(name: str, clean: list[np.ndarray]) -> None:
    """No more than one of 93 clips, with the defaults."""
    judge = build(name)
    assert sum(judge(utterance(clip)) is not None for clip in clean) <= 1


def test_bandwidth_only_reports_unless_asked() -> None:
    """The default drops nothing at all."""
    assert build("bandwidth")(utterance(np.zeros(100))) is None


@pytest.mark.parametrize(("share", "reason"), [(0.29, "little speech"), (0.3, None), (1.0, None)])
def test_speech_share_of_the_segmenter_decides(share: float, reason: str | None) -> None:
    """Where the segmenter measured it, no detector runs."""
    assert build("speech")(utterance(np.zeros(RATE), speech_share=share)) == reason


def test_speech_share_is_measured_where_the_segmenter_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of frames of the detector with a probability of at least a half."""
    detector = ModuleType("runyoro_ssl.audio.vad")
    probabilities = np.array([0.9, 0.5, 0.4, 0.1], np.float32)
    vars(detector)["speech_probabilities"] = lambda _waveform, _sample_rate: probabilities
    monkeypatch.setitem(sys.modules, "runyoro_ssl.audio.vad", detector)
    assert SpeechFilter(0.5)(utterance(np.zeros(RATE))) is None
    assert SpeechFilter(0.51)(utterance(np.zeros(RATE))) == "little speech"
    probabilities = np.zeros(0, np.float32)
    assert SpeechFilter(0.1)(utterance(np.zeros(1))) == "little speech"


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("silence", "min_active_share", "1.5"),
        ("clipping", "max_clipped_share", "-0.1"),
        ("speech", "min_share", "30"),
        ("snr", "min_db", "1000"),
        ("dc_offset", "max_share", "2"),
        ("hum", "max_db", "-1"),
        ("bandwidth", "min_hz", "-8000"),
        ("music", "max_likelihood", "60"),
        ("duplicates", "min_overlap", "0"),
        ("speaker_cap", "max_minutes", "0"),
        ("recording_cap", "max_minutes", "-5"),
    ],
)
def test_option_out_of_range_is_named(name: str, option: str, value: str) -> None:
    """One line that names filter, option and value."""
    with pytest.raises(PluginError, match=rf'"{name}".*{option} is {value}'):
        build(name, f"plugins.options.{name}.{option}={value}")


@pytest.mark.parametrize("name", CORPUS_FILTERS)
def test_corpus_filters_are_told_from_others(name: str) -> None:
    """By their shape; they are picklable, and take an empty corpus and clips without sound."""
    judge = build(name)
    assert isinstance(judge, CorpusFilter)
    pickle.dumps(judge)
    assert judge.select([]) == []
    mute = [candidate(number, measured=judge.measure(utterance(np.zeros(RATE)))) for number in range(3)]
    assert list(judge.select(mute)) == [None] * 3


def test_guide_example_of_a_corpus_filter_runs() -> None:
    """The second code block of plugins/README.md."""
    block, _ = re.findall(r"```py\n(.*?)```", (ROOT / "plugins" / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - our own guide
    judge = names["LoudestHalf"]()
    assert isinstance(judge, CorpusFilter)
    clips = [candidate(n, measured=judge.measure(utterance(np.full(9, level)))) for n, level in enumerate((0.1, 0.5))]
    assert judge.select(clips) == ["quieter half", None]


@pytest.mark.parametrize("name", [*CLIP_FILTERS, *CORPUS_FILTERS, "speech"])
def test_guide_tells_of_every_default(name: str) -> None:
    """The table of plugins/README.md has each option of each filter, with its default."""
    table = (ROOT / "plugins" / "README.md").read_text().partition("## The built-in filters")[2]
    rows = {cells[3]: cells[5] for cells in (line.split("|") for line in _rows_of(table, name))}
    parameters = inspect.signature(build_factory(name)).parameters
    assert parameters
    for option, parameter in parameters.items():
        assert float(rows[f" `{option}` "].partition(":")[0]) == parameter.default


def build_factory(name: str) -> Any:
    """What is registered under a name."""
    return load_plugins(load_config()).registered["filter"][name].factory


def _rows_of(table: str, name: str) -> list[str]:
    """The lines of a filter: the one with its name, and those below that name none."""
    lines = table.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"| `{name}` |"))
    return [lines[first], *itertools.takewhile(lambda line: line.startswith("| |"), lines[first + 1 :])]


def kept_of(judge: CorpusFilter, clips: Sequence[Candidate]) -> set[str]:
    """Ids of the clips that stay."""
    return {clip.id for clip, reason in zip(clips, judge.select(clips), strict=True) if reason is None}


@pytest.mark.parametrize("field", ["speaker", "recording"])
def test_cap_holds_and_does_not_depend_on_order_or_on_others(field: str) -> None:
    """At most two minutes of each, nearly two of the one that has more; clips without the field are not capped."""
    judge = build(f"{field}_cap", f"plugins.options.{field}_cap.max_minutes=2")
    much: dict[str, Any] = {field: "much"}
    little: dict[str, Any] = {field: "little"}
    many = [candidate(number, **much) for number in range(100)]
    few = [candidate(number, **little) for number in range(100, 105)]
    kept = kept_of(judge, [*many, *few])
    assert sum(clip.id in kept for clip in many) == 12
    assert all(clip.id in kept for clip in few)
    assert kept_of(judge, [*reversed(many), *few]) == kept
    assert kept_of(judge, many) == {clip.id for clip in many} & kept
    if field == "speaker":
        assert len(kept_of(judge, [candidate(number) for number in range(100)])) == 100


def test_cap_is_disturbed_little_by_added_clips() -> None:
    """Of clips of 3 to 14 s, one more pushes out what it lasts and a clip at most, and brings back none."""
    judge = build("speaker_cap", "plugins.options.speaker_cap.max_minutes=2")
    clips = [candidate(number, speaker="s", seconds=3 + 0.9 * (number * 7 % 13)) for number in range(100)]
    seconds = {clip.id: clip.num_samples / RATE for clip in clips}
    before = kept_of(judge, clips)
    num_disturbed = 0
    for number in range(100, 300):
        added = candidate(number, speaker="s", seconds=3 + 0.9 * (number * 8 % 13))
        after = kept_of(judge, [*clips, added])
        assert sum(seconds[name] for name in before - after) <= added.num_samples / RATE + 15
        assert after - before <= {added.id}
        num_disturbed += bool(before - after)
    assert num_disturbed > 10


def test_cap_follows_the_seed() -> None:
    """Another seed of `prepare` keeps other clips."""
    clips = [candidate(number, speaker="s") for number in range(100)]
    option = "plugins.options.speaker_cap.max_minutes=2"
    seeds = [kept_of(build("speaker_cap", option, f"prepare.seed={seed}"), clips) for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]
