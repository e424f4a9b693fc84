"""Loading: the same batches from any number of workers, whatever becomes of them."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from structlog.testing import capture_logs
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from runyoro_ssl.batches.build import BatchBuilder, TrainingBatch
from runyoro_ssl.batches.loader import load_batches
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.builtins.augmentations import Noise, Speed
from runyoro_ssl.builtins.collators import PaddedCollator
from runyoro_ssl.config import MaskingConfig
from runyoro_ssl.errors import LoaderError, PluginError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.resolve import load_config

BAD_ROW = 7
MODEL_CONFIG = SimpleNamespace(conv_kernel=(10, 8), conv_stride=(5, 64), num_negatives=10, hidden_size=32)
"""Of frames of 20 ms, all that batches need to know. Workers start sooner without transformers."""
PLAN = [[MicroBatch.of((step % 11, 1 + step % 11), epoch=step), MicroBatch.of([3], epoch=step)] for step in range(30)]


class Noises:
    """A dozen clips of half a second and more, which are made when read: workers start at once."""

    def num_samples(self, clip: int) -> int:
        """Length of the clip."""
        return 8000 + 800 * clip

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """White noise, or a window of it."""
        waveform = np.random.default_rng(clip).uniform(-0.5, 0.5, self.num_samples(clip)).astype(np.float32)
        return waveform[start : None if num_samples is None else start + num_samples]


class Unsound(Noises):
    """Clips of which one cannot be read."""

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Fails as a disk does."""
        if clip == BAD_ROW:
            raise OSError("Input/output error")
        return super().waveform(clip, start, num_samples)


class Replaced(Noises):
    """Clips in whose place others stand, for whoever opens them now."""

    def changed(self) -> str | None:
        """What is seen."""
        return "train.arrow: it holds other clips than it did"


class Deadly(Noises):
    """Clips of which one ends the process that reads it."""

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Ends as a library may, without an exception."""
        if clip == BAD_ROW:
            os._exit(3)
        return super().waveform(clip, start, num_samples)


class Slow(Noises):
    """Clips of which one takes minutes."""

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Waits as for a share that went away."""
        if clip == BAD_ROW:
            time.sleep(120)
        return super().waveform(clip, start, num_samples)


class Gradual(Noises):
    """Clips that come one after the other."""

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """As workers read that start at different times."""
        time.sleep((1, 5, 5.5)[clip])
        return super().waveform(clip, start, num_samples)


class Broken(Noises):
    """Clips whose reader has a bug."""

    def waveform(self, *_args: Any) -> Any:
        """Fails as torch does."""
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")


class Faulty:
    """An augmentation with a bug, which it tells in two lines."""

    def __call__(self, *_args: Any) -> Any:
        """Fails."""
        raise ValueError("first line\nsecond line")


def builder(clips: type[Noises] = Noises, **changes: Any) -> BatchBuilder:
    """A builder over these clips."""
    defaults: dict[str, Any] = {
        "clips": clips(),
        "model_config": MODEL_CONFIG,
        "masking": MaskingConfig(),
        "collator": PaddedCollator(),
        "augmentations": (),
        "do_normalize": True,
        "use_attention_mask": True,
        "seed": 3,
    }
    return BatchBuilder(**{**defaults, **changes})


def tensors(batch: TrainingBatch) -> dict[str, torch.Tensor]:
    """Every tensor of a batch."""
    found = {"waveforms": batch.waveforms, "attention_mask": batch.attention_mask, **vars(batch.masks)}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def same(one: TrainingBatch, other: TrainingBatch) -> bool:
    """Whether two batches agree in every bit."""
    ours, theirs = tensors(one), tensors(other)
    rest = [(batch.num_masked, batch.clip_samples, batch.plan, batch.unreadable) for batch in (one, other)]
    return ours.keys() == theirs.keys() and all(map(torch.equal, ours.values(), theirs.values())) and rest[0] == rest[1]


