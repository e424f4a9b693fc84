"""Preparation goes on where it was killed, and with what is new: the same bytes as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from structlog.testing import capture_logs

from conftest import ROOT
from runyoro_ssl.dataset.content import checksum
from runyoro_ssl.dataset.layout import shard_features
from runyoro_ssl.dataset.write import BATCH_ROWS, RowWriter, StoredRow, save_splits
from runyoro_ssl.errors import ConfigError
from support.preparation import (
    Preparation,
    contents,
    end_group,
    end_main,
    end_worker,
    read_lines,
    wait_until,
    workers_of,
    write_lines,
    write_mixed_corpus,
)

Prepare = Callable[..., Preparation]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 44 recordings in four formats, which make about 16 shards."""
    return write_mixed_corpus(tmp_path_factory.mktemp("mixed") / "corpus", num_clips=40, num_long=4)


@pytest.fixture
def preparation(manifest: Path, tiny_model: Path, tmp_path: Path) -> Prepare:
    """A function (name, **fields) -> a preparation in a folder of that name."""

    def make(name: str, **fields: Any) -> Preparation:
        (tmp_path / name).mkdir()
        return replace(Preparation(manifest, tiny_model, tmp_path / name), **fields)

    return make


def choose_moment(prepared: Preparation, chance: random.Random, num_shards: int) -> Callable[[], bool]:
    """When to strike: before the first shard, between shards, while the dataset is saved, while it is put in place."""
    num_done = chance.randrange(num_shards)
    return chance.choice(
        [
            prepared.store.exists,
            lambda: len(prepared.shards()) >= num_done,
            lambda: len(prepared.shards()) >= num_done,
            (prepared.store / "finished").exists,
            lambda: (prepared.store / "finished" / "prepare_report.html").exists() or prepared.dataset.exists(),
        ]
    )


@pytest.mark.timeout(7200)
def test_kill_at_any_moment(preparation: Prepare, request: pytest.FixtureRequest) -> None:
    """SIGKILL to all, to the main process, to a worker, in turn; started again until done. `--faults 50`: 50 times.

    The dataset is that of an undisturbed run, byte for byte; no finished shard is made again; nothing is left over;
    no worker outlives its parent.
    """
    calm, story = preparation("calm"), preparation("struck")
    assert calm.run().returncode == 0
    expected, num_shards = contents(calm.dataset), len(calm.shards())
    wanted = request.config.getoption("faults")
    chance = random.Random(wanted)  # noqa: S311 - nothing secret
    num_kills = num_runs = num_datasets = 0
    while num_kills < wanted or not story.dataset.exists():
        num_runs += 1
        before = story.shards()
        with story.started() as process:
            if num_kills < wanted and wait_until(choose_moment(story, chance, num_shards), process):
                time.sleep(chance.uniform(0, 0.25))
                if process.poll() is None:
                    (end_group, end_main, end_worker)[num_kills % 3](process)
                    num_kills += 1
            _, complaint = process.communicate(timeout=120)
        assert process.returncode in (0, -9), complaint
        assert "Traceback" not in complaint
        assert before.items() <= story.shards().items(), "a finished shard was made again"
        if process.returncode == 0:
            num_datasets += 1
            assert contents(story.dataset) == expected
            assert story.leftovers() == []
            if num_kills < wanted:
                shutil.rmtree(story.folder)
                story.folder.mkdir()
    print(f"{num_kills} kills in {num_runs} runs, {num_datasets} datasets equal to the undisturbed one")  # noqa: T201


