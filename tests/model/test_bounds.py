"""Models that ask for what cannot be end in one line, before memory or time is spent; no code of theirs runs."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import PLAIN, build_tiny_model
from runyoro_ssl.config import ModelConfig
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.model.bounds import CONVOLUTIONS, NUMBERS, find_absurd
from runyoro_ssl.model.extractor import load_feature_extractor, load_sampling_rate
from runyoro_ssl.model.folder import check_folder
from runyoro_ssl.model.load import load_model, load_model_config
from support.model_faults import CONFIG, EXTRACTOR, WEIGHTS, Fault, edit, pickle_weights, together, write

RunTask = Callable[[str], tuple[int, str, str]]
SOON_SEC = 5
NAN, INF, HUGE = float("nan"), float("inf"), 10**9
PROCESSOR = "processor_config.json"
OF_MODEL = "quantizer.codevectors"

WRONG: list[Any] = [-1, 10**30, "x", None, [1], True, NAN]
WRONG_RATES: list[Any] = [0, -1, 10**12, "16000", None, 16_000.0, NAN, True, [1]]
WRONG_SWITCHES: list[Any] = ["no", 3, None, []]
WRONG_TYPES: list[Any] = ["AutoModel", "pipeline", "Evil", 3, ["x"], "\x1b[m"]
WRONG_IN_LISTS: list[Any] = [-1, 0, HUGE, "x", 2.5, None, [1], True]
WRONG_LISTS: list[Any] = [[], None, 5, "x", {}, [1] * 100_000]
ABSURD: list[dict[str, Any]] = [
    *({name: value} for name in NUMBERS for value in WRONG),
    *({name: [value] * 7} for name in CONVOLUTIONS for value in WRONG_IN_LISTS),
    *({name: value} for name in CONVOLUTIONS for value in WRONG_LISTS),
    *({name: 0} for name in NUMBERS if NUMBERS[name].least >= 1),
    {"conv_stride": [1] * 7},
    {"conv_stride": [5, 2]},
    {"num_attention_heads": 5},
    {"num_codevector_groups": 3},
    {"num_conv_pos_embedding_groups": 5},
    {"num_labels": 10**12},
    {"mask_time_prob": NAN},
    {"initializer_range": INF},
    {"feat_extract_norm": "x"},
    {"hidden_act": "swosh"},
    {"feat_extract_activation": ["gelu"]},
    {"layerdrop": 2.0},
    {"save_pretrained": 1},
    {"__class__": "x"},
]
"""Settings of a config.json that make no model."""

TOO_LARGE: list[dict[str, Any]] = [
    {"hidden_size": 8192},
    {"num_hidden_layers": 500},
    {"intermediate_size": 30_000},
    {"conv_dim": [8192] * 7},
    {"conv_kernel": [1024] * 7},
    {"num_conv_pos_embeddings": 4096},
]
"""Settings that make a model, but none that files of a tiny one hold."""


def edit_header(change: Callable[[dict[str, Any]], object], *, more: bytes = b"") -> Fault:
    """Another list of tensors in a safetensors file; `more`: what stands at its end, as a second entry of a name."""

    def apply(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        text = text[:-1] + more + b"}"
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return apply


def entry(**values: Any) -> Fault:
    """Another entry of a tensor in that list."""
    return edit_header(lambda header: header[OF_MODEL].update(values))


def state_length(num_bytes: int) -> Fault:
    """Another length of that list than it has."""
    return lambda folder: (folder / WEIGHTS).write_bytes(
        struct.pack("<Q", num_bytes) + (folder / WEIGHTS).read_bytes()[8:]
    )


def as_pipe(name: str) -> Fault:
    """A pipe that nobody writes into, in place of a file."""

    def apply(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return apply


def index(**weight_map: str) -> Fault:
    """Shards, as an index names them."""
    return together(
        lambda folder: (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors"),
        write(f"{WEIGHTS}.index.json", json.dumps({"weight_map": weight_map})),
    )


FILES: dict[str, Fault] = {
    "list of 2**60 bytes": state_length(2**60),
    "list of 2**64 - 1 bytes": state_length(2**64 - 1),
    "shape of 10**12": entry(shape=[10**12]),
    "negative shape": entry(shape=[-1, -4]),
    "offsets outside": entry(data_offsets=[10**12, 10**12 + 4]),
    "offsets are text": entry(data_offsets="ab"),
    "overlap": entry(data_offsets=[0, 4]),
    "type unknown": entry(dtype="evil"),
    "integers": entry(dtype="I32"),
    "a tensor is a list": edit_header(lambda header: header.update({OF_MODEL: [1]})),
    "two of a name": edit_header(len, more=b', "project_q.bias": {"dtype":"F32","shape":[9],"data_offsets":[0,36]}'),
    "100,000 names": edit_header(lambda header: header.update({f"t{i}": {} for i in range(100_000)})),
    "weights are a pipe": as_pipe(WEIGHTS),
    "weights are a device": together(
        lambda folder: (folder / WEIGHTS).unlink(), lambda folder: (folder / WEIGHTS).symlink_to("/dev/zero")
    ),
    "config is a pipe": as_pipe(CONFIG),
    "extractor is a pipe": as_pipe(EXTRACTOR),
    "config of 100 GB": lambda folder: os.truncate(folder / CONFIG, 10**11),
    "number of 5000 digits": write(CONFIG, '{"model_type": "wav2vec2", "vocab_size": ' + "9" * 5000 + "}"),
    "index leads out": index(a="../other.safetensors"),
    "index of an absolute path": index(a="/etc/passwd"),
    "index of 100 GB": together(index(a="b"), lambda folder: os.truncate(folder / f"{WEIGHTS}.index.json", 10**11)),
    "index names what is missing": index(a="model-00002-of-00002.safetensors"),
    "index of a control character": index(a="\x1b[31m.safetensors"),
}  # fmt: skip

CODE = {"AutoConfig": "evil.Config", "AutoFeatureExtractor": "evil.Extractor", "AutoModel": "evil.Model"}
EXTRACTORS: list[Fault] = [
    *(edit(EXTRACTOR, sampling_rate=value) for value in WRONG_RATES),
    *(edit(EXTRACTOR, feature_size=value) for value in WRONG),
    *(edit(EXTRACTOR, padding_value=value) for value in WRONG[2:]),
    *(edit(EXTRACTOR, do_normalize=value) for value in WRONG_SWITCHES),
    *(edit(EXTRACTOR, return_attention_mask=value) for value in WRONG_SWITCHES),
    *(edit(EXTRACTOR, feature_extractor_type=value) for value in WRONG_TYPES),
    edit(EXTRACTOR, to_dict=1),
    edit(EXTRACTOR, __class__="x"),
    edit(EXTRACTOR, auto_map=CODE, feature_extractor_type="Extractor"),
    write(PROCESSOR, json.dumps({"feature_extractor": {"auto_map": CODE, "feature_extractor_type": "Extractor"}})),
    write(PROCESSOR, json.dumps({"audio_processor": {"auto_map": CODE}})),
    write(PROCESSOR, json.dumps({"feature_extractor": [1]})),
    write(PROCESSOR, json.dumps({"feature_extractor": "x"})),
    write(PROCESSOR, '{"feat'),
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A good model folder."""
    return build_tiny_model(tmp_path / "model")


