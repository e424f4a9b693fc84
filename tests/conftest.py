"""Fixtures: a tiny model, synthetic speech, a prepared dataset, and the real speech where it is at hand."""

from __future__ import annotations

import logging
import os
import random
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pebble
import pytest
import structlog

from runyoro_ssl.audio.synth import write_corpus
from runyoro_ssl.config import Config, FittedHardware
from runyoro_ssl.logs import QUIETED
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.resolve import load_config
from runyoro_ssl.torchaudio_compat import import_transformers
from support.disks import small_disk
from support.forked import FORKED

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes share two cores; torch reads this when it comes
get_temp_dir()  # of multiprocessing, for good: not within the folder of whichever test is the first to start processes
# Before any test module imports transformers: torchaudio must be importable by then.
transformers = import_transformers()

pytest_plugins = ["support.hub_fixtures", "support.browser"]

PROCESS_POOL = pebble.ProcessPool
ROOT = Path(__file__).resolve().parent.parent
SPEECH = Path(os.environ.get("RUNYORO_TEST_SPEECH", ROOT.parent / "shared" / "speech"))

PLAIN = FittedHardware(
    precision="fp32",
    batch_seconds=32.0,
    plan_seconds=32.0,
    clip_lengths=0,
    dataloader_num_workers=0,
    gradient_checkpointing=False,
    compile=False,
)
"""A CPU, and nothing special."""

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 16,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
    "layerdrop": 0.1,
}
"""XLS-R's architecture at toy size, with its dropouts."""


LONG_FORM, LONG_TIMEOUT_SEC = 50, 3 * 3600.0
"""Faults from which on a suite is the long one, and how long one of its tests may take."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Long forms of tests that try chance; new golden numbers."""
    parser.addoption("--faults", type=int, default=2, help="kills, signals and stops that each test of faults tries")
    parser.addoption("--rewrite-golden", action="store_true", help="pin what the code gives now, in tests/golden")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `long`, unless the long form is asked for; that is given hours for a test."""
    if config.getoption("--faults") < LONG_FORM:
        kept = [item for item in items if item.get_closest_marker("long") is None]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
        return
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_SEC))


class ClipsInMemory(list[np.ndarray]):
    """Waveforms float32 (T,), for a BatchBuilder without a dataset."""

    def num_samples(self, clip: int) -> int:
        """Length of the clip."""
        return len(self[clip])

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """A copy of the clip, or of a window of it."""
        return self[clip][start : None if num_samples is None else start + num_samples].copy()


def build_tiny_model(folder: Path, *, sampling_rate: int = 16_000, **overrides: Any) -> Path:
    """Save a seeded random Wav2Vec2ForPreTraining and its feature extractor."""
    import torch

    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**{**TINY, **overrides})
    transformers.Wav2Vec2ForPreTraining(config).save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True, sampling_rate=sampling_rate)
    extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """What fixtures of a whole module compute does not depend on which of its tests comes first."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _prompt_workers() -> Iterator[None]:
    """Workers of `prepare` in this process start at once, and are else what they are; what users start is untouched."""

    def pool(num_workers: int, *, initializer: Callable[[], None], context: BaseContext) -> pebble.ProcessPool:
        assert context.get_start_method() == "spawn"
        return PROCESS_POOL(num_workers, initializer=initializer, context=FORKED)

    with mock.patch("pebble.ProcessPool", pool):
        yield


@pytest.fixture
def fresh_workers() -> Iterator[None]:
    """Workers of `prepare` that start from nothing, as a user's do."""
    with mock.patch("pebble.ProcessPool", PROCESS_POOL):
        yield


@pytest.fixture
def prompt_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that build batches start at once. Not for tests in which they die: nobody sends SIGCHLD for these."""
    monkeypatch.setattr("torch.multiprocessing.get_context", lambda _: FORKED)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model on disk."""
    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 synthetic clips of about 2.5 s by 4 voices, one folder a voice."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, num_clips=24, num_voices=4, num_words=6, clip_sec=2.5)
    return folder


