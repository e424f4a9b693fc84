"""What becomes of freed memory on a CPU: given back or kept, within what the run may take; measured in processes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from unittest import mock

import pytest

from conftest import ROOT, TINY, transformers
from runyoro_ssl.config import Config
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.model import allocator
from runyoro_ssl.model.allocator import KEPT_AGAIN, OTHER_NAME, PROGRAM_CACHES, SPREAD, allow
from runyoro_ssl.model.memory import BatchSettings, Memory, predict_memory
from runyoro_ssl.train import setup
from support.trainer import build

only_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries return what is freed, or cannot be told"
)


def printed(code: str, *arguments: str) -> int:
    """The number that a process of its own prints, in MiB, where no variable speaks for the user."""
    ours = ("MALLOC_", *PROGRAM_CACHES, OTHER_NAME)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@only_glibc
@pytest.mark.parametrize("keep", [False, True])
def test_freed_tensors_go_back_to_the_system(keep: bool) -> None:  # noqa: FBT001 - parametrised
    """Even between tensors still in use; unless they are to be kept."""
    freed = printed(f"""
import psutil, torch
from runyoro_ssl.model.allocator import tune_allocator
tune_allocator(keep={keep})
for size in (4 << 20, 16 << 20, 31 << 20):
    torch.ones(size // 4)  # each freed block of its own raises glibc's threshold
many, in_use = [], []
for _ in range(50):
    many.append(torch.ones(2 << 20))
    in_use.append(torch.ones(25_000))
held = psutil.Process().memory_info().rss
many.clear()
print((held - psutil.Process().memory_info().rss) >> 20)
""")
    assert (freed > 350) != keep


@only_glibc
@pytest.mark.parametrize("limit", [True, False])
def test_programs_of_shapes_seen_once_leave_no_holes(limit: bool) -> None:  # noqa: FBT001 - parametrised
    """Convolution and GELU of 160 lengths: the heap stays as it was after 20 of them; without limits it grows."""
    grown = printed(f"""
import psutil, torch
from runyoro_ssl.model.allocator import limit_program_caches, tune_allocator
if {limit}:
    limit_program_caches()
tune_allocator(keep=True)
convolution, lengths = torch.nn.Conv1d(64, 64, 16, groups=4), torch.Generator().manual_seed(0)
for step in range(40):
    length = int(torch.randint(2_000, 6_000, (), generator=lengths))
    outputs = [torch.nn.functional.gelu(convolution(torch.zeros(2, 64, length - n))) for n in range(4)]
    sum(output.sum() for output in outputs).backward()
    del outputs
    if step == 4:
        before = psutil.Process().memory_info().rss
print((psutil.Process().memory_info().rss - before) >> 20)
""")
    assert (grown < 40) == limit


@only_glibc
@pytest.mark.parametrize("seeing", ["trims", "looks on"])
def test_a_heap_full_of_holes_stays_within_the_allowance(seeing: str) -> None:
    """Of each block a bit stays, and those of the next step fit into no hole: without trims it grows."""
    over = printed(f"""
import ctypes, psutil
from runyoro_ssl.model.allocator import Allowance, tune_allocator
from runyoro_ssl.train.health import memory_growth
from runyoro_ssl.train.health.remedies import Remedies
if {seeing == "looks on"}:
    memory_growth.give_back_freed = lambda: True
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.realloc.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]
tune_allocator(keep=True)
base, most = psutil.Process().memory_info().rss, 0
allowance = Allowance(base + (40 << 20), base + (150 << 20), base + (90 << 20), keeps=True)
watch = memory_growth.MemoryWatch("cpu", Remedies("rest", {{"memory": "rest"}}), max_growth=0.25, allowance=allowance)
for step in range(40):
    size = (1 << 20) + (step << 16)
    blocks = [libc.malloc(size) for _ in range(6)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    most = max(most, psutil.Process().memory_info().rss)
    for block in blocks:
        libc.realloc(block, 10_000)
    watch.measure(step)
print((most - allowance.most) >> 20)
""")
    assert (over < 0) == (seeing == "trims")


@pytest.mark.parametrize("given", [{}, {"LRU_CACHE_CAPACITY": "7"}, {"DNNL_PRIMITIVE_CACHE_CAPACITY": "7"}])
def test_the_users_own_variables_win(given: dict[str, str]) -> None:
    """Also by the name that oneDNN had before; ours are set where there is none."""
    with mock.patch.dict(os.environ, given, clear=True):
        allocator.limit_program_caches()
        assert os.environ == (given or PROGRAM_CACHES)


def test_programs_are_limited_before_a_run_computes(
    train_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is tried as it is loaded, and what is read then holds for the process."""

    def load(*_: object) -> None:
        raise TrainingError(",".join(os.environ[name] for name in PROGRAM_CACHES))

    monkeypatch.setattr(setup, "load_run_model", load)
    ours = {name: value for name, value in os.environ.items() if name not in (*PROGRAM_CACHES, OTHER_NAME)}
    with mock.patch.dict(os.environ, ours, clear=True), pytest.raises(TrainingError, match=r"^0,32$"):
        build(train_config())


@pytest.fixture
def memory() -> Memory:
    """The prediction of a small run."""
    return predict_memory(transformers.Wav2Vec2Config(**TINY), BatchSettings(30.0))


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which few programs are kept, and no MALLOC_ variable."""
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv(OTHER_NAME, raising=False)
    for name, capacity in PROGRAM_CACHES.items():
        monkeypatch.setenv(name, capacity)


@only_glibc
@pytest.mark.usefixtures("limited")
def test_freed_memory_is_kept_only_where_there_is_plenty(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """So much that the most it takes is there; else it stays near the prediction. A setting decides otherwise."""
    kept = allow(memory, keep_freed_memory=True)
    assert memory.peak < kept.trim_at < kept.most == memory.peak + round(KEPT_AGAIN * memory.passing)
    for free, keeps in ((kept.most + 1, True), (kept.most, False)):
        monkeypatch.setattr(allocator, "available_memory", lambda free=free: free)
        assert allow(memory).keeps is keeps
    given_back = allow(memory, keep_freed_memory=False)
    assert given_back.most == round((1 + SPREAD) * memory.peak)
    assert not given_back.keeps


@only_glibc
@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize(
    ("name", "value"), [("LRU_CACHE_CAPACITY", "1024"), ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "many"), (OTHER_NAME, "9")]
)
def test_without_limits_freed_memory_is_not_kept_unasked(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Where the user's variables say how many programs are kept, as by default."""
    monkeypatch.setattr(allocator, "available_memory", lambda: 1 << 50)
    assert allow(memory).keeps
    monkeypatch.setenv(name, value)
    assert not allow(memory).keeps
    assert allow(memory, keep_freed_memory=True).keeps


@only_glibc
@pytest.mark.usefixtures("limited")
def test_an_allocator_set_by_the_user_is_taken_to_keep(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """With MALLOC_ARENA_MAX=1 in the environment, the setting changes nothing."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert allow(memory, keep_freed_memory=False) == allow(memory, keep_freed_memory=True)
