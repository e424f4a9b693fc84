"""A run fits itself: what is decided is tried, said and kept, and changes nothing of what is learned."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from conftest import build_tiny_model, transformers
from runyoro_ssl.batches.forward import run_objective
from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.config import Config
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.model.at_hand import AtHand
from runyoro_ssl.resolve import load_config
from runyoro_ssl.train import fitting, tryout
from runyoro_ssl.train.describe import summary_rows
from runyoro_ssl.train.fitting import Fitted
from runyoro_ssl.train.training_run import TrainingRun
from runyoro_ssl.train.tryout import fits
from starts import GIB, short, start
from support.trainer import build, equal, metrics, run, weights

MakeConfig = Callable[..., Config]
RunTask = Callable[[str], tuple[int, str, str]]
OPEN = ("hardware.batch_seconds=auto", "hardware.update_seconds=24", "hardware.plan_seconds=6")
RESUME = "train.resume_from_checkpoint=last"


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clips of each micro-batch that is tried."""
    found: list[int] = []

    def noting(model: Any, accelerator: Any, batch: Any, *kept: Any) -> bool:
        found.append(len(batch.waveforms))
        return fits(model, accelerator, batch, *kept)

    monkeypatch.setattr(tryout, "fits", noting)
    return found


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function: from now on, a forward pass over more than so many seconds runs out of memory."""

    def limit(seconds: float) -> None:
        forward = run_objective

        def limited(accelerator: Any, model: Any, batch: Any) -> Any:
            if batch.num_samples > 16_000 * seconds:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            return forward(accelerator, model, batch)

        monkeypatch.setattr(tryout, "run_objective", limited)

    return limit


def clips(built: TrainingRun) -> list[list[int]]:
    """The clips behind each step."""
    return [sorted(clip for batch in step.micro_batches for clip in batch.clips) for step in built.plan.updates()]


def test_what_is_decided_is_tried_said_and_kept(train_config: MakeConfig, tried: list[int]) -> None:
    """The largest micro-batch, once; a reason in the table; run.toml has the values, with which a run is the same."""
    config = train_config("run", *OPEN)
    out = run(config).output_dir
    assert tried == [2]
    toml = (out / "run.toml").read_text()
    hardware = toml.partition("[model]")[0].partition("[hardware]")[2]
    assert "auto" not in hardware.replace('sharding = "auto"', "")  # which is of a launch
    again = load_config(config_file=str(out / "run.toml"), settings=[f"train.output_dir={out.parent / 'again'}"])
    other = run(again).output_dir
    assert tried == [2]
    assert equal(weights(out), weights(other))
    assert metrics(out) == metrics(other)
    rows = dict(summary_rows(build(train_config("table", *OPEN))))
    assert rows["batch_seconds"].startswith("6: larger ones are no faster on cpu; takes ")
    assert "no faster" not in " ".join(dict(summary_rows(build(train_config("given")))).values())


def test_trying_leaves_no_trace(train_config: MakeConfig, tried: list[int]) -> None:
    """Parameters, gradients, the optimizer's state and every generator are as they were."""
    states = []
    for open_ in ((), OPEN):
        torch.manual_seed(1)
        built = build(train_config("run", "hardware.update_seconds=24", *open_))
        assert all(parameter.grad is None for parameter in built.model.parameters())
        assert not built.optimizer.optimizer.state
        assert built.model.training
        states.append((built.model.state_dict(), torch.get_rng_state()))
    assert tried == [2]
    assert equal(states[0][0], states[1][0])
    assert torch.equal(states[0][1], states[1][1])


@pytest.mark.parametrize("seconds", [3.0, 6.0, 12.0, 24.0])
def test_steps_have_the_same_clips_whatever_the_micro_batch(train_config: MakeConfig, seconds: float) -> None:
    """Those that are planned, in groups of 6 s."""
    planned = clips(build(train_config("run", *OPEN)))
    built = build(train_config("run", *OPEN, f"hardware.batch_seconds={seconds}"))
    assert clips(built) == planned
    assert len(next(built.plan.updates()).micro_batches) == pytest.approx(24 / seconds, rel=0.5)


