"""A model folder that is none, or is not whole, says so in one line, whichever task it is given to."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import PLAIN, build_tiny_model
from runyoro_ssl.config import ModelConfig
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.foreign.shape import EXTRACTOR_SETTINGS
from runyoro_ssl.model.extractor import load_feature_extractor
from runyoro_ssl.model.folder import check_folder
from runyoro_ssl.model.load import load_model
from support.model_faults import (
    CONFIG,
    EXTRACTOR,
    LFS_POINTER,
    PICKLED,
    WEIGHTS,
    Fault,
    cut,
    edit,
    hide_in,
    pickle_weights,
    remove,
    save_fairseq,
    save_fairseq2,
    shard,
    together,
    write,
)

RunTask = Callable[[str], tuple[int, str, str]]
BOM = b"\xef\xbb\xbf"


def run_folder(folder: Path) -> None:
    """A run that was stopped: no final model, some checkpoints, the last written not the last by step."""
    for time, name in enumerate(("checkpoint-1000", "superseded-checkpoint-2000", "checkpoint-500")):
        os.utime(shutil.copytree(folder, folder.parent / "copies" / name), (time, time))
    shutil.rmtree(folder)
    (folder.parent / "copies").rename(folder)


SETTINGS_FAULTS: dict[str, tuple[Fault, str]] = {
    "config.json missing": (remove(CONFIG), f"has no {CONFIG}, which says what the weights are"),
    "config.json cut": (write(CONFIG, '{"model_type": "wav2v'), f"{CONFIG} that is no JSON (Unterminated string"),
    "config.json with a byte order mark": (write(CONFIG, BOM + b"{}"), "no JSON (Unexpected UTF-8 BOM"),
    "config.json in UTF-16": (write(CONFIG, '{"model_type": "wav2vec2"}'.encode("utf-16")), "not in UTF-8"),
    "config.json nested": (write(CONFIG, "[" * 100_000), "no JSON (nested too deeply)"),
    "config.json a list": (write(CONFIG, "[1]"), "holds list, not an object"),
    "config.json empty": (write(CONFIG, ""), f"{CONFIG} of 0 bytes"),
    "config.json a page": (write(CONFIG, "<!DOCTYPE html><html></html>"), f"{CONFIG} that is a web page"),
    "config.json a pointer": (write(CONFIG, LFS_POINTER), f"{CONFIG} is a Git LFS pointer of 135 bytes"),
    "another type": (edit(CONFIG, model_type="wav2vec2-bert"), 'is of type "wav2vec2-bert" (config.json)'),
    "no type": (edit(CONFIG, model_type=None), "names no model_type in config.json (seen: None)"),
    "code of its own": (edit(CONFIG, auto_map={"AutoConfig": "evil.Evil"}), "auto_map in config.json"),
    "extractor's code": (edit(EXTRACTOR, auto_map={"AutoFeatureExtractor": "evil.Evil"}), f"auto_map in {EXTRACTOR}"),
    "extractor cut": (cut(EXTRACTOR, 0.5), f"{EXTRACTOR} that is no JSON"),
    "extractor missing": (remove(EXTRACTOR), "hf download facebook/wav2vec2-xls-r-300m preprocessor_config.json"),
    "extractor above": (
        together(lambda folder: shutil.copy(folder / EXTRACTOR, folder.parent), remove(EXTRACTOR)),
        "the folder above has one",
    ),
    "adapter": (
        together(
            remove(CONFIG, WEIGHTS), write("adapter_config.json", '{"base_model_name_or_path": "facebook/mms-300m"}')
        ),
        "holds an adapter (adapter_config.json), not a model: give its base (facebook/mms-300m)",
    ),
    "fairseq": (
        together(remove(CONFIG, WEIGHTS), lambda folder: save_fairseq(folder / "xlsr2_300m.pt")),
        "holds a checkpoint of fairseq (xlsr2_300m.pt), which transformers does not read; `invoke convert ",
    ),
    "fairseq2": (
        together(remove(CONFIG, WEIGHTS), lambda folder: save_fairseq2(folder / "model/pp_00/tp_00/sdp_00.pt")),
        "holds a checkpoint of fairseq2 (sdp_00.pt)",
    ),
    "pointer alone": (together(remove(CONFIG), write(WEIGHTS, LFS_POINTER)), f"{WEIGHTS} is a Git LFS pointer of 135"),
    "a run": (run_folder, "a model is in a folder inside: give {folder}/checkpoint-1000"),
    "deeper": (hide_in("checkpoint-500"), "a model is in a folder inside: give {folder}/checkpoint-500"),
    "cache of the hub": (hide_in("snapshots", "0f1e"), "a model is in a folder inside: give {folder}/snapshots/0f1e"),
}  # fmt: skip

WEIGHTS_FAULTS: dict[str, tuple[Fault, str]] = {
    "no weights": (remove(WEIGHTS), f"has no weights ({WEIGHTS} or {PICKLED})"),
    "pointer": (write(WEIGHTS, LFS_POINTER), f"{WEIGHTS} is a Git LFS pointer of 135 bytes, not the file itself"),
    "annex": (write(WEIGHTS, "/annex/objects/MD5E-s12--ab.bin"), f"{WEIGHTS} is a git-annex pointer"),
    "link to nothing": (
        together(remove(WEIGHTS), lambda folder: (folder / WEIGHTS).symlink_to("../../blobs/abc")),
        f"{WEIGHTS} that is a link to ../../blobs/abc, which is not there",
    ),
    "a folder": (together(remove(WEIGHTS), lambda folder: (folder / WEIGHTS).mkdir()), f"a folder named {WEIGHTS}"),
    "0 bytes": (write(WEIGHTS, ""), f"{WEIGHTS} of 0 bytes"),
    "a page": (write(WEIGHTS, "\n<html><body>Sign in</body></html>"), f"{WEIGHTS} that is a web page"),
    "cut in the list": (cut(WEIGHTS, 0.01), f"{WEIGHTS} that is cut short"),
    "cut in a tensor": (cut(WEIGHTS, 0.9), f"{WEIGHTS} that is cut short"),
    "longer": (lambda folder: (folder / WEIGHTS).open("ab").write(b"rest"), f"{WEIGHTS} that is damaged"),
    "noise": (write(WEIGHTS, bytes(range(256)) * 9), f"{WEIGHTS} that is no safetensors file (2,304 bytes)"),
    "list spoiled": (write(WEIGHTS, (9).to_bytes(8, "little") + b'{"a": [1}'), f"a damaged {WEIGHTS}"),
    "shard missing": (
        together(shard(3), remove("model-00002-of-00003.safetensors")),
        "lacks model-00002-of-00003.safetensors: 1 of the 3 shards that model.safetensors.index.json names is missing",
    ),
    "shard cut": (
        together(shard(3), cut("model-00003-of-00003.safetensors", 0.8)),
        "model-00003-of-00003.safetensors that is cut short",
    ),
    "shard a pointer": (
        together(shard(2), write("model-00001-of-00002.safetensors", LFS_POINTER)),
        "model-00001-of-00002.safetensors is a Git LFS pointer",
    ),
    "index missing": (
        together(shard(2), remove(f"{WEIGHTS}.index.json")),
        "has shards (model-00001-of-00002.safetensors), but not the model.safetensors.index.json",
    ),
    "index no JSON": (together(shard(2), write(f"{WEIGHTS}.index.json", "{")), "names no shards"),
    "index outside": (
        together(shard(2), write(f"{WEIGHTS}.index.json", '{"weight_map": {"a": "../b.safetensors"}}')),
        "whose shards are not in the folder (seen: ['../b.safetensors'])",
    ),
    ".bin cut": (together(pickle_weights, cut(PICKLED, 0.9)), f"{PICKLED} that is cut short or damaged"),
    "fairseq renamed": (
        together(remove(WEIGHTS), lambda folder: save_fairseq(folder / PICKLED)),
        f"holds a checkpoint of fairseq ({PICKLED})",
    ),
    "fairseq beside": (
        together(remove(WEIGHTS), lambda folder: save_fairseq(folder / "checkpoint_best.pt")),
        "holds a checkpoint of fairseq (checkpoint_best.pt)",
    ),
    "TensorFlow": (together(remove(WEIGHTS), write("tf_model.h5", b"\x89HDF")), "for TensorFlow only (tf_model.h5)"),
    "Flax": (together(remove(WEIGHTS), write("flax_model.msgpack", b"\x83")), "for Flax only (flax_model.msgpack)"),
    "ONNX": (together(remove(WEIGHTS), write("model.onnx", b"\x08")), "for ONNX only (model.onnx)"),
    "adapter": (
        together(remove(WEIGHTS), write("adapter_config.json", "{}")), "holds an adapter (adapter_config.json)"
    ),
    "DeepSpeed": (together(remove(WEIGHTS), write("zero_to_fp32.py", "#")), "a checkpoint of DeepSpeed, in parts"),
    "FSDP": (
        together(remove(WEIGHTS), lambda folder: (folder / "pytorch_model_fsdp_0").mkdir()), "accelerate merge-weights"
    ),
    "unfinished": (
        together(remove(WEIGHTS), write("model.safetensors.part", "x")), "an unfinished download (model"
    ),
    "another name": (
        lambda folder: (folder / WEIGHTS).rename(folder / "model.fp16.safetensors"), "only model.fp16.safetensors"
    ),
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A good model folder, alone in the folder above."""
    return build_tiny_model(tmp_path / "above" / "model")


