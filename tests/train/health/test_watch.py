"""The watch over a run's health: every alarm in time and not before, and none on a healthy run."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from runyoro_ssl.config import HealthConfig
from runyoro_ssl.evaluate.metrics import UpdateNumbers
from runyoro_ssl.train.health.alarms import Alarm, report_alarm
from runyoro_ssl.train.health.watch import HealthWatch
from support.watched import (
    CHANCE,
    FRESH,
    HEALTHY,
    TRAINED,
    VALID,
    alarms,
    as_json,
    came,
    copy_of,
    go_back,
    kinds,
    many,
    validate,
    watch,
)


def from_chance(rng: random.Random, count: int, noise: float = 0.02) -> Iterator[UpdateNumbers]:
    """As `invoke smoke`: from above chance to chance, a plateau, then down; few codes at first, noisy norms."""
    for step in range(count):
        gap = 0.1 * math.exp(-step / 8) - 0.004 * max(0, step - 60)
        perplexity = 2.8 + rng.gauss(0, 0.3) + min(22, max(0, step - 15))
        norm = (0.25 + 1.6 * math.exp(-step / 8) + 0.01 * max(0, step - 50)) * rng.lognormvariate(0, 0.4)
        spread = noise if step > 50 else 0.004
        yield UpdateNumbers(step, CHANCE + gap + rng.gauss(0, spread), 0.02, CHANCE, (perplexity, perplexity + 1), norm)


def from_xls_r(rng: random.Random, count: int, gap: float = TRAINED) -> Iterator[UpdateNumbers]:
    """As XLS-R: the loss rises by 0.8 nats in the warm-up, then falls; codes are lost slowly; tiny, noisy updates."""
    for step in range(count):
        rise = 0.8 * math.sin(math.pi * min(1.0, step / 200))
        loss = CHANCE + gap + rise - 0.0005 * step + rng.gauss(0, 0.25)
        codes = (280 - 0.2 * step + rng.gauss(0, 15), max(60.0, 120 - 0.2 * step) + rng.gauss(0, 4))
        yield UpdateNumbers(step, loss, 0.4, CHANCE - 0.02, codes, 2 * rng.lognormvariate(0, 0.6))


@pytest.mark.parametrize("seed", range(5))
def test_healthy_runs_raise_no_alarm(seed: int) -> None:
    """Random weights with few codes, XLS-R through its warm-up, updates of few frames: notes at most."""
    rng = random.Random(seed)  # noqa: S311 - chance, not secrecy
    runs = [
        alarms(watch(starts_at=0.05), from_chance(rng, 500)),
        alarms(watch(starts_at=None), from_chance(rng, 500, noise=0.06)),
        alarms(watch(), from_xls_r(rng, 900)),
        alarms(watch(starts_at=None), from_xls_r(rng, 900, gap=-1.5)),
    ]
    assert not [found for run in runs for found in kinds(run) if found[2] != "note"]


@pytest.mark.parametrize(
    "broken",
    [
        {"contrastive_loss": math.nan},
        {"grad_norm": math.inf},
        {"grad_norm": math.nan},
        {"chance_loss": math.nan},
        {"perplexities": (math.nan, 100.0)},
    ],
)
def test_updates_without_numbers_are_skipped_then_the_run_goes_back(broken: dict[str, Any]) -> None:
    """Five in a row are skipped; the sixth goes back. A good one in between starts the count anew."""
    found = alarms(watch(), many(3), many(5, **broken), many(1), many(9, **broken))
    assert [alarm.action for _, alarm in found] == ["skip"] * 10 + ["go_back"]
    assert found[-1][0] == 15
    assert {alarm.kind for _, alarm in found} == {"non_finite_update"}
    assert "health.max_skipped_updates 5" in found[0][1].seen


def test_skipped_updates_leave_other_streaks_as_they_are() -> None:
    """An update that says nothing neither ends a collapse nor counts for it."""
    collapse = many(5, perplexities=(250.0, 1.1))
    found = alarms(watch(), collapse, many(2, grad_norm=math.nan), collapse)
    assert kinds(found)[-1] == (12, "codebook_collapse", "go_back")


@pytest.mark.parametrize(("codebook", "codes"), [(1, (1.2, 180.0)), (2, (250.0, 2.9)), (1, (1.0, 1.0))])
def test_collapsed_codebook_goes_back(codebook: int, codes: tuple[float, float]) -> None:
    """At the tenth update and not the ninth; the text names the codebook."""
    assert not alarms(watch(), many(30), many(9, perplexities=codes), many(1), many(9, perplexities=codes))
    found = alarms(watch(), many(30), many(20, perplexities=codes))
    assert kinds(found) == [(40, "codebook_collapse", "go_back")]
    assert f"codebook {codebook} of 2" in found[0][1].seen


@pytest.mark.parametrize("starts_at", [TRAINED, None])
def test_collapse_in_the_first_updates_is_seen(starts_at: float | None) -> None:
    """A model that came trained had its codebooks in use, even if no update shows it; else ten updates show it."""
    healthy = 2 if starts_at else 10
    found = alarms(watch(starts_at=starts_at), many(healthy), many(20, perplexities=(1.0, 1.0)))
    assert kinds(found) == [(healthy + 10, "codebook_collapse", "go_back")]


def test_random_weights_have_time_to_use_their_codebooks() -> None:
    """Few codes at the start are no collapse; a codebook that is never used ends the run after chance_patience."""
    poor = {"perplexities": (2.5, 20.0)}
    assert not alarms(watch(starts_at=0.05), many(999, FRESH, **poor), many(30, HEALTHY))
    found = alarms(watch(starts_at=None), many(2000, HEALTHY, **poor))
    assert kinds(found) == [(1000, "codebook_never_used", "stop")]


@pytest.mark.parametrize(
    "trivial",
    [{"contrastive_loss": 0.01, "accuracy": 1.0}, {"contrastive_loss": 0.0, "accuracy": 0.0, "chance_loss": 0.0}],
)
def test_trivial_task_goes_back(trivial: dict[str, Any]) -> None:
    """A loss near 0 that is no success: all right, or nothing to choose from."""
    assert not alarms(watch(), many(9, **trivial), many(1), many(9, **trivial))
    assert kinds(alarms(watch(), many(3), many(20, **trivial))) == [(13, "trivial_task", "go_back")]


def test_a_low_loss_alone_is_no_alarm() -> None:
    """Nor is a high accuracy alone."""
    assert not alarms(watch(), many(50, contrastive_loss=0.01, accuracy=0.9), many(50, accuracy=1.0))


@pytest.mark.parametrize("gap", [0.0, -0.019, 7.0])
def test_fall_to_chance_goes_back(gap: float) -> None:
    """Zeroed codebook vectors give exactly chance, an exploded model a loss far above; both after ten updates."""
    lost: dict[str, Any] = {"contrastive_loss": CHANCE + gap, "accuracy": 0.01}
    assert not alarms(watch(), many(9, **lost), many(1), many(9, **lost))
    assert kinds(alarms(watch(), many(20, **lost))) == [(10, "fell_to_chance", "go_back")]


def test_loss_of_most_that_was_learned_goes_back() -> None:
    """Half of it, for ten updates; a little less, or a slow decline, does not. What is hardly learned may go."""
    half, less = (replace(HEALTHY, contrastive_loss=CHANCE + share * TRAINED) for share in (0.49, 0.51))
    assert kinds(alarms(watch(), many(20), many(20, half))) == [(30, "lost_progress", "go_back")]
    assert not alarms(watch(), many(20), many(50, less))
    assert not alarms(watch(), many(20), many(9, half), many(1), many(9, half))
    little, less_still = (replace(HEALTHY, contrastive_loss=CHANCE - gap) for gap in (0.09, 0.03))
    assert not alarms(watch(starts_at=-0.2), many(60, little), many(30, less_still))


def test_fall_to_chance_of_a_model_that_learned_in_this_run() -> None:
    """Ten updates in a row under twice the margin show that it had learned; nine do not."""
    learned = {"contrastive_loss": CHANCE - 0.05}
    fresh = watch(starts_at=0.1)
    assert kinds(alarms(fresh, many(30, FRESH), many(10, FRESH, **learned), many(30, FRESH))) == [
        (50, "fell_to_chance", "go_back")
    ]
    assert not alarms(watch(starts_at=-0.05), many(9, FRESH, **learned), many(100, FRESH))
    nearly: dict[str, Any] = {"contrastive_loss": CHANCE - 0.03}
    assert not alarms(watch(starts_at=0.1), many(50, FRESH, **nearly), many(100, FRESH))


def test_explosion_of_random_weights_goes_back() -> None:
    """More than a nat above chance and above the start; random weights may start that high, and come down."""
    above = {"contrastive_loss": CHANCE + 1.3}
    assert kinds(alarms(watch(starts_at=0.05), many(5, FRESH), many(20, FRESH, **above))) == [
        (15, "loss_exploded", "go_back")
    ]
    assert not alarms(watch(starts_at=1.3), many(60, FRESH, **above), many(30, FRESH))
    assert not alarms(watch(starts_at=None), many(60, FRESH, **above), many(30, FRESH))


def test_model_that_never_leaves_chance_is_given_up() -> None:
    """After chance_patience updates and not before; one that has begun to learn by then goes on."""
    found = alarms(watch(starts_at=0.05), many(1500, FRESH))
    assert kinds(found) == [(1000, "never_left_chance", "stop")]
    assert "health.chance_patience 1000" in found[0][1].seen
    slow = [replace(FRESH, contrastive_loss=CHANCE - step * 0.00005) for step in range(2000)]
    assert not alarms(watch(starts_at=0.05), slow)


def test_gradient_spike_is_noted_once() -> None:
    """Not before twenty norms are known, and at most one note in twenty updates."""
    assert not alarms(watch(), many(19), many(1, grad_norm=50.0))
    found = alarms(watch(), many(30), many(1, grad_norm=50.0), many(5), many(1, grad_norm=50.0), many(20))
    assert kinds(found) == [(31, "gradient_spikes", "note")]
    assert "50 times its median" in found[0][1].seen
    assert not alarms(watch(), many(30), many(50, grad_norm=9.9))


def test_many_gradient_spikes_go_back() -> None:
    """Five in twenty updates; spikes further apart are noted and no more."""
    spike = [*many(3), *many(1, grad_norm=30.0)]
    found = alarms(watch(), many(30), spike * 5)
    assert kinds(found) == [(34, "gradient_spikes", "note"), (50, "gradient_spikes", "go_back")]
    sparse = [*many(9), *many(1, grad_norm=30.0)]
    assert {alarm.action for _, alarm in alarms(watch(), many(30), sparse * 20)} == {"note"}


def test_a_new_level_of_gradient_norms_becomes_normal() -> None:
    """Where spikes never make the run go back, the median follows within fifty updates."""
    found = alarms(watch(max_spikes=1000), many(100), many(300, grad_norm=20.0))
    assert [step for step, _ in found] == [101, 121, 141]


def test_run_finishes_without_a_new_best() -> None:
    """After five validations in a row; a new best starts the count anew, and the best stays known."""
    health = watch()
    found = validate(health, [2.0, 2.1, 2.1, 2.1, 2.1, 1.9, 1.9, 2.0, 2.0, math.nan, 2.0])
    assert found[:-1] == [None] * 10
    assert found[-1] is not None
    assert (found[-1].kind, found[-1].action) == ("validation_worsens", "finish")
    assert (health.best_step, health.validations["best"]["eval/objective"]) == (600, 1.9)
    assert validate(watch(early_stop_patience=0), [2.0] * 50) == [None] * 50


def test_model_as_it_came_is_no_best() -> None:
    """Otherwise a run whose first steps cost something would end with nothing."""
    health = watch()
    health.judge_validation(0, {**VALID, "eval/objective": 1.0})
    assert health.best_step is None
    validate(health, [math.nan, 2.0])
    assert health.best_step == 200


def test_validations_of_the_warm_up_do_not_end_the_run() -> None:
    """The loss may rise there; the best of it counts."""
    health = HealthWatch(HealthConfig(), warmup_steps=1000)
    assert validate(health, [2.0] + [2.5] * 9 + [2.1] * 4) == [None] * 14
    assert validate(health, [2.1], first=1500) != [None]
    assert health.best_step == 100


@pytest.mark.parametrize("broken", [{"eval/hard_perplexity": 5.9}, {"eval/chance_loss": 0.01}])
def test_collapsed_validation_is_never_the_best(broken: dict[str, Any]) -> None:
    """However low its loss; it is noted, and no checkpoint is healthy until the next good one."""
    health = watch()
    found = validate(health, [0.1, 0.1], **broken)
    assert [alarm.kind for alarm in found if alarm] == ["validation_collapsed"] * 2
    assert health.best_step is None
    assert health.concerns()
    validate(health, [2.0], first=300)
    assert health.best_step == 300
    assert not health.concerns()


def test_best_at_chance_ends_nothing() -> None:
    """At chance, few codes in use make the loss low: the first validation better than guessing beats it."""
    health = watch(starts_at=0.05)
    chance: dict[str, Any] = {"eval/contrastive_loss": 4.6}
    assert validate(health, [4.5] + [4.6] * 20, **chance) == [None] * 21
    assert health.best_step == 100
    validate(health, [4.55], first=3000)
    assert health.best_step == 3000
    validate(health, [4.4], first=3100, **chance)
    assert health.best_step == 3000


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"grad_norm": math.nan}, "no numbers"),
        ({"perplexities": (1.0, 200.0)}, "codebook"),
        ({"contrastive_loss": 0.0, "chance_loss": 0.0}, "trivial"),
        ({"contrastive_loss": 9.0}, "guessing"),
        ({"grad_norm": 99.0}, "spiked"),
    ],
)
def test_checkpoint_amid_trouble_is_not_healthy(bad: dict[str, Any], word: str) -> None:
    """From the first bad update on; twenty good ones later it is healthy again."""
    health = watch()
    alarms(health, many(30))
    assert health.concerns() == []
    alarms(health, many(1, **bad), first=31)
    assert any(word in concern for concern in health.concerns())
    alarms(health, many(20), first=32)
    assert health.concerns() == []


def test_random_weights_at_chance_are_healthy() -> None:
    """They could not be otherwise, and a run from scratch needs a checkpoint to go back to."""
    health = watch(starts_at=0.05)
    alarms(health, many(50, FRESH, perplexities=(2.5, 2.5)))
    assert health.concerns() == []


def test_going_back_halves_the_rate_and_ends_by_stopping() -> None:
    """Twice; the third time the run ends, and the text says what was tried."""
    health = watch()
    scales = []
    for _ in range(2):
        assert kinds(alarms(health, many(20, contrastive_loss=9.0))) == [(10, "fell_to_chance", "go_back")]
        go_back(health)
        assert health.concerns() == []
        scales.append(health.learning_rate_scale)
    assert scales == [0.5, 0.25]
    ((step, alarm),) = alarms(health, many(20, contrastive_loss=9.0))
    assert (step, alarm.action) == (10, "stop")
    assert "gone back 2 times already (health.max_rollbacks), down to 0.25 times the learning rate" in alarm.seen
    assert "going back does that" not in alarm.advice


def test_going_back_can_be_switched_off() -> None:
    """The first alarm then ends the run."""
    ((_, alarm),) = alarms(watch(max_rollbacks=0, max_skipped_updates=0), many(1, grad_norm=math.nan))
    assert alarm.action == "stop"
    assert "switched off" in alarm.seen


def test_going_back_forgets_spikes_and_what_came_after() -> None:
    """The best model is the best of those before; the norms were those of another course."""
    health = watch()
    validate(health, [2.0])
    saved = copy_of(health)
    validate(health, [1.9, 2.1, 2.1, 2.1], first=200)
    alarms(health, many(30), many(4, grad_norm=99.0))
    go_back(health, saved)
    assert (health.best_step, health.rollbacks) == (100, 1)
    assert validate(health, [2.1] * 4, first=600) == [None] * 4
    assert health.best_step == 100
    assert not alarms(health, many(19), many(1, grad_norm=99.0))


def test_going_back_forgets_what_was_recent_at_the_checkpoint() -> None:
    """Its norms are of the course that went wrong: a spike is told by those of the new one. Resumed, they hold."""
    health = watch()
    alarms(health, many(30))
    resumed = copy_of(health)
    assert kinds(alarms(resumed, many(19), many(1, grad_norm=99.0))) == [(20, "gradient_spikes", "note")]
    go_back(health, health)
    assert not alarms(health, many(19), many(1, grad_norm=99.0))


def test_validations_without_a_best_outlast_going_back() -> None:
    """Those before the checkpoint: else a run that goes back often would never end early."""
    health = watch()
    validate(health, [2.0, 2.1, 2.1, 2.1])
    go_back(health, health)
    first, last = validate(health, [2.1, 2.1], first=500)
    assert first is None
    assert last is not None
    assert last.action == "finish"


def test_going_back_to_random_weights_forgets_what_was_learned() -> None:
    """Else they would at once have fallen to chance. With a checkpoint's own state, what it knew holds."""
    learned = many(10, FRESH, contrastive_loss=CHANCE - 1)
    health = watch(starts_at=0.05)
    alarms(health, learned)
    saved = copy_of(health)
    go_back(health)
    assert not alarms(health, many(50, FRESH))
    go_back(health, saved)
    assert kinds(alarms(health, many(50, FRESH))) == [(10, "fell_to_chance", "stop")]
    assert health.rollbacks == 2


