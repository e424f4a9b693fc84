"""Where `prepare` runs changes nothing in what it makes: a Dask cluster, Slurm's jobs, a plugin's executor."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pebble.pool.process
import pytest
from pebble import ProcessPool

from runyoro_ssl.builtins.executors.clusters import CONNECT_SEC
from runyoro_ssl.builtins.executors.processes import ProcessExecutor
from runyoro_ssl.errors import ConfigError, DatasetError
from runyoro_ssl.prepare.workers import opened
from support.preparation import Preparation, contents, write_mixed_corpus

RunTask = Callable[[str], tuple[int, str, str]]
CRASH = (
    "import os\n"
    "from runyoro_ssl import hookimpl\n"
    "class Crash:\n"
    "    def __call__(self, utterance):\n"
    "        if utterance.source.startswith('003.'):\n"
    "            os.abort()\n"
    "@hookimpl\n"
    "def runyoro_manifest_filters(register):\n"
    "    register('crash', Crash)\n"
)
"""A plugin whose filter kills the process that works on one of the files."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 10 recordings in four formats: 3 shards."""
    return write_mixed_corpus(tmp_path_factory.mktemp("mixed") / "corpus", num_clips=9, num_long=1)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """HOST:PORT of a Dask cluster of two worker processes on loopback."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    # It sets OMP_NUM_THREADS and MALLOC_TRIM_THRESHOLD_ for its workers, and leaves them here.
    with mock.patch.dict(os.environ), distributed.LocalCluster(host="127.0.0.1", **options) as cluster:
        yield cluster.scheduler_address.removeprefix("tcp://")


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Settings with a plugin that kills its process on one file."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "runyoro_crash.py").write_text(CRASH)
    return f"plugins.dir={folder}", 'plugins.filters=["duration", "crash"]'


@pytest.fixture(scope="module")
def here(
    manifest: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, crashing: tuple[str, ...]
) -> Preparation:
    """The corpus, prepared by processes of this machine."""
    return prepared(manifest, tiny_model, tmp_path_factory.mktemp("prepared") / "here", *crashing)


def prepared(manifest: Path, model: Path, folder: Path, *settings: str) -> Preparation:
    """The corpus, prepared in a new folder."""
    folder.mkdir()
    made = Preparation(manifest, model, folder)
    made.here(*settings)
    return made


def check_same_with_one_lost(here: Preparation, there: Preparation) -> None:
    """The same bytes, and one file that is told to have crashed."""
    dropped = [json.loads(line) for line in (there.dataset / "dropped.jsonl").read_text().splitlines()]
    assert [drop["source"][:4] for drop in dropped if drop["reason"] == "process crashed"] == ["003."]
    assert contents(there.dataset) == contents(here.dataset)


def test_dask_gives_the_same_bytes(  # noqa: PLR0917 - fixtures
    scheduler: str,
    here: Preparation,
    manifest: Path,
    tiny_model: Path,
    tmp_path: Path,
    crashing: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two worker processes in another working directory, and a plugin's filter that crashes: as here."""
    monkeypatch.chdir(manifest.parent)
    settings = (*crashing, f"prepare.executor=dask://{scheduler}")
    there = prepared(Path(manifest.name), tiny_model, tmp_path / "there", *settings)
    check_same_with_one_lost(here, there)
    assert there.leftovers() == []


