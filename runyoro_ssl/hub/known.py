"""Base models that are known beforehand: the commit that is taken, so that tomorrow's model is today's."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

SAMPLING_RATE = 16_000
"""Of all of them, Hz: what `prepare` asks of a base model. `train` compares it with preprocessor_config.json."""
MIN_LIKENESS = 0.75
FILE_ENDINGS = (".pt", ".pth")
"""Of files of other toolkits: what ends so is meant to be one here, and no model of the hub."""


@dataclass(frozen=True)
class KnownModel:
    """A model of the hub. `revision`: the commit on its main branch that is taken; None: whatever is there."""

    revision: str | None = None
    num_bytes: int | None = None
    """Size of its weights, four bytes a parameter; to three digits where no more is known."""
    original: str | None = None
    """The file that it comes as, where transformers does not read that: it is converted."""


KNOWN = {
    # config.json of 1,568 bytes, preprocessor_config.json of 212, and pytorch_model.bin, whose sha256 is d5e49057….
    "facebook/wav2vec2-xls-r-300m": KnownModel("1a640f32ac3e39899438a2931f9924c02f080a54", 1_269_737_156),
    "facebook/wav2vec2-xls-r-1b": KnownModel("35eaea9a0ed0f97592277d79208e40ab8917d1e3", 3_850_000_000),
    "facebook/wav2vec2-xls-r-2b": KnownModel("3b6d89d0fabead7da552eaaa07549c7c9c36d303"),
    "facebook/wav2vec2-large-xlsr-53": KnownModel("c3f9d884181a224a6ac87bf8885c84d1cff3384f", 1_270_000_000),
    "facebook/wav2vec2-base": KnownModel("0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8", 380_267_417),
    "facebook/wav2vec2-large": KnownModel("312b2410566b698c7a649068d413b2067848bd75"),
    "facebook/mms-300m": KnownModel(num_bytes=1_270_000_000),
    "facebook/mms-1b": KnownModel(),
    "facebook/omniASR-W2V-300M": KnownModel(num_bytes=1_269_562_368, original="omniASR-W2V-300M.pt"),
    "facebook/omniASR-W2V-1B": KnownModel(num_bytes=3_862_059_008, original="omniASR-W2V-1B.pt"),
    "facebook/omniASR-W2V-3B": KnownModel(num_bytes=12_256_498_688, original="omniASR-W2V-3B.pt"),
}
"""Commits as public projects of 2024 to 2026 pin them (the list of MTEB's audio models has all six); MMS is pinned by
none that was found. Sizes of Omnilingual's by their numbers of weights, as its README has them."""
SHORT_NAMES = {name.rpartition("/")[2].lower(): name for name in KNOWN if KNOWN[name].original}
"""`omniasr-w2v-300m` and its like, for which nobody need remember capitals."""


def full_name(name: str) -> str:
    """The name on the hub of what may be a short name."""
    return SHORT_NAMES.get(name.lower(), name)


def pinned_revision(name: str) -> str | None:
    """The commit that stands for a model where nobody asks for another."""
    return KNOWN[name].revision if name in KNOWN else None


def suggest(name: str) -> str | None:
    """The known model whose name this may be meant to be."""
    bare = {known.rpartition("/")[2]: known for known in KNOWN}
    found = difflib.get_close_matches(name.rpartition("/")[2].lower(), bare, n=1, cutoff=MIN_LIKENESS)
    return bare[found[0]] if found and bare[found[0]] != name else None