def test_short_of_memory_takes_less_and_says_so(
    train_config: MakeConfig, tried: list[int], short_of_memory: Callable[[float], None]
) -> None:
    """Half as much; then single clips; then with recomputed layers, unless that is denied; the clips stay."""
    planned = clips(build(train_config("run", *OPEN, "hardware.plan_seconds=12")))
    tried.clear()
    short_of_memory(4.0)
    with capture_logs() as logs:
        built = build(train_config("run", *OPEN, "hardware.plan_seconds=12"))
    said = [line for line in logs if line["event"] == "micro_batch_too_large"]
    assert [(line["tried"], line["now"]) for line in said] == [("12 s", "6 s"), ("6 s", "3.73563 s")]
    assert tried == [4, 2, 1]
    assert built.config.hardware.batch_seconds == pytest.approx(max(built.plan.num_samples) / 16_000)
    assert "tried" in built.reasons["batch_seconds"]
    assert clips(built) == planned
    short_of_memory(1.0)
    with pytest.raises(TrainingError, match=r"a single clip of .* s takes .*, with gradient checkpointing,"):
        build(train_config("run", *OPEN))
    with pytest.raises(TrainingError, match=r"a single clip of .* add --gradient-checkpointing"):
        build(train_config("run", *OPEN, "hardware.gradient_checkpointing=false"))