def test_going_back_with_the_checkpoint_keeps_how_random_weights_started() -> None:
    """How far above chance, and for how long they have been given."""
    health = watch(starts_at=None)
    alarms(health, many(5, FRESH, contrastive_loss=CHANCE + 1.3), many(900, FRESH))
    go_back(health, health)
    found = alarms(health, many(1, FRESH), many(15, FRESH, contrastive_loss=CHANCE + 1.3), many(150, FRESH))
    assert kinds(found) == [(95, "never_left_chance", "stop")]


def test_switched_off_only_updates_without_numbers_end_the_run() -> None:
    """At the first; nothing else raises an alarm."""
    bad = replace(HEALTHY, contrastive_loss=9.0, perplexities=(1.0, 1.0))
    health = watch(enabled=False)
    found = alarms(health, many(50, bad), many(10, grad_norm=500.0), many(2, grad_norm=math.nan))
    assert kinds(found) == [(61, "non_finite_update", "stop")]
    assert health.concerns() == []


VALUES: list[Callable[[random.Random], UpdateNumbers]] = [
    lambda rng: replace(HEALTHY, contrastive_loss=rng.uniform(1, 3), grad_norm=rng.lognormvariate(0, 1)),
    lambda rng: replace(FRESH, contrastive_loss=CHANCE + rng.gauss(0, 0.03)),
    lambda rng: replace(HEALTHY, perplexities=(rng.uniform(1, 4), rng.uniform(1, 300))),
    lambda rng: replace(HEALTHY, contrastive_loss=rng.choice([0.0, 0.04, 4.61, 30.0, 1e30]), accuracy=rng.random()),
    lambda rng: replace(HEALTHY, chance_loss=rng.choice([0.0, 0.01, 3.0])),
    lambda rng: replace(HEALTHY, grad_norm=rng.choice([0.0, 1e-30, 100.0, 1e30, math.inf, math.nan])),
    lambda _: replace(HEALTHY, contrastive_loss=math.nan),
]


