"""`invoke prepare --dry-run`: numbers that add up, say what they count, and cost nothing twice."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from structlog.testing import capture_logs

from runyoro_ssl.config import Config
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.dry_run import COLUMNS, dry_run
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.resolve import load_config
from support.preparation import Preparation, contents, wait_until, write_mixed_corpus

RATE = 16_000
FILTERS = 'plugins.filters=["duration", "silence", "clipping", "duplicates"]'
MakeConfig = Callable[..., Config]


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise at speech level, of int16 steps."""
    return np.random.default_rng(seed).normal(0, 3000, round(seconds * RATE)).clip(-32768, 32767).astype(np.int16)


def config_in(folder: Path, model: Path, *settings: str, name: str = "dataset") -> Config:
    """The configuration that prepares `m.jsonl` of a folder into `dataset` beside it."""
    return load_config(
        profile="cpu-smoke",
        settings=["prepare.segment=fixed", FILTERS, *settings],
        flags={
            "hardware": {"num_workers": 1},
            "model": {"model_name_or_path": str(model)},
            "prepare": {"manifest_path": folder / "m.jsonl", "output_dir": folder / name},
        },
    )


@pytest.fixture
def config_of(tmp_path: Path, tiny_model: Path) -> MakeConfig:
    """A function (*settings) -> `config_in` the folder of the test."""
    return partial(config_in, tmp_path, tiny_model)


def write_mixed(folder: Path) -> None:
    """A clip for each filter, lines without a clip, a recording that is cut, and one that ends early."""
    quiet, loud, short = noise(4, 1) // 1000, np.sign(noise(4, 2)) * 32767, noise(1, 3)
    waves = {"a": noise(4), "copy": noise(4), "quiet": quiet, "loud": loud, "short": short, "other": noise(5, 9)}
    waves |= {"long": noise(47.3, 10), "cut": noise(31, 11)}
    lines = [{"audio_filepath": f"{name}.wav", "duration": len(wave) / RATE} for name, wave in waves.items()]
    for name, wave in waves.items():
        sf.write(folder / f"{name}.wav", wave.astype(np.int16), RATE)
    lines[-1]["duration"] = 37.77
    lines += [{"audio_filepath": "gone.wav", "duration": 60}, lines[0]]
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@dataclass(frozen=True)
class Tried:
    """A folder with `write_mixed`, a dry run into `dataset`, and a real run into `plain`; and what they gave."""

    folder: Path
    rows: dict[str, dict[str, str]]
    written: set[str]
    report: dict[str, Any]


@pytest.fixture(scope="module")
def tried(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """Once for all tests here."""
    folder = tmp_path_factory.mktemp("tried")
    write_mixed(folder)
    before = set(folder.iterdir())
    rows = rows_of(config_in(folder, tiny_model))
    written = {path.name for path in set(folder.iterdir()) - before}
    plain = config_in(folder, tiny_model, name="plain")
    return Tried(folder, rows, written, prepare(plain, load_plugins(plain)).report)


@pytest.fixture
def copy(tried: Tried, tmp_path: Path) -> Path:
    """The folder of the test, with what is in that."""
    shutil.copytree(tried.folder, tmp_path, dirs_exist_ok=True)
    return tmp_path


def rows_of(config: Config) -> dict[str, dict[str, str]]:
    """The rows by their first cell, cells by column."""
    return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in dry_run(config, load_plugins(config))}


def test_rows_add_up_to_the_whole(tried: Tried) -> None:
    """To the last digit: in = what no clip is made of + what enabled filters drop + kept. So do the clips."""
    rows = dict(tried.rows)
    whole = rows.pop("in")
    assert whole["count"] == "10 lines"
    parts = [row for row in rows.values() if not row["minutes"].startswith("(")]
    assert sum(round(100 * float(row["minutes"])) for row in parts) == round(100 * float(whole["minutes"]))
    assert float(whole["minutes"]) == pytest.approx((4 * 5 + 1 + 5 + 47.3 + 37.77 + 60) / 60, abs=0.005)
    assert [row["what"] for row in parts] == [
        *("missing file", "shorter than stated", "repeated line"),
        *("duration", "silence", "clipping", "duplicates", "kept"),
    ]
    assert rows["missing file"]["count"] == rows["repeated line"]["count"] == "1 line"
    assert rows["shorter than stated"]["count"] == "1 part"
    clips = sum(int(row["count"].split()[0]) for row in parts if "clip" in row["count"])
    assert clips == 6 + 4 + 3, "whole ones, and pieces of what was cut"


def test_numbers_are_those_of_the_real_run(tried: Tried) -> None:
    """What is kept and dropped, and, in brackets, what each other filter would drop of what is kept."""
    rows, report = tried.rows, tried.report
    assert [rows[name]["enabled"] for name in ("duration", "silence", "clipping", "duplicates")] == ["yes"] * 4
    assert all(rows[name]["count"] == "1 clip" for name in ("duration", "silence", "clipping", "duplicates"))
    assert rows["music"]["enabled"] == "no"
    assert re.fullmatch(r"\(\d+ clips?\)", rows["music"]["count"])
    assert rows["kept"]["count"] == f"{report['clips_kept']} clips"
    assert {reason: drop["clips"] for reason, drop in report["dropped"].items()} == {
        "missing file": 1,
        "shorter than stated": 1,
        "repeated line": 1,
        "too short": 1,
        "silence": 1,
        "clipping": 1,
        "near-duplicate": 1,
    }


