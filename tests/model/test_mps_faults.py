"""What is done about MPS's faults: products in parts, and the table of what is known."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from conftest import ROOT, transformers
from runyoro_ssl.commands import doctor
from runyoro_ssl.model.mps import MOST_REDUCED, product_with_bias, transposed_product, why_too_large
from runyoro_ssl.model.mps_faults import FAULTS, apple_chip, chip_family, describe_faults, faults_table
from support.mps_rules import Trace
from support.pretend_mps import MPS, Pretend, pretended_mps

RunTask = Callable[[str], tuple[int, str, str]]


@pytest.mark.parametrize("rows", [1, MOST_REDUCED, MOST_REDUCED + 1, 3 * MOST_REDUCED + 7])
def test_product_over_rows_in_parts_equals_the_whole(rows: int) -> None:
    """On MPS no part is longer than it adds up right; of rows with gaps, too."""
    left, right = torch.randn(rows, 24)[:, :16], torch.randn(rows, 8)
    trace = Trace()
    with pretended_mps(), trace.watching():
        there = transposed_product(left.to(MPS), right.to(MPS))
        assert isinstance(there, Pretend)
        found = there.cpu()
    assert trace.operators["mm"] == -(-rows // MOST_REDUCED)
    assert not trace.violations
    whole = left.double().T @ right.double()
    torch.testing.assert_close(found.double(), whole, rtol=0, atol=1e-4 * rows**0.5)
    assert torch.equal(transposed_product(left, right), left.T @ right)


def test_parts_are_summed_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16, 256 and 1 are 256: MPS is not asked how it adds such numbers up."""
    left = torch.zeros(257 * MOST_REDUCED, 1, dtype=torch.bfloat16)
    left[::MOST_REDUCED] = 1.0
    summed: list[torch.dtype] = []
    stack = torch.stack

    def noted(parts: list[torch.Tensor]) -> torch.Tensor:
        summed.append(parts[0].dtype)
        return stack(parts)

    monkeypatch.setattr(torch, "stack", noted)
    with pretended_mps(), Trace().watching():
        found = transposed_product(left.to(MPS), left.to(MPS)).cpu()
    assert summed == [torch.float32]
    assert found.dtype == torch.bfloat16
    assert found.item() == torch.tensor(257.0).to(torch.bfloat16).item()


@pytest.mark.parametrize("rows", [3, 65_535, 65_536])
def test_bias_of_many_rows_is_added_by_itself(rows: int) -> None:
    """Only on MPS, and only there where it must."""
    left, right, bias = torch.randn(rows, 4), torch.randn(4, 8), torch.randn(8)
    trace = Trace()
    with pretended_mps(), trace.watching():
        found = product_with_bias(left.to(MPS), right.to(MPS), bias.to(MPS)).cpu()
    assert trace.operators["addmm"] == (rows < 65_536)
    assert not trace.violations
    torch.testing.assert_close(found, torch.addmm(bias, left, right))


@pytest.mark.parametrize(
    ("longest_sec", "batch_sec", "said"),
    [
        (20.48, 655, None),
        (20.49, 30, "the longest clip has 20.5 s; MPS takes at most 20.48 s: run `invoke prepare` with"),
        (15, 656, "a micro-batch may have 656 s; over 655 s, 32,766 frames, gradients are silently wrong on M1"),
    ],
)
def test_what_is_too_large_is_said(longest_sec: float, batch_sec: float, said: str | None) -> None:
    """With what to set."""
    config, rate = transformers.Wav2Vec2Config(), 16_000
    found = why_too_large(config, longest=round(longest_sec * rate), batch_samples=batch_sec * rate, sampling_rate=rate)
    assert found == said if said is None else found is not None and found.startswith(said)


def test_doctor_advises_no_micro_batch_that_is_refused(
    run_task: RunTask, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much memory there is."""
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1 << 40)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    status, out, _ = run_task(f"doctor --profile mps-m4 --model-name-or-path {tiny_model}")
    assert status == 0
    assert re.search(r"largest hardware.batch_seconds that fits\W+655\s", out)


def test_docs_show_the_table() -> None:
    """As `python -c "from runyoro_ssl.model import mps_faults; print(mps_faults.faults_table())"` prints it."""
    assert faults_table() in (ROOT / "docs" / "mps.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("torch_version", "chip", "holds", "holds_not"),
    [
        ("2.13.0", "M1", {177116, 189495, 188438, 179294}, {198182}),
        ("2.13.0", "M4", {189495, 179294}, {177116, 195163, 198182, 188438}),
        ("2.11.0", "M2", {177116}, {189495, 188438, 198182}),
        ("2.14.0", "M2", {195163, 198182}, {177116, 189495}),
        ("2.14.0.dev20260709", "M4", {179294}, {177116}),
        ("2.13.0+cpu", None, {177116, 189495, 188438}, {198182}),
    ],
)
def test_faults_hold_by_torch_and_chip(
    torch_version: str, chip: str | None, holds: set[int], holds_not: set[int]
) -> None:
    """A chip that is not known has all that the version has."""
    found = {fault.issues[0] for fault in FAULTS if fault.holds(torch_version, chip)}
    assert found >= holds
    assert not found & holds_not
    assert all(f"#{number}" in describe_faults(torch_version, chip) for number in holds)


@pytest.mark.parametrize(
    ("brand", "family"), [("Apple M1 Max\n", "M1"), ("Apple M10", "M10"), ("Intel(R) Core(TM) i7", None), ("", None)]
)
def test_chip_is_known_by_its_brand(brand: str, family: str | None) -> None:
    """As sysctl names it."""
    assert chip_family(brand) == family


def test_chip_of_another_machine_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no sysctl, or it knows no brand."""
    monkeypatch.setattr("subprocess.run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError))
    assert apple_chip() is None


def test_doctor_says_which_faults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one row, on a machine with MPS, and on no other."""
    monkeypatch.setattr(doctor, "apple_chip", lambda: "M2")
    assert not [row for row in doctor._machine() if row[0] == "faults of MPS"]
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1 << 34)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    ((_, said),) = [row for row in doctor._machine() if row[0] == "faults of MPS"]
    assert f"of {len(FAULTS)} hold for torch {version('torch')} on M2" in said
    assert "#179294" in said