def chances(seed: int) -> list[UpdateNumbers | dict[str, float]]:
    """Updates and validations of every kind, in stretches."""
    rng = random.Random(seed)  # noqa: S311 - chance, not secrecy
    events: list[UpdateNumbers | dict[str, float]] = []
    while len(events) < 120:
        make = rng.choice(VALUES)
        events += [make(rng) for _ in range(rng.choice([1, 2, 12, 25]))]
        events.append({**VALID, "eval/objective": rng.uniform(1, 3), "eval/hard_perplexity": rng.uniform(2, 30)})
    return events


def tell(health: HealthWatch, step: int, event: UpdateNumbers | dict[str, float]) -> Alarm | None:
    """Show an event to a watch, and go back where it says so."""
    if isinstance(event, dict):
        return health.judge_validation(step, event)
    alarm = health.judge_update(replace(event, step=step))
    if alarm and alarm.action == "go_back":
        go_back(health)
    return alarm


@pytest.mark.parametrize("seed", range(8))
def test_resumed_watch_goes_on_alike(seed: int) -> None:
    """Saved as JSON at every step, read into a new watch: the same alarms, the same concerns, the same state."""
    settings = HealthConfig(patience=4, max_rollbacks=20, chance_patience=30, early_stop_patience=2)
    whole = HealthWatch(settings)
    whole.validations["first"] = came(0.05)
    raised = []
    for step, event in enumerate(chances(seed), 1):
        resumed = HealthWatch(settings)
        resumed.validations["first"] = came(-9.0)
        resumed.restore(*as_json(whole), went_back=False)
        resumed.rollbacks = whole.rollbacks
        alarm = tell(whole, step, event)
        raised += [alarm] if alarm else []
        assert tell(resumed, step, event) == alarm
        assert resumed.concerns() == whole.concerns()
        assert as_json(resumed) == as_json(whole)
    assert raised


