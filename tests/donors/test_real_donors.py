"""Real speech: which language is nearest, whatever is drawn.

By spectra: a random model has no units of speech, and a trained one is not part of this repository. docs/donors.md has
what one of 6.4 M parameters makes of the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyoro_ssl import donors
from runyoro_ssl.audio.synth import write_corpus
from support.pools import prepared, row, without_sound, write_music

SPEAKERS = ("lug_f_35-30", "lug_f_40-35", "lug_m_30-25", "lug_m_35-30")


def clips_of(
    bantu: Path, language: str, speaker: str | None, first: int, seconds: float
) -> Iterator[dict[str, object]]:
    """Lines of the manifest, from the first of a speaker on, until there is enough."""
    rows = [json.loads(line) for line in (bantu / "manifest.jsonl").read_text().splitlines()]
    of_speaker = [one for one in rows if one["language"] == language and speaker in (None, one["speaker"])]
    for one in of_speaker[first:]:
        if seconds <= 0:
            return
        seconds -= one["duration"]
        yield {**one, "audio_filepath": str(bantu / one["audio_filepath"])}


@pytest.fixture(scope="module")
def place(bantu: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Luganda and Kinyarwanda as targets; a pool of more of each, Swahili, synthetic speech and music."""
    folder = tmp_path_factory.mktemp("real")
    luganda = [one for name in SPEAKERS for one in clips_of(bantu, "lug", name, 0, 20)]
    prepared(luganda, folder / "lug", tiny_model)
    prepared(clips_of(bantu, "kin", None, 0, 80), folder / "kin", tiny_model)
    write_corpus(folder / "synth", num_clips=16, num_voices=4, num_words=60, clip_sec=4.0)
    others = [row(path, language="synthetic", speaker=path.parent.name) for path in (folder / "synth").rglob("*.wav")]
    others += [row(path, language="music") for path in write_music(folder / "music", 12)]
    pool = [one for name in SPEAKERS for one in clips_of(bantu, "lug", name, 12, 15)]
    pool += [*clips_of(bantu, "kin", None, 20, 60), *clips_of(bantu, "swh", None, 0, 60), *others]
    prepared(pool, folder / "pool", tiny_model, "prepare.split_by=recording", "prepare.validation_share=0.02")
    return folder


@pytest.mark.parametrize(("target", "seed"), [("lug", 0), ("lug", 1), ("kin", 0)])
def test_the_nearest_is_its_own_other_half(
    place: Path, tiny_model: Path, tmp_path: Path, target: str, seed: int
) -> None:
    """Then the languages of its family, then what is none; and most of what is taken is its own."""
    with without_sound():
        found = donors(
            target=place / target,
            pool=place / "pool",
            hours=0.006,
            max_speaker_share=1.0,
            num_units=50,
            seed=seed,
            layer="log-mel",
            model_name_or_path=tiny_model,
            profile="cpu-smoke",
            cache_dir=place / "cache",
            output_dir=tmp_path / "set",
        )
    order = [one.name for one in found.languages]
    assert order[0] == target
    assert set(order[1:3]) == {"lug", "kin", "swh"} - {target}
    assert set(order[3:]) == {"synthetic", "music"}
    taken = {one.name: one.hours_chosen for one in found.languages}
    assert taken["synthetic"] == taken["music"] == 0
    assert taken[target] > sum(taken.values()) / 2
    assert {one.reading for one in found.languages} == {"not known"}
    assert found.own > found.languages[1].similarity  # type: ignore[operator]  # it is known