@pytest.fixture(scope="session")
def corpus_manifest(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of `corpus`, with speakers."""
    return listed(corpus, tmp_path_factory.mktemp("manifest") / "manifest.jsonl")


def listed(corpus: Path, manifest: Path) -> Path:
    """Write the manifest of a corpus of a folder a voice."""
    from runyoro_ssl.prepare.scan import scan

    scan(corpus, manifest, speaker_from=r"^([^/]+)/")
    return manifest


@pytest.fixture(scope="session")
def dataset(corpus_manifest: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`corpus`, prepared."""
    return prepared(corpus_manifest, tmp_path_factory.mktemp("prepared") / "dataset", tiny_model)


@pytest.fixture(scope="session")
def donor(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve other clips by three other voices, prepared."""
    folder = tmp_path_factory.mktemp("other")
    write_corpus(folder / "audio", num_clips=12, num_voices=3, num_words=9, clip_sec=3.5, seed=11)
    return prepared(listed(folder / "audio", folder / "manifest.jsonl"), folder / "donor", tiny_model)


def prepared(manifest: Path, folder: Path, model: Path) -> Path:
    """Prepare a synthetic corpus for a model; a fifth of it is held out."""
    from runyoro_ssl.prepare.pipeline import prepare

    config = load_config(
        profile="cpu-smoke",
        flags={
            "hardware": {"num_workers": 1},
            "model": {"model_name_or_path": str(model)},
            "prepare": {"manifest_path": manifest, "output_dir": folder, "validation_share": 0.2},
            # Synthetic words are alike enough to be duplicates.
            "plugins": {"filters": ["duration", "silence", "clipping"]},
        },
    )
    prepare(config, load_plugins(config))
    return folder


@pytest.fixture
def train_config(dataset: Path, tiny_model: Path, tmp_path: Path) -> Callable[..., Config]:
    """A function (output name, *settings) -> the configuration of a short training run."""

    def make(name: str = "run", *settings: str) -> Config:
        return short_run(dataset, tiny_model, tmp_path / name, *settings)

    return make


def short_run(dataset: Path, model: Path, output_dir: Path, *settings: str) -> Config:
    """The configuration of a short training run."""
    return load_config(
        profile="cpu-smoke",
        settings=[
            "hardware.precision=fp32",
            "hardware.batch_seconds=6",
            "hardware.update_seconds=12",
            "train.max_steps=4",
            "train.logging_steps=1",
            "train.save_steps=2",
            'plugins.loggers=["jsonl"]',
            f"model.model_name_or_path={model}",
            f"train.processed_dataset_path={dataset}",
            f"train.output_dir={output_dir}",
            *settings,
        ],
    )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of 1 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    with small_disk(place):
        yield place


@pytest.fixture(scope="session")
def bantu() -> Path:
    """Real Luganda, Kinyarwanda and Swahili clips with a manifest."""
    return _real_speech("bantu")


@pytest.fixture(scope="session")
def messy() -> Path:
    """Small real files of every kind: many formats; empty, truncated, mislabelled, invalid."""
    return _real_speech("messy")


def _real_speech(name: str) -> Path:
    folder = SPEECH / name
    if not folder.is_dir():
        pytest.skip(f"real speech is not at hand: {folder} does not exist (RUNYORO_TEST_SPEECH names its parent)")
    return folder


@pytest.fixture
def run_task(capfd: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str, str]]:
    """A function (command line) -> (exit status, stdout, stderr): `invoke …`, in this process."""
    from runyoro_ssl.commands.program import make_program
    from runyoro_ssl.commands.tasks import ALL

    def run(command: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = 0
        program = make_program(ALL, binary="invoke")
        try:
            program.run(["invoke", *shlex.split(command)])
        except SystemExit as stopped:
            status = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
        out, err = capfd.readouterr()
        return status, out, err

    return run


@pytest.fixture
def frames() -> Iterator[Counter[str]]:
    """How many functions torch.compile was given ("total") and made ("ok"). What it keeps goes with the test."""
    import torch
    from torch._dynamo.utils import counters
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("torch.compile needs a C++ compiler on the CPU, and finds none")
    torch._dynamo.reset()
    counters.clear()
    yield counters["frames"]
    counters.clear()
    torch._dynamo.reset()


@pytest.fixture
def heard_signals() -> Iterator[None]:
    """SIGINT and SIGHUP as a terminal gives them to what a test starts; in the background or under nohup, not heard."""
    handlers: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _same_draws_and_threads() -> None:
    """What a test draws without a generator of its own, and how it adds, does not depend on the tests before it."""
    import torch

    torch.set_num_threads(1)  # as silero does for the whole process when it is imported
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global state, which libraries draw from
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_precision_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CPU's products in bf16 gain is no matter of the minute; here they gain nothing."""
    monkeypatch.setattr("runyoro_ssl.model.at_hand.bf16_gain", lambda _config: 1.0)


@pytest.fixture(autouse=True)
def _no_trainer_is_left() -> Iterator[None]:
    """A test that fails leaves a process behind, for which pytest would wait at its end."""
    yield
    if "trainer" in sys.modules:
        sys.modules["trainer"].end_all()


@pytest.fixture(autouse=True)
def _forget_plugin_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plugins are imported by stem from sys.path; each test starts without those of others."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.startswith("runyoro_") and name != "runyoro_ssl"]:
        if not name.startswith("runyoro_ssl."):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _fresh_logs_and_environment() -> Iterator[None]:
    """A task sets up the log, quiets libraries and sets variables for its process; each test starts without."""
    loggers = [logging.getLogger(name) for name in QUIETED]
    levels = [logger.level for logger in loggers]
    with mock.patch.dict(os.environ):
        yield
    structlog.reset_defaults()
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def _fresh_accelerate_state() -> Iterator[None]:
    """Accelerate keeps device and precision for the process; each test starts without."""
    yield
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
