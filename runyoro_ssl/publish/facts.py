"""What is known of a finished run, for its model card: read from its folder alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runyoro_ssl.config import Config
from runyoro_ssl.dataset.layout import HUB_DATASET
from runyoro_ssl.dataset.material import describe_material
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.evaluate.record import EVALUATION, Evaluation, read_evaluation
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.source import RESULT_FILE, RUN_FILE
from runyoro_ssl.option import as_typed
from runyoro_ssl.publish.licences import Carried, carry, licence_of_base
from runyoro_ssl.redaction import shortly
from runyoro_ssl.resolve import load_config, section_type
from runyoro_ssl.setting import deciding
from runyoro_ssl.small_files import read_object

log = get_logger()

LOCAL_BASE = "a local wav2vec 2.0 checkpoint"
"""What stands for a base model that is no public one: a path may name people."""
UNNAMED = "not named"
OLDER_BY_SEC = 600.0
"""An evaluation so much older than the end of the run is of another model. Whoever copies a folder may mix the order of
its files by less."""
THEIR_OWN = "a plugin of their own"
SHOWN_BESIDE = ("train.learning_rate", "train.sources", "masking.mask_time_prob", "train.seed")
"""Settings that a card names in any case, and not among those that differ."""


@dataclass(frozen=True)
class Facts:
    """A finished run. `result` and `settings`: result.json and run.toml, as they are; neither is for others as such.

    `material`: sums over its recordings, empty where none are known; `evaluation`: None where there is none.
    """

    folder: Path
    result: Mapping[str, Any]
    settings: Mapping[str, Any]
    material: Mapping[str, Any]
    evaluation: Evaluation | None

    @property
    def base_model(self) -> str | None:
        """The model of the hub that the run began from; None for any other.

        Only that is named: a path may name people, and one that is gone looks like the name of a model.
        """
        return str(self.result["base_model"]) if self.result.get("base_revision") else None

    @property
    def mixture(self) -> str | None:
        """What the final model is where it is no checkpoint: a mean, a mixture with the base."""
        found = self.result.get("final_model") or {}
        return None if found.get("kind", "checkpoint") == "checkpoint" else str(found["name"])

    @property
    def base_licence(self) -> str | None:
        """The licence of the base model, where it is known."""
        return licence_of_base(str(self.result["base_model"]), self.result.get("base_revision"))

    @property
    def seconds_by_licence(self) -> dict[str, float]:
        """Of the recordings, by what each states."""
        return {str(text): float(seconds) for text, seconds in self.material.get("licences", [])}

    @property
    def licence(self) -> Carried:
        """The licence to carry."""
        return carry(self.base_licence, self.seconds_by_licence, self.material.get("seconds", 0.0))

    @property
    def language(self) -> str:
        """As the run was given it."""
        return str(self.settings["train"].get("language", UNNAMED))

    @property
    def hub_dataset(self) -> str | None:
        """The dataset of the hub that it was trained on; None for recordings of one's own."""
        found = self.material.get(HUB_DATASET)
        return None if found is None else str(found)

    @property
    def hub_datasets(self) -> list[str]:
        """All datasets of the hub that it was trained on, each once."""
        of_sources = (source.get(HUB_DATASET) for source in self.result.get("sources", []))
        return [name for name in dict.fromkeys([self.hub_dataset, *of_sources]) if name]


def read_facts(folder: Path) -> Facts:
    """Read what lies in the folder of a finished run, and the account of its dataset where that is at hand.

    Raises:
        TrainingError: The run has not finished; or what it left is damaged.
        EvaluationError: Its evaluation.json is damaged.
    """
    try:
        result = _read(folder / RESULT_FILE)
    except FileNotFoundError:
        raise TrainingError(
            f"{folder}: no {RESULT_FILE}, so that no model card can be written: finish the run with "
            "--resume-from-checkpoint last"
        ) from None
    sources = result.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        raise TrainingError(_damaged(folder / RESULT_FILE, f"sources is {shortly(sources)}"))
    # As text: its secrets are not there, and loading it as a configuration asks for them.
    settings = _read(folder / RUN_FILE, "train.learning_rate", "masking.mask_time_prob")
    material = result.get("material")
    dataset = settings["train"].get("processed_dataset_path")
    if dataset and not material and not result.get("sources"):  # of several, one alone would tell of its licence alone
        material = describe_material(Path(str(dataset)))
    return Facts(folder, result, settings, material or {}, _evaluation(folder))


def _read(path: Path, *numbers: str) -> dict[str, Any]:
    """A file that a run left, which must hold an object, and these numbers. Raises TrainingError, or OSError."""
    try:
        found = read_object(path)
    except ValueError as error:
        raise TrainingError(_damaged(path, str(error))) from None
    for section, name in (number.split(".") for number in numbers):
        value = found.get(section, {}).get(name)
        if not isinstance(value, int | float):
            what = "not there" if value is None else f"{shortly(value)}, and no number"
            raise TrainingError(_damaged(path, f"{section}.{name} is {what}"))
    return found


def _damaged(path: Path, what: str) -> str:
    remedy = "remove it, and run train once more with --resume-from-checkpoint last: it writes it anew"
    return f"{path}: is damaged ({what}); {remedy}"


def _evaluation(folder: Path) -> Evaluation | None:
    """The evaluation of the model that lies in the folder, if there is one."""
    evaluation = read_evaluation(folder)
    if evaluation is None:
        return None
    lag_sec = (folder / RESULT_FILE).stat().st_mtime - (folder / EVALUATION).stat().st_mtime
    if lag_sec > OLDER_BY_SEC:
        log.warning("evaluation_left_out", because="it is older than the model", remedy="run invoke evaluate again")
        return None
    return evaluation


def recipe(settings: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """(this run's, the default) of settings that decide what is learned and differ from their defaults, by name.

    Numbers, switches and words of the schema only: whatever else a user may write may name somebody.
    """
    found: dict[str, tuple[str, str]] = {}
    defaults: dict[str, Any] = Config().model_dump(mode="json")
    for section in Config.model_fields:
        for name in deciding("run", section_type(section)):
            default = defaults[section][name]
            value = settings.get(section, {}).get(name, default)
            if value != default and f"{section}.{name}" not in SHOWN_BESIDE:
                found |= {full: (said, _said(default)) for full, said in _shown(section, name, value)}
    return found


def _shown(section: str, name: str, value: Any) -> Iterator[tuple[str, str]]:
    full = f"{section}.{name}"
    if section != "plugins":
        yield full, _said(value)
    elif name != "options":
        names = [value] if isinstance(value, str) else list(value)
        yield full, ", ".join(one if one in _built_in() else THEIR_OWN for one in names) or "none"
    else:
        for plugin, options in value.items():
            for option, chosen in options.items() if plugin in _built_in() else ():
                if isinstance(chosen, bool | int | float):
                    yield f"{full}.{plugin}.{option}", as_typed(chosen)


def _said(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "not set" if value is None or value == {} else as_typed(value)


@cache
def _built_in() -> frozenset[str]:
    """The names of all built-in plugins."""
    from runyoro_ssl.plugin.manager import load_plugins

    registered = load_plugins(load_config(settings={"plugins.built_in_only": True})).registered
    return frozenset(name for names in registered.values() for name in names)
