"""The training bench: its rows are whole, its reference is transformers', its counts are right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conftest import ROOT, TINY, transformers
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.bench import measure, sizes, subjects, training
from runyoro_ssl.bench.measure import Comparison, alternate, peak_bytes
from runyoro_ssl.bench.options import PARTS, BenchOptions
from runyoro_ssl.bench.reference import Reference
from runyoro_ssl.bench.run import resolve_settings
from runyoro_ssl.bench.subjects import build_model
from runyoro_ssl.bench.training import TrainingBench
from runyoro_ssl.config import MaskingConfig, TrainConfig
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.model.flops import count_flops
from runyoro_ssl.model.objective import compute_objective

RunTask = Callable[[str], tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every size is a toy; so is the matrix product."""
    for size in sizes.SIZES:
        monkeypatch.setitem(sizes.SIZES, size, {name: value for name, value in TINY.items() if name != "layerdrop"})
    monkeypatch.setitem(measure.GEMM_SIZE, "cpu", 64)


def test_rows_of_a_bench(run_task: RunTask, tmp_path: Path) -> None:
    """`invoke bench --json`: the stable fields of every row, and what each part adds."""
    path = tmp_path / "bench.json"
    status, out, err = run_task(f"bench --device cpu --steps 2 --clip-seconds 2 --batch-seconds 4 --json {path}")
    assert status == 0, err
    result = json.loads(path.read_text())
    assert {"device", "processor", "cores", "threads", "torch", "transformers"} <= result["machine"].keys()
    assert [row["what"] for row in result["rows"]] == list(PARTS)
    for row in result["rows"]:
        assert (row["size"], row["precision"], row["reference_precision"]) == ("small", "fp32", "fp32")
        assert (row["runs"], row["unit"]) == (2, "s")
        assert row["ours_min"] <= row["ours"] <= row["ours_max"]
        assert row["ratio"] == pytest.approx(row["reference"] / row["ours"])
        assert row["what"] in out
    objective, _, step, epoch = result["rows"]
    assert 0 < objective["peak_bytes"] < objective["reference_peak_bytes"]
    assert step["audio_seconds_per_second"] == pytest.approx(4 / step["ours"])
    assert step["share_of_gemm_peak"] == pytest.approx(step["tflops_per_second"] / step["gemm_tflops_per_second"])
    assert epoch["audio_seconds"] >= training.EPOCH_BATCHES * 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--size huge", r'--size is "huge"; it can be small, base'),
        ("--device tpu", r'--device is "tpu" (did you mean "cpu"?); it can be cuda, mps, cpu'),
        ("--steps many", r'--steps is "many"; it must be a number above 0'),
        ("--steps 0", r'--steps is "0"'),
        ("--parts step,loss", r'--parts is "loss"'),
        ("--precision fp8", r'--precision is "fp8"'),
        ("--data --audio-dir nowhere", "nowhere: no such folder"),
        ("--data --minutes lots", '--minutes is "lots"'),
        ("--data --hours -1", '--hours is "-1"'),
    ],
)
def test_wrong_options_are_explained(run_task: RunTask, options: str, complaint: str) -> None:
    """One line, exit status 1."""
    status, _, err = run_task(f"bench {options}")
    assert status == 1
    assert complaint in " ".join(err.split())


