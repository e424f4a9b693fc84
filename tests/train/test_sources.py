"""A run on several datasets: heard by their shares, judged one by one, resumed exactly, refused where it must be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from conftest import prepared
from runyoro_ssl.batches.unreadable import Unreadable
from runyoro_ssl.commands.given import resolve
from runyoro_ssl.config import Config, HealthConfig, SourceConfig
from runyoro_ssl.dataset.joined import JoinedClips
from runyoro_ssl.errors import CheckpointError, ConfigError, DatasetError, LoaderError, TrainingError
from runyoro_ssl.evaluate.heldout import validate
from runyoro_ssl.train.health.watch import HealthWatch
from runyoro_ssl.train.sources import OpenSource, Sources, open_sources
from support.trainer import Trainer, build, equal, metrics, run, weights

if TYPE_CHECKING:
    from runyoro_ssl.batches.build import TrainingBatch

MakeConfig = Callable[..., Config]
RESUME = "train.resume_from_checkpoint=last"
SHARE, RATE = 0.25, 16_000


@pytest.fixture
def of_two(train_config: MakeConfig, dataset: Path, donor: Path) -> MakeConfig:
    """A function (output name, *settings, source=…) -> the configuration of a run on both."""

    def make(run_name: str = "run", /, *settings: str, **source: Any) -> Config:
        second = {"path": str(donor), "share": SHARE, **source}
        written = ", ".join(f"{key} = {json.dumps(value)}" for key, value in second.items() if value is not None)
        return train_config(run_name, f'train.sources=[{{path = "{dataset}"}}, {{{written}}}]', *settings)

    return make


def test_a_run_on_two_sources_tells_of_each(of_two: MakeConfig, dataset: Path) -> None:
    """Hours by source in the log and the result, in their shares; held-out numbers by source."""
    config = of_two("run", "train.max_steps=24", "train.eval_steps=24", role="replay")
    result = run(config)
    lines = metrics(config.train.output_dir)
    last = [line for line in lines if "train/hours/donor" in line][-1]
    hours = {name: last[f"train/hours/{name}"] for name in ("dataset", "donor")}
    assert hours["donor"] / sum(hours.values()) == pytest.approx(SHARE, abs=0.03)
    assert sum(hours.values()) * 3600 == pytest.approx(24 * 12, rel=0.1)
    judged = [line for line in lines if "eval/contrastive_loss" in line]
    assert all(line["eval/donor/contrastive_loss"] > 0 for line in judged)
    assert judged[0]["eval/donor/contrastive_loss"] != judged[0]["eval/contrastive_loss"]
    assert result.last["eval/donor/accuracy"] >= 0
    written = json.loads((config.train.output_dir / "result.json").read_text())
    assert [(one["name"], one["role"], round(one["share"], 6)) for one in written["sources"]] == [
        ("dataset", "target", 1 - SHARE),
        ("donor", "replay", SHARE),
    ]
    assert [one["hours_heard"] for one in written["sources"]] == pytest.approx(list(hours.values()))
    assert written["dataset_sha256"] == json.loads((dataset / "fingerprint.json").read_text())["content_sha256"]


def test_the_target_is_judged_as_in_a_run_on_it_alone(
    of_two: MakeConfig, train_config: MakeConfig, donor: Path
) -> None:
    """To the bit: the same clips, masks and negatives."""
    both = build(of_two("both"))
    assert [judged.stage for judged in both.judged] == ["eval", "eval/donor"]
    alone = build(train_config("alone")), build(train_config("other", f"train.processed_dataset_path={donor}"))
    for one, judged in zip(alone, both.judged, strict=True):
        [own] = one.judged
        assert own.plan == judged.plan
        expected = validate(one.accelerator, one.model, own.batches, own.plan)
        found = validate(one.accelerator, one.model, judged.batches, judged.plan)
        assert found == expected


def test_of_a_large_source_as_much_is_judged_as_of_the_target() -> None:
    """Some of its clips, the same every time: a validation must not take much longer for it."""
    one, other = (OpenSource(SourceConfig(path=Path(name)), name, "donor", None, RATE) for name in "ab")
    one.__dict__["held_out_lengths"], other.__dict__["held_out_lengths"] = (RATE,) * 90, (RATE,) * 10_000
    chosen = Sources((one, other), (0.5, 0.5)).judged_clips(other)
    assert chosen == Sources((one, other), (0.5, 0.5)).judged_clips(other) == sorted(set(chosen))
    assert len(chosen) == 90
    assert Sources((one, other), (0.5, 0.5)).judged_clips(one) == list(range(90))


def test_resumed_in_the_middle_of_a_mixed_epoch(of_two: MakeConfig) -> None:
    """Bit-equal to the undisturbed run, with a source that joins and ends: weights, numbers, hours."""
    settings = ("train.max_steps=9", "train.save_steps=3", 'plugins.augmentations=["noise"]')
    whole = of_two("whole", *settings, from_step=2, until_step=7)
    run(whole)
    broken = of_two("broken", *settings, from_step=2, until_step=7)
    shutil.copytree(whole.train.output_dir / "checkpoint-6", broken.train.output_dir / "checkpoint-6")
    for name in ("run.toml", "metrics.jsonl"):
        shutil.copy(whole.train.output_dir / name, broken.train.output_dir / name)
    run(of_two("broken", *settings, RESUME, from_step=2, until_step=7))
    assert equal(weights(broken.train.output_dir), weights(whole.train.output_dir))
    assert metrics(broken.train.output_dir) == metrics(whole.train.output_dir)
    hours = [line["train/hours/donor"] or 0.0 for line in metrics(whole.train.output_dir) if "train/accuracy" in line]
    assert hours[:2] == [0.0, 0.0]
    assert hours[2] < hours[6] == hours[8]


@pytest.mark.parametrize("num_processes", [2, pytest.param(4, marks=pytest.mark.long)])
def test_processes_share_a_mixed_run(of_two: MakeConfig, tmp_path: Path, num_processes: int) -> None:
    """They hear together what one hears, and log the same hours."""
    settings = ("train.max_steps=4", "hardware.batch_seconds=3", "hardware.update_seconds=24")
    alone = of_two("alone", *settings)
    run(alone)
    several = Trainer(of_two("several", *settings), tmp_path / "several.log")
    several.finish_in(num_processes)
    ours, theirs = metrics(alone.train.output_dir), metrics(several.out)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert other.get("train/hours/donor") == one.get("train/hours/donor")
        for name in ("train/contrastive_loss", "eval/contrastive_loss", "eval/donor/contrastive_loss"):
            assert other.get(name) == pytest.approx(one.get(name), abs=2e-3)


@pytest.mark.parametrize("change", [{"share": 0.3}, {"role": "replay"}, {"from_step": 1}, {"until_step": 9}])
def test_other_shares_are_another_run(of_two: MakeConfig, change: dict[str, Any]) -> None:
    """What decides what is learned is refused; a name and a place are not."""
    run(of_two("run", "train.max_steps=2"))
    with pytest.raises(
        CheckpointError, match=r"train\.sources was \['target', 'donor, share 0\.25'\], is \['target', .*'\]"
    ):
        run(of_two("run", "train.max_steps=2", RESUME, **change))
    assert run(of_two("run", "train.max_steps=2", RESUME, name="another-name")).step == 2


def test_a_run_on_one_is_not_gone_on_with_on_two(of_two: MakeConfig, train_config: MakeConfig) -> None:
    """Nor the other way round."""
    run(train_config("one", "train.max_steps=2"))
    with pytest.raises(CheckpointError, match=r"train\.sources was \[\], is \['target', "):
        run(of_two("one", "train.max_steps=2", RESUME))


def test_told_to_a_run_goes_on_with_other_sources(of_two: MakeConfig, train_config: MakeConfig) -> None:
    """With fewer and with more: what was heard is counted anew, as it is of other sources."""
    run(of_two("run", "train.max_steps=2"))
    go_on = (RESUME, "train.override_mismatch=true")
    assert run(train_config("run", "train.max_steps=3", *go_on)).step == 3
    lines = metrics(train_config("run").train.output_dir)
    assert "train/hours/dataset" not in lines[-1]
    assert run(of_two("run", "train.max_steps=4", *go_on)).step == 4
    hours = [line for line in metrics(train_config("run").train.output_dir) if "train/hours/dataset" in line][-1]
    assert 0 < 3600 * (hours["train/hours/dataset"] + hours["train/hours/donor"]) < 20


def test_a_source_that_is_gone_or_changed_is_named(of_two: MakeConfig, donor: Path, tmp_path: Path) -> None:
    """Where it was moved to can be said; another one is refused."""
    moved = tmp_path / "moved"
    shutil.copytree(donor, moved)
    run(of_two("run", "train.max_steps=2", path=str(moved)))
    shutil.rmtree(moved)
    with pytest.raises(DatasetError, match=r"source moved: .*moved: no such dataset"):
        run(of_two("run", "train.max_steps=2", RESUME, path=str(moved)))
    assert run(of_two("run", "train.max_steps=2", RESUME)).step == 2
    shutil.copytree(donor, moved)
    fingerprint = json.loads((moved / "fingerprint.json").read_text())
    (moved / "fingerprint.json").write_text(json.dumps({**fingerprint, "content_sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"moved is another one than it had .*the path of that source"):
        run(of_two("run", "train.max_steps=2", RESUME, path=str(moved)))


def test_a_source_that_the_run_does_not_come_to_is_refused(of_two: MakeConfig) -> None:
    """Before anything is written; one step more, and it is heard."""
    with pytest.raises(ConfigError, match=r"donor is heard after step 4, and the run ends after 4; .* lower from_step"):
        run(of_two("run", from_step=4))
    assert not of_two("run").train.output_dir.exists()
    config = of_two("run", from_step=3)
    run(config)
    assert metrics(config.train.output_dir)[-1]["eval/donor/contrastive_loss"] > 0


def test_a_target_that_moved_is_found_again(of_two: MakeConfig, dataset: Path, donor: Path, tmp_path: Path) -> None:
    """By the first of the sources, or by the short form, as somebody gives them on the command line."""
    out = of_two("run", "train.max_steps=2").train.output_dir
    run(of_two("run", "train.max_steps=2"))
    moved = tmp_path / "moved"
    shutil.copytree(dataset, moved)
    asked = {"output_dir": out, "resume_from_checkpoint": "last", "profile": "cpu-smoke"}
    sources = f'train.sources=[{{path = "{moved}"}}, {{path = "{donor}", share = {SHARE}}}]'
    for given in ({"set": [sources]}, {"processed_dataset_path": moved}):
        config = resolve("train", {**asked, **given})
        assert [source.path for source in config.train.sources] == [moved, donor]
        assert config.train.processed_dataset_path == moved
    nested = f'train.sources=[{{path = "{dataset}/../{dataset.name}"}}, {{path = "{donor}", share = {SHARE}}}]'
    assert run(resolve("train", {**asked, "set": [nested]})).step == 2


def test_a_broken_source_does_not_hide_behind_a_large_one() -> None:
    """Clips that cannot be read are counted for each: none of the target's is not half a percent of all."""
    place = ("target", "donor")
    clips = Unreadable(1010, 0.01, lambda row: (place[row >= 10], row), {"target": 10, "donor": 1000})
    batch = SimpleNamespace(unreadable={3: "gone"}, clip_samples=())
    with pytest.raises(LoaderError, match=r"rows 3 of target \(gone\)"):
        clips.leave_out([cast("TrainingBatch", batch)])
    assert clips.share == 0.1
    few = SimpleNamespace(unreadable=dict.fromkeys(range(10, 20), "gone"), clip_samples=())
    others = Unreadable(1010, 0.01, lambda row: (place[row >= 10], row), {"target": 10, "donor": 1000})
    assert others.leave_out([cast("TrainingBatch", few)]) == []


