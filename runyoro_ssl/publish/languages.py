"""Languages by the codes that the hub knows them by."""

from __future__ import annotations

import re

CODES = {
    "acholi": "ach",
    "afrikaans": "af",
    "alur": "alz",
    "amharic": "am",
    "ateso": "teo",
    "chichewa": "ny",
    "ekegusii": "guz",
    "hausa": "ha",
    "igbo": "ig",
    "kikuyu": "ki",
    "kinyarwanda": "rw",
    "kirundi": "rn",
    "kiswahili": "sw",
    "lango": "laj",
    "lingala": "ln",
    "lubwisi": "tlj",
    "luganda": "lg",
    "lugbara": "lgg",
    "lugwere": "gwr",
    "lumasaba": "myx",
    "luo": "luo",
    "lusoga": "xog",
    "oromo": "om",
    "rukiga": "cgg",
    "rukonzo": "koo",
    "runyankole": "nyn",
    "runyankore": "nyn",
    "runyoro": "nyo",
    "rutooro": "ttj",
    "setswana": "tn",
    "shona": "sn",
    "somali": "so",
    "swahili": "sw",
    "tigrinya": "ti",
    "tooro": "ttj",
    "wolof": "wo",
    "xhosa": "xh",
    "yoruba": "yo",
    "zulu": "zu",
}
"""ISO 639-1 where there is one, else ISO 639-3, by English name: of Uganda and of languages around and beyond."""


def code_of(language: str) -> str | None:
    """The code of a language that was given by name or by code, `sw`, `nyo`, `sw-KE`; None where it is not known."""
    name = language.strip().lower()
    if re.fullmatch(r"[a-z]{2,3}([-_][a-z0-9]{2,4})?", name) and name not in CODES:
        return re.split(r"[-_]", name)[0]
    return CODES.get(name)
