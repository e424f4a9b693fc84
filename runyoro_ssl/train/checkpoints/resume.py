"""The start of a run, decided once, before anything is built: from which checkpoint, and whether it is the same run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runyoro_ssl.batches.micro_batches import PlanSettings
from runyoro_ssl.config import Config
from runyoro_ssl.config.source import in_words
from runyoro_ssl.errors import CheckpointError, ConfigError, RunyoroError
from runyoro_ssl.model.source import RESULT_FILE, RUN_FILE, WEIGHTS
from runyoro_ssl.processes import gather_over_processes
from runyoro_ssl.redaction import redact
from runyoro_ssl.resolve import section_type
from runyoro_ssl.setting import deciding
from runyoro_ssl.train.checkpoints.folder import find_healthy, find_named, find_newest
from runyoro_ssl.train.checkpoints.format import PREFIX, load_state
from runyoro_ssl.train.checkpoints.listing import SUPERSEDED, list_all
from runyoro_ssl.train.checkpoints.state import check_state
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.run_lock import LOCK
from runyoro_ssl.train.sources import read_contents

WAY_TO_TRAIN = (
    *(f"adapter.{name}" for name in ("kind", "rank", "alpha", "targets", "also")),
    "train.optimizer",
    "train.train_only",
)
"""The settings that decide which tensors a checkpoint holds, and what they mean."""


@dataclass(frozen=True)
class Start:
    """Where a run starts, goes on, or goes back to, with everything that follows from it.

    Attributes:
        path: The checkpoint; None for none: the base model, as it came.
        state: Its `trainer_state.json`; empty without one.
        plan: The sizes that decide which clips a step sees, if the run's are kept; None: those of this machine.
        differences: In words, what is not as it was in the run, by --override-mismatch.
        rollbacks: Times that the run went back so far, this one included.
        went_back: The run left the course on which the checkpoint was written.
    """

    path: Path | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    plan: PlanSettings | None = None
    differences: tuple[str, ...] = ()
    rollbacks: int = 0
    went_back: bool = False


def check_folder(config: Config) -> None:
    """Refuse an output folder that holds something else than the run to resume. Nothing is written.

    A run that ended before it saved anything is begun anew by the same command.

    Raises:
        ConfigError: Says what is there, and how to go on.
    """
    output_dir, wanted = config.train.output_dir, config.train.resume_from_checkpoint
    is_named = wanted not in (None, "last")
    if is_named and not Path(str(wanted)).is_dir():
        raise ConfigError(
            f"--resume-from-checkpoint {wanted}: no such checkpoint; give `last`, or a folder like "
            f"{output_dir / PREFIX}500"
        )
    if not output_dir.is_dir() or not _content(output_dir):
        return
    if is_named and _is_in(Path(str(wanted)), output_dir):
        return
    saved = list_all(output_dir)
    if wanted == "last" and saved:
        return
    if _is_unsaved_run(output_dir):
        if wanted == "last":
            _refuse_to_begin_anew(output_dir)
        return
    another = f"give another --output-dir, e.g. {output_dir.with_name(f'{output_dir.name}-2')}"
    if not (output_dir / RUN_FILE).exists():
        raise ConfigError(f"{output_dir} already holds something that is no run: {another}")
    if wanted is None and saved:
        raise ConfigError(
            f"{output_dir} already holds a run: for a new one, {another}; to go on with this one, "
            "--resume-from-checkpoint last"
        )
    if is_named:
        raise ConfigError(
            f"{output_dir} already holds a run, another one; {another}; or, if {wanted} is of this run, move or link "
            "it into that folder, under any name, and give --resume-from-checkpoint last"
        )
    raise ConfigError(
        f"{output_dir} already holds a run, no complete checkpoint is left of it to go on from; {another}"
    )


def _is_in(checkpoint: Path, output_dir: Path) -> bool:
    """Whether a checkpoint is in a folder: itself, or a link to it."""
    folder = output_dir.resolve()
    return folder in (checkpoint.absolute().parent.resolve(), checkpoint.resolve().parent)


def _refuse_to_begin_anew(output_dir: Path) -> None:
    """Raise ConfigError where a run has come further than to its beginning: it is not begun anew unasked."""
    step, finished = journal.step_kept(output_dir), (output_dir / RESULT_FILE).exists()
    if step or finished:
        had = f"by its {journal.NAME} the run had a checkpoint of step {step}" if step else "the run has ended once"
        raise ConfigError(
            f"{output_dir}: {had}, and no checkpoint is there now; put "
            "it back into that folder, under any name, or give --resume-from-checkpoint FOLDER-OF-THE-CHECKPOINT; to "
            "begin anew, from step 0, leave out --resume-from-checkpoint"
        )


def _content(output_dir: Path) -> list[str]:
    return [path.name for path in output_dir.iterdir() if not path.name.startswith(".") and path.name != LOCK]


def _is_unsaved_run(output_dir: Path) -> bool:
    """Whether a run was begun here and ended before its first checkpoint."""
    names = [name for name in _content(output_dir) if not name.startswith(SUPERSEDED)]
    return RUN_FILE in names and not any(name == WEIGHTS or PREFIX in name for name in names)


def choose(config: Config, accelerator: Any, *, dry: bool = False) -> Start:
    """Decide where the run starts or goes on, the same for every process.

    Damaged checkpoints are set aside; a dry run leaves them where they are.

    Raises:
        CheckpointError: The checkpoint named, or every checkpoint there is, is damaged, or another version's; or it is
            of a run with other settings or another dataset.
        DatasetError: There is no prepared dataset to compare with.
    """
    return _decide(accelerator, lambda: _choose(config, dry=dry))


def choose_healthy(output_dir: Path, accelerator: Any, *, rollbacks: int, at_most: int | None = None) -> Start:
    """Decide where a run goes back to, for the `rollbacks`th time: its newest healthy checkpoint, or its beginning.

    `at_most`: the last step that it may be of.
    """

    def find() -> Start:
        path = find_healthy(output_dir, at_most=at_most)
        state = {} if path is None else _read(path)
        return Start(path, state, rollbacks=rollbacks, went_back=True)

    return _decide(accelerator, find)


def _decide(accelerator: Any, find: Callable[[], Start]) -> Start:
    """Have the main process look at the folder; every process gets what it found, or the error."""
    found: Start | RunyoroError | None = None
    if accelerator.is_main_process:
        try:
            found = find()
        except RunyoroError as error:
            found = error
    found = gather_over_processes(accelerator, found)[0]
    if not isinstance(found, Start):
        raise found or CheckpointError("the main process did not say from where to start; see its message")
    return found


def _choose(config: Config, *, dry: bool) -> Start:
    output_dir, wanted = config.train.output_dir, config.train.resume_from_checkpoint
    path = None
    if wanted is not None:
        path = find_newest(output_dir, set_aside=not dry) if wanted == "last" else find_named(output_dir, Path(wanted))
    if path is None:
        return Start(rollbacks=_rollbacks_since(config))
    state = _read(path)
    _refuse_another_way(path, state, config)
    differences = _find_differences(state, config)
    if differences and not config.train.override_mismatch:
        raise CheckpointError(
            f"{path} belongs to a run with other settings: {'; '.join(differences)}. Leave out what you gave now, and "
            f"those of the run hold (they are in its {RUN_FILE}); or add --override-mismatch, and what you gave holds"
        )
    plan = None if config.train.override_mismatch else PlanSettings(**state["plan"])
    before, since = _rollbacks_before(state, config), _rollbacks_since(config)
    return Start(path, state, plan, tuple(differences), max(before, since), went_back=since > before)


def _refuse_another_way(path: Path, state: Mapping[str, Any], config: Config) -> None:
    """Refuse a checkpoint of which other weights learned, or by another optimizer: --override-mismatch cannot help."""
    for name, was, now in differing_settings(state["config"], config):
        if name in WAY_TO_TRAIN:
            raise CheckpointError(
                f"{path} was trained in another way: {name} was {was}, is {now}, and what learned then does not fit; "
                f"leave that out, and what the run was given holds ({RUN_FILE}), or start a new run from it with "
                f"--model-name-or-path {path} and another --output-dir"
            )


def _read(path: Path) -> dict[str, Any]:
    """The state of a checkpoint, all of which this version understands."""
    state = load_state(path)
    check_state(path, state)
    return state


def _rollbacks_since(config: Config) -> int:
    """Times that the run went back, by its journal: also after the checkpoint, which is what it went back to."""
    return journal.rollbacks_so_far(config.train.output_dir, learning_rate=config.train.learning_rate)


def _rollbacks_before(state: Mapping[str, Any], config: Config) -> int:
    """Times that the run went back before the checkpoint, where they were at this learning rate and on these clips."""
    same_rate = state["config"].get("train", {}).get("learning_rate") == config.train.learning_rate
    same_clips = contents_of(state) == read_contents(config.train)
    return int(state["health"]["rollbacks"]) if same_rate and same_clips else 0


def contents_of(state: Mapping[str, Any]) -> list[str]:
    """What the dataset of each source of a run held, by the state of a checkpoint; empty without one."""
    return [state["dataset_sha256"], *state.get("beside_sha256", [])] if state else []


def _find_differences(state: Mapping[str, Any], config: Config) -> list[str]:
    """In words, each setting that decides what is learned and is not as it was, and the dataset."""
    found = [f"{name} was {was}, is {now}" for name, was, now in differing_settings(state["config"], config)]
    sources = config.train.every_source
    given = "the path of that source" if len(sources) > 1 else "--processed-dataset-path"
    for source, was, now in zip(sources, contents_of(state), read_contents(config.train), strict=False):
        if was != now:
            found.append(
                f"the dataset {source.path} is another one than it had (was {was[:12]}, is {now[:12]}): give its own "
                f"as {given}, or begin a new run in another --output-dir"
            )
    return found


def differing_settings(saved: Mapping[str, Any], config: Config) -> list[tuple[str, Any, Any]]:
    """Each setting that decides what is learned and is not as it was: (its name, the run's value, the value now).

    A setting that the version which wrote the checkpoint did not have was at its default.
    """
    now = settings_of_the_run(config)
    if saved.get("train", {}).get("max_steps") is not None:  # then the run's epochs decided nothing
        now["train"].pop("num_train_epochs", None)
    defaults = Config().model_dump(mode="json")
    return [
        (f"{section}.{name}", was, value)
        for section, fields in now.items()
        for name, value in fields.items()
        if (was := saved.get(section, {}).get(name, defaults[section][name])) != value
    ]


def settings_of_the_run(config: Config) -> dict[str, dict[str, Any]]:
    """The settings that a resumed run must keep, by section, as JSON values and without secrets.

    They are those that decide what is learned, as the schema marks them. Options count for the plugins in use only.
    """
    whole: dict[str, Any] = redact(config.model_dump(mode="json"))
    sections = {name: names for name in Config.model_fields if (names := deciding("run", section_type(name)))}
    kept = {section: {name: whole[section][name] for name in names} for section, names in sections.items()}
    if config.train.max_steps is not None:
        del kept["train"]["num_train_epochs"]
    kept["train"]["sources"] = in_words(config.train.sources)  # wherever they lie, and whatever they are called
    used = {config.plugins.collator, *config.plugins.augmentations}
    if config.adapter.kind == "none":
        kept["adapter"] = {"kind": "none"}
    kept["plugins"]["options"] = {name: value for name, value in kept["plugins"]["options"].items() if name in used}
    return kept