def test_worker_ends_with_its_parent() -> None:
    """Also in the middle of its work: there is nobody to give it to."""
    code = (
        "import time\nfrom runyoro_ssl.builtins.executors.processes import ProcessExecutor\n"
        "if __name__ == '__main__': ProcessExecutor(1).submit(time.sleep, 60).result()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True) as process:
        assert wait_until(lambda: bool(workers_of(process)), process)
        time.sleep(1)
        end_main(process)


def test_a_worker_that_starts_at_the_end_says_nothing() -> None:
    """The pool lets go of what its workers share before it ends them, and one may just look for it."""
    code = (
        "from pebble.pool.process import WorkerManager\n"
        "from runyoro_ssl.builtins.executors.processes import ProcessExecutor\n"
        "end = WorkerManager.force_stop_workers\n"
        "def end_late(manager):\n"
        "    for worker in manager.workers.values(): worker.join(20)\n"
        "    end(manager)\n"
        "if __name__ == '__main__':\n"
        "    WorkerManager.force_stop_workers = end_late\n"
        "    executor = ProcessExecutor(2)\n"
        "    executor.submit(abs, -1)\n"
        "    executor.shutdown(cancel_futures=True)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stderr == ""


@pytest.mark.usefixtures("heard_signals")
def test_ctrl_c_while_workers_start(preparation: Prepare) -> None:
    """It goes to all of the group; a worker that is still importing says nothing of it."""
    begun = preparation("begun")
    with begun.started() as process:
        assert wait_until(lambda: bool(workers_of(process)), process)
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines() == ["interrupted; nothing unfinished was kept"]


@pytest.mark.parametrize("seed", range(8))
def test_rows_are_saved_alike_from_any_shards(tmp_path: Path, seed: int) -> None:
    """One shard, one for each row, and chance in between: the same bytes, although Arrow writes what it was given."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = [
        {
            **dict.fromkeys(("id", "recording", "source", "metadata"), "x" * int(rng.integers(9))),
            **{name: None if rng.random() < 0.3 else "y" * index for name in ("speaker", "language")},
            "audio": rng.integers(-9, 9, int(rng.integers(1, 50)), dtype=np.int16),
            "num_samples": index,
        }
        for index in range(int(rng.integers(1, 5 * BATCH_ROWS // 2)))
    ]
    start = int(rng.integers(len(rows)))
    stretch = range(start, int(rng.integers(start, len(rows))) + 1)
    scattered = sorted(rng.choice(len(rows), size=int(rng.integers(1, len(rows) + 1)), replace=False))
    wanted = scattered if seed % 2 else stretch
    saved = []
    for name, longest in (("one", len(rows)), ("each", 1), ("some", 4), ("others", 40)):
        (tmp_path / name).mkdir()
        places: list[tuple[Path, int]] = []
        while len(places) < len(rows):
            with RowWriter(tmp_path / name / f"{len(places)}.arrow", shard_features().arrow_schema) as writer:
                first = len(places)
                for row in rows[first : first + int(rng.integers(1, longest + 1)) if longest < len(rows) else None]:
                    places.append((tmp_path / name / f"{first}.arrow", len(places) - first))
                    writer.add(row)
        crcs = [checksum(row["audio"]) for row in rows]
        chosen = [StoredRow(places[index], len(rows[index]["audio"]), crcs[index]) for index in wanted]
        folder = tmp_path / name / "saved"
        save_splits({"train": chosen}, folder, digest="0" * 64, write_all=lambda write, files: [*map(write, files)])
        read = datasets.load_from_disk(str(tmp_path / name / "saved"))["train"]
        assert list(read) == [
            {**rows[index], "audio": np.asarray(rows[index]["audio"]).tolist(), "crc32": crcs[index]}
            for index in wanted
        ]
        saved.append(contents(tmp_path / name / "saved"))
    assert saved[0] == saved[1] == saved[2] == saved[3]


@pytest.fixture
def few(manifest: Path, tmp_path: Path) -> Path:
    """A manifest of the first 15 recordings, which tests may change."""
    rows = [{**row, "audio_filepath": str(manifest.parent / row["audio_filepath"])} for row in read_lines(manifest)]
    return write_lines(tmp_path / "few.jsonl", rows[:15])


def test_grown_manifest_costs_what_is_new(preparation: Prepare, few: Path) -> None:
    """Lines in the middle and at the end: old shards are not touched, and the dataset is that of a fresh run."""
    grown, fresh = preparation("grown", manifest=few), preparation("fresh", manifest=few)
    rows = read_lines(few)
    old = [row for index, row in enumerate(rows[:12]) if index % 3]
    write_lines(few, old)
    grown.here()
    before = grown.shards()
    write_lines(few, rows)
    grown.here()
    after = grown.shards()
    assert before.items() < after.items()
    new = [path for path in grown.store.glob("*/*.json") if path.stem in after.keys() - before.keys()]
    assert sum(len(json.loads(path.read_text())["lines"]) for path in new) == len(rows) - len(old)
    fresh.here()
    assert contents(grown.dataset) == contents(fresh.dataset)
    assert grown.leftovers() == []


def test_changed_setting_makes_all_anew(preparation: Prepare, few: Path) -> None:
    """It is refused without --overwrite, said with both values, and then the old shards go."""
    changed, fresh = preparation("changed", manifest=few), preparation("fresh", manifest=few)
    changed.here()
    before = changed.shards()
    with pytest.raises(
        ConfigError,
        match=r"prepare.max_duration_sec 15.0 -> 9.0; add --overwrite to replace it \(all clips are made anew\)",
    ):
        changed.here("prepare.max_duration_sec=9")
    with capture_logs() as logs:
        changed.here("prepare.max_duration_sec=9", overwrite=True)
    (said,) = [line for line in logs if line["event"] == "replacing_dataset"]
    assert (said["because"], said["so"]) == ("prepare.max_duration_sec 15.0 -> 9.0", "all clips are made anew")
    assert not before.keys() & changed.shards().keys()
    fresh.here("prepare.max_duration_sec=9")
    assert contents(changed.dataset) == contents(fresh.dataset)


def test_damaged_shard_is_made_again(preparation: Prepare, few: Path) -> None:
    """A cut Arrow file, a broken account, a missing file: these three, and no other."""
    damaged = preparation("damaged", manifest=few)
    damaged.here()
    expected, before = contents(damaged.dataset), damaged.shards()
    cut, broken, missing = sorted(damaged.store.glob("*/*.arrow"))[:3]
    cut.write_bytes(cut.read_bytes()[:-1000])
    broken.with_suffix(".json").write_text('{"lines": [')
    missing.unlink()
    shutil.rmtree(damaged.dataset)
    damaged.here()
    after = damaged.shards()
    assert {name for name in before if after[name] != before[name]} == {cut.stem, broken.stem, missing.stem}
    assert contents(damaged.dataset) == expected


def test_shards_go_unless_kept(preparation: Prepare, few: Path) -> None:
    """With keep_shards=false the dataset stands alone; also when a kill came before the shards went."""
    single, kept = preparation("single", manifest=few), preparation("kept", manifest=few)
    single.here("prepare.keep_shards=false")
    kept.here()
    assert contents(single.dataset) == contents(kept.dataset)
    assert [path.name for path in single.folder.iterdir()] == ["dataset"]
    kept.here("prepare.keep_shards=false")
    assert [path.name for path in kept.folder.iterdir()] == ["dataset"]


def test_second_preparation_stops(preparation: Prepare, run_task: Callable[[str], tuple[int, str, str]]) -> None:
    """One line, status 1; the first goes on."""
    first = preparation("first")
    with first.started() as process:
        assert wait_until(lambda: len(first.shards()) > 0, process)
        status, _, complaint = run_task(first.task)
        assert (status, complaint.count("\n")) == (1, 1), complaint
        assert "`invoke prepare` is already writing here (pid" in complaint
        process.wait(60)
    assert process.returncode == 0


def test_kill_between_the_last_two_steps(preparation: Prepare, few: Path) -> None:
    """The old dataset has lost its name, the new one has none yet: the old one comes back, and nothing is lost."""
    struck = preparation("struck", manifest=few)
    struck.here()
    expected = contents(struck.dataset)
    shutil.copytree(struck.dataset, struck.store / "finished")
    struck.dataset.rename(struck.store / "replaced")
    with pytest.raises(ConfigError, match=r"max_duration_sec 15.0 -> 9.0"):
        struck.here("prepare.max_duration_sec=9")
    assert contents(struck.dataset) == expected
    assert struck.leftovers() == []


def test_kill_while_cleaning_up(preparation: Prepare, few: Path) -> None:
    """The new dataset has its name, the old one is not gone yet: the next run does the rest."""
    struck = preparation("struck", manifest=few)
    struck.here()
    shutil.copytree(struck.dataset, struck.store / "replaced")
    (struck.store / "0123456789abcdef").mkdir()
    (struck.store / "0123456789abcdef" / "settings.json").write_text("{}")
    struck.here()
    assert struck.leftovers() == []
    assert not (struck.store / "0123456789abcdef").exists()
