"""Licences: what the base model and the recordings ask of whoever passes an adapted model on. No legal advice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from runyoro_ssl.hub.place import repository_folder
from runyoro_ssl.train.checkpoints.format import PREFIX

UNKNOWN, OTHER = "unknown", "other"
"""Names that the hub has for what is no licence of its list."""
OPEN = """
    afl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cdla-permissive-1.0 cdla-permissive-2.0 ecl-2.0 etalab-2.0 isc mit ncsa odc-by pddl postgresql
    unlicense wtfpl zlib
"""
SHARE_ALIKE = """
    agpl-3.0 cc-by-sa-3.0 cc-by-sa-4.0 cdla-sharing-1.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 lgpl-lr mpl-2.0 ms-pl odbl osl-3.0
"""
NON_COMMERCIAL = "cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0"
NON_COMMERCIAL_SHARE_ALIKE = "cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0"
NO_DERIVATIVES = "cc-by-nd-4.0"
NON_COMMERCIAL_NO_DERIVATIVES = "cc-by-nc-nd-3.0 cc-by-nc-nd-4.0"
OF_USE = "bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m creativeml-openrail-m openrail openrail++"
"""Those that list uses which they forbid, and ask that whoever adapts the model forbids them, too."""
BASES = {
    "facebook/wav2vec2-xls-r-*": "apache-2.0",
    "facebook/wav2vec2-large-xlsr-53": "apache-2.0",
    "facebook/wav2vec2-base": "apache-2.0",
    "facebook/wav2vec2-large": "apache-2.0",
    "facebook/mms-*": "cc-by-nc-4.0",
    "facebook/omniASR-*": "apache-2.0",
}
"""Licences of usual base models, as their pages on the hub said in 2026, by name or pattern."""
FROM_ADDRESS = re.compile(
    r"creativecommons\.org/(?:licenses/(?P<kind>[a-z-]+)/(?P<version>\d\.\d)|(?P<zero>publicdomain))"
)


@dataclass(frozen=True)
class Licence:
    """A licence by its name on the hub, and what it asks for."""

    name: str
    is_non_commercial: bool = False
    is_share_alike: bool = False
    """What is made of it has the same licence."""
    has_no_derivatives: bool = False
    """Nothing may be made of it and passed on."""


LICENCES = {
    name: Licence(name, non_commercial, share_alike, no_derivatives)
    for names, non_commercial, share_alike, no_derivatives in (
        (OPEN, False, False, False),
        (SHARE_ALIKE, False, True, False),
        (OF_USE, False, True, False),
        (NON_COMMERCIAL, True, False, False),
        (NON_COMMERCIAL_SHARE_ALIKE, True, True, False),
        (NO_DERIVATIVES, False, False, True),
        (NON_COMMERCIAL_NO_DERIVATIVES, True, False, True),
    )
    for name in names.split()
}
"""The hub's list, but for licences of single models of language."""


@dataclass(frozen=True)
class Carried:
    """The licence that an adapted model has to carry, as far as is known.

    Attributes:
        licence: By its name on the hub; None where none can be named.
        reasons: Why, in sentences.
        must_decide: What is not known, and left to the person who publishes; None where all is.
    """

    licence: str | None
    reasons: tuple[str, ...]
    must_decide: str | None = None


def find_licence(text: str | None) -> Licence | None:
    """The licence that a text names: a name of the hub, "CC BY-NC 4.0", "Apache License 2.0", an address."""
    words = (text or "").strip().lower()
    if found := FROM_ADDRESS.search(words):
        words = "cc0-1.0" if found["zero"] else f"cc-{found['kind']}-{found['version']}"
    words = re.sub(r"\b(licen[cs]e|international|deed|version|the|v(?=\d))\b\.?|v(?=\d)|[(),]", " ", words)
    words = re.sub(r"creative commons", "cc", words)
    words = re.sub(r"attribution", "by", words)
    words = re.sub(r"non-?\s?commercial", "nc", words)
    words = re.sub(r"share-?\s?alike", "sa", words)
    words = re.sub(r"no-?\s?deriv(ative)?s?(\s?works)?", "nd", words)
    name = "-".join(re.findall(r"[a-z0-9.+]+", words))
    name = {"cc0": "cc0-1.0", "cc-0": "cc0-1.0", "cc-zero": "cc0-1.0", "public-domain": "cc0-1.0"}.get(name, name)
    return LICENCES.get(name) or LICENCES.get(re.sub(r"^(apache|mpl|gpl|cc0)-?(\d)", r"\1-\2", name))


