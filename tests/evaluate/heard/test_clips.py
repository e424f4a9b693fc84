"""Which held-out clips are heard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.dataset.layout import TRAIN, VALIDATION
from runyoro_ssl.dataset.read import read_fingerprint
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.heard import clips, trained_on
from runyoro_ssl.evaluate.heard.clips import HeldOutClip, choose_clips, choose_trained
from runyoro_ssl.evaluate.heard.trained_on import check_dataset_is_that_of, dataset_of


def clip(row: int, recording: str, speaker: str | None = None, seconds: float = 5.0) -> HeldOutClip:
    """A clip of a recording."""
    return HeldOutClip(row, f"{recording}@{row}", recording, speaker, None, round(seconds * 16_000), row)


def test_clips_come_in_turn_from_every_speaker_and_recording() -> None:
    """A speaker of a hundred clips does not drive out one of three; so much is taken, and a clip more at most."""
    many = [clip(row, f"a{row % 4}", "anna") for row in range(100)]
    few = [clip(100 + row, "b", "ben") for row in range(3)]
    chosen = clips._spread([*many, *few], 8 * 5 * 16_000, seed=0)
    assert len(chosen) == 8
    assert sum(one.speaker == "ben" for one in chosen) == 3
    assert len({one.recording for one in chosen if one.speaker == "anna"}) == 4
    assert chosen == clips._spread([*few, *reversed(many)], 8 * 5 * 16_000, seed=0)
    assert chosen != clips._spread([*many, *few], 8 * 5 * 16_000, seed=1)


@pytest.mark.parametrize(
    ("speakers", "recordings", "kind"), [(16, 30, "speakers"), (15, 30, "recordings"), (2, 3, "clips"), (1, 1, "clips")]
)
def test_groups_are_of_what_there_is_enough_of(speakers: int, recordings: int, kind: str) -> None:
    """Speakers, recordings, or else clips; halves share no group, nor a recording, where there are two."""
    found = [clip(row, f"r{row % recordings}", f"s{row % recordings % speakers}") for row in range(60)]
    groups, seen = clips._group(found)
    assert seen == kind
    in_a = clips._halve(found, groups)
    assert not set(groups[in_a]) & set(groups[~in_a])
    assert abs(int(in_a.sum()) - 30) <= (10 if recordings == 3 else 4)
    if recordings > 1:
        halves = [
            {one.recording for one, first in zip(found, in_a, strict=True) if bool(first) is half}
            for half in (False, True)
        ]
        assert not halves[0] & halves[1]
    nobody_known, _ = clips._group([clip(row, f"r{row}") for row in range(20)])
    assert len(set(nobody_known)) == 20


def test_a_dataset_that_was_prepared_anew_is_refused(dataset: Path, tmp_path: Path) -> None:
    """Clips that the run has learned from may be held out now."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.toml").write_text(f'[train]\nprocessed_dataset_path = "{dataset}"\n')
    (run / "result.json").write_text(json.dumps({"dataset_sha256": read_fingerprint(dataset)["content_sha256"]}))
    check_dataset_is_that_of(run)
    (run / "result.json").write_text(json.dumps({"dataset_sha256": "another"}))
    with pytest.raises(EvaluationError, match="was prepared anew since run was trained"):
        check_dataset_is_that_of(run)


def test_clips_that_were_trained_on(dataset: Path) -> None:
    """Of the other split: none of them is held out."""
    trained = choose_trained(dataset, sampling_rate=16_000, max_seconds=20)
    held_out = choose_clips(dataset, sampling_rate=16_000, max_seconds=600)
    assert not {one.id for one in trained.clips} & {one.id for one in held_out.clips}
    assert len(trained.waveform(0)) == trained.clips[0].num_samples


def test_clips_of_a_dataset(dataset: Path) -> None:
    """Its held-out split, with what is known of each; the same samples for the same digest."""
    found = choose_clips(dataset, sampling_rate=16_000, max_seconds=600)
    assert found.seconds > 10
    assert {one.recording for one in found.clips}
    assert len(found.waveform(0)) == found.clips[0].num_samples
    assert found.digest() == choose_clips(dataset, sampling_rate=16_000, max_seconds=600).digest()
    assert found.digest() != choose_clips(dataset, sampling_rate=16_000, max_seconds=5).digest()