def kill_one() -> None:
    """As the kernel does when memory is short."""
    workers = [worker.pid for worker in multiprocessing.active_children()]
    psutil.Process(workers[0]).kill()


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    """Whatever ended the iteration; workers ignore SIGTERM, so that the process could not end."""
    yield
    assert not multiprocessing.active_children()


@pytest.fixture(autouse=True)
def _as_many_threads_as_a_worker() -> Iterator[None]:
    """One: the last bit of torch's sums, and so of noise and speed, depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _quick_to_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch asks whether workers live whenever it waited for 5 s."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))


@pytest.fixture
def _prompt_to_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what hangs, nor what was killed, is given long."""
    monkeypatch.setattr("runyoro_ssl.batches.loading.END_SEC", 0.5)
    monkeypatch.setattr("runyoro_ssl.batches.loader.END_SEC", 0.5)
    monkeypatch.setattr("runyoro_ssl.batches.loading.START_SEC", 15)


@pytest.mark.usefixtures("_quick_to_notice")
def test_a_worker_that_dies_changes_nothing() -> None:
    """Killed in the middle: the same bits in the same groups, one warning that names a clip."""
    made = builder(Unsound, augmentations=(("noise", Noise(probability=1.0)), ("speed", Speed())))
    groups = [*PLAN[:4], [], *PLAN[4:]]
    expected = list(load_batches(made, groups, num_workers=0))
    with capture_logs() as logs, closing(load_batches(made, groups, num_workers=2)) as batches:
        got = [next(batches) for _ in range(5)]
        kill_one()
        got.extend(batches)
    assert list(map(len, got)) == list(map(len, expected))
    assert all(map(same, chain(*got), chain(*expected)))
    (line,) = logs
    assert line["event"] == "loader_restarted"
    assert "SIGKILL" in line["because"]
    assert "of the train split (line " in line["clip"]


@pytest.mark.usefixtures("_quick_to_notice")
def test_the_second_death_ends_the_run() -> None:
    """After all that was delivered before; the error names a clip and says what to do."""
    made = builder()
    batches = load_batches(made, PLAN, num_workers=1)
    got = [next(batches)]
    with capture_logs() as logs:
        kill_one()
        while not logs:  # what was built before its death comes first
            got.append(next(batches))
    kill_one()
    with pytest.raises(LoaderError, match=r"SIGKILL.*row \d+ of the train split.*--dataloader-num-workers 0"):
        got.extend(batches)
    assert len(got) < len(PLAN)
    assert all(same(batch, made[plan]) for batch, plan in zip(chain(*got), chain(*PLAN), strict=False))


@pytest.mark.usefixtures("_quick_to_notice")
def test_a_clip_that_kills_is_named() -> None:
    """By its row, in the warning and in the error; what comes before it is delivered."""
    batches = load_batches(builder(Deadly), PLAN, num_workers=1)
    got: list[list[TrainingBatch]] = []
    with capture_logs() as logs, pytest.raises(LoaderError, match=r"exit status 3.*: row 7 of .*\(line 8 of"):
        got.extend(batches)
    assert [(line["event"], line["clip"][:5]) for line in logs] == [("loader_restarted", "row 7")]
    assert 5 <= len(got) <= 6  # the seventh group has it