def licence_of_base(base_model: str, revision: str | None) -> str | None:
    """The licence of a base model: a known one, or what its card says, in the hub's cache or its folder; else None.

    Args:
        base_model: As the run was given it: a name on the hub, or a folder.
        revision: The commit on the hub; None for a folder. An adapted model's folder has a card, too, so that a
            licence is carried from run to run.
    """
    if revision is None:
        folder = Path(base_model)
        return _stated((folder.parent if folder.name.startswith(PREFIX) else folder) / constants.REPOCARD_NAME)
    for pattern, licence in BASES.items():
        if fnmatchcase(base_model, pattern):
            return licence
    return _stated(repository_folder(base_model) / "snapshots" / revision / constants.REPOCARD_NAME)


def _stated(card: Path) -> str | None:
    """The licence that the metadata of a card states."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    try:
        data: Any = ModelCard.load(card, ignore_metadata_errors=True).data if card.is_file() else {}
    except (OSError, ValueError, YAMLError):
        return None
    stated = data.get("license")
    return str(stated) if isinstance(stated, str) and stated != UNKNOWN else None


def carry(base: str | None, seconds_by_licence: Mapping[str, float], seconds: float) -> Carried:
    """The licence to carry: non-commercial stays so, share-alike stays so, and what forbids adapting is said.

    Args:
        base: Licence of the base model; None where it is not known.
        seconds_by_licence: Of the recordings, by what each states.
        seconds: Of all recordings.
    """
    found = find_licence(base)
    of_recordings = {text: find_licence(text) for text in seconds_by_licence}
    known = [found, *of_recordings.values()]
    licence, reasons = _strictest([one for one in known if one is not None])
    doubts = []
    if base is None:
        doubts.append("the licence of the base model is unknown: look it up")
    elif found is None:
        doubts.append(f'"{base}", the licence of the base model, is not one that this toolkit knows: read it')
    unstated = seconds - sum(time for text, time in seconds_by_licence.items() if of_recordings[text])
    if unstated > 0.5 or seconds == 0:  # noqa: PLR2004 - what rounding leaves
        doubts.append(f"the recordings state no known licence ({unstated / 3600:.2f} of {seconds / 3600:.2f} h)")
    if licence is None and not doubts:
        doubts.append("no licence satisfies all of them")
    return Carried(licence if found is not None else None, reasons, "; ".join(doubts) or None)


def _strictest(licences: list[Licence]) -> tuple[str | None, tuple[str, ...]]:
    """The licence that satisfies all of these, the base model's first; None where there is none, or none is known."""
    if not licences:
        return None, ()
    reasons = []
    if forbidding := _names(one for one in licences if one.has_no_derivatives):
        return None, (f"{forbidding} forbids passing on what is made of it: ask whoever has the rights.",)
    commercial = [one for one in licences if one.is_share_alike and not one.is_non_commercial]
    if restricting := _names(one for one in licences if one.is_non_commercial):
        reasons.append(f"Not for commercial use, as {restricting} asks.")
        if commercial:
            return None, (*reasons, f"{_names(commercial)} forbids that restriction: the two cannot be joined.")
    shared = sorted({_family(one.name) for one in licences if one.is_share_alike})
    if len(shared) > 1:
        return None, (*reasons, f"{' and '.join(shared)} each ask for themselves: they cannot be joined.")
    if sharing := [one for one in licences if one.is_share_alike]:
        reasons.append(f"What is made of this model has to have the same licence, as {_names(sharing)} asks.")
        return max(one.name for one in sharing), tuple(reasons)
    restricted = [one for one in licences if one.is_non_commercial]
    return (restricted or licences)[0].name, tuple(reasons)


def _names(licences: Any) -> str:
    return " and ".join(dict.fromkeys(one.name for one in licences))


def _family(name: str) -> str:
    """Creative Commons lets a later version stand for an earlier one."""
    return re.sub(r"-\d\.\d$", "", name) if name.startswith("cc-") else name


def too_loose(chosen: str, carried: Carried, base: str | None) -> str | None:
    """Why a licence that was chosen gives more away than the base model's allows; None if it does not."""
    wanted, bound = find_licence(chosen), find_licence(carried.licence or base)
    if wanted is None or bound is None:
        return None
    if bound.has_no_derivatives:
        return f"{bound.name} forbids passing on what is made of it"
    if bound.is_non_commercial and not wanted.is_non_commercial:
        return f"{bound.name} forbids commercial use, which {wanted.name} allows"
    if bound.is_share_alike and _family(bound.name) != _family(wanted.name):
        return f"{bound.name} asks for itself"
    return None
