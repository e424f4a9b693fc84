"""The verdict: what measures say together. Only labels can say that it helped, and a low loss alone says little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runyoro_ssl.evaluate.record import ADAPTED, BASE, Better, Interval, ModelMeasure
from runyoro_ssl.evaluate.verdict import LABELLED, judge


def one(
    key: str, base: float, adapted: float, give: float = 0.01, *, better: Better = "lower", is_labelled: bool = False
) -> ModelMeasure:
    """A measure of both models; `give`: how far the interval of the difference reaches to either side."""
    difference = adapted - base
    return ModelMeasure(
        key,
        key,
        key.partition(".")[0],  # type: ignore[arg-type]  # a family
        "",
        better,
        {BASE: base, ADAPTED: adapted},
        {BASE: Interval(base - give, base + give), ADAPTED: Interval(adapted - give, adapted + give)},
        difference,
        Interval(difference - give, difference + give),
        is_labelled=is_labelled,
    )


def loss(
    base: float, adapted: float, give: float = 0.01, *, family: str = "fit", guessing: float = 4.6
) -> ModelMeasure:
    """A loss of both models, beside that of guessing."""
    return one(f"{family}.below_guessing", guessing - base, guessing - adapted, give, better="higher")


def usual(**changed: ModelMeasure | None) -> list[ModelMeasure]:
    """A model that fits better and has lost nothing, but for what is changed."""
    found: dict[str, ModelMeasure | None] = {
        "loss": loss(3.8, 3.5),
        "codes": one("fit.hard_perplexity", 200, 190, 20, better="neither"),
        "rank": one("geometry.effective_rank", 60, 62, 3, better="higher"),
        "clusters": one("geometry.davies_bouldin", 2.0, 2.0, 0.1),
        "stability": one("units.stability", 0.5, 0.5, better="higher"),
    }
    return [measure for measure in (found | changed).values() if measure is not None]


def kind(**changed: ModelMeasure | None) -> str:
    """The verdict of the usual model, with these changes."""
    return judge(usual(**changed), minutes=10).kind


def test_a_lower_loss_is_a_better_fit_and_no_more() -> None:
    """Whether it recognises better needs labels, and it says which."""
    verdict = judge(usual(), minutes=10)
    assert verdict.kind == "fits better"
    assert "needs labels" in verdict.sentence
    assert "transcripts" in verdict.would_settle[0]
    assert any("better by 0.30 (0.29 to 0.31)" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_labels_say_that_it_helped(better: Any) -> None:
    """By an interval beyond what another seed makes: a point of ABX, two of the probe."""
    sign = 1 if better == "higher" else -1
    key = "phones.probe" if better == "higher" else "phones.abx_within"
    assert kind(phones=one(key, 0.4, 0.4 + sign * 0.05, better=better)) == "helped"
    margin = LABELLED[key]
    assert kind(phones=one(key, 0.4, 0.4 + sign * 1.5 * margin, 0.4 * margin, better=better)) == "helped"
    assert kind(phones=one(key, 0.4, 0.4 + sign * 1.5 * margin, 0.6 * margin, better=better)) == "fits better"
    assert kind(phones=one(key, 0.4, 0.4 - sign * 1.5 * margin, 0.4 * margin, better=better)) == "hurt"
    assert kind(phones=one(key, 0.4, 0.4 - sign * 1.5 * margin, 0.6 * margin, better=better)) == "fits better"
    assert kind(phones=one(key, 0.4, 0.4 + sign * 0.05, 0.06, better=better)) == "fits better"
    assert kind(phones=one(key, 0.4, 0.4 - sign * 0.05, better=better)) == "hurt"


def test_losses_are_compared_beside_guessing() -> None:
    """A base with 8 codes has the easier task: its loss of 4.08 is worse than 4.37 with 84 codes."""
    both = one("fit.below_guessing", 4.2 - 4.08, 4.6 - 4.37, better="higher")
    assert kind(loss=both, codes=one("fit.hard_perplexity", 8, 84, better="neither")) == "fits better"


def test_half_a_collapse_from_random_weights_is_none_the_better() -> None:
    """Of 640 codes 8 are in use, whatever the base had, and however tidy the clusters are then."""
    changed = {
        "loss": loss(4.61, 4.08),
        "codes": one("fit.hard_perplexity", 300, 8, better="neither"),
        "rank": one("geometry.effective_rank", 60, 9, 2, better="higher"),
        "clusters": one("geometry.davies_bouldin", 2.2, 1.5, 0.1),
    }
    assert judge(usual(**changed), minutes=10, num_codes=640).kind == "hurt"


def test_labels_that_disagree_are_no_evidence() -> None:
    """And one that is worse alone hurts, wherever it stands."""
    better, worse = one("phones.abx_within", 0.4, 0.35), one("text.cer", 0.5, 0.7)
    mixed = judge(usual(abx=better, text=worse), minutes=10)
    assert mixed.kind == "no evidence"
    assert "others are worse" in mixed.sentence
    assert kind(abx=one("phones.abx_within", 0.4, 0.4), text=worse) == "hurt"


def test_what_is_uncertain_is_not_taken_for_kept() -> None:
    """A measure that seems worse beyond its margin stands against "fits better", though it does not hurt."""
    assert kind(stability=one("units.stability", 0.5, 0.4, 0.15, better="higher")) == "no evidence"
    assert kind(rank=one("geometry.effective_rank", 30, 18, 18, better="higher")) == "no evidence"
    assert kind(other=loss(3.0, 3.5, 0.6, family="forgetting")) == "no evidence"


def test_without_an_interval_nothing_is_said() -> None:
    """Of too few speakers or recordings."""
    alone = replace(loss(3.8, 3.5), difference_interval=None, intervals={})
    verdict = judge(usual(loss=alone), minutes=1)
    assert verdict.kind == "no evidence"
    assert "too few speakers" in verdict.reasons[0]


def test_labels_do_not_help_a_model_that_forgot_or_collapsed() -> None:
    """But they outweigh a rank that fell: what labels say is what the rest stands for."""
    phones = one("phones.probe", 0.4, 0.5, better="higher")
    assert kind(phones=phones, codes=one("fit.hard_perplexity", 200, 20, better="neither")) == "no evidence"
    assert kind(phones=phones, other=loss(3.0, 3.5, family="forgetting")) == "no evidence"
    assert kind(phones=phones, rank=one("geometry.effective_rank", 60, 40, 3, better="higher")) == "helped"


@pytest.mark.parametrize(("adapted", "said"), [(3.9, "rose by 0.10"), (3.7, "fell by 0.10")])
def test_clips_by_heart_are_told_with_those_of_others(adapted: float, said: str) -> None:
    """What became of the loss of clips that it was not trained on, in words."""
    verdict = judge(usual(loss=loss(3.8, adapted), memory=loss(3.8, 2.0, family="memory")), minutes=10)
    assert any(f"by heart: their loss fell by 1.80 nats, that of others {said}" in why for why in verdict.reasons)


def test_labels_do_not_help_a_model_that_unlearned() -> None:
    """One that knows its clips by heart may tell phones apart better: that it helped is not said, and why not is.

    A loss that is a little higher is no reason, nor one of a model without a head, or of a base that guesses.
    """
    phones = one("phones.abx_within", 0.20, 0.15, is_labelled=True)
    verdict = judge(usual(phones=phones, loss=loss(3.4, 4.3)), minutes=10)
    assert verdict.kind == "no evidence"
    assert "either way" in verdict.sentence
    assert any("by heart" in why for why in verdict.reasons)
    assert kind(phones=phones, loss=loss(3.4, 3.9)) == "helped"
    assert kind(phones=phones, loss=None) == "helped"
    assert kind(phones=phones, loss=loss(4.61, 4.9)) == "helped"


def test_codes_of_a_base_that_guesses_mean_nothing() -> None:
    """Random weights use many codes; from there a model learns with fewer. Two of each codebook are too few for any."""
    from_guessing = {"loss": loss(4.62, 4.1)}
    assert kind(**from_guessing, codes=one("fit.hard_perplexity", 66, 28, better="neither")) == "fits better"
    assert kind(**from_guessing, codes=one("fit.hard_perplexity", 66, 3, better="neither")) == "hurt"


def test_a_rank_of_a_base_that_guesses_means_nothing() -> None:
    """Random weights have the highest; beside a base that has learned, the same fall hurts."""
    fell = one("geometry.effective_rank", 160, 90, 3, better="higher")
    assert kind(loss=loss(4.62, 4.1), rank=fell) == "fits better"
    assert kind(loss=loss(4.4, 4.1), rank=fell) == "hurt"


def test_a_rank_that_falls_while_clusters_come_apart_is_no_loss() -> None:
    """As from random weights, which have the highest rank."""
    fell = one("geometry.effective_rank", 160, 90, 3, better="higher")
    assert kind(rank=fell, clusters=one("geometry.davies_bouldin", 3.3, 1.7, 0.1)) == "fits better"
    assert kind(rank=fell) == "hurt"


def test_the_case_that_was_measured() -> None:
    """Loss 3.83 to 3.60, phones 27.2 to 27.5 % and ABX 0.407 to 0.404, within two points: never "helped"."""
    verdict = judge(
        usual(
            loss=loss(3.83, 3.60, 0.05),
            abx=one("phones.abx_within", 0.407, 0.404, 0.02, is_labelled=True),
            probe=one("phones.probe", 0.272, 0.275, 0.02, better="higher", is_labelled=True),
        ),
        minutes=16,
    )
    assert verdict.kind == "fits better"
    assert "show no difference that counts" in verdict.sentence


def test_a_second_label_may_say_it_where_the_first_is_better_for_certain() -> None:
    """ABX better by 0.9 points, less than another seed may make, and the probe by 4.8; alone, the first fits only."""
    abx = one("phones.abx_within", 0.16, 0.151, 0.003)
    assert kind(abx=abx, probe=one("phones.probe", 0.44, 0.488, 0.008, better="higher")) == "helped"
    assert kind(abx=abx, probe=one("phones.probe", 0.44, 0.45, 0.008, better="higher")) == "fits better"
    alike = one("phones.abx_within", 0.16, 0.157, 0.006)
    assert kind(abx=alike, probe=one("phones.probe", 0.44, 0.488, 0.008, better="higher")) == "fits better"
    small = judge(usual(abx=abx), minutes=60)
    assert "no more than another seed may make" in small.sentence
    assert small.would_settle == ()


def test_what_speaks_for_another_verdict_stands_apart() -> None:
    """Why, and although; in points, worse or better, and in the measure's unit."""
    verdict = judge(
        usual(
            phones=one("phones.probe", 0.4, 0.5, better="higher"),
            stability=replace(one("units.stability", 0.5, 0.4, better="higher"), unit="%"),
        ),
        minutes=10,
    )
    assert verdict.kind == "helped"
    assert "phones.probe: better by 10.0 points (9.0 to 11.0)" in verdict.reasons
    assert list(verdict.although) == ["units are less steady: 50.0% to 40.0%"]
    collapsed = judge(usual(codes=one("fit.hard_perplexity", 200, 2, better="neither")), minutes=10)
    assert not any("below that of guessing" in reason for reason in [*collapsed.reasons, *collapsed.although])


