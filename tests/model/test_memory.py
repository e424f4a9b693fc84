"""The predicted memory against what torch holds, and what `invoke doctor` says of it."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import build_tiny_model, transformers
from runyoro_ssl.config import TrainConfig
from runyoro_ssl.devices import available_devices
from runyoro_ssl.model import at_hand
from runyoro_ssl.model.activations import Activations
from runyoro_ssl.model.adapters import Adapters, adapt
from runyoro_ssl.model.counts import TrainedPart
from runyoro_ssl.model.memory import (
    CPU_BASE,
    CUDA_BASE,
    BatchSettings,
    count_parameters,
    largest_batch_seconds,
    predict_memory,
)
from runyoro_ssl.train.optim import freeze
from support.small_model import GROUP_NORM, NO_DROPOUT, NUM_SAMPLES, SMALL, build, compute_loss, most_held

RunTask = Callable[[str], tuple[int, str, str]]


LORA = Adapters(rank=16)
SOME = Adapters(rank=8, dropout=0.1, targets=("q_proj", "v_proj", "output_dense"), also=("norms",))


def saved_bytes(model: Any, *, padded: bool, precision: str) -> int:
    """What autograd keeps for the backward pass, each storage once, parameters not counted."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = compute_loss(model, padded=padded, precision=precision)
    assert loss.grad_fn is not None
    return sum(storage.nbytes() for address, storage in storages.items() if address not in parameters)


def held_at_most(model: Any, *, padded: bool) -> int:
    """The most that torch allocates at one time, forward and backward, with gradients there before."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    return most_held(lambda: compute_loss(model, padded=padded).backward())  # type: ignore[no-untyped-call]


def predicted_activations(
    model: Any,
    *,
    checkpointing: bool,
    padded: bool,
    precision: str,
    attention: str,
    adapters: Adapters | None = None,
    trained: TrainedPart = "all",
) -> int:
    """The same as `saved_bytes`, predicted."""
    made = Activations(
        config=model.config,
        clips=2,
        num_samples=NUM_SAMPLES,
        element=4 if precision == "fp32" else 2,
        device="cpu",
        padded=padded,
        sdpa=attention == "sdpa",
        mask_time_prob=0.65,
        adapters=adapters,
        trained=trained,
    )
    casts = 0 if checkpointing else made.casts()
    return made.encoder() + made.context(checkpointing=checkpointing) + made.objective() + casts


@pytest.mark.parametrize("overrides", [{}, GROUP_NORM, {"num_codevector_groups": 1}])
def test_parameters_are_the_models(overrides: dict[str, Any]) -> None:
    """Counted without allocating, equal to the real model's."""
    model = build(checkpointing=False, **overrides)
    assert count_parameters(model.config) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("overrides", "precision", "attention"),
    [
        ({}, "fp32", "sdpa"),
        (NO_DROPOUT, "fp32", "sdpa"),
        (NO_DROPOUT, "fp32", "eager"),
        (GROUP_NORM, "fp32", "eager"),
        (GROUP_NORM | NO_DROPOUT, "fp32", "sdpa"),
        ({"num_hidden_layers": 1}, "bf16", "sdpa"),
    ],
)
def test_activations_are_what_autograd_saves(
    checkpointing: bool,  # noqa: FBT001 - parametrised
    padded: bool,  # noqa: FBT001 - parametrised
    overrides: dict[str, Any],
    precision: str,
    attention: str,
) -> None:
    """Within 5 %: checkpointing, padding, either norm, either attention, dropout, autocast."""
    model = build(checkpointing, attention, **overrides)
    predicted = predicted_activations(
        model, checkpointing=checkpointing, padded=padded, precision=precision, attention=attention
    )
    assert predicted == pytest.approx(saved_bytes(model, padded=padded, precision=precision), rel=0.05)


@pytest.mark.parametrize("adapters", [LORA, SOME], ids=["all", "some"])
@pytest.mark.parametrize(
    ("overrides", "precision", "attention"),
    [({}, "fp32", "sdpa"), (NO_DROPOUT, "fp32", "sdpa"), (GROUP_NORM, "fp32", "eager"), (NO_DROPOUT, "bf16", "sdpa")],
)
def test_activations_with_adapters_are_what_autograd_saves(
    adapters: Adapters,
    overrides: dict[str, Any],
    precision: str,
    attention: str,
) -> None:
    """Within 6 %: nothing of what is frozen but its casts; what some targets leave out is not kept."""
    model = adapt(build(False, attention, **overrides), adapters, seed=0)  # noqa: FBT003
    predicted = predicted_activations(
        model, checkpointing=False, padded=False, precision=precision, attention=attention, adapters=adapters
    )
    assert predicted == pytest.approx(saved_bytes(model, padded=False, precision=precision), rel=0.06)


PARTS: dict[TrainedPart, dict[str, Any]] = {
    "feature_encoder": {"train_only": "feature_encoder"},
    "above": {"freeze_feature_encoder": True},
}