def test_alone_and_after_those_above(config_of: MakeConfig, tmp_path: Path) -> None:
    """A clip that two filters would drop is the first one's; alone, it is each one's."""
    waves = {"quiet and short": noise(1) // 1000, "quiet": noise(3) // 1000, **{str(n): noise(3, n) for n in range(3)}}
    for name, wave in waves.items():
        sf.write(tmp_path / f"{name}.wav", wave, RATE)
    lines = [{"audio_filepath": f"{name}.wav", "duration": len(wave) / RATE} for name, wave in waves.items()]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = rows_of(config_of('plugins.filters=["duration", "silence"]'))
    assert (rows["duration"]["count"], rows["duration"]["alone"]) == ("1 clip", "1 clip")
    assert (rows["silence"]["count"], rows["silence"]["alone"]) == ("1 clip", "2 clips")
    rows = rows_of(config_of('plugins.filters=["silence", "duration"]', name="turned"))
    assert (rows["silence"]["count"], rows["silence"]["alone"]) == ("2 clips", "2 clips")
    assert (rows["duration"]["count"], rows["duration"]["alone"]) == ("0 clips", "1 clip")
    rows = rows_of(config_of('plugins.filters=["duration"]', name="one"))
    assert (rows["silence"]["count"], rows["silence"]["alone"]) == ("(1 clip)", "2 clips")


def test_what_it_decodes_is_kept_for_the_real_run(copy: Path, config_of: MakeConfig) -> None:
    """No recording is needed any more, and every byte is that of a run without a dry run before."""
    config = config_of()
    with capture_logs() as logs:
        prepare(config, load_plugins(config))
    # The missing file is tried again: it may have come.
    assert [line["lines"] for line in logs if line["event"] == "shards_found"] == [9]
    page = "prepare_report.html"
    assert without(contents(copy / "dataset"), page) == without(contents(copy / "plain"), page)


def without(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    """All but the page, which has the name of its folder as its title."""
    return {path: content for path, content in files.items() if path != name}


@pytest.mark.usefixtures("copy")
def test_second_dry_run_decodes_nothing(config_of: MakeConfig, tried: Tried) -> None:
    """It gives the same table; with another option of a filter that is not enabled, it asks anew."""
    first = tried.rows
    with capture_logs() as logs:
        assert rows_of(config_of()) == first
    assert [line["lines_to_do"] for line in logs if line["event"] == "shards_found"] == [0]
    changed = rows_of(config_of("plugins.options.music.max_likelihood=0"))
    assert changed["music"]["alone"] != first["music"]["alone"]
    assert changed["kept"] == first["kept"]


@pytest.mark.usefixtures("copy")
def test_dry_run_after_a_real_run_leaves_it_up_to_date(config_of: MakeConfig, tried: Tried) -> None:
    """Its shards are asked anew, as they hold no answers; the dataset stays what it is."""
    config = config_of(name="plain")
    assert prepare(config, load_plugins(config)).up_to_date
    assert rows_of(config)["kept"]["count"] == f"{tried.report['clips_kept']} clips"
    assert prepare(config, load_plugins(config)).up_to_date


def test_nothing_but_shards_is_written(tried: Tried, tmp_path: Path, config_of: MakeConfig) -> None:
    """No dataset; and a folder that holds something else is refused as `prepare` would."""
    assert tried.written == {"dataset.shards"}
    write_mixed(tmp_path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not a prepared dataset"):
        dry_run(config_of(name="precious"), load_plugins(config_of()))


def test_clips_that_would_not_be_judged_are_a_row(tmp_path: Path, config_of: MakeConfig) -> None:
    """What is held out and dead is dropped at the end; so the table says. A corpus that cannot be divided is told."""
    waves = {f"{n}.wav": noise(3, n) for n in range(2)} | {f"dead{n}.wav": np.full(3 * RATE, 1638) for n in range(2)}
    lines = []
    for name, wave in waves.items():
        sf.write(tmp_path / name, wave.astype(np.int16), RATE)
        lines.append({"audio_filepath": name, "duration": 3, "recording": name[-5]})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = rows_of(config_of('plugins.filters=["duration"]'))
    assert (rows["cannot be judged"]["count"], rows["kept"]["count"]) == ("1 clip", "3 clips")
    (tmp_path / "m.jsonl").write_text(json.dumps(lines[0]) + "\n")
    with capture_logs() as logs:
        assert rows_of(config_of(name="one"))["kept"]["count"] == "1 clip"
    assert any(line["event"] == "cannot_be_split" and "one recording" in line["because"] for line in logs)


@pytest.mark.long
def test_interrupted_dry_run_keeps_what_is_done(tmp_path: Path, tiny_model: Path) -> None:
    """Ctrl-C: status 130 or so, and finished shards are found by the real run."""
    manifest = write_mixed_corpus(tmp_path / "corpus", num_clips=24, num_long=1)
    work = tmp_path / "work"
    work.mkdir()
    slow = Preparation(manifest, tiny_model, work, ("--dry-run",))
    with slow.started() as process:
        assert wait_until(lambda: len(slow.shards()) >= 1, process)
        process.send_signal(2)
        process.wait(30)
    done = slow.shards()
    assert done
    real = Preparation(manifest, tiny_model, work)
    real.here()
    assert all(real.shards()[name] == stamp for name, stamp in done.items())


def test_table_says_what_it_is(copy: Path, run_task: Callable[[str], tuple[int, str, str]], tiny_model: Path) -> None:
    """On the command line."""
    options = f"--manifest-path {copy / 'm.jsonl'} --output-dir {copy / 'dataset'} --model-name-or-path {tiny_model}"
    status, out, err = run_task(f"prepare --dry-run --profile cpu-smoke --segment fixed {options}")
    assert status == 0
    assert "10 lines" in out
    assert "dataset.shards" in err