def test_slurm_gives_the_same_bytes(  # noqa: PLR0917 - fixtures
    here: Preparation,
    manifest: Path,
    tiny_model: Path,
    tmp_path: Path,
    crashing: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Jobs through submitit, as processes of this machine."""
    pytest.importorskip("submitit")
    monkeypatch.setattr("runyoro_ssl.builtins.executors.clusters.POLL_SEC", 0.2)
    settings = (*crashing, "prepare.executor=slurm", "plugins.options.slurm.cluster=local")
    there = prepared(manifest, tiny_model, tmp_path / "there", *settings)
    check_same_with_one_lost(here, there)
    assert there.leftovers() == []


def test_a_signal_while_workers_start_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that had started, and that the pool did not know of yet, would be waited for at the end, and wait itself."""
    before, launch_process = set(multiprocessing.active_children()), vars(pebble.pool.process)["launch_process"]

    def interrupted(*args: Any) -> None:
        launch_process(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(pebble.pool.process, "launch_process", interrupted)
    with pytest.raises(KeyboardInterrupt), opened(ProcessExecutor(2)) as executor:
        executor.submit(time.sleep, 0)
    assert set(multiprocessing.active_children()) == before


def test_a_signal_while_the_end_is_waited_for_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is done, and its processes are about to go."""
    before = set(multiprocessing.active_children())

    def interrupted(_pool: ProcessPool) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(ProcessPool, "join", interrupted)
    with pytest.raises(KeyboardInterrupt), opened(ProcessExecutor(2)) as executor:
        assert executor.submit(abs, -1).result() == 1
    assert set(multiprocessing.active_children()) == before


def test_work_on_dask_can_be_given_up(scheduler: str) -> None:
    """At once, while what runs ends by itself; the cluster goes on.

    Work that somebody else cancels is not taken for a death.
    """
    from runyoro_ssl.builtins.executors.clusters import DaskExecutor

    executor = DaskExecutor(scheduler)
    lost = executor.submit(time.sleep, 4)
    executor._client.cancel(list(executor._running.values()), force=True)
    assert isinstance(lost.exception(10), ConfigError)
    for _ in range(4):
        executor.submit(time.sleep, 4)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), opened(executor):
        raise KeyboardInterrupt
    assert time.monotonic() - started < 2
    assert executor._client.status == "closed"
    with opened(DaskExecutor(scheduler)) as another:
        assert another.submit(abs, -3).result(30) == 3


STRANGE = (
    "from concurrent.futures import Executor, Future\n"
    "from runyoro_ssl import hookimpl\n"
    "from runyoro_ssl.errors import ConfigError\n"
    "class Strange(Executor):\n"
    "    def submit(self, fn, /, *args, **kwargs):\n"
    "        future = Future()\n"
    "        {outcome}\n"
    "        return future\n"
    "class Open:\n"
    "    def __call__(self, where, num_workers, folder):\n"
    "        return Strange()\n"
    "@hookimpl\n"
    "def runyoro_executors(register):\n"
    "    register('strange', Open)\n"
)
"""A plugin with an executor of which nothing comes back as it should."""


@pytest.mark.parametrize(
    ("outcome", "kind", "complaint"),
    [
        ("future.set_exception(OSError('no python here'))", ConfigError, "its workers fail .OSError: no python here"),
        ("future.set_exception(ConfigError('the cluster is gone'))", ConfigError, "^the cluster is gone$"),
        ("future.set_result((True, None))", DatasetError, "10 of 10 lines were worked on, and are not here"),
    ],
    ids=["every worker dies", "it says so itself", "results go elsewhere"],
)
def test_executor_that_cannot_work(  # noqa: PLR0917 - fixtures
    manifest: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: str,
    kind: type[Exception],
    complaint: str,
) -> None:
    """It is the executor that is blamed, not the recordings."""
    monkeypatch.setattr("runyoro_ssl.prepare.shards.run.VISIBLE_SEC", 0.1)
    (tmp_path / "runyoro_strange.py").write_text(STRANGE.format(outcome=outcome))
    with pytest.raises(kind, match=complaint):
        prepared(manifest, tiny_model, tmp_path / "out", f"plugins.dir={tmp_path}", "prepare.executor=strange")


@pytest.mark.parametrize(
    ("executor", "complaint"),
    [
        ("dask", "say where the scheduler is, dask://HOST:PORT"),
        ("dask://nowhere", "say where the scheduler is, dask://HOST:PORT"),
        ("dask://127.0.0.1:1", "no scheduler answers there"),
        ("cloud", 'no executor "cloud"'),
    ],
)
def test_wrong_executor_is_one_line(  # noqa: PLR0917 - fixtures
    run_task: RunTask, manifest: Path, tiny_model: Path, tmp_path: Path, executor: str, complaint: str
) -> None:
    """Status 1, what was seen, soon, and no wall of a library's log."""
    started = time.monotonic()
    wrong = replace(Preparation(manifest, tiny_model, tmp_path), options=("--executor", executor))
    status, _, err = run_task(wrong.task)
    assert status == 1
    assert complaint in err
    assert err.count("\n") == 1, err
    assert not wrong.dataset.exists()
    assert time.monotonic() - started < CONNECT_SEC / 2


def test_dask_without_workers_is_one_line(
    run_task: RunTask, manifest: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would ever do the work: that is said, not waited for."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("runyoro_ssl.builtins.executors.clusters.CONNECT_SEC", 2.0)
    with distributed.LocalCluster(host="127.0.0.1", n_workers=0, processes=True, dashboard_address=":0") as cluster:
        wrong = replace(
            Preparation(manifest, tiny_model, tmp_path), options=("--executor", f"dask{cluster.scheduler_address[3:]}")
        )
        status, _, err = run_task(wrong.task)
    assert status == 1
    assert "the scheduler has no worker" in err


def test_slurm_that_takes_no_job_is_one_line(
    run_task: RunTask, manifest: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own words, and status 1."""
    pytest.importorskip("submitit")
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "srun", "squeue", "scancel", "sacct"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho 'invalid partition specified' >&2\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    wrong = replace(Preparation(manifest, tiny_model, tmp_path), options=("--executor", "slurm"))
    status, _, err = run_task(wrong.task)
    assert status == 1
    assert "prepare.executor is slurm: it takes no job" in err
    assert "invalid partition" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("executor", "module"), [("dask://127.0.0.1:1", "distributed"), ("slurm", "submitit")])
def test_missing_extra_says_what_to_install(  # noqa: PLR0917 - fixtures
    run_task: RunTask,
    manifest: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    module: str,
) -> None:
    """The name of the extra, for pip."""
    monkeypatch.setitem(sys.modules, module, None)
    wrong = replace(Preparation(manifest, tiny_model, tmp_path), options=("--executor", executor))
    status, _, err = run_task(wrong.task)
    assert status == 1
    assert f"pip install 'runyoro_ssl[{executor.partition(':')[0]}]'" in err