@pytest.fixture
def commands(dataset: Path, corpus_manifest: Path, model: Path, tmp_path: Path) -> dict[str, str]:
    """By task, a command line that would do its work with the model."""
    shared = f"--profile cpu-smoke --model-name-or-path {model}"
    return {
        "prepare": f"prepare {shared} --manifest-path {corpus_manifest} --output-dir {tmp_path / 'out'}",
        "doctor": f"doctor {shared}",
        "train": f"train {shared} --processed-dataset-path {dataset} --output-dir {tmp_path / 'out'}",
    }


def complaint_of(folder: Path, *, weights: bool = False) -> str:
    """What is said of a folder: one line."""
    with pytest.raises(CheckpointError) as caught:
        check_folder(str(folder), weights=weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("fault", SETTINGS_FAULTS)
def test_fault_of_settings_is_named(model: Path, fault: str) -> None:
    """File, value and remedy, whether weights are asked for or not."""
    make, complaint = SETTINGS_FAULTS[fault]
    make(model)
    assert complaint.format(folder=model) in complaint_of(model)
    assert complaint_of(model) == complaint_of(model, weights=True)


@pytest.mark.parametrize("fault", WEIGHTS_FAULTS)
def test_fault_of_weights_is_named(model: Path, fault: str) -> None:
    """File, value and remedy; preparing recordings needs no weights."""
    make, complaint = WEIGHTS_FAULTS[fault]
    make(model)
    assert complaint in complaint_of(model, weights=True)
    check_folder(str(model))


def test_whole_folders_pass_and_load(model: Path) -> None:
    """In shards, beside a pointer of weights that are not read, with an adapter beside: nothing is wrong with these."""
    (model / PICKLED).write_text(LFS_POINTER)
    (model / "adapter_config.json").write_text("{}")
    shard(3)(model)
    assert load_model(ModelConfig(model_name_or_path=str(model)), PLAIN)


def test_settings_of_a_processor_are_enough(model: Path) -> None:
    """Transformers 5 may write the feature extractor's settings into processor_config.json."""
    settings = json.loads((model / EXTRACTOR).read_text())
    (model / EXTRACTOR).unlink()
    (model / "processor_config.json").write_text(json.dumps({"feature_extractor": settings}))
    check_folder(str(model), weights=True)
    assert load_feature_extractor(str(model)).return_attention_mask


def test_missing_extractor_can_be_written_as_told(model: Path) -> None:
    """The content that the message gives is one that loads; nothing is written by itself."""
    (model / EXTRACTOR).unlink()
    content = complaint_of(model).rpartition("that file holds ")[2]
    assert not (model / EXTRACTOR).exists()
    assert json.loads(content) == EXTRACTOR_SETTINGS
    (model / EXTRACTOR).write_text(content)
    assert load_feature_extractor(str(model)).return_attention_mask
    edit(CONFIG, feat_extract_norm="group")(model)
    (model / EXTRACTOR).unlink()
    assert '"return_attention_mask": false' in complaint_of(model)
    assert "facebook/wav2vec2-base" in complaint_of(model)


@pytest.mark.parametrize(("save", "toolkit"), [(save_fairseq, "fairseq"), (save_fairseq2, "fairseq2")])
def test_files_in_place_of_a_folder_say_what_they_are(
    model: Path, tmp_path: Path, save: Callable[[Path], None], toolkit: str
) -> None:
    """A checkpoint of another toolkit; a file of a model folder; something else."""
    save(tmp_path / "model.pt")
    assert f"is a checkpoint of {toolkit}, which" in complaint_of(tmp_path / "model.pt")
    assert f"is a file; give its folder: {model}" in complaint_of(model / WEIGHTS)
    (tmp_path / "model.zip").write_bytes(b"PK")
    assert "is a file; give a folder with config.json" in complaint_of(tmp_path / "model.zip")
    (tmp_path / "nothing").mkdir()
    assert "is empty; give a folder with config.json" in complaint_of(tmp_path / "nothing")


def test_checkpoint_of_a_run_is_a_model(run_task: RunTask, commands: dict[str, str], tmp_path: Path) -> None:
    """A new run may begin with any checkpoint of ours; what is said of the run's folder leads there."""
    status, _, err = run_task(f"{commands['train']} --max-steps 1")
    assert status == 0, err
    (tmp_path / "out" / CONFIG).unlink()
    found = complaint_of(tmp_path / "out").rpartition("give ")[2]
    assert found == str(tmp_path / "out/checkpoint-1")
    check_folder(found, weights=True)
    assert load_model(ModelConfig(model_name_or_path=found), PLAIN)


def test_hub_ids_are_not_looked_for_here() -> None:
    """What is no path here is the hub's affair."""
    check_folder("facebook/wav2vec2-xls-r-300m", weights=True)


@pytest.mark.parametrize(
    ("fault", "tasks"),
    [
        ("config.json cut", ["prepare", "doctor", "train"]),
        ("extractor missing", ["prepare", "doctor", "train"]),
        ("fairseq", ["prepare", "doctor", "train"]),
        ("pointer", ["doctor", "train"]),
        ("shard missing", ["doctor", "train"]),
    ],
)
def test_tasks_end_with_one_line(
    run_task: RunTask, commands: dict[str, str], model: Path, fault: str, tasks: list[str]
) -> None:
    """Status 1 by each task that needs what is wrong, and nothing is written."""
    make, complaint = (SETTINGS_FAULTS | WEIGHTS_FAULTS)[fault]
    make(model)
    before = sorted(model.rglob("*"))
    for task in tasks:
        status, out, err = run_task(commands[task])
        assert (task, status) == (task, 1), out + err
        assert complaint in err
        assert "Traceback" not in err + out
    assert sorted(model.rglob("*")) == before
    assert not [path for path in model.parent.parent.rglob("out/*") if path.name[0] != "."]
