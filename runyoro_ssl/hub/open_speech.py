"""Open speech of languages near Runyoro, on the hub: what public pages said, and whether it is there today."""

from __future__ import annotations

from dataclasses import dataclass

from runyoro_ssl.hub.failures import Asked, explain, first_line
from runyoro_ssl.hub.place import hub_reachable

READ_IN = "November 2026"
"""When the pages were read, that this is from. Nothing of it was fetched."""


@dataclass(frozen=True)
class OpenSpeech:
    """A dataset of the hub. `address`: as `prepare` takes it, or None where it takes other steps."""

    repository: str
    languages: str
    licence: str
    address: str | None = None


OPEN_SPEECH = (
    OpenSpeech(
        "Sunbird/salt",
        "Runyankore, in a studio",
        "CC-BY-SA-4.0, gated",
        "hf://Sunbird/salt?config=multispeaker-nyn&split=train",
    ),
    OpenSpeech(
        "google/WaxalNLP",
        "Luganda, Lusoga, Lumasaaba, Acholi, Runyankole and more",
        "CC-BY-4.0, or CC-BY-SA-4.0",
        "hf://google/WaxalNLP?config=lug_asr&split=unlabeled",
    ),
    OpenSpeech("DigitalUmuganda/Afrivoice_V2", "Kirundi and more", "CC-BY-4.0, gated"),
    OpenSpeech("google/fleurs", "Luganda", "CC-BY-4.0", "hf://google/fleurs?config=lg_ug&split=train"),
    OpenSpeech("facebook/omnilingual-asr-corpus", "many; Runyoro was not seen among them", "see its page"),
    OpenSpeech("Professor/nyankole-speech-data", "Runyankole, repackaged, not verified", "CC-BY-4.0, it says"),
    OpenSpeech("Tobius/runyankore_data", "Runyankole, repackaged, not verified", "see its page"),
    OpenSpeech("yigagilbert/luganda-speech-cv-yogera", "Luganda, repackaged, not verified", "see its page"),
    OpenSpeech("allandclive/MakerereRadioSpeech_20Hrs", "Luganda, radio, a copy", "none stated"),
)


def check_open_speech() -> list[list[str]]:
    """Ask the hub for each: (repository, what it has, licence as read, what the hub says now). Fetches nothing."""
    return [[one.repository, one.languages, one.licence, _ask(one)] for one in OPEN_SPEECH]


def _ask(speech: OpenSpeech) -> str:
    """Whether a dataset is there for this person, and under which licence, in words."""
    from huggingface_hub import HfApi

    if not hub_reachable():
        return "the hub cannot be asked now"
    asked = Asked("dataset", speech.repository, "main", "ask again")
    try:
        found = HfApi().dataset_info(speech.repository)
        if found.gated:
            HfApi().auth_check(speech.repository, repo_type="dataset")
    except Exception as error:  # noqa: BLE001 - the hub's client raises what its HTTP library does
        return explain(asked, error) or first_line(error)
    licences = [tag.partition(":")[2] for tag in found.tags or () if tag.startswith("license:")]
    return f"there, {', '.join(licences) or 'no licence stated'}"