@pytest.mark.parametrize("seed", range(20))
def test_any_sequence_is_survived(seed: int) -> None:
    """Every alarm can be reported as JSON; switched off, only values that are no numbers raise one."""
    health, off = watch(starts_at=0.05), watch(enabled=False)
    for step, event in enumerate(chances(seed), 1):
        alarm = tell(health, step, event)
        if alarm:
            json.dumps(report_alarm(alarm, step=step, done="nothing"), allow_nan=False)
        alarm = tell(off, step, event)
        assert alarm is None or (alarm.kind, alarm.action) == ("non_finite_update", "stop")


def test_first_validation_without_a_number_is_not_known() -> None:
    """It says nothing of the model: no collapse is seen at once, as it is in one that came trained."""
    collapse = many(30, perplexities=(1.0, 1.0))
    assert kinds(alarms(watch(starts_at=TRAINED), collapse))[0][1] == "codebook_collapse"
    for unknown in (math.nan, -math.inf, None):
        assert not alarms(watch(starts_at=unknown), collapse)


def test_state_of_another_version_is_refused() -> None:
    """With the names that differ."""
    saved = watch().state_dict() | {"mood": "fine"}
    with pytest.raises(ValueError, match=r"differs in mood$"):
        watch().restore(saved, {}, went_back=False)
    del saved["mood"], saved["facts"]
    with pytest.raises(ValueError, match=r"differs in facts$"):
        watch().restore(saved, {}, went_back=False)


