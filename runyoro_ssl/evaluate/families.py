"""Which clips are heard, by family: held-out ones; of another language; such as were trained on."""

from __future__ import annotations

from pathlib import Path

from runyoro_ssl.errors import DatasetError, EvaluationError, TooLittleSpeechError
from runyoro_ssl.evaluate.heard.clips import HeldOut, choose_clips, choose_trained
from runyoro_ssl.evaluate.heard.trained_on import check_dataset_is_that_of, dataset_of, replayed
from runyoro_ssl.evaluate.request import EvaluationRequest
from runyoro_ssl.hub.known import SAMPLING_RATE
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.extractor import load_sampling_rate

log = get_logger()

MIN_CLIPS = 4
"""Two of either half."""
TRAINED_SEC = 150.0
"""Of the clips that the adapted model was trained on, to see whether it knows them by heart."""
OTHER_SHARE = 0.5
"""Of the minutes that are heard, so many of another language."""


def choose_families(request: EvaluationRequest) -> dict[str, HeldOut]:
    """The clips that are heard, by family: "fit", those held out; "forgetting", of another language; "memory".

    Raises:
        DatasetError, EvaluationError: A dataset cannot be read, is the other's, or does not suit the models.
        TooLittleSpeechError: Too few clips are held out, or were asked for.
    """
    rate = _sampling_rate(request)
    data = dataset_for(request)
    models = (request.base, request.adapted)
    seconds = 60 * request.max_minutes
    held_out = choose_clips(data, sampling_rate=rate, max_seconds=seconds, models=models, seed=request.seed)
    if len(held_out.clips) < MIN_CLIPS <= held_out.of_clips:
        raise TooLittleSpeechError(
            f"--max-minutes {request.max_minutes:g} is of {len(held_out.clips)} clips, which are too few to tell "
            f"anything; give more, there are {held_out.of_clips} clips"
        )
    if len(held_out.clips) < MIN_CLIPS:
        raise TooLittleSpeechError(
            f"{data}: {len(held_out.clips)} held-out clips are too few to tell anything; hold out more with "
            "`invoke prepare --overwrite --set prepare.validation_share=0.1`, or give other data with --data"
        )
    heard = {"fit": held_out}
    if request.other_data is not None:
        heard["forgetting"] = _other_language(request.other_data, held_out, request)
    elif (of_replay := _replayed(held_out, request)) is not None:
        heard["forgetting"] = of_replay
    own = dataset_of(request.adapted)
    is_own = own is not None and data.resolve() == own.resolve()  # held-out clips from elsewhere compare with none
    if is_own and (trained := _trained_on(data, rate, request.seed)) is not None:
        heard["memory"] = trained
    return heard


def _replayed(held_out: HeldOut, request: EvaluationRequest) -> HeldOut | None:
    """What is held out of the speech that the run of the adapted model replayed; None: nothing, or too little."""
    dataset = replayed(request.adapted)
    if dataset is None:
        return None
    try:
        found = _other_language(dataset, held_out, request)
    except (DatasetError, EvaluationError) as error:
        log.warning("replay_not_heard", because=str(error))
        return None
    log.info("replay_heard", other_data=str(dataset), because="the run replayed it, and no other was given")
    return found


def _trained_on(dataset: Path, sampling_rate: int, seed: int) -> HeldOut | None:
    """Clips of the part that was trained on; None where they are too few, or cannot be read."""
    try:
        trained = choose_trained(dataset, sampling_rate=sampling_rate, max_seconds=TRAINED_SEC, seed=seed)
    except DatasetError as error:
        log.warning("trained_clips_not_heard", because=str(error))
        return None
    return trained if len(trained.clips) >= MIN_CLIPS else None


def _sampling_rate(request: EvaluationRequest) -> int:
    """That of both models, Hz."""
    rates = {load_sampling_rate(str(folder)) for folder in (request.base, request.adapted)}
    if len(rates) > 1:
        raise EvaluationError(
            f"{request.base} and {request.adapted} take other rates: {sorted(rates)} Hz; give two alike"
        )
    rate = rates.pop()
    if rate != SAMPLING_RATE:
        raise EvaluationError(
            f"{request.adapted} takes {rate} Hz; what is compared here are models of {SAMPLING_RATE} Hz"
        )
    return rate


def _other_language(dataset: Path, held_out: HeldOut, request: EvaluationRequest) -> HeldOut:
    """Clips of another language, none of which is among the held-out ones."""
    found = choose_clips(
        dataset,
        sampling_rate=held_out.sampling_rate,
        max_seconds=OTHER_SHARE * 60 * request.max_minutes,
        models=(request.base, request.adapted),
        seed=request.seed,
    )
    if len(found.clips) < MIN_CLIPS:
        raise EvaluationError(f"{dataset}: too few held-out clips; give another --other-data, or none")
    if shared := held_out.samples & found.samples:
        raise EvaluationError(
            f"--other-data {dataset}: {len(shared)} of its clips are heard as --data, too; give speech of another "
            "language, or none"
        )
    return found


def dataset_for(request: EvaluationRequest) -> Path:
    """The dataset whose held-out split is heard.

    Raises:
        EvaluationError: None was given, and neither model is of a run that tells of one that is there.
    """
    if request.data is not None:
        return request.data
    model = next((one for one in (request.adapted, request.base) if dataset_of(one) is not None), None)
    if model is None:
        raise EvaluationError(f"{request.adapted} is no run that tells its dataset; give a prepared one with --data")
    data = dataset_of(model) or Path()
    if not data.is_dir():
        raise EvaluationError(f"{model}: the dataset of its run, {data}, is not there; give a prepared one with --data")
    check_dataset_is_that_of(model)
    return data
