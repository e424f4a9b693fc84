"""`--max-hours`: whole recordings, evenly over speakers, the same ones whenever they are drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.errors import ConfigError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.hours import Drawing, draw
from runyoro_ssl.prepare.manifest import read_manifest
from runyoro_ssl.prepare.pipeline import Prepared, prepare
from runyoro_ssl.prepare.scan import scan
from runyoro_ssl.resolve import load_config
from support.preparation import read_lines, write_mixed_corpus

Recordings = dict[str, tuple[str | None, float]]


def corpus_of(*speakers: tuple[str | None, int, float]) -> Recordings:
    """Recordings of speakers: (name, number of recordings, seconds of each)."""
    return {f"{name}/{n}.wav": (name, seconds) for name, count, seconds in speakers for n in range(count)}


def seconds_by_speaker(recordings: Recordings, drawn: set[str]) -> dict[str | None, float]:
    """Of what was drawn."""
    seconds: dict[str | None, float] = defaultdict(float)
    for name in drawn:
        seconds[recordings[name][0]] += recordings[name][1]
    return dict(seconds)


def test_every_speaker_has_as_much() -> None:
    """Of long recordings, of short ones, and of nobody known; one with little gives all, the others the rest."""
    recordings = corpus_of(("long", 50, 600.0), ("short", 5_000, 5.0), (None, 100, 60.0), ("little", 3, 20.0))
    drawn = seconds_by_speaker(recordings, draw(recordings, 2.0, seed=0))
    assert drawn["little"] == 60
    assert all(abs(drawn[name] - (7200 - 60) / 3) <= 600 for name in ("long", "short", None))
    assert 0.98 * 7200 <= sum(drawn.values()) <= 7200


def test_drawn_ones_stay_drawn() -> None:
    """With more hours, all of them; in a corpus that grew, most; with another seed, others."""
    recordings = corpus_of(*((f"speaker{n}", 40, 10.0 + n) for n in range(10)))
    drawn = draw(recordings, 0.2, seed=0)
    assert drawn == draw(dict(reversed(recordings.items())), 0.2, seed=0)
    assert drawn <= draw(recordings, 0.5, seed=0)
    grown = recordings | corpus_of(("speaker3", 60, 13.0), ("new", 40, 10.0))
    assert len(drawn & draw(grown, 0.2, seed=0)) > 0.8 * len(drawn)
    assert len(drawn & draw(recordings, 0.2, seed=1)) < 0.5 * len(drawn)


def test_what_was_drawn_is_drawn_again() -> None:
    """`prepare` with the hours that `manifest` was given takes all of its manifest, to the last rounded digit."""
    recordings = corpus_of(*((f"speaker{n}", 200, 7.123456) for n in range(7)))
    drawn = draw(recordings, 1.0, seed=0)
    assert draw({name: recordings[name] for name in drawn}, 1.0, seed=0) == drawn
    exact = corpus_of(("one", 30, 120.0000004))
    assert draw(exact, 1.0, seed=0) == set(exact)


def test_one_too_long_ends_nothing() -> None:
    """A recording over all the hours is passed over; one that no longer fits ends the turns of its speaker alone."""
    recordings = corpus_of(("radio", 1, 9_000.0), ("guest", 5, 1_000.0)) | {"radio/short.wav": ("radio", 900.0)}
    assert seconds_by_speaker(recordings, draw(recordings, 1.0, seed=0)) == {"radio": 900.0, "guest": 2_000.0}


@pytest.mark.parametrize("seed", range(5))
def test_lengths_told_late_change_nothing(seed: int) -> None:
    """What is drawn of lengths that come one by one, twenty in flight, is what is drawn of all; few more are asked."""
    rng = np.random.default_rng(seed)
    recordings = corpus_of(*((f"speaker{n}", 300, 0.0) for n in range(6)))
    recordings = {
        name: (who, float(rng.exponential(30)) * (who != "speaker1")) for name, (who, _) in recordings.items()
    }
    drawing = Drawing({name: who for name, (who, _) in recordings.items()}, 1.0, seed)
    asked, flying = 0, []
    for name in drawing.wanted():
        asked += 1
        flying.append(name)
        if len(flying) == 20:
            done = flying.pop(int(rng.integers(20)))
            drawing.tell(done, recordings[done][1])
    for done in flying:
        drawing.tell(done, recordings[done][1])
    assert drawing.chosen == draw(recordings, 1.0, seed)
    # One speaker's files cannot be read, and are all asked for; some lengths come very late.
    assert asked <= len(drawing.chosen) + 300 + 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four speakers with ten recordings of half a second each, and one file that is empty."""
    for name in (f"{who}/{n}.wav" for who in "abcd" for n in range(10)):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path / "in" / name, np.zeros(8_000), 16_000)
    (tmp_path / "in" / "a" / "none.wav").touch()
    return tmp_path / "in"


