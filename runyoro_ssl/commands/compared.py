"""The two models that `evaluate` compares: their folders, looked at before anything is loaded; and their device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runyoro_ssl.commands.closing import command
from runyoro_ssl.commands.foreign import as_folder, warn_if_unheard
from runyoro_ssl.commands.own import EvaluateOptions
from runyoro_ssl.config import ModelConfig
from runyoro_ssl.errors import CheckpointError, EvaluationError

if TYPE_CHECKING:
    from runyoro_ssl.config import Config, FittedHardware

USUAL_BASE = ModelConfig().model_name_or_path


def adapted_folder(options: EvaluateOptions, *, is_given: bool) -> Path:
    """The folder of the adapted model: the one given, or that of the run, or else the usual one.

    Raises:
        EvaluationError: There is no such folder.
        CheckpointError: No model is in it.
    """
    from runyoro_ssl.model.folder import check_folder

    if options.run and not options.run.is_dir():
        raise EvaluationError(f"--run {options.run}: no such folder; give that of a run")
    adapted = options.run if options.run and not is_given else options.adapted
    if not adapted.exists() and not is_given:
        raise EvaluationError(
            f"{adapted}: the usual folder of a run is not there; train first, by `{command('train')}`, or name a model "
            "with --adapted"
        )
    if not adapted.exists():
        raise EvaluationError(f"--adapted {adapted}: no such folder; give that of a run, a checkpoint, or any model")
    check_folder(str(adapted), weights=True)
    warn_if_unheard(adapted)
    return adapted


def base_folder(base: Path | None, adapted: Path) -> Path:
    """The folder of the base: the one given, or that of the cache for a name on the hub; or what the run began with.

    Raises:
        EvaluationError: It is not given, and the run does not tell it, or it is gone.
        CheckpointError: It cannot be had, or no model is in it.
    """
    from runyoro_ssl.evaluate.heard.trained_on import run_setting
    from runyoro_ssl.model.folder import check_folder
    from runyoro_ssl.model.source import model_folder

    name = as_folder(base.as_posix()) if base else run_setting(adapted, "model", "model_name_or_path")
    if name is None:
        raise EvaluationError(f"{adapted} is no run that tells its base model; give that as --base")
    if base is None and Path(name).is_absolute() and not Path(name).exists():
        raise EvaluationError(f"{adapted} began with {name}, which is not there; give its base model as --base")
    if base and "/" not in name and not Path(name).exists():
        raise EvaluationError(
            f"--base {base}: no such folder; give that of a model, or a name on the hub, such as {USUAL_BASE}"
        )
    revision = None if base else run_setting(adapted, "model", "revision")
    check_folder(name)  # else a folder that lacks a file is taken for a name on the hub
    folder = model_folder(name, revision, "config", "extractor", "weights")
    check_folder(str(folder), weights=True)
    warn_if_unheard(folder)
    return folder


def hub_name(base: Path | None, adapted: Path) -> str | None:
    """The base's name on the hub; None where it is a folder: a path is for nobody else."""
    from runyoro_ssl.evaluate.heard.trained_on import run_setting

    name = base.as_posix() if base else run_setting(adapted, "model", "model_name_or_path")
    return None if name is None or Path(name).is_dir() else name


def hardware_for(config: Config, model: Path) -> FittedHardware:
    """Where models compute, and in what: as the profile says, or else in bf16 where that is faster."""
    from runyoro_ssl.model.allocator import limit_program_caches
    from runyoro_ssl.model.at_hand import look
    from runyoro_ssl.model.fit import ENOUGH_GAIN
    from runyoro_ssl.model.listener import to_listen
    from runyoro_ssl.model.load import read_model_config
    from runyoro_ssl.option import AUTO
    from runyoro_ssl.resolve import check_device

    device = config.hardware.device
    check_device(device)
    limit_program_caches()  # before the first product
    if config.hardware.precision != AUTO:
        return to_listen(config.hardware)
    try:
        at_hand = look(device, read_model_config(str(model), model), asks_for_precision=True)
    except CheckpointError:  # whoever loads it says what is wrong
        return to_listen(config.hardware)
    gains = at_hand.has_bf16 if device == "cuda" else (at_hand.bf16_gain or 0.0) >= ENOUGH_GAIN
    return to_listen(config.hardware, precision="bf16" if gains else "fp32")
