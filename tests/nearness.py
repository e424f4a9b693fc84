"""How near real languages are to each other by `invoke donors`: `python tests/nearness.py SPEECH MODEL WORK --seeds 2`.

SPEECH has Luganda, Kinyarwanda and Swahili in two collections, MODEL is a base that was trained. Each language is the
target once, with the others, more of itself, synthetic speech and chords as pools: the table of docs/donors.md. Some
minutes on one core for each seed; what is in WORK already is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from runyoro_ssl import donors
from runyoro_ssl.audio.synth import write_corpus
from runyoro_ssl.logs import print_table
from support.pools import prepared, row, without_sound, write_music

LANGUAGES = ("lug", "kin", "swh")
SPEAKERS = ("lug_f_35-30", "lug_f_40-35", "lug_m_30-25", "lug_m_35-30")
TARGET_MIN, POOL_MIN = 10.0, 8.0
LONGEST_SEC = 15.0


def clips(folder: Path, language: str, speaker: str | None, minutes: float, skip: float) -> Iterator[dict[str, object]]:
    """Lines of a collection's manifest, of so many minutes, after as many are skipped."""
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        one = json.loads(line)
        if one["language"] != language or speaker not in (None, one["speaker"]) or one["duration"] > LONGEST_SEC:
            continue
        if skip > 0:
            skip -= one["duration"] / 60
        elif minutes > 0:
            minutes -= one["duration"] / 60
            yield {**one, "audio_filepath": str(folder / one["audio_filepath"])}


def make(speech: Path, model: Path, work: Path) -> None:
    """The datasets: a target and a pool of each language, and two pools of none."""
    of_voices = [list(clips(speech / "bantu", "lug", one, TARGET_MIN / 4, 0)) for one in SPEAKERS]
    more = [list(clips(speech / "bantu", "lug", one, POOL_MIN / 4, TARGET_MIN / 4 + 0.5)) for one in SPEAKERS]
    write_corpus(work / "synth", num_clips=60, num_words=200, clip_sec=4.0)
    synthetic = sorted((work / "synth").rglob("*.wav"))
    rows = {
        "target-lug": list(chain(*of_voices)),
        "lug": list(chain(*more)),
        "synthetic": [row(path, language="synthetic", speaker=path.parent.name) for path in synthetic],
        "chords": [row(path, language="chords") for path in write_music(work / "music", 30)],
    }
    for name in ("kin", "swh"):
        rows[f"target-{name}"] = list(clips(speech / "bantu", name, None, TARGET_MIN, 0))
        rows[name] = list(clips(speech / "more", name, None, POOL_MIN, 0))
    for name, lines in rows.items():
        if not (work / name).exists():
            prepared(lines, work / name, model, "prepare.split_by=recording")


def main(speech: Path, model: Path, work: Path, seeds: int) -> None:
    """Make, measure, and print."""
    work.mkdir(parents=True, exist_ok=True)
    make(speech, model, work)
    names = [*LANGUAGES, "synthetic", "chords"]
    rows = []
    for target in LANGUAGES:
        for seed in range(seeds):
            shutil.rmtree(work / "out", ignore_errors=True)
            with without_sound():
                found = donors(
                    target=work / f"target-{target}",
                    pool=[work / name for name in names],
                    hours=0.2,
                    max_speaker_share=0.5,
                    seed=seed,
                    model_name_or_path=model,
                    profile="cpu-smoke",
                    cache_dir=work / "cache",
                    output_dir=work / "out",
                )
            near = {one.name: one for one in found.languages}
            cells = [f"{near[name].similarity:.2f} ({near[name].nearness or 0:.2f})" for name in names]
            rows.append([f"{target}, seed {seed}", f"{found.own:.2f}", *cells, f"{found.shuffled:.2f}"])
    print_table("Similarity, in brackets nearness", ["target", "its other half", *names, "shuffled"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("speech", "model", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    main(**vars(parser.parse_args()))