def test_what_a_model_was_trained_on_is_refused(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its samples, whatever the dataset is called; where it is all of it, a line says so."""
    run = tmp_path / "run"
    (run / "checkpoint-5").mkdir(parents=True)
    (run / "run.toml").write_text(f'[train]\nprocessed_dataset_path = "{dataset}"\n')
    assert dataset_of(run) == dataset == dataset_of(run / "checkpoint-5")
    assert dataset_of(tmp_path) is None
    whole = choose_clips(dataset, sampling_rate=16_000, max_seconds=600, models=[run])
    assert whole.refused == 0
    monkeypatch.setattr(trained_on, "TRAIN", VALIDATION)
    with pytest.raises(EvaluationError, match="a model was trained on each"):
        choose_clips(dataset, sampling_rate=16_000, max_seconds=600, models=[run / "checkpoint-5"])
    monkeypatch.setattr(trained_on, "TRAIN", TRAIN)
    assert np.isfinite(whole.seconds)


def test_what_cannot_be_checked_is_said(dataset: Path, tmp_path: Path) -> None:
    """Where a run's dataset is not found, nobody knows what was refused; the same clips at another place tell."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.toml").write_text('[train]\nprocessed_dataset_path = "elsewhere"\n')
    found = choose_clips(dataset, sampling_rate=16_000, max_seconds=600, models=[run])
    assert found.refused is None
    assert found.not_known == "a dataset that run was trained on is not found from here"
    (run / "result.json").write_text(json.dumps({"dataset_sha256": read_fingerprint(dataset)["content_sha256"]}))
    found = choose_clips(dataset, sampling_rate=16_000, max_seconds=600, models=[run])
    assert (found.refused, found.not_known) == (0, "")


def test_every_source_that_a_model_heard_is_looked_at(
    dataset: Path, donor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the target's alone: what a run has heard as a donor is no new speech; one that is gone is told of."""
    run = tmp_path / "run"
    run.mkdir()
    sources = "".join(f'[[train.sources]]\npath = "{path}"\n' for path in (dataset, donor))
    (run / "run.toml").write_text(f'[train]\nprocessed_dataset_path = "{dataset}"\n{sources}')
    assert choose_clips(donor, sampling_rate=16_000, max_seconds=600, models=[run]).refused == 0
    with monkeypatch.context() as patch:
        patch.setattr(trained_on, "TRAIN", VALIDATION)
        with pytest.raises(EvaluationError, match="a model was trained on each"):
            choose_clips(donor, sampling_rate=16_000, max_seconds=600, models=[run])
    (run / "run.toml").write_text((run / "run.toml").read_text().replace(str(donor), "gone"))
    found = choose_clips(dataset, sampling_rate=16_000, max_seconds=600, models=[run])
    assert found.not_known == "a dataset that run was trained on is not found from here"


def test_a_replay_that_was_prepared_anew_is_not_heard(donor: Path, dataset: Path, tmp_path: Path) -> None:
    """What the run replayed may be held out now."""
    run = tmp_path / "run"
    run.mkdir()
    sources = f'[[train.sources]]\npath = "{dataset}"\n[[train.sources]]\npath = "{donor}"\nrole = "replay"\n'
    (run / "run.toml").write_text(
        f'[train]\nprocessed_dataset_path = "{dataset}"\n{sources}[[train.sources]]\nname = "x"\n'
    )
    assert trained_on.replayed(run) == donor
    now = [read_fingerprint(path)["content_sha256"] for path in (dataset, donor)]
    for second, found in ((now[1], donor), ("0" * 64, None)):
        known = [{"dataset_sha256": one} for one in (now[0], second)]
        (run / "result.json").write_text(json.dumps({"dataset_sha256": now[0], "sources": known}))
        assert trained_on.replayed(run) == found
        heard = choose_clips(donor, sampling_rate=16_000, max_seconds=600, models=[run])
        assert heard.not_known == ("" if found else "donor, which run was trained on, was prepared anew since")
