"""Preparation goes on where it was killed, and with what is new: the same bytes as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults import (
    Preparation,
    contents,
    end_group,
    end_main,
    end_worker,
    read_lines,
    wait_until,
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
    """SIGKILL to all, to the main process or to a worker; started again until done. `--faults 50` kills 50 times.

    The dataset is that of an undisturbed run, byte for byte; no finished shard is made again; nothing is left over;
    no worker outlives its parent.
    """
    calm, story = preparation("calm", light=False), preparation("struck")
    assert calm.run().returncode == 0
    expected, num_shards = contents(calm.dataset), len(calm.shards())
    wanted = request.config.getoption("faults")
    chance = random.Random(wanted)  # noqa: S311 - nothing secret
    num_kills = num_runs = num_datasets = 0
    while num_kills < wanted or not story.dataset.exists():
        num_runs += 1
        tried = replace(story, light=num_runs % 4 != 0)
        before = story.shards()
        with tried.started() as process:
            if num_kills < wanted and wait_until(choose_moment(story, chance, num_shards), process):
                time.sleep(chance.uniform(0, 0.25))
                if process.poll() is None:
                    chance.choice([end_group, end_main, end_worker])(process)
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