def test_state_is_a_copy() -> None:
    """What was saved does not change with the run, nor with one that was resumed from it."""
    health = watch()
    alarms(health, many(30))
    validate(health, [2.0])
    saved, validations = health.state_dict(), dict(health.validations)
    text = json.dumps([saved, validations])
    other = watch()
    other.restore(saved, validations, went_back=False)
    for one in (health, other):
        alarms(one, many(30, perplexities=(1.0, 1.0)))
        validate(one, [1.0], first=200)
    assert json.dumps([saved, validations]) == text


def test_alarm_is_one_readable_event() -> None:
    """What was seen, what it means, what was done, what to try; the same goes to journal.jsonl."""
    ((step, alarm),) = alarms(watch(), many(20, perplexities=(250.0, 1.25)))
    with capture_logs() as logged:
        line = report_alarm(alarm, step=step, done="went back to checkpoint-500, learning rate now 2.5e-05")
    (event,) = logged
    assert event["event"] == "codebook_collapse"
    assert event["log_level"] == "warning"
    assert list(event)[:5] == ["step", "seen", "means", "done", "try"]
    assert event["seen"] == (
        "codebook 2 of 2 has 1.2 codes in use (its perplexity), under 3 (health.min_group_perplexity), for 10 steps "
        "in a row (health.patience)"
    )
    assert line["done"] == "went back to checkpoint-500, learning rate now 2.5e-05"
    assert (line["kind"], line["action"], line["step"]) == ("codebook_collapse", "go_back", 10)