def test_manifest_decodes_no_more_than_is_drawn(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds of twenty: one recording of each speaker; the others are named as not drawn."""
    monkeypatch.setattr("runyoro_ssl.prepare.probing.IN_FLIGHT", 2)
    config = load_config(settings=["prepare.max_hours=0.0005556", "hardware.num_workers=1"])
    found = scan(folder, tmp_path / "m.jsonl", speaker_from="^([^/]+)/", config=config)
    assert {entry.speaker for entry in read_manifest(tmp_path / "m.jsonl")} == set("abcd")
    assert (found.num_files, found.seconds) == (4, 2.0)
    assert found.rejected_by_reason["not drawn"] + found.rejected_by_reason["empty file"] == 37


@pytest.mark.parametrize(
    ("hours", "complaint"),
    [("0.0001", "the shortest has 0.000139 h"), ("0", "greater than 0"), ("two", "a number is"), ("-1", "greater")],
)
def test_hours_that_cannot_be(
    folder: Path, tmp_path: Path, run_task: Callable[[str], tuple[int, str, str]], hours: str, complaint: str
) -> None:
    """One line, status 1, nothing written."""
    status, _, stderr = run_task(f"manifest --audio-dir {folder} --output {tmp_path / 'm.jsonl'} --max-hours {hours}")
    assert status == 1
    assert complaint in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "m.jsonl").exists()


class TestPrepare:
    """Lines are drawn before anything is decoded."""

    @pytest.fixture
    def prepared(self, tmp_path: Path, tiny_model: Path) -> Callable[..., Prepared]:
        """A function (hours) -> 24 clips of 2.5 s and more, prepared."""
        manifest = write_mixed_corpus(tmp_path / "corpus", num_clips=24, num_long=0)

        def run(hours: float | None, *, overwrite: bool = False) -> Prepared:
            config = load_config(
                flags={
                    "prepare": {"manifest_path": manifest, "output_dir": tmp_path / "dataset", "max_hours": hours}
                    | {"shard_seconds": 6.0},
                    "model": {"model_name_or_path": str(tiny_model)},
                    "plugins": {"filters": ["duration"]},
                }
            )
            return prepare(config, load_plugins(config), overwrite=overwrite)

        return run

    def test_everything_is_accounted_for(self, prepared: Callable[..., Prepared], tmp_path: Path) -> None:
        """In = kept + not drawn, in samples; each line that was not drawn is named."""
        report = prepared(0.008).report
        assert 0.9 * 28.8 < report["seconds_kept"] <= 28.8
        assert report["lines_in"] == 24
        assert report["samples"]["in"] == report["samples"]["kept"] + report["samples"]["dropped"]["not drawn"]
        named = {drop["source"] for drop in read_lines(tmp_path / "dataset" / "dropped.jsonl")}
        assert len(named) == report["dropped"]["not drawn"]["clips"] == 24 - report["clips_kept"]

    def test_shards_serve_other_hours(self, prepared: Callable[..., Prepared], tmp_path: Path) -> None:
        """Fewer hours and more again decode nothing; more extend the dataset; fewer are refused by name."""
        whole = prepared(None).report
        shards = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "dataset.shards").rglob("*.arrow")}
        with pytest.raises(ConfigError, match=r"made otherwise: --max-hours leaves out \d+ of its 24 lines"):
            prepared(0.008)
        assert prepared(0.008, overwrite=True).report["lines_in"] == 24
        assert prepared(None).report == whole
        assert shards == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "dataset.shards").rglob("*.arrow")}

    def test_no_recording_so_short(self, prepared: Callable[..., Prepared]) -> None:
        """One line that says how short the shortest is."""
        with pytest.raises(Exception, match=r"--max-hours is 0.0001.*the shortest has .* h; raise it"):
            prepared(0.0001)