def test_each_source_must_be_maskable(of_two: MakeConfig) -> None:
    """One whose clips are too short is named, however much the other has."""
    with pytest.raises(TrainingError, match=r"^source dataset: masking: .* would teach nothing"):
        run(of_two("run", "masking.mask_time_prob=0.01", "masking.mask_time_min_spans=0"))


def test_a_share_that_no_source_can_fill_is_refused(of_two: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be heard over and over: a thousand times at most, here ten."""
    monkeypatch.setattr("runyoro_ssl.train.sources.MAX_PASSES", 10)
    with pytest.raises(DatasetError, match=r"source donor: .* would be heard .* times in each pass over dataset"):
        run(of_two("run", share=0.95))


def test_the_watch_looks_anew_where_the_mix_changes(of_two: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step at which a source joins or ends, and at no other."""
    at: list[int] = []
    monkeypatch.setattr(HealthWatch, "hear_others", lambda _: at.append(1))
    run(of_two("run", "train.max_steps=5", from_step=2, until_step=4))
    assert len(at) == 2
    watch = HealthWatch(HealthConfig())
    watch._learned.held_gap, watch._learned.validations_without_best = -1.0, 3
    watch._recent.gaps = [-1.0] * 20
    monkeypatch.undo()
    watch.hear_others()
    assert (watch._learned.held_gap, watch._learned.validations_without_best, watch._recent.gaps) == (0.0, 0, [])


def test_a_source_for_another_rate_is_refused(of_two: MakeConfig, donor: Path, tmp_path: Path) -> None:
    """By its name, and both rates."""
    other = tmp_path / "telephone"
    shutil.copytree(donor, other)
    fingerprint = json.loads((other / "fingerprint.json").read_text())
    (other / "fingerprint.json").write_text(json.dumps({**fingerprint, "sampling_rate": 8000}))
    with pytest.raises(DatasetError, match=r"source telephone: .*prepared at 8000 Hz, the model takes 16000 Hz"):
        run(of_two(path=str(other)))


def test_a_held_out_clip_in_another_source_is_refused(
    train_config: MakeConfig, corpus_manifest: Path, dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Found by its samples, whatever it is called: its loss would tell nothing."""
    lines = corpus_manifest.read_text().splitlines()
    again = tmp_path / "manifest.jsonl"
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["audio_filepath"] = str((corpus_manifest.parent / row["audio_filepath"]).resolve())
        del row["speaker"]  # others are held out
    again.write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = prepared(again, tmp_path / "again", tiny_model)
    settings = f'train.sources=[{{path = "{dataset}"}}, {{path = "{other}"}}]'
    with pytest.raises(
        DatasetError, match=r"source \w+ trains on \d+ clips that are held out of \w+, such as \""
    ) as error:
        run(train_config("run", settings))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_clips_are_numbered_through_and_named_by_their_source(of_two: MakeConfig) -> None:
    """Each reads as its own dataset does, and is told with the row that it has there."""
    sources = open_sources(of_two().train, sampling_rate=RATE)
    clips = sources.clips()
    assert isinstance(clips, JoinedClips)
    first = len(sources.target.lengths)
    assert clips.place(first) == ("donor", 0)
    assert clips.place(first - 1) == ("dataset", first - 1)
    np.testing.assert_array_equal(clips.waveform(first + 1, 5, 100), sources.others[0].clips.waveform(1, 5, 100))
    assert [clips.num_samples(clip) for clip in range(len(clips))] == list(sources.lengths)
    with pytest.raises(IndexError):
        clips.waveform(len(clips))
    [name] = sources.name_clips([first])
    assert name.startswith("donor: ")
    assert "@" in name