@pytest.mark.usefixtures("prompt_loader")
def test_closing_does_not_wait_for_a_clip_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is stuck on what is not needed yet is killed."""
    monkeypatch.setattr("runyoro_ssl.batches.loader.END_SEC", 0.5)
    plan = [[MicroBatch.of([0])], [MicroBatch.of([1])], [MicroBatch.of([2])], [MicroBatch.of([BAD_ROW])]]
    batches = load_batches(builder(Slow), plan, num_workers=2)
    next(batches)
    start = time.monotonic()
    batches.close()
    assert time.monotonic() - start < 10


def test_nothing_delivered_is_kept() -> None:
    """By the thread either: a group is free when its successor is used."""
    plans = (MicroBatch.of([0], index=index) for index in range(300))
    seen: list[weakref.ref[TrainingBatch]] = []
    planned: list[weakref.ref[MicroBatch]] = []
    for group in load_batches(builder(), ([_noted(plan, planned)] for plan in plans), num_workers=0):
        seen += map(weakref.ref, group)
        assert sum(batch() is not None for batch in seen) <= 2
        assert sum(plan() is not None for plan in planned) < 100
    assert len(seen) == len(planned) == 300


def _noted(plan: MicroBatch, planned: list[weakref.ref[MicroBatch]]) -> MicroBatch:
    planned.append(weakref.ref(plan))
    return plan


@pytest.mark.usefixtures("prompt_loader")
def test_workers_leave_signals_to_the_trainer() -> None:
    """Ctrl-C and a batch system's SIGTERM reach the whole process group: workers go on, the trainer decides."""
    batches = load_batches(builder(), PLAN, num_workers=1)
    next(batches)
    with capture_logs() as logs:
        (worker,) = multiprocessing.active_children()
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(int(worker.pid or 0), number)
        assert len(list(batches)) == len(PLAN) - 1
    assert not logs


def test_signals_leave_a_worker_that_starts_alone() -> None:
    """Before it has imported what ignores them."""
    with ThreadPoolExecutor(1) as pool, capture_logs() as logs:
        batches = pool.submit(list, load_batches(builder(), PLAN[:2], num_workers=1))
        while not (workers := multiprocessing.active_children()):
            time.sleep(0.001)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(int(workers[0].pid or 0), number)
        assert len(batches.result(60)) == 2
    assert not logs