def refused(act: Callable[[], object]) -> str:
    """What is said where something is refused: one line, soon."""
    began = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        act()
    assert time.monotonic() - began < SOON_SEC
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize("settings", ABSURD, ids=lambda settings: f"{settings}"[:40])
def test_absurd_settings_are_named(model: Path, settings: dict[str, Any]) -> None:
    """Whatever is absurd in a config.json, its name is said, with weights beside it and without."""
    edit(CONFIG, **settings)(model)
    (model / WEIGHTS).unlink()
    said = refused(lambda: load_model_config(ModelConfig(model_name_or_path=str(model))))
    assert next(iter(settings)) in said or "transformers does not know" in said


def test_published_models_are_within_the_bounds() -> None:
    """XLS-R's own numbers, and those of its largest."""
    assert find_absurd({name: limits.usual for name, limits in NUMBERS.items()}) is None
    largest = {"hidden_size": 1920, "intermediate_size": 7680, "num_hidden_layers": 48, "num_attention_heads": 16}
    assert find_absurd({**largest, "codevector_dim": 1024, "proj_codevector_dim": 1024}) is None
    assert find_absurd({}) is None


@pytest.mark.parametrize("save", [lambda _: None, pickle_weights], ids=["safetensors", "pickle"])
@pytest.mark.parametrize("settings", TOO_LARGE, ids=lambda settings: next(iter(settings)))
def test_sizes_are_checked_against_the_files(
    model: Path, monkeypatch: pytest.MonkeyPatch, save: Fault, settings: dict[str, Any]
) -> None:
    """A model that its files cannot hold is refused before anything of it is built."""
    edit(CONFIG, **settings)(model)
    save(model)
    asked: list[Any] = []
    monkeypatch.setattr("transformers.Wav2Vec2ForPreTraining.from_pretrained", lambda *args, **_: asked.append(args))
    said = refused(lambda: load_model(ModelConfig(model_name_or_path=str(model), allow_pickle=True), PLAIN))
    assert "weights; its files hold" in said
    assert asked == []


