"""What of data and settings cannot train well is said before the first step, with advice that mends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from runyoro_ssl.config import MaskingConfig, TrainConfig
from runyoro_ssl.dataset.read import Clips
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.evaluate.hearing import hear, remedy
from runyoro_ssl.evaluate.judged import ALIKE
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.masking import MaskSummary, summarise_masks
from runyoro_ssl.train.optim import learning_rate, warmup_steps

log = get_logger()

MAX_SHARE_USELESS = 0.2
"""Above this share of clips with too few masked frames, or with all of them masked, training is refused."""
MAX_SHARE_ALIKE = 0.5
"""Above this share of clips that are silence or a tone, it is refused, too."""
MAX_MASKED_SHARE = 0.9
"""Of all frames. The usual settings mask a half."""
TRIED_PROBS, TRIED_LENGTHS, TRIED_MIN_SPANS = (0.65, 0.5, 0.3), (10, 8, 6, 5, 4, 3, 2, 1), (2,)
"""What is tried in place of mask settings that cannot train."""
NUM_TRIED = 200
"""Clips on which that is tried."""


def check_masks(num_frames: Sequence[int], masking: MaskingConfig, *, seed: int) -> MaskSummary:
    """Summarise the masks of the user's own clips. `num_frames`: of each.

    Raises:
        TrainingError: Too many clips have hardly a masked frame, or nothing but masked frames; with settings that do.
    """
    summary = summarise_masks(num_frames, masking, seed=seed)
    if problem := _problem(summary):
        raise TrainingError(f"{summary.line()}: {problem}. {_remedy(num_frames, masking, seed)}")
    if summary.num_whole:
        log.warning(
            "clips_wholly_masked",
            clips=f"{summary.num_whole} of {summary.num_clips}",
            means="nothing of them is left to see",
            advice="a lower --mask-time-length, or prepare longer clips: --min-duration-sec",
        )
    return summary


def _problem(summary: MaskSummary) -> str | None:
    most = MAX_SHARE_USELESS * summary.num_clips
    if summary.num_without > most:
        return f"more than {MAX_SHARE_USELESS:.0%} would teach nothing"
    if summary.num_whole > most:
        return (
            f"in {summary.num_whole} every frame is masked, more than {MAX_SHARE_USELESS:.0%}: nothing is left to see"
        )
    if summary.masked_share > MAX_MASKED_SHARE:
        return f"more than {MAX_MASKED_SHARE:.0%} of frames masked, and hardly one is left to see"
    return None


def _remedy(num_frames: Sequence[int], masking: MaskingConfig, seed: int) -> str:
    """The smallest change of the mask settings with which these clips can train, as flags; found by trying."""
    flags = {
        "mask_time_prob": "--mask-time-prob ",
        "mask_time_length": "--mask-time-length ",
        "mask_time_min_spans": "--set masking.mask_time_min_spans=",
    }
    for other in sorted(_others(masking), key=lambda other: len(_changes(masking, other))):
        if _problem(summarise_masks(num_frames, other, seed=seed, sample=NUM_TRIED)) is None:
            changes = _changes(masking, other)
            given = " ".join(f"{flags[name]}{value:g}" for name, value in changes.items())
            now = ", ".join(f"{name} {getattr(masking, name):g}" for name in changes)
            return f"Use {given} (now {now})"
    return (
        "The clips are too short to be masked: prepare longer ones, `invoke prepare --overwrite --min-duration-sec 1`"
    )


def _others(masking: MaskingConfig) -> Iterator[MaskingConfig]:
    lengths = [masking.mask_time_length, *[length for length in TRIED_LENGTHS if length < masking.mask_time_length]]
    probs, min_spans = (masking.mask_time_prob, *TRIED_PROBS), (masking.mask_time_min_spans, *TRIED_MIN_SPANS)
    for length, prob, spans in product(lengths, probs, min_spans):
        tried = {"mask_time_length": length, "mask_time_prob": prob, "mask_time_min_spans": spans}
        yield masking.model_copy(update=tried)


def _changes(masking: MaskingConfig, other: MaskingConfig) -> dict[str, float]:
    now = masking.model_dump()
    return {name: value for name, value in other.model_dump().items() if value != now[name]}


def check_training_clips(clips: Clips, *, sampling_rate: int, of: str = "") -> None:
    """Say how many of the training clips, by some that are heard, hold nothing that changes. `of`: whose, in words.

    Raises:
        TrainingError: Most do.
    """
    heard = hear(clips, range(len(clips)), sampling_rate)
    alike = [row for row, why in heard.bad.items() if why == ALIKE]
    if not alike:
        return
    advice = remedy(short=False, alike=True)
    among = f"{len(clips)}" if len(heard.rows) == len(clips) else f"{len(heard.rows)} heard of {len(clips)}"
    if len(alike) > MAX_SHARE_ALIKE * len(heard.rows):
        raise TrainingError(
            f"in {len(alike)} of {among} training clips{of} nothing changes (silence, a tone, a dead microphone), so "
            f"there is nothing to learn; {advice}"
        )
    log.warning(
        "training_clips_useless",
        clips=f"{len(alike)} of {among}{of}",
        because="nothing changes in them: silence, a tone, a dead microphone",
        rows=alike[:10],
        advice=advice,
    )


def check_schedule(config: TrainConfig, total_steps: int) -> None:
    """Say when the learning rate never comes to its peak, as the run ends within its warm-up."""
    warmup = warmup_steps(config, total_steps)
    if warmup < total_steps:
        return
    highest = learning_rate(total_steps - 1, peak=config.learning_rate, warmup=warmup, total=total_steps)
    log.warning(
        "warmup_longer_than_run",
        warmup_steps=warmup,
        steps=total_steps,
        means=f"the learning rate rises to {highest:.3g} of {config.learning_rate:g}, and the run ends there",
        advice=f"--warmup-steps {total_steps // 10}, or leave it out: a tenth of the run",
    )