@pytest.mark.usefixtures("prompt_loader")
def test_workers_cost_the_trainer_no_draw() -> None:
    """Its dropout is the same from any number of workers."""
    before = torch.get_rng_state()
    assert len(list(load_batches(builder(), PLAN[:2], num_workers=1))) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_plugin_works_inside_spawned_workers(tmp_path: Path) -> None:
    """An augmentation dropped into the plugin folder runs in workers, and gives there what it gives here."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "runyoro_invert.py").write_text(
        "from runyoro_ssl import hookimpl\n"
        "class Invert:\n"
        "    def __call__(self, waveform, generator):\n"
        "        return -waveform\n"
        "@hookimpl\n"
        "def runyoro_augmentations(register):\n"
        "    register('invert', Invert)\n"
    )
    settings = [f"plugins.dir={tmp_path / 'plugins'}", 'plugins.augmentations=["invert"]']
    augmentations = tuple(load_plugins(load_config(profile="cpu-smoke", settings=settings)).augmentations())
    ((there,),) = load_batches(builder(augmentations=augmentations), [PLAN[0][:1]], num_workers=1)
    plain = builder()[PLAN[0][0]]
    assert torch.allclose(there.waveforms, -plain.waveforms, atol=1e-6)


@pytest.mark.usefixtures("prompt_loader")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_bugs_stay_what_they_are(monkeypatch: pytest.MonkeyPatch, num_workers: int) -> None:
    """Neither a plugin's nor a reader's is taken for a worker that died."""
    monkeypatch.setattr("runyoro_ssl.batches.loader.DEATH_SEC", 0.2)
    batches = load_batches(builder(Broken), PLAN, num_workers=num_workers)
    with pytest.raises(RuntimeError, match="size of tensor a"):
        next(batches)
    batches = load_batches(builder(augmentations=(("faulty", Faulty()),)), PLAN, num_workers=num_workers)
    with pytest.raises(
        PluginError,
        match=r'^augmentation "faulty" failed on clip 0[^\n]*first line\nsecond line \(test_loader.py:\d+\)$',
    ):
        next(batches)


@pytest.mark.usefixtures("_quick_to_notice", "_prompt_to_kill")
def test_a_worker_that_hangs_is_replaced_once() -> None:
    """Stopped in the middle: one line says which, at which clip, and for how long; the same bits come."""
    made = builder()
    with capture_logs() as logs, closing(load_batches(made, PLAN[:8], num_workers=2, patience_sec=3)) as batches:
        got = [next(batches) for _ in range(3)]
        (worker, _) = sorted(multiprocessing.active_children(), key=lambda each: each.pid or 0)
        psutil.Process(worker.pid).suspend()
        got.extend(batches)
    assert all(same(batch, made[plan]) for batch, plan in zip(chain(*got), chain(*PLAN[:8]), strict=True))
    (line,) = logs
    assert line["event"] == "loader_restarted"
    assert re.search(rf"hung \(worker \d, pid {worker.pid}, stopped\): nothing came for \d+ s", line["because"])
    assert "micro-batch is of rows" in line["clip"]


@pytest.mark.usefixtures("_quick_to_notice", "_prompt_to_kill")
def test_workers_that_start_slowly_do_not_hang() -> None:
    """The second gives its first when more than the patience has passed, and so comes the third batch of the group."""
    group = [MicroBatch.of([clip]) for clip in range(3)]
    with (
        capture_logs() as logs,
        closing(load_batches(builder(Gradual), [group], num_workers=2, patience_sec=3)) as batches,
    ):
        assert [batch.plan for batch in next(batches)] == group
    assert logs == []


@pytest.mark.long
@pytest.mark.usefixtures("_quick_to_notice", "_prompt_to_kill")
def test_a_worker_that_hangs_again_ends_the_run() -> None:
    """After all that was built before; the error names the clip and says what to do."""
    plan = [[MicroBatch.of([0])], [MicroBatch.of([1])], [MicroBatch.of([BAD_ROW, 2])]]
    got: list[list[TrainingBatch]] = []
    batches = load_batches(builder(Slow), plan, num_workers=1, patience_sec=1)
    with capture_logs() as logs, pytest.raises(LoaderError, match=r"hung .* again; .*: row 7 .* rows 7, 2\. See to"):
        got.extend(batches)
    assert [line["event"] for line in logs] == ["loader_restarted"]
    assert len(got) == 2


def test_own_loading_that_hangs_is_said_and_left_behind() -> None:
    """It cannot be killed: a line names the clip, and says what still works; closing does not wait."""
    batches = load_batches(builder(Slow), [[MicroBatch.of([BAD_ROW])]], num_workers=0, patience_sec=0.2)
    with capture_logs() as logs:
        while not logs:
            assert not batches.wait(0.1)
        started = time.monotonic()
        batches.close()
    assert time.monotonic() - started < 2
    assert (logs[0]["event"], logs[0]["clip"][:5]) == ("loading_hangs", "row 7")


@pytest.mark.usefixtures("_prompt_to_kill")
def test_a_worker_that_cannot_be_killed_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one is that waits for a disk inside the kernel; nor does the process wait for it at its end."""
    monkeypatch.setattr("runyoro_ssl.batches.loading.GONE_SEC", 1.0)
    batches = load_batches(builder(), PLAN, num_workers=1, patience_sec=1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    process = psutil.Process(worker.pid)
    monkeypatch.setattr(type(worker), "kill", lambda _self: None)
    process.suspend()
    with pytest.raises(LoaderError, match="cannot be killed: it waits for a disk or share"):
        list(batches)
    batches.close()
    assert not multiprocessing.active_children()
    monkeypatch.undo()
    process.kill()


def test_a_process_that_stood_still_does_not_count_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop that slept, or Ctrl-Z: the clock runs on, nobody waited."""
    clock = iter(range(0, 10**9, 3600))
    monkeypatch.setattr("runyoro_ssl.batches.loading.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    batches = load_batches(builder(Slow), [[MicroBatch.of([BAD_ROW])]], num_workers=0, patience_sec=60)
    with capture_logs() as logs:
        for _ in range(5):
            assert not batches.wait(0.05)
        batches.close()
    assert not logs


def test_workers_are_not_sent_to_other_clips() -> None:
    """Neither at first nor when one died: they would open what stands there now. This process has its own open."""
    groups = load_batches(builder(Replaced), PLAN, num_workers=1)
    with closing(groups), pytest.raises(LoaderError, match=r"not what it was.*holds other clips.*Put it back"):
        next(groups)
    with closing(load_batches(builder(Replaced), PLAN, num_workers=0)) as groups:
        assert next(groups)