@pytest.mark.parametrize("trained", PARTS)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("overrides", "precision", "attention"),
    [({}, "fp32", "sdpa"), (NO_DROPOUT, "fp32", "sdpa"), (GROUP_NORM, "fp32", "eager"), (NO_DROPOUT, "bf16", "sdpa")],
)
def test_activations_where_a_part_learns(
    checkpointing: bool,  # noqa: FBT001 - parametrised
    overrides: dict[str, Any],
    precision: str,
    attention: str,
    trained: TrainedPart,
) -> None:
    """Within 6 %: all that the gradient goes through, but no input of a product that does not learn.

    Within 15 % where little is kept: negatives are among it, which count with the micro-batch.
    """
    model = build(checkpointing, attention, **overrides)
    freeze(model, TrainConfig(**PARTS[trained]))
    within = 0.15 if checkpointing and trained == "above" else 0.06
    predicted = predicted_activations(
        model,
        checkpointing=checkpointing,
        padded=False,
        precision=precision,
        attention=attention,
        trained=trained,
    )
    assert predicted == pytest.approx(saved_bytes(model, padded=False, precision=precision), rel=within)


@pytest.mark.parametrize("trained", PARTS)
@pytest.mark.parametrize("conv_dim", [16, 160])
def test_peak_where_a_part_learns(conv_dim: int, trained: TrainedPart) -> None:
    """Within 10 %; gradients and moments of the weights that learn alone."""
    model = build(False, "sdpa", conv_dim=(conv_dim,) * 7, **NO_DROPOUT)  # noqa: FBT003
    freeze(model, TrainConfig(**PARTS[trained]))
    settings = BatchSettings(1.0, clip_seconds=6.0, num_clips=2, padded=False, trained=trained)
    memory = predict_memory(model.config, settings)
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert (memory.num_trained, memory.gradients, memory.adamw) == (learning, 4 * learning, 8 * learning)
    before = memory.weights + memory.gradients + memory.adamw + memory.batches + memory.base
    assert memory.peak - before == pytest.approx(held_at_most(model, padded=False), rel=0.1)


@pytest.mark.parametrize(
    ("overrides", "checkpointing", "moment"),
    [
        ({}, False, "start of the backward pass"),
        ({"conv_dim": (96,) * 7, "num_hidden_layers": 2, **NO_DROPOUT}, True, "forward pass of the feature encoder"),
        ({"conv_dim": (16,) * 7, "num_hidden_layers": 8}, True, "last layer recomputed"),
    ],
)
def test_peak_with_adapters_is_when_and_what_torch_holds(
    overrides: dict[str, Any],
    checkpointing: bool,  # noqa: FBT001 - parametrised
    moment: str,
) -> None:
    """Within 10 %, as without."""
    model = adapt(build(checkpointing, **overrides), LORA, seed=0)
    settings = BatchSettings(
        1.0, clip_seconds=6.0, num_clips=2, padded=False, gradient_checkpointing=checkpointing, adapters=LORA
    )
    memory = predict_memory(model.config, settings)
    before = memory.weights + memory.gradients + memory.adamw + memory.batches + memory.base
    assert memory.peak_moment == moment
    assert memory.peak - before == pytest.approx(held_at_most(model, padded=False), rel=0.1)


@pytest.mark.parametrize(
    ("overrides", "checkpointing", "moment"),
    [
        ({}, False, "start of the backward pass"),
        ({"conv_dim": (160,) * 7, **NO_DROPOUT}, False, "backward pass of the feature encoder"),
        ({"conv_dim": (160,) * 7, **NO_DROPOUT, **GROUP_NORM}, True, "backward pass of the feature encoder"),
        ({"conv_dim": (16,) * 7, "num_hidden_layers": 8}, True, "last layer recomputed"),
    ],
)
def test_peak_is_when_and_what_torch_holds(
    overrides: dict[str, Any],
    checkpointing: bool,  # noqa: FBT001 - parametrised
    moment: str,
) -> None:
    """Within 10 % of the highest point of torch's own allocations, wherever in the step it lies."""
    model = build(checkpointing, **overrides)
    settings = BatchSettings(1.0, clip_seconds=6.0, num_clips=2, padded=False, gradient_checkpointing=checkpointing)
    memory = predict_memory(model.config, settings)
    before = memory.weights + memory.gradients + memory.adamw + memory.batches + memory.base
    assert memory.peak_moment == moment
    assert memory.peak - before == pytest.approx(held_at_most(model, padded=False), rel=0.1)


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("gib", [1.5, 4, 20])
def test_largest_batch_fits_and_a_larger_does_not(device: Any, checkpointing: bool, gib: float) -> None:  # noqa: FBT001
    """Within the budget; 5 % more is over it. 15 s clips, whatever else would fill the batch better."""
    config = transformers.Wav2Vec2Config(**SMALL)
    settings = BatchSettings(1.0, device=device, gradient_checkpointing=checkpointing)
    budget = int(gib * (1 << 30))
    largest = largest_batch_seconds(config, settings, budget)
    assert largest is not None
    assert predict_memory(config, replace(settings, batch_seconds=largest)).peak <= budget
    assert predict_memory(config, replace(settings, batch_seconds=1.05 * largest)).peak > budget


