"""A dozen drawn attacks, the short form; tests/attacks.py has the long one. And that its judge sees what it judges."""

from __future__ import annotations

from pathlib import Path

import pytest

from attacking.attack import Attack, carry_out, draw_attack
from attacking.command import Ended
from attacking.judge import judge, judge_surroundings
from attacking.place import OTHERS, Place, make_seeds, picture
from attacks import FAMILIES
from support.pools import synthetic

QUICK = (2, 5, 11, 12, 25, 42, 62, 66, 84, 118, 130, 144)
"""Attacks of seed 1 that end soon."""


@pytest.fixture
def given(tmp_path: Path, tiny_model: Path, corpus: Path, dataset: Path, donor: Path) -> dict[str, Path]:
    """What seeds are made of."""
    replay = synthetic(tmp_path / "replay", tiny_model, "replay", seed=2, num_clips=12)
    return {"model": tiny_model, "corpus": corpus, "dataset": dataset, "pool": donor, "replay": replay}


def test_a_dozen_attacks(tmp_path: Path, corpus_manifest: Path, given: dict[str, Path]) -> None:
    """None breaks what must always hold."""
    seeds = make_seeds(tmp_path / "seeds", corpus_manifest, given)
    for number in QUICK:
        attack = draw_attack(number, 1, tmp_path / "attacks", FAMILIES)
        _, problems = carry_out(attack, seeds, limit_sec=120)
        assert problems == [], attack.what


def test_an_attack_is_drawn_alike() -> None:
    """By number and seed alone, whatever was drawn before."""
    place = Path("attacks")
    drawn = [draw_attack(number, 7, place, FAMILIES).what for number in range(60)]
    assert [draw_attack(number, 7, place, FAMILIES).what for number in reversed(range(60))] == drawn[::-1]
    assert len(set(drawn)) > 55


@pytest.mark.parametrize(
    ("ended", "problem"),
    [
        (Ended(2, "", "", 1, 1), "status 2"),
        (Ended(-9, "", "", 1, 1), "status -9"),
        (Ended(None, "", "", 1, 1), "did not end"),
        (Ended(1, "", "", 1, 1), "0 lines of error"),
        (Ended(1, "", "error a.toml: is bad; mend it\nmore\n", 1, 1), "words after the error"),
        (Ended(1, "", "error it went wrong\n", 1, 1), "without place or advice"),
        (Ended(0, "\x1b[31mred", "", 1, 1), "control character"),
        (Ended(0, "", "Traceback (most recent call last):\n", 1, 1), "says 'Traceback"),
        (Ended(0, "", "", 1, 10_000), "10000 MiB"),
    ],
)
def test_what_must_hold_is_judged(ended: Ended, problem: str) -> None:
    """Each breach is told."""
    attack = Attack(0, "doctor", (), Place(Path("place")))
    (said,) = judge(attack, ended, is_saved=False)
    assert problem in said
    assert [*judge(attack, Ended(1, "", "error a.toml: is bad; mend it\n", 1, 1), is_saved=False)] == []


def test_what_is_not_ours_is_watched(tmp_path: Path) -> None:
    """A file of others that changes, and code that ran, are told."""
    attack = Attack(0, "doctor", (), Place(tmp_path))
    theirs = tmp_path / OTHERS / "letter"
    theirs.parent.mkdir()
    theirs.write_text("dear")
    before = picture(tmp_path)
    assert [*judge_surroundings(attack, before)] == []
    theirs.write_text("bye")
    attack.place.mark.touch()
    told = [*judge_surroundings(attack, before)]
    assert told[0] == "the canary ran"
    assert told[1].startswith(f"{OTHERS}/letter: was ")
