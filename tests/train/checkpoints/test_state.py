"""trainer_state.json with values that no run wrote is refused in a line, before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.disk.durable import seal
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.train.checkpoints.folder import find_healthy, find_newest
from runyoro_ssl.train.checkpoints.format import OPTIMIZER, STATE
from runyoro_ssl.train.checkpoints.resume import choose
from support.trainer import cut_back, run

MakeConfig = Callable[..., Config]
ALONE: Any = SimpleNamespace(is_main_process=True, num_processes=1)
ABSURD: list[tuple[str, Any, str]] = [
    ("step", "six", "step is 'six'"),
    ("step", -3, "step is -3"),
    ("step", 10**30, "step is 10+, of 2"),
    ("step", True, "step is True"),
    ("step", None, "step is None"),
    ("num_updates", -1, "num_updates is -1"),
    ("num_updates", 3, "step is 2, of 2, after 3 updates"),
    ("num_parts", 10**12, "num_parts is 10+"),
    ("num_parts", 0, "num_parts is 0"),
    ("epoch", float("nan"), "epoch is nan"),
    ("plan", None, "plan is None"),
    ("plan.more", 1, "its plan of batches has more, not known here"),
    ("plan.update_samples", 0, "plan.update_samples is 0"),
    ("plan.batch_samples", float("inf"), "plan.batch_samples is inf"),
    ("plan.batch_samples", 1e18, "plan.batch_samples is 1e"),
    ("plan.clips_per_batch", 10**18, "plan.clips_per_batch is 10+"),
    ("plan.num_lengths", 10**9, "plan.num_lengths is 10+"),
    ("plan.batches_per_update", 0, "plan.batches_per_update is 0"),
    ("health", None, "health is None"),
    ("health.grad_norms", "x", "health.grad_norms is 'x'"),
    ("health.rollbacks", 10**9, "health.rollbacks is 10+"),
    ("health.mood", "fine", "its record of health differs in mood"),
    ("validations", [1], "validations are no objects"),
    ("validations.last", {}, "validations.last lacks step"),
    ("validations.last.step", 99, "validations.last.step is 99"),
    ("validations.best.eval/objective", "x", "validations.best.eval/objective is 'x'"),
    ("window", "x", "window is 'x'"),
    ("window.code_mass", [[1.0], [1.0, 2.0]], "rows of unlike length"),
    ("unreadable", None, "unreadable is None"),
    ("config", [], r"config is \[\]"),
    ("config.train", "x", "config.train is 'x'"),
    ("hardware", None, "hardware is None"),
    ("hardware.batch_seconds", [1], r"hardware.batch_seconds is \[1\]"),
    ("dataset_sha256", 3, "dataset_sha256 is 3"),
    ("concerns", 5, "concerns is 5"),
    ("base_model", [1] * 10**5, r"base_model is \[1.{0,80}…"),
]


def rewrite(folder: Path, text: str) -> None:
    """Give a checkpoint another state, as if it had been written so."""
    (folder / STATE).write_text(text)
    (folder / "MANIFEST.json").unlink()
    seal(folder)


def changed(state: dict[str, Any], name: str, value: Any) -> str:
    """The state with one value replaced, or added."""
    state = json.loads(json.dumps(state))
    *path, last = name.split(".")
    place = state
    for part in path:
        place = place[part]
    place[last] = value
    return json.dumps(state)


def test_absurd_values_are_refused_in_a_line(train_config: MakeConfig) -> None:
    """Each by its name, with what to do; whatever else is in the file."""
    config = train_config("run", "train.max_steps=2", "train.resume_from_checkpoint=last")
    folder = run(config).output_dir / "checkpoint-2"
    state = json.loads((folder / STATE).read_text())
    for name, value, complaint in ABSURD:
        rewrite(folder, changed(state, name, value))
        with pytest.raises(CheckpointError, match=complaint) as raised:
            choose(config, ALONE)
        said = str(raised.value)
        assert "--model-name-or-path" in said, name
        assert "\n" not in said
        assert len(said) < 1000
    for text in ("[1]", "{nope", "[" * 100_000, ""):
        rewrite(folder, text)
        with pytest.raises(CheckpointError, match=r"trainer_state.json (holds list|is no JSON)"):
            choose(config, ALONE)
        assert find_healthy(folder.parent) is None
    for name in ("plan", "health", "validations", "window", "config", "hardware", "unreadable", "dataset_sha256"):
        rewrite(folder, json.dumps({key: value for key, value in state.items() if key != name}))
        with pytest.raises(CheckpointError, match=rf"{name} is missing"):
            choose(config, ALONE)


def test_what_a_newer_version_adds_is_ignored(train_config: MakeConfig) -> None:
    """In the state, its parts, and the manifest: such a checkpoint is neither refused nor damaged."""
    config = train_config("run", "train.max_steps=2", "train.resume_from_checkpoint=last")
    folder = run(config).output_dir / "checkpoint-2"
    state = json.loads((folder / STATE).read_text())
    for name in ("future", "window.future", "unreadable.future", "hardware.future"):
        rewrite(folder, changed(state, name, {"more": 1}))
        assert choose(config, ALONE).path == folder
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    for text in (json.dumps({**manifest, "format": 9}, indent=2), json.dumps({"writer": "x", **manifest})):
        (folder / "MANIFEST.json").write_text(text)
        assert find_newest(folder.parent) == folder


def test_manifest_with_absurd_values_is_no_bug(train_config: MakeConfig) -> None:
    """Nothing of it is trusted: no file outside is looked at, and none is left out."""
    folder = run(train_config("run", "train.max_steps=2")).output_dir / "checkpoint-2"
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    one = {"bytes": 1, "sha256": "0"}
    every: list[Any] = [
        [],
        {"files": []},
        {"files": {}},
        {"files": {STATE: {**one, "bytes": float("inf")}}},
        {"files": {**manifest["files"], "../run.toml": one}},
        {"files": {**manifest["files"], "config.json": 3}},
    ]
    for absurd in every:
        (folder / "MANIFEST.json").write_text(json.dumps(absurd, indent=2))
        with pytest.raises(CheckpointError, match=r"no checkpoint is intact"):
            find_newest(folder.parent)


def test_a_sealed_optimizer_that_is_none_is_refused_in_a_line(train_config: MakeConfig) -> None:
    """Its hash is right, as of what somebody made by hand; it is no safetensors."""
    config = train_config("run", "train.max_steps=4", "train.resume_from_checkpoint=last")
    folder = run(config).output_dir / "checkpoint-2"
    cut_back(folder.parent, 2)
    (folder / OPTIMIZER).write_bytes(b"none")
    rewrite(folder, (folder / STATE).read_text())
    with pytest.raises(CheckpointError, match=r"optimizer.safetensors: .* is right; give another one"):
        run(config)