def test_libraries_take_what_the_build_of_torch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build for CUDA loads its libraries on a CPU, too."""
    config, batch = transformers.Wav2Vec2Config(**SMALL), BatchSettings(30.0)
    peaks = []
    for cuda in (None, "13.0"):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        peaks.append(predict_memory(config, batch).peak)
    assert peaks[1] - peaks[0] == CUDA_BASE - CPU_BASE


def test_not_even_one_clip() -> None:
    """A micro-batch holds one clip at least: below that there is no size that fits."""
    config = transformers.Wav2Vec2Config(**SMALL)
    one_clip = predict_memory(config, BatchSettings(0.1)).peak
    assert 15.0 <= (largest_batch_seconds(config, BatchSettings(60.0), one_clip) or 0) < 30.0
    assert largest_batch_seconds(config, BatchSettings(60.0), one_clip - 1) is None


def test_checkpointing_saves(tmp_path: Path) -> None:
    """Deep models need less with it, and more audio fits."""
    config = transformers.AutoConfig.from_pretrained(build_tiny_model(tmp_path, **{**SMALL, "num_hidden_layers": 12}))
    plain = BatchSettings(60.0)
    saving = replace(plain, gradient_checkpointing=True)
    assert predict_memory(config, saving).peak < 0.6 * predict_memory(config, plain).peak
    budget = 4 << 30
    assert (largest_batch_seconds(config, saving, budget) or 0) > 2 * (
        largest_batch_seconds(config, plain, budget) or 0
    )


@pytest.mark.parametrize(
    ("free_bytes", "said"),
    [
        (64 << 30, "yes"),
        (1 << 30, "--set hardware.batch_seconds="),
        (1 << 20, "shorter clips than 15 s"),
    ],
)
def test_doctor_says_whether_it_fits_and_what_to_set(
    run_task: RunTask, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, said: str
) -> None:
    """The parts, the peak, the largest micro-batch, and the way out, also if not one clip fits."""
    monkeypatch.setattr(at_hand, "free_memory", lambda _device: free_bytes)
    status, out, err = run_task(
        f"doctor --profile cpu-smoke --model-name-or-path {tiny_model} --set hardware.batch_seconds=600"
    )
    assert status == 0, err
    words = " ".join(out.replace("│", " ").split())
    for part in ("AdamW states", "context network", "objective", "predicted peak", "600 s", "largest", said):
        assert part in words
    assert ("not one clip" in words) == (free_bytes < 1 << 30)


def test_doctor_plans_for_another_machine(run_task: RunTask, tiny_model: Path) -> None:
    """A profile whose device is absent still gives the numbers, and says that what fits is not known here."""
    absent = next(name for name in ("cuda", "mps") if name not in available_devices())
    profile = {"cuda": "cuda", "mps": "mps-m4"}[absent]
    status, out, _ = run_task(f"doctor --profile {profile} --model-name-or-path {tiny_model}")
    assert status == 0
    assert f"no {absent} here" in out


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("doctor --model-name-or-path ./nowhere", "no such folder"),
        ("doctor --model-name-or-path {broken}", "has num_conv_pos_embedding_groups 7"),
        ("doctor --model-name-or-path {hubert}", 'type "hubert"'),
        ("doctor --profile mps-m5 --model-name-or-path {tiny}", 'did you mean "mps-m4"?'),
        ("doctor --set hardware.batch_seconds=long", 'hardware.batch_seconds is "long"'),
    ],
)
def test_doctor_explains_wrong_input_in_one_line(
    run_task: RunTask, tiny_model: Path, tmp_path: Path, command: str, complaint: str
) -> None:
    """Status 1, before any table."""
    broken, hubert = (shutil.copytree(tiny_model, tmp_path / name) for name in ("broken", "hubert"))
    values = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**values, "num_conv_pos_embedding_groups": 7}))
    transformers.HubertConfig(hidden_size=32).save_pretrained(hubert)
    status, out, err = run_task(command.format(broken=broken, hubert=hubert, tiny=tiny_model))
    assert status == 1
    assert complaint in " ".join(err.split())
    assert "Traceback" not in err
    assert not out


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide themselves, and that is said")
@pytest.mark.parametrize(
    ("keep", "variable", "said"),
    [
        ("true", None, "kept for speed; not with hardware.keep_freed_memory=false"),
        ("false", None, "given back at once"),
        ("false", "MALLOC_ARENA_MAX", "as MALLOC_ARENA_MAX in your environment says"),
    ],
)
def test_doctor_says_what_becomes_of_freed_memory(  # noqa: PLR0917 - fixtures
    run_task: RunTask, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, keep: str, variable: str | None, said: str
) -> None:
    """The prediction is of what is needed; what may be kept beyond it, and who decides that, is said."""
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    if variable:
        monkeypatch.setenv(variable, "1")
    options = f"--profile cpu-smoke --set hardware.keep_freed_memory={keep}"
    status, out, err = run_task(f"doctor --model-name-or-path {tiny_model} {options}")
    assert status == 0, err
    said_in_all = " ".join(out.split())
    assert f"freed memory │ {said}" in said_in_all
    assert "│ at most │" in said_in_all
