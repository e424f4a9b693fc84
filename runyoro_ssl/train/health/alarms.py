"""Alarms of a training run in plain words: what was seen, what it means, what to try first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from runyoro_ssl.config import HealthConfig
from runyoro_ssl.logs import get_logger
from runyoro_ssl.train.health import journal

if TYPE_CHECKING:
    from runyoro_ssl.evaluate.metrics import UpdateNumbers  # which imports torch

log = get_logger()

Action = Literal["note", "skip", "go_back", "stop", "finish"]
NON_FINITE = "non_finite_update"
HALF = "half the --learning-rate"
WIDER = "fp32 in place of --fp16, or --bf16 where the device has units for it"
COOLER = f"{HALF} (going back does that)"
CALMER = (
    "train.feature_encoder_lr_scale at 0.1, if it is higher; twice the --warmup-steps; or more audio per step: "
    "--set hardware.update_seconds"
)


@dataclass(frozen=True)
class Alarm:
    """Something that a person should know, and what the run should do about it.

    Attributes:
        kind: Fixed event name.
        seen: The value, its unit, the threshold and its setting.
        means: What it says about the model.
        advice: What to try, the likeliest remedy first.
        action: `note`: go on. `skip`: leave this update out. `go_back`: restore the last healthy checkpoint. `stop`:
            end the run as failed. `finish`: end it with its best model.
        behind: What is wrong began after this step: going back goes to a checkpoint of it, or of one before.
        clips: Names of the clips that showed it, where it comes from some.
    """

    kind: str
    seen: str
    means: str
    advice: str
    action: Action
    behind: int | None = None
    clips: tuple[str, ...] = ()

    def last_words(self) -> str:
        """What is said of the alarm that ends a run."""
        clips = f" Clips: {'; '.join(self.clips)}." if self.clips else ""
        return f"{self.seen}: {self.means}. The run has stopped. {self.advice}.{clips}"


def report_alarm(alarm: Alarm, *, step: int, done: str) -> dict[str, Any]:
    """Log an alarm and what was done about it as one event. Returns its line of `journal.jsonl`."""
    words: dict[str, Any] = {"step": step, "seen": alarm.seen, "means": alarm.means, "done": done, "try": alarm.advice}
    words |= {"clips": list(alarm.clips)} if alarm.clips else {}
    write = {"stop": log.error, "finish": log.info}.get(alarm.action, log.warning)
    write(alarm.kind, **words)
    return {"kind": alarm.kind, "action": alarm.action, **words}


OFTEN = "if it comes again and again, a lower --learning-rate"


def non_finite_update(
    numbers: UpdateNumbers, config: HealthConfig, *, in_a_row: int, skipped: int, action: Action
) -> Alarm:
    """The alarm for a loss, norm or perplexity that is no number; `skipped` of the last updates were so."""
    if action == "skip":
        means = "this step would ruin every weight, so it is left out; a single one may be a damaged clip"
        advice = f"if it comes again and again, {WIDER}; then half --learning-rate"
    else:
        means = "the run has diverged: its weights no longer give numbers, or hardly any clip does"
        cooler = COOLER if action == "go_back" else HALF
        advice = f"{cooler}, or {WIDER}; then look for clips of constant or broken audio"
    limit = f"health.max_skipped_updates {config.max_skipped_updates}" if config.enabled else "health.enabled is false"
    seen = f"for {_updates(in_a_row)} in a row ({limit})"
    if in_a_row <= config.max_skipped_updates and action == "go_back":
        means = "too many steps give no number: broken clips, a model that cannot bear its precision, or divergence"
        advice = f"listen to the clips named: leave out what is broken; else {advice}"
        seen = (
            f"in {_updates(skipped)} of the last {config.skip_window}, over {config.max_skipped_share:.0%} "
            "(health.max_skipped_share)"
        )
    return Alarm(
        NON_FINITE,
        f"loss {numbers.contrastive_loss:g} nats, gradient norm {numbers.grad_norm:g}: not every value is a number, "
        f"{seen}",
        means,
        advice,
        action,
    )


def codebook_collapse(
    numbers: UpdateNumbers, config: HealthConfig, *, codebook: int, in_a_row: int, behind: int | None
) -> Alarm:
    """The alarm for a codebook that was in use and has shrunk to next to nothing."""
    return Alarm(
        "codebook_collapse",
        f"{_codebook(numbers, config, codebook)} for {_updates(in_a_row)} in a row (health.patience)",
        "nearly every frame gets the same code, so there is little left to tell apart: the loss may look good, but the "
        "model learns nothing",
        f"{COOLER}; then {CALMER}",
        "go_back",
        behind,
    )


def codes_lost(
    config: HealthConfig, *, which: str, codes: float, held: float, in_a_row: int, behind: int | None
) -> Alarm:
    """The alarm for a codebook, or all together, without most of the codes that were in use."""
    return Alarm(
        "codebook_collapse",
        f"{which} {codes:.1f} codes in use (perplexity), and had {held:.1f}: over {config.max_lost_codes:.0%} of them "
        f"are lost (health.max_lost_codes) for {_updates(in_a_row)} in a row (health.patience)",
        "frames that sounded different to the model now get the same code: the loss falls because the task becomes "
        "easier, and what the model tells apart becomes less",
        f"{COOLER}; then {CALMER}",
        "go_back",
        behind,
    )


def codebook_never_used(numbers: UpdateNumbers, config: HealthConfig, *, codebook: int, in_a_row: int) -> Alarm:
    """The alarm for a codebook that never came into use."""
    return Alarm(
        "codebook_never_used",
        f"{_codebook(numbers, config, codebook)} for {_updates(in_a_row)} in a row (health.chance_patience)",
        "this codebook came with next to no code in use and stayed so: an earlier checkpoint is no better",
        "a base model with a trained pre-training head (model.allow_new_head off), or another --seed",
        "stop",
    )


def trivial_task(numbers: UpdateNumbers, config: HealthConfig, *, in_a_row: int) -> Alarm:
    """The alarm for a task in which nothing is left to be told apart."""
    if numbers.chance_loss < config.min_contrastive_loss:
        seen = f"guessing alone would reach {numbers.chance_loss:.3f} nats: hardly a negative differs; under"
    else:
        seen = (
            f"contrastive loss {numbers.contrastive_loss:.3f} nats with accuracy {numbers.accuracy:.1%}, over "
            f"{config.max_accuracy:.1%} (health.max_accuracy), and under"
        )
    return Alarm(
        "trivial_task",
        f"{seen} {config.min_contrastive_loss:g} nats (health.min_contrastive_loss) for {_updates(in_a_row)} in a row",
        "the task has become too easy to teach anything: frames share their codes, or the clips hold silence, tones or "
        "the same sound again and again; a loss near 0 is no success here",
        f"listen to a few clips; if they are speech, {COOLER}, or more frames to predict: a higher --mask-time-prob",
        "go_back",
    )


def fell_to_chance(numbers: UpdateNumbers, config: HealthConfig, *, in_a_row: int) -> Alarm:
    """The alarm for a model that was better than guessing and no longer is."""
    return Alarm(
        "fell_to_chance",
        f"contrastive loss {numbers.contrastive_loss:.3f} nats, guessing {numbers.chance_loss:.3f}: less than "
        f"{config.chance_margin:g} nats better (health.chance_margin) for {_updates(in_a_row)} in a row",
        "the model was better than guessing and has lost it: most often the learning rate is too high",
        f"{COOLER}, then twice the --warmup-steps",
        "go_back",
    )


def lost_progress(numbers: UpdateNumbers, config: HealthConfig, *, held: float, share: float, in_a_row: int) -> Alarm:
    """The alarm for a model that was much better than guessing and is only a little better now."""
    now = numbers.chance_loss - numbers.contrastive_loss
    rising = "" if share == config.max_lost_share else f"; {share:.0%} while the rate rises"
    return Alarm(
        "lost_progress",
        f"the contrastive loss is {now:.3f} nats below guessing, and was held {-held:.3f} below: over {share:.0%} of "
        f"that is lost (health.max_lost_share {config.max_lost_share:g}{rising}) for {_updates(in_a_row)} in a row",
        "something undid in a few steps what was learned: a damaged weight, or a learning rate that is too high",
        COOLER,
        "go_back",
    )


def loss_exploded(numbers: UpdateNumbers, *, above: float, in_a_row: int) -> Alarm:
    """The alarm for a loss far above guessing and above the start."""
    return Alarm(
        "loss_exploded",
        f"contrastive loss {numbers.contrastive_loss:.3f} nats, guessing {numbers.chance_loss:.3f}: over {above:.1f} "
        f"nats worse, and 1 nat worse than at the start, for {_updates(in_a_row)} in a row (health.patience)",
        "the model is surely wrong where it could just guess: the steps are too large for it",
        f"{COOLER}, then twice the --warmup-steps",
        "go_back",
    )


def never_left_chance(numbers: UpdateNumbers, config: HealthConfig, *, mean_gap: float, num_updates: int) -> Alarm:
    """The alarm for a model that learned nothing in all the time it was given."""
    return Alarm(
        "never_left_chance",
        f"contrastive loss {numbers.contrastive_loss:.3f} nats, guessing {numbers.chance_loss:.3f}; "
        f"{mean_gap:+.3f} nats apart on average, and never {2 * config.chance_margin:g} better (twice "
        f"health.chance_margin) for {_updates(config.patience)} in a row, in {_updates(num_updates)} "
        f"(health.chance_patience {config.chance_patience})",
        "the model has never been better than guessing; an earlier checkpoint is no better",
        "from random weights: twice the --learning-rate and a higher health.chance_patience; else check "
        "--model-name-or-path, and listen to a few clips",
        "stop",
    )


def gradient_spikes(config: HealthConfig, *, grad_norm: float, typical: float, num_spikes: int) -> Alarm:
    """The alarm for a gradient norm far above its median; `max_spikes` of them within the window are too many."""
    many = num_spikes >= config.max_spikes
    return Alarm(
        "gradient_spikes",
        f"gradient norm {grad_norm:.3g}, {grad_norm / typical:.0f} times its median {typical:.3g} (health.spike_factor "
        f"{config.spike_factor:g}); spike {num_spikes} of {config.max_spikes} (health.max_spikes) within "
        f"{config.spike_window} steps",
        "training has become unstable" if many else "one hard batch or a loud clip, as a rule; clipping tames it",
        f"{COOLER}, then a lower --set train.max_grad_norm" if many else OFTEN,
        "go_back" if many else "note",
    )


def validation_collapsed(
    step: int, metrics: Mapping[str, float], config: HealthConfig, *, floor: float, before: float
) -> Alarm:
    """The alarm for a validation whose loss says nothing. `before`: the most codes in use, 0 if not known."""
    may_lose = f", of at most {before:.1f} before ({config.max_lost_codes:.0%} may be lost, health.max_lost_codes)"
    return Alarm(
        "validation_collapsed",
        f"validation at step {step}: {metrics['eval/hard_perplexity']:.1f} codes in use, all codebooks together"
        f"{may_lose if before else ''}, floor {floor:g} (health.min_group_perplexity for each); guessing would reach "
        f"{metrics['eval/chance_loss']:.3f} nats, floor {config.min_contrastive_loss:g} (health.min_contrastive_loss)",
        "held-out frames hardly differ in their codes: this loss says nothing, however low, and is not taken as best",
        f"half the --learning-rate, from the last checkpoint before step {step}",
        "note",
    )


def codes_shrink(step: int, config: HealthConfig, *, codes: float, before: float) -> Alarm:
    """The alarm for a validation of a model that is losing its codes."""
    return Alarm(
        "codes_shrink",
        f"validation at step {step}: {codes:.1f} codes in use in training (median perplexity, all codebooks together), "
        f"{before:.1f} a little before; of those held, {config.max_lost_codes:.0%} may be lost (health.max_lost_codes)",
        "codes in use are being lost: the loss falls with them, so this model is not taken as best, nor as healthy",
        f"if it goes on, the run goes back by itself; then {CALMER}",
        "note",
    )


def validation_worsens(
    step: int, metrics: Mapping[str, float], best: Mapping[str, float], *, without_best: int
) -> Alarm:
    """The alarm for so many validations without a new best that more training is not worth its time."""
    return Alarm(
        "validation_worsens",
        f"held-out objective {metrics['eval/objective']:.4f} at step {step}; the best, {best['eval/objective']:.4f}, "
        f"was at step {best['step']:.0f}, {without_best} validations ago (health.early_stop_patience)",
        "more training no longer helps on speech that the model has not heard",
        f"use the model of step {best['step']:.0f}; to go further, more recordings, or a lower --learning-rate",
        "finish",
    )


def last_resort(alarm: Alarm, *, rollbacks: int, learning_rate_scale: float) -> Alarm:
    """The alarm when going back is used up: it ends the run and says what was tried."""
    tried = (
        f"the run has gone back {rollbacks} time{'s' * (rollbacks > 1)} already (health.max_rollbacks), down to "
        f"{learning_rate_scale:g} times the learning rate"
        if rollbacks
        else "going back is switched off (health.max_rollbacks is 0)"
    )
    then = alarm.advice.replace(COOLER, HALF)
    advice = f"read {journal.NAME} from its first line; then, from the last healthy checkpoint: {then}"
    return replace(alarm, seen=f"{alarm.seen}; {tried}", advice=advice, action="stop")


def _codebook(numbers: UpdateNumbers, config: HealthConfig, codebook: int) -> str:
    perplexity, of = numbers.perplexities[codebook - 1], len(numbers.perplexities)
    floor = f"{config.min_group_perplexity:g} (health.min_group_perplexity)"
    return f"codebook {codebook} of {of} has {perplexity:.1f} codes in use (its perplexity), under {floor},"


def _updates(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"