def test_absent_device_is_refused(run_task: RunTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one that is there is named."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = run_task("bench --device cuda")
    assert status == 1
    assert "--device cuda is not present" in err


@pytest.mark.long
def test_bare_checkout_runs_it(tmp_path: Path) -> None:
    """Without pydantic, structlog, rich, invoke, pluggy, datasets and soundfile: `python -m runyoro_ssl.bench`."""
    absent = ("pydantic", "structlog", "rich", "invoke", "pluggy", "datasets", "soundfile", "soxr", "pyarrow", "psutil")
    code = (
        "import sys, runpy\n"
        f"for name in {absent}: sys.modules[name] = None\n"
        "import runyoro_ssl.bench.sizes as sizes, runyoro_ssl.bench.subjects as subjects\n"
        "import runyoro_ssl.bench.measure as measure\n"
        f"sizes.SIZES['small'] = { ({**TINY, 'layerdrop': 0.0})!r}\n"
        "subjects.NO_DROPOUT.pop('layerdrop'); measure.GEMM_SIZE['cpu'] = 64\n"
        "sys.argv = ['bench', '--device', 'cpu', '--steps', '1', '--clip-seconds', '2', '--batch-seconds', '4',"
        f" '--json', {str(tmp_path / 'rows.json')!r}]\n"
        "runpy.run_module('runyoro_ssl.bench', run_name='__main__')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "feature_encoder" in done.stdout
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == len(PARTS)


def bench(**options: Any) -> TrainingBench:
    """A bench on the CPU."""
    chosen = BenchOptions(device="cpu", steps=1, clip_seconds=2, batch_seconds=4, size="small", **options)
    return TrainingBench(resolve_settings(chosen))


def test_reference_out_of_memory_leaves_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that only ours can train on this device: no ratio, and the reason."""

    def exhausted(*_args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Reference, "step", exhausted)
    (row,) = bench(parts="step").rows()
    assert (row.ratio, row.to_json()["reference"], row.extra["reference_error"]) == (None, None, "out of memory")
    assert row.ours


def test_ours_out_of_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    """The micro-batch asked for is measured, or none."""

    def exhausted(*_args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("runyoro_ssl.train.step.run_objective", exhausted)
    with pytest.raises(TrainingError, match=r"micro-batches of 4 s; use a smaller --batch-seconds"):
        list(bench(parts="step").rows())


def test_a_model_is_on_its_device_whole() -> None:
    """Of a model made on a device, transformers makes the mask embedding and the codevectors on the CPU."""
    assert {parameter.device.type for parameter in build_model("small", "meta").parameters()} == {"meta"}


def test_only_ours_is_compiled() -> None:
    """--compile is ours; the reference is what a user would run."""
    made = bench(compile=True)
    layers = [model.wav2vec2.encoder.layers[0] for model in (made.model, made.reference.model)]
    assert [layer._compiled_call_impl is not None for layer in layers] == [True, False]


def test_reference_sees_the_same_clips_and_loss() -> None:
    """Its batch holds our waveforms; for the same context its loss is near ours, of other masks."""
    made = bench()
    ours, theirs = made.batch, made.reference_batch
    torch.testing.assert_close(theirs["input_values"], ours.waveforms, rtol=1e-4, atol=1e-4)
    masks = ours.masks
    context = torch.randn(*masks.time_mask.shape, made.model.config.hidden_size)
    features = torch.randn(*masks.time_mask.shape, made.model.config.conv_dim[-1])
    with torch.no_grad():
        made.model.eval()
        loss = made.reference.objective(context, features, theirs) / theirs["mask_time_indices"].sum()
        known = {"positions": masks.positions, "valid": masks.valid, "negatives": masks.negatives}
        expected = compute_objective(made.model, context, features, **known).loss / ours.num_masked
    assert loss.item() == pytest.approx(expected.item(), abs=0.3)
    assert made.model.wav2vec2.config is made.model.config


def test_settings_are_the_defaults() -> None:
    """The bench cannot import pydantic, so it repeats the defaults it trains with."""
    for ours, config in ((subjects.TRAINING, TrainConfig()), (subjects.MASKING, MaskingConfig())):
        assert vars(ours) == {name: getattr(config, name) for name in vars(ours)}


def test_alternating_runs_take_turns() -> None:
    """Ours, reference, ours, …; the warm-up is not timed."""
    calls: list[str] = []
    ours, reference = alternate(lambda: calls.append("o"), lambda: calls.append("r"), runs=2)
    assert "".join(calls) == "ororor"
    assert len(ours) == len(reference) == 2
    calls.clear()
    ours, _ = alternate(lambda: calls.append("o"), lambda: calls.append("r"), runs=1, warmup=0, repeats=2)
    assert ("".join(calls), len(ours)) == ("oorr", 1)


def test_row_without_reference_has_no_ratio() -> None:
    """JSON null, not 0."""
    row = Comparison("step", "small", "fp32", "fp32", [2.0, 1.0, 4.0], []).to_json()
    assert (row["ours"], row["ours_min"], row["ours_max"], row["reference"], row["ratio"]) == (
        2.0,
        1.0,
        4.0,
        None,
        None,
    )


def test_peak_bytes_counts_what_is_held_at_once() -> None:
    """4 MB and 8 MB held together, then 4 MB after both were freed: 12 MB."""

    def work() -> None:
        first = torch.ones(1_000_000)
        second = torch.cat([first, first])
        del first, second
        torch.ones(1_000_000)

    assert peak_bytes(work, "cpu") == pytest.approx(12_000_000, rel=0.02)


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "tiny": TINY,
    "group norm": {**TINY, "feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_dim": (16,) * 6 + (24,)},
    "odd positions": {**TINY, "num_conv_pos_embeddings": 15},
}


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_flops_are_those_counted(architecture: dict[str, Any]) -> None:
    """Forward over transformers' own network with eager attention, to the operation."""
    config = transformers.Wav2Vec2Config(**architecture, attn_implementation="eager")
    model = transformers.Wav2Vec2ForPreTraining(config).eval()
    num_samples = 20_000
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.wav2vec2(torch.randn(1, num_samples))
    expected = count_flops(config, num_samples, num_masked=0)
    parts = expected.feature_encoder + expected.positions + expected.layers + expected.attention
    assert counter.get_total_flops() == parts


def test_backward_costs_two_forwards() -> None:
    """Counted over the network, without its positional convolution, whose groups the counter forgets."""
    config = transformers.Wav2Vec2Config(**{**TINY, "layerdrop": 0.0}, attn_implementation="eager")
    model = transformers.Wav2Vec2ForPreTraining(config).train()
    model.wav2vec2.encoder.pos_conv_embed = torch.nn.Identity()
    num_samples = 20_000
    with FlopCounterMode(display=False) as counter:
        hidden = model.wav2vec2(torch.randn(1, num_samples))
        hidden.last_hidden_state.sum().backward()
    flops = count_flops(config, num_samples, num_masked=0)
    # Transformers takes the waveform's gradient too, which nothing needs.
    assert counter.get_total_flops() == flops.training + flops.waveform - 3 * flops.positions


def test_objective_flops() -> None:
    """Of the masked frames only, to 2 %."""
    made = bench()
    masks = subjects.build_batches(made.model, subjects.NoiseClips.of([32_000]))[MicroBatch.of([0])].masks
    shape = (*masks.time_mask.shape, 32)

    with FlopCounterMode(display=False) as counter:
        compute_objective(
            made.model,
            torch.randn(shape),
            torch.randn(*shape[:2], 16),
            positions=masks.positions,
            valid=masks.valid,
            negatives=masks.negatives,
        )
    expected = count_flops(made.model.config, 32_000, num_masked=masks.positions.shape[1]).objective
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


def test_xls_r_300m_costs_what_was_published() -> None:
    """119 GFLOP for an audio second at 15 s clips, of which feature encoder 14.7 and attention 11."""
    config = SimpleNamespace(**vars(transformers.Wav2Vec2Config(**{**sizes.XLS_R, **LARGE})))
    flops = count_flops(config, 240_000)
    assert flops.training / 15e9 == pytest.approx(119, abs=0.5)
    assert 3 * flops.feature_encoder / 15e9 == pytest.approx(14.7, abs=0.05)
    assert 3 * flops.attention / 15e9 == pytest.approx(11.0, abs=0.05)


LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