def test_labels_settle_only_by_what_decides() -> None:
    """A probe that needs more minutes is no advice where ABX decides, and shows nothing."""
    alike, wide = one("phones.abx_within", 0.16, 0.16, 0.02), one("phones.probe", 0.4, 0.45, 0.04, better="higher")
    assert judge(usual(abx=alike, probe=wide), minutes=2).would_settle == ()
    assert "where 2 were heard" in judge(usual(probe=wide), minutes=2).would_settle[0]


def test_half_a_collapse_is_no_gain() -> None:
    """A loss of 4.08 against 4.37, with 8 codes of 84 and a rank of 9 against 15."""
    changed = {
        "loss": loss(4.37, 4.08),
        "codes": one("fit.hard_perplexity", 84, 8, 2, better="neither"),
        "rank": one("geometry.effective_rank", 15, 9, 2, better="higher"),
    }
    verdict = judge(usual(**changed), minutes=10)
    assert verdict.kind == "hurt"
    assert "collapsed" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"loss": loss(3.8, 3.78)}, "no evidence"),
        ({"loss": loss(3.8, 3.5, 0.4)}, "no evidence"),
        ({"loss": loss(3.8, 4.1)}, "hurt"),
        ({"loss": loss(5.9, 4.6)}, "no evidence"),
        ({"loss": None}, "no evidence"),
        ({"rank": one("geometry.effective_rank", 60, 40, 3, better="higher")}, "hurt"),
        ({"clusters": one("geometry.davies_bouldin", 2.0, 3.0)}, "no evidence"),
        ({"stability": one("units.stability", 0.5, 0.4, better="higher")}, "no evidence"),
        ({"other": loss(3.0, 3.5, family="forgetting")}, "no evidence"),
        ({"other": loss(3.0, 3.05, family="forgetting")}, "fits better"),
        ({"memory": loss(3.8, 2.0, family="memory")}, "no evidence"),
        ({"memory": loss(3.8, 3.4, family="memory")}, "fits better"),
    ],
)
def test_what_else_is_asked(changed: dict[str, ModelMeasure | None], expected: str) -> None:
    """A margin; better than guessing; nothing lost; other languages; not its own clips alone."""
    assert kind(**changed) == expected


def test_it_says_how_many_minutes_would_settle_it() -> None:
    """A gain of 0.15 nats, known to 0.2: four times the speech would tell it from the margin."""
    verdict = judge(usual(loss=loss(3.8, 3.65, 0.2)), minutes=10)
    assert verdict.kind == "no evidence"
    assert any("about 40 minutes" in advice for advice in verdict.would_settle)