def test_every_alarm_names_its_setting() -> None:
    """A reader finds in the text which number to change, and has something to try."""
    found = [alarm for seed in range(12) for alarm in _all_alarms(seed)]
    found += [alarm for _, alarm in alarms(watch(), many(20), many(10, contrastive_loss=CHANCE + 0.4 * TRAINED))]
    assert {one.kind for one in found} == {
        "non_finite_update",
        "codebook_collapse",
        "codebook_never_used",
        "codes_shrink",
        "trivial_task",
        "fell_to_chance",
        "lost_progress",
        "never_left_chance",
        "loss_exploded",
        "gradient_spikes",
        "validation_collapsed",
        "validation_worsens",
    }
    for alarm in found:
        assert "health." in alarm.seen
        assert alarm.means
        assert alarm.advice


def _all_alarms(seed: int) -> Iterator[Alarm]:
    health = watch(starts_at=0.05, patience=3, chance_patience=12, max_rollbacks=100, early_stop_patience=2)
    for step, event in enumerate(chances(seed), 1):
        alarm = tell(health, step, event)
        if alarm:
            yield alarm


@pytest.mark.parametrize(("every", "at"), [(2, 51), (3, 61), (4, 71), (5, None), (50, None)])
def test_share_of_updates_without_numbers_goes_back(every: int, at: int | None) -> None:
    """Every second, third and fourth: the eleventh of fifty. Every fifth is just borne, and skipped."""
    updates = [replace(HEALTHY, grad_norm=math.nan) if step % every == 0 else HEALTHY for step in range(300)]
    found = alarms(watch(), many(30), updates)
    assert {alarm.kind for _, alarm in found} == {"non_finite_update"}
    backs = [step for step, alarm in found if alarm.action == "go_back"]
    assert backs == ([] if at is None else [at])
    if at is not None:
        assert "in 11 steps of the last 50, over 20% (health.max_skipped_share)" in found[-1][1].seen
        many_borne = watch(max_skipped_share=0.5, skip_window=10)
        assert {alarm.action for _, alarm in alarms(many_borne, many(30), updates)} == {"skip"}


def test_state_of_the_first_version_is_understood() -> None:
    """What it did not write is learned anew, and what it wrote besides is left."""
    saved = watch().state_dict() | {"usual_gap": -1.0, "best_gap": -2.0, "best_loss": 1.0}
    for name in ("held_gap", "codes_held", "codes_validated", "gaps", "codes", "levels", "skipped_steps", "behind"):
        del saved[name]
    health = watch()
    health.restore(saved, {"first": came(TRAINED)}, went_back=False)
    assert kinds(alarms(health, many(30), many(20, perplexities=(1.0, 1.0))))[-1][1] == "codebook_collapse"
