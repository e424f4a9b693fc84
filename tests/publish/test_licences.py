"""Licences: which combinations give what; and however people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyoro_ssl.hub.place import repository_folder
from runyoro_ssl.publish.licences import LICENCES, carry, find_licence, licence_of_base, too_loose
from support.hub_double import HubDouble

HOUR = 3600.0
TABLE = [
    # base model, recordings (an hour each), what is carried, whether that settles it
    ("apache-2.0", ["CC BY 4.0"], "apache-2.0", True),
    ("apache-2.0", ["CC0", "cc-by-4.0"], "apache-2.0", True),
    ("apache-2.0", ["CC BY-SA 4.0"], "cc-by-sa-4.0", True),
    ("apache-2.0", ["cc-by-sa-3.0", "cc-by-sa-4.0"], "cc-by-sa-4.0", True),
    ("apache-2.0", ["CC BY-NC 4.0"], "cc-by-nc-4.0", True),
    ("apache-2.0", ["CC BY-NC-SA 4.0"], "cc-by-nc-sa-4.0", True),
    ("apache-2.0", ["CC BY-NC 4.0", "CC BY-NC-SA 4.0"], "cc-by-nc-sa-4.0", True),
    ("apache-2.0", ["CC BY-ND 4.0"], None, False),
    ("apache-2.0", ["CC BY-SA 4.0", "CC BY-NC 4.0"], None, False),
    ("apache-2.0", ["CC BY-SA 4.0", "gpl-3.0"], None, False),
    ("apache-2.0", [], "apache-2.0", False),
    ("apache-2.0", ["my own terms"], "apache-2.0", False),
    ("apache-2.0", ["CC BY-NC 4.0", "my own terms"], "cc-by-nc-4.0", False),
    ("cc-by-nc-4.0", ["CC BY 4.0"], "cc-by-nc-4.0", True),
    ("cc-by-nc-4.0", ["CC BY-NC-SA 4.0"], "cc-by-nc-sa-4.0", True),
    ("cc-by-nc-4.0", ["CC BY-SA 4.0"], None, False),
    ("cc-by-nc-4.0", [], "cc-by-nc-4.0", False),
    ("cc-by-nc-nd-4.0", ["CC0"], None, False),
    (None, ["CC BY 4.0"], None, False),
    (None, [], None, False),
    ("somebody-s-own", ["CC BY 4.0"], None, False),
]


@pytest.mark.parametrize(("base", "recordings", "carried", "is_settled"), TABLE, ids=str)
def test_combinations(base: str | None, recordings: list[str], carried: str | None, *, is_settled: bool) -> None:
    """The stricter is carried; what cannot be joined, or is not known, is left to the person who publishes."""
    found = carry(base, dict.fromkeys(recordings, HOUR), HOUR * max(1, len(recordings)))
    assert found.licence == carried
    assert (found.must_decide is None) is is_settled


def test_reasons_are_said() -> None:
    """Which licence asks for what."""
    assert "Not for commercial use, as cc-by-nc-4.0 asks." in carry("cc-by-nc-4.0", {"CC0": HOUR}, HOUR).reasons
    (said,) = carry("mit", {"CC BY-SA 4.0": HOUR}, HOUR).reasons
    assert "the same licence, as cc-by-sa-4.0 asks" in said
    (said,) = carry("mit", {"CC BY-ND 4.0": HOUR}, HOUR).reasons
    assert "cc-by-nd-4.0 forbids passing on what is made of it" in said
    assert "0.50 of 1.00 h" in str(carry("mit", {"mit": HOUR / 2}, HOUR).must_decide)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((name, name) for name in ("apache-2.0", "cc-by-nc-sa-4.0", "openrail++", "cc0-1.0", "mit")),
        ("CC BY 4.0", "cc-by-4.0"),
        ("CC-BY-NC 4.0 International", "cc-by-nc-4.0"),
        ("Creative Commons Attribution-ShareAlike 4.0 International License", "cc-by-sa-4.0"),
        ("Creative Commons Attribution NonCommercial NoDerivatives 4.0", "cc-by-nc-nd-4.0"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/", "cc-by-nc-sa-4.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("CC0", "cc0-1.0"),
        ("Public domain", "cc0-1.0"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("Apache 2.0", "apache-2.0"),
        ("The MIT License", "mit"),
        ("GPL v3.0", "gpl-3.0"),
        ("consent form of 2021", None),
        ("cc-by", None),
        ("", None),
        (None, None),
    ],
)
def test_licences_however_they_are_written(text: str | None, name: str | None) -> None:
    """A version that is not said is not guessed."""
    found = find_licence(text)
    assert (found and found.name) == name


def test_every_kind_is_known_by_its_name() -> None:
    """The letters of Creative Commons say what this table does."""
    for name, licence in LICENCES.items():
        if name.startswith("cc-"):
            parts = name.split("-")
            asked = ("nc" in parts, "sa" in parts, "nd" in parts)
            assert (licence.is_non_commercial, licence.is_share_alike, licence.has_no_derivatives) == asked


@pytest.mark.parametrize(
    ("base", "licence"),
    [
        ("facebook/wav2vec2-xls-r-300m", "apache-2.0"),
        ("facebook/wav2vec2-base", "apache-2.0"),
        ("facebook/mms-300m", "cc-by-nc-4.0"),
        ("facebook/omniASR-W2V-300M", "apache-2.0"),
        ("facebook/wav2vec2-base-960h", None),
        ("nobody/base", None),
    ],
)
def test_licences_of_base_models(hub: HubDouble, base: str, licence: str | None) -> None:
    """Known ones by name; nothing is guessed, and the hub is not asked."""
    assert licence_of_base(base, "12ab" * 10) == licence
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
def test_licence_stands_in_a_card(tmp_path: Path) -> None:
    """In the cache of the hub; in the folder of an earlier run, of which a checkpoint is a part."""
    cached = repository_folder("nobody/base") / "snapshots" / ("12ab" * 10)
    for folder in (cached, tmp_path / "run"):
        folder.mkdir(parents=True)
        (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# Base\n")
    (tmp_path / "run" / "checkpoint-5").mkdir()
    assert licence_of_base("nobody/base", "12ab" * 10) == "cc-by-nc-4.0"
    assert licence_of_base(str(tmp_path / "run"), None) == "cc-by-nc-4.0"
    assert licence_of_base(str(tmp_path / "run" / "checkpoint-5"), None) == "cc-by-nc-4.0"
    (cached / "README.md").write_text("---\nlicense: [\n---\n")
    assert licence_of_base("nobody/base", "12ab" * 10) is None


@pytest.mark.parametrize(
    ("chosen", "base", "recordings", "is_loose"),
    [
        ("apache-2.0", "cc-by-nc-4.0", "CC BY 4.0", True),
        ("cc-by-nc-4.0", "cc-by-nc-4.0", "CC BY 4.0", False),
        ("cc-by-nc-sa-4.0", "cc-by-nc-4.0", "CC BY 4.0", False),
        ("mit", "apache-2.0", "CC BY-SA 4.0", True),
        ("cc-by-sa-4.0", "apache-2.0", "CC BY-SA 4.0", False),
        ("mit", "apache-2.0", "CC BY 4.0", False),
        ("mit", "cc-by-nc-nd-4.0", "CC BY 4.0", True),
        ("other", "cc-by-nc-4.0", "CC BY 4.0", False),
    ],
)
def test_a_choice_gives_no_more_away(chosen: str, base: str, recordings: str, *, is_loose: bool) -> None:
    """Than what is carried; of terms that are nobody's list, nothing can be said."""
    assert bool(too_loose(chosen, carry(base, {recordings: HOUR}, HOUR), base)) is is_loose