def test_what_is_given_is_not_tried(train_config: MakeConfig, tried: list[int]) -> None:
    """The user's word on micro-batches holds, in seconds or in clips."""
    build(train_config("run"))
    build(train_config("run", *OPEN, "hardware.per_device_train_batch_size=3"))
    assert tried == []


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("shapes do not match")])
def test_another_error_is_not_hidden(
    train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Only for want of memory is less tried."""

    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(tryout, "run_objective", fails)
    with pytest.raises(type(error), match=str(error)):
        build(train_config("run", *OPEN))


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function: the device looks like this from now on."""

    def looks(**changes: Any) -> None:
        found = replace(AtHand("cpu", free=8 * GIB, cores=2, bf16_gain=2.0), **changes)
        monkeypatch.setattr(fitting, "look", lambda *_args, **_how: found)

    return looks


def test_resumed_run_keeps_what_was_decided_while_it_fits(
    train_config: MakeConfig, at_hand: Callable[..., None]
) -> None:
    """Where this machine would decide otherwise, too; decided anew, and said, where memory or bf16 is gone."""
    settings = (*OPEN, "hardware.precision=auto", "train.max_steps=2")
    at_hand()
    was = run(train_config("run", *settings, "hardware.batch_seconds=9")).output_dir
    assert 'precision = "bf16"' in (was / "run.toml").read_text()
    at_hand(bf16_gain=0.5)  # as timed while the machine does other things
    kept = build(train_config("run", *settings, RESUME))
    assert (kept.config.hardware.precision, kept.config.hardware.batch_seconds) == ("bf16", 9.0)
    assert kept.reasons["batch_seconds"] == "as in the run so far"
    at_hand(bf16_gain=0.0, free=12 << 20)
    with capture_logs() as logs:
        anew = build(train_config("run", *settings, RESUME))
    said = {line["event"]: line for line in logs}
    assert (anew.config.hardware.precision, anew.config.hardware.batch_seconds < 9) == ("fp32", True)
    assert said["decided_anew"]["was"]["batch_seconds"] == 9.0
    assert "precision bf16 -> fp32" in said["computed_otherwise"]["changes"]
    assert clips(anew) == clips(kept)


A100 = AtHand("cuda", free=38 * GIB, cores=12, name="A100", flops=240e12)
H200 = AtHand("cuda", free=138 * GIB, cores=16, name="H200", flops=700e12)
T4 = AtHand("cuda", free=13 * GIB, cores=2, name="T4", has_bf16=False, has_compiler=False, flops=40e12)


@pytest.mark.parametrize(
    ("before", "now"),
    [((A100, 1), (T4, 1)), ((T4, 1), (H200, 1)), ((H200, 1), (H200, 8)), ((H200, 8), (H200, 1))],
    ids=lambda side: f"{side[1]} {side[0].name}",
)
def test_run_on_another_kind_of_machine_fits_itself_anew(before: tuple[AtHand, int], now: tuple[AtHand, int]) -> None:
    """As a new run there would, but for what its steps follow from, and the precision where that can be."""
    was = fit_there(*before)
    anew, resumed = fit_there(*now), fit_there(*now, was)
    there, fresh = resumed.config.hardware, anew.config.hardware
    kept = {"precision": was.config.hardware.precision} if now[0].has_bf16 else {}
    assert there == fresh.model_copy(update=kept)
    assert there.plan_seconds == was.config.hardware.plan_seconds
    again = replace(now[0], flops=0.8 * (now[0].flops or 0))  # the same machine, measured a little otherwise
    assert fit_there(again, now[1], resumed).config.hardware == there


def test_what_cannot_be_is_not_kept() -> None:
    """A compiler that is gone; a size of micro-batches, where clips are counted now."""
    long: dict[str, Any] = {"hardware": {"device": "cuda", "update_seconds": 4800}, "train": {"num_train_epochs": 400}}
    was = fit_there(H200, 1, **long)
    assert was.config.hardware.compile
    assert fit_there(H200, 1, was, **long).config.hardware.compile
    assert not fit_there(replace(H200, has_compiler=False), 1, was, **long).config.hardware.compile
    counted = fit_there(H200, 1, was, hardware={"device": "cuda", "per_device_train_batch_size": 4})
    assert counted.config.hardware.batch_seconds == 60.0
    assert "batch_seconds" not in counted.reasons  # nor is it tried


def fit_there(device: AtHand, num_processes: int, was: Fitted | None = None, **sections: Any) -> Fitted:
    """XLS-R-300M on 50 hours of clips of 15 s, new or resumed, on such a machine."""
    config = Config.model_validate(sections or {"hardware": {"device": "cuda"}})
    model = transformers.Wav2Vec2Config(**SIZES["xls-r-300m"])
    run = fitting.describe_run(
        config, model, padded=True, clip_seconds=15.0, audio_seconds=50 * 3600, num_processes=num_processes
    )
    before = None if was is None else fitting.Was(was.config.hardware.model_dump(mode="json"), was.machine)
    return fitting.fit(config, run, device, before)


def test_processes_share_what_a_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores of a machine by its own processes, the fewest count; each has a GPU of its own."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    found = fitting._least([replace(H200, cores=64)] * 31 + [replace(H200, cores=32, name="H100", free=70 * GIB)])
    assert (found.cores, found.free, found.name) == (4, 70 * GIB, "H100, H200")
    found = fitting._least([AtHand("cpu", free=16 * GIB, cores=4, name="cpu")] * 8)
    assert (found.cores, found.free) == (1, 2 * GIB)


def test_bf16_learns_what_fp32_learns(train_config: MakeConfig) -> None:
    """Attention, which runs in fp32 there, and all the rest: losses within a hundredth."""
    both = [
        [line["train/contrastive_loss"] for line in metrics(out) if "train/contrastive_loss" in line]
        for precision in ("fp32", "bf16")
        if (out := run(train_config(precision, f"hardware.precision={precision}")).output_dir)
    ]
    assert both[0] != both[1]
    assert both[1] == pytest.approx(both[0], rel=0.01)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("hardware.batch_seconds=lots", 'hardware.batch_seconds is "lots": a number is needed.*, or "auto"'),
        ("hardware.batch_seconds=-3", 'hardware.batch_seconds is "-3": .*greater than 0, or "auto"'),
        ("hardware.clip_lengths=99", 'hardware.clip_lengths is "99": .*less than or equal to 32, or "auto"'),
        ("hardware.gradient_checkpointing=perhaps", 'gradient_checkpointing is "perhaps": .*, or "auto"'),
        ("hardware.update_seconds=auto", 'hardware.update_seconds is "auto": a number is needed'),
        ("hardware.num_workers=none", 'hardware.num_workers is "none": a whole number'),
        ("hardware.precision=auto8", "'auto', 'fp32', 'bf16' or 'fp16'"),
        ("hardware.device=tpu", "'mps', 'cuda' or 'cpu'"),
    ],
)
def test_wrong_input_is_a_line(run_task: RunTask, given: str, complaint: str) -> None:
    """The setting, the value seen, and what is accepted; once."""
    status, _, err = run_task(f"train --profile cpu-smoke --set {given}")
    assert status == 1
    assert re.search(complaint, " ".join(err.split()))
    assert err.count("hardware.") == 1


def test_absent_device_is_a_line(run_task: RunTask, train_config: MakeConfig) -> None:
    """It is answered with the profiles that work here."""
    config = train_config("run").train
    status, _, err = run_task(f"train --profile mps-m4 --processed-dataset-path {config.processed_dataset_path}")
    assert status == 1
    assert "device mps is not present on this machine (cpu); profiles that work here: cpu-smoke" in " ".join(
        err.split()
    )


@pytest.fixture(scope="module")
def larger_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which a micro-batch takes some hundred MB."""
    sizes: dict[str, Any] = {
        "hidden_size": 128,
        "conv_dim": (128,) * 7,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
    }
    return build_tiny_model(tmp_path_factory.mktemp("larger"), **sizes)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits on addresses hold on Linux")
def test_no_start_runs_out_of_memory(dataset: Path, larger_model: Path) -> None:
    """Under `ulimit -v` it trains, or says that not one clip fits; tests/starts.py has 50 of them."""
    options = short(
        dataset,
        larger_model,
        "hardware.update_seconds=12",
    )
    found = [start(options, round(gib * GIB)) for gib in (2.7, 6.0)]
    assert [each for each in found if each.outcome == "failed"] == []
    assert found[-1].outcome == "trained"
