"""A bench's rows as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runyoro_ssl.bench.measure import Comparison
from runyoro_ssl.bench.plain import print_table

COLUMNS = ["what", "size", "precision", "ours", "reference", "ratio", "more"]
MIB = 1 << 20


def cells(row: Comparison) -> list[str]:
    """A row of the table: medians with their range, the ratio, and what else is worth a look."""
    values = row.to_json()
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}x"
    precision = f"{row.precision} / {row.reference_precision}"
    return [
        row.what,
        row.size,
        precision,
        _seconds(values, "ours"),
        _seconds(values, "reference"),
        ratio,
        _more(values),
    ]


def print_plain(rows: Sequence[Comparison]) -> None:
    """The table in plain text."""
    print_table(COLUMNS, list(map(cells, rows)))


def _seconds(values: dict[str, Any], side: str) -> str:
    if values[side] is None:
        return str(values.get("reference_error", "-"))
    factor, unit = (1, "s") if values[side] >= 1 else (1000, "ms")
    median, low, high = (values[name] * factor for name in (side, f"{side}_min", f"{side}_max"))
    return f"{median:.3g} {unit} ({low:.3g} to {high:.3g})"


def _more(values: dict[str, Any]) -> str:
    parts = []
    if speed := values.get("audio_seconds_per_second"):
        other = values.get("reference_audio_seconds_per_second")
        parts.append(f"{speed:,.3g} audio s/s" + (f" (reference {other:,.3g})" if other else ""))
    if hours := values.get("hours_per_core_minute"):
        parts.append(f"{hours:.3g} h a core-minute, {values['times_real_time_per_core']:,.3g}x real time")
    if share := values.get("share_of_decoding"):
        alone = values["decoding_hours_per_core_minute"]
        parts.append(f"{share:.0%} of the rate of decoding and resampling alone ({alone:.3g} h a core-minute)")
    if values.get("tflops_per_second"):
        share = values["share_of_gemm_peak"]
        parts.append(f"{values['tflops_per_second']:.3g} TFLOP/s, {share:.0%} of the GEMM peak")
    if peak := values.get("peak_bytes"):
        other = values.get("reference_peak_bytes")
        parts.append(f"peak {peak / MIB:,.0f} MiB" + (f", {peak / other:.1%} of the reference's" if other else ""))
    if ratio := values.get("ratio_without_start"):
        parts.append(f"{ratio:.2f}x without the start")
    if ratio := values.get("bytes_ratio"):
        parts.append(f"{ratio:.2f} of the bytes")
    if "checkpoint_seconds" in values:
        taken, every = values["checkpoint_seconds"], values["save_seconds"]
        parts.append(f"with a checkpoint of {taken:.2f} s every {every / 60:.0f} min")
    return "; ".join(parts)