@pytest.mark.parametrize("fault", FILES)
def test_files_that_lie_are_refused(model: Path, fault: str) -> None:
    """Pipes, devices, lists of tensors and indexes: nothing waits, and no memory is asked for by what they say."""
    FILES[fault](model)

    def act() -> None:
        check_folder(str(model), weights=True)
        load_model(ModelConfig(model_name_or_path=str(model)), PLAIN)

    refused(act)


@pytest.mark.parametrize("make", EXTRACTORS)
def test_absurd_extractors_are_refused(model: Path, make: Fault) -> None:
    """No class is looked up by a name in the file, and no value stands for another."""
    make(model)
    said = refused(lambda: load_feature_extractor(str(model)))
    assert EXTRACTOR in said or PROCESSOR in said or "feature extractor" in said
    if "to_dict" not in said and "__class__" not in said:  # which only transformers would see
        assert refused(lambda: load_sampling_rate(str(model))) == said


@pytest.mark.parametrize(
    "make",
    [
        edit(CONFIG, auto_map=CODE),
        edit(CONFIG, auto_map=CODE, model_type="evil"),
        edit(EXTRACTOR, auto_map=CODE),
        write(PROCESSOR, json.dumps({"feature_extractor": {"auto_map": CODE}})),
    ],
    ids=["config", "type", "extractor", "processor"],
)
def test_no_task_runs_code_of_a_model(  # noqa: PLR0917 - fixtures
    run_task: RunTask,
    dataset: Path,
    corpus: Path,
    corpus_manifest: Path,
    tiny_model: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Fault,
) -> None:
    """Not even where somebody would say yes; every task that reads a model ends with one line."""
    make(model)
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(0)\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115, PTH123
    out = tmp_path / "out"
    given = f"--profile cpu-smoke --model-name-or-path {model}"
    evaluate = f"evaluate --data {dataset} --output-dir {out} --profile cpu-smoke"
    for task in (
        f"train {given} --processed-dataset-path {dataset} --output-dir {out}",
        f"train --dry-run {given} --processed-dataset-path {dataset} --output-dir {out}",
        f"prepare {given} --manifest-path {corpus_manifest} --output-dir {out}",
        f"prepare --dry-run {given} --manifest-path {corpus_manifest} --output-dir {out}",
        f"doctor {given}",
        f"embed {next(path for path in corpus.rglob('*') if path.is_file())} --model {model} --output {out}.npz",
        f"{evaluate} --adapted {model} --base {tiny_model}",
        f"{evaluate} --adapted {tiny_model} --base {model}",
        f"publish --run {model} --repo-id me/model --licence mit --dry-run",
    ):
        status, said, err = run_task(task)
        assert status == 1, task + said + err
        assert "code of its own (auto_map in" in err or 'is of type "evil"' in err, task + err
        assert not (tmp_path / "ran").exists()


def test_weights_that_are_not_read_may_be_anything(model: Path) -> None:
    """What lies beside a model and is not of it stops nothing: pipes, and settings of other tasks."""
    os.mkfifo(model / "generation_config.json")
    os.mkfifo(model / "adapter_config.json")
    (model / "tokenizer_config.json").write_text(json.dumps({"auto_map": CODE}))
    assert torch.is_tensor(load_model(ModelConfig(model_name_or_path=str(model)), PLAIN).quantizer.codevectors)
