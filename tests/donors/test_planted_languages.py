"""Languages of tones, whose grammar is known: what is near is called near, and what is not, far.

A random model tells no tones apart. In place of its layer stands a perfect ear: spectra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl import donors
from runyoro_ssl.audio.synth import SAMPLE_RATE
from runyoro_ssl.donors.found import Donors, Language, reading_of, tell
from runyoro_ssl.donors.hearing import LayerFeatures
from runyoro_ssl.evaluate.heard.subjects import LogMel
from support.pools import prepared, row, without_sound

RunTask = Callable[[str], tuple[int, str, str]]
TONES_HZ = np.geomspace(300, 4000, 8)
TONE_SEC = 0.08


def grammar(likely: int, rare: int) -> np.ndarray:
    """How likely a tone follows another: (8, 8), mostly so many steps up the scale, which is a circle."""
    return 0.8 * np.roll(np.eye(8), likely, axis=1) + 0.2 * np.roll(np.eye(8), rare, axis=1)


def sing(odds: np.ndarray, path: Path, seed: int, seconds: float = 5.0) -> Path:
    """A recording of one tone after the other, none quite as high or as long as the last of its kind."""
    generator = np.random.default_rng(seed)
    tone, parts = int(generator.integers(8)), []
    for _ in range(round(seconds / TONE_SEC)):
        time = np.arange(round(TONE_SEC * generator.uniform(0.7, 1.3) * SAMPLE_RATE)) / SAMPLE_RATE
        parts.append(np.sin(2 * np.pi * TONES_HZ[tone] * generator.uniform(0.96, 1.04) * time))
        tone = int(generator.choice(8, p=odds[tone]))
    wave = 0.3 * np.concatenate(parts)
    wave += 0.003 * generator.standard_normal(len(wave))
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, wave, SAMPLE_RATE)
    return path


@pytest.fixture(scope="module")
def place(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target, a twin of the same grammar, a cousin, a stranger."""
    folder = tmp_path_factory.mktemp("planted")
    own, other = grammar(1, 2), grammar(5, 7)
    grammars = {"target": own, "twin": own, "cousin": 0.7 * own + 0.3 * other, "stranger": other}
    for number, (name, odds) in enumerate(grammars.items()):
        rows = [
            row(sing(odds, folder / f"{name}-audio" / f"{clip}.wav", 100 * number + clip), language=name)
            for clip in range(12)
        ]
        prepared(rows, folder / name, tiny_model)
    return folder


@pytest.fixture(autouse=True)
def _perfect_ear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever layer is asked for."""
    spectra = LogMel(SAMPLE_RATE)
    monkeypatch.setattr(LayerFeatures, "features", lambda _, waveform: spectra.features(waveform)[0])


@pytest.fixture(scope="module")
def find(place: Path, tiny_model: Path) -> Iterator[Callable[..., Donors]]:
    """A function (output folder, names of pools) -> donors."""

    def call(output: Path, *pools: str) -> Donors:
        return donors(
            target=place / "target",
            pool=[place / name for name in pools],
            hours=0.012,
            max_speaker_share=1.0,
            num_units=30,
            model_name_or_path=tiny_model,
            profile="cpu-smoke",
            cache_dir=place / "cache",
            output_dir=output,
        )

    with without_sound():
        yield call


def test_the_twin_is_near_and_the_stranger_far(find: Callable[..., Donors], tmp_path: Path) -> None:
    """In order; the twin is as near as the target's other half, and gives what is taken first."""
    found = find(tmp_path / "set", "stranger", "cousin", "twin")
    assert [one.name for one in found.languages] == ["twin", "cousin", "stranger"]
    twin, cousin, stranger = found.languages
    assert twin.nearness is not None
    assert 0.9 < twin.nearness < 1.1
    assert (twin.reading, stranger.reading) == ("near", "far")
    assert twin.hours_chosen == pytest.approx(max(one.hours_chosen for one in found.languages))
    assert stranger.hours_chosen == 0
    assert cousin.nearness is not None
    assert stranger.nearness is not None
    assert stranger.nearness < cousin.nearness < twin.nearness
    assert not any("none of the pool" in one or "which is far" in one for one in found.warnings)


def test_a_pool_of_strangers_is_called_that(
    find: Callable[..., Donors], place: Path, tiny_model: Path, tmp_path: Path, run_task: RunTask
) -> None:
    """By the command, too, which takes what it was asked for nevertheless; and where too little is near, how much."""
    status, out, err = run_task(
        f"donors --target {place}/target --pool {place}/stranger --hours 0.01 --max-speaker-share 1 --num-units 30 "
        f"--model-name-or-path {tiny_model} --profile cpu-smoke --cache-dir {place}/cache --output-dir {tmp_path}/set"
    )
    assert status == 0, err
    said = " ".join(out.split())
    assert "none of the pool is near the target: the nearest, stranger, is" in " ".join(err.split()) + said
    assert "a dissimilar donor gives nothing" in " ".join(err.split()) + said
    assert (tmp_path / "set" / "train").is_dir()
    page = (tmp_path / "set" / "donors.html").read_text()
    assert "None of the pool is near the target" in page
    found = find(tmp_path / "both", "stranger", "twin")
    assert [one for one in found.warnings if "which is far" in one] == []
    assert found.languages[0].name == "twin"


def language(name: str, nearness: float | None, hours_chosen: float = 1.0) -> Language:
    """One of a pool."""
    return Language(name, 10.0, 1000, 0.5, 0.4, 0.6, nearness, reading_of(nearness), hours_chosen)


def told(*languages: Language, **more: object) -> str:
    """What is said of it, where nothing else is doubtful."""
    usual: dict[str, object] = {"tells": True, "by_model": True, "own": 0.9, "shuffled": 0.2, "minutes_heard": 30.0}
    usual |= {"hours": (2.0, 20.0, 2.0), "max_speaker_share": 0.1}
    return "\n".join(tell(languages, **{**usual, **more}))  # type: ignore[arg-type] # as they stand there


def test_what_is_said() -> None:
    """Of pools near and far, of a base that tells nothing, of spectra, of too little."""
    assert told(language("one", 0.8), language("other", 0.6)) == ""
    assert told(language("one", 0.8), language("other", 0.3, 0.0)) == ""
    assert "1.00 h are of other, which is far as a whole" in told(language("one", 0.8), language("other", 0.3))
    said = told(language("one", 0.5), language("other", 0.3))
    assert said.startswith("none of the pool is near the target: the nearest, one, is 0.50 of the way")
    assert "\n" not in said
    assert "take a base that was trained" in told(language("one", None), tells=False)
    assert told(language("one", None), by_model=False).startswith("spectra put the pools in order")
    assert "5.0 min of the target are little" in told(language("one", 0.8), minutes_heard=5.0)
    assert "more than there is: the pools have 1.00 h, of which 0.90" in told(
        language("one", 0.8), hours=(2.0, 1.0, 0.9)
    )
    assert "1 of 2 h are taken, though there are 9:" in told(language("one", 0.8), hours=(2.0, 9.0, 1.0))
