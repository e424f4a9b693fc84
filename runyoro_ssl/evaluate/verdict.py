"""The verdict: what the measures say together, by a rule that is written here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runyoro_ssl.config import HealthConfig
from runyoro_ssl.evaluate.judging import HowMuchBetter, Judging, before_and_after, in_points
from runyoro_ssl.evaluate.record import ADAPTED, BASE, Judgement, JudgementKind, ModelMeasure

FIT_MARGIN = 0.05
"""Nats of held-out loss that are no difference: two runs from other seeds differ by as much."""
RANK_MARGIN, CLUSTER_MARGIN = 0.15, 0.15
"""Shares of the base's effective rank, and of its Davies-Bouldin index, that a model may lose."""
STABILITY_MARGIN = 0.03
"""Of units that stay the same under noise and speed, as a share of all."""
FEWEST_CODES, LEAST_SHARE_OF_CODES = 4.0, 0.03
"""Hard perplexity of a model that has collapsed whatever the base: two for each codebook of wav2vec 2.0, or that share
of all codes. A run that had half collapsed had 8 of 640, a healthy one 84."""
CODES_KEPT = 0.5
"""Share of the base's codes in use (hard perplexity) below which a model has collapsed."""
FORGETTING_MARGIN = 0.1
"""Nats by which the loss of another language may rise."""
MEMORY_SHARE = 0.5
"""Of the gain on clips that were trained on, that must be there on held-out ones: else it has learned them by heart."""
LEARNED_SHARE = 0.5
"""Of what the base's held-out loss is below guessing, that must be left for a label to be called a gain: models that
knew twenty clips by heart had lost 0.7 and 0.9 of it, and told phones of other voices apart better all the same."""
MOST_MINUTES = 600.0
"""What `--max-minutes` takes: more speech than that is no advice."""

FIT, MEMORY, FORGETTING = (f"{family}.below_guessing" for family in ("fit", "memory", "forgetting"))
LABELLED = {"phones.abx_within": 0.01, "phones.probe": 0.02, "text.cer": 0.02}
"""What decides where there are labels, and how much of it is no difference: models that differ in the seed alone
differed by 0.5 points of ABX and 1.9 of the probe at most, in seven pairs. The first that was measured decides, unless
another is worse."""
OnLabels = Literal["better", "worse", "mixed", "small", "none"]


def judge(measures: Sequence[ModelMeasure], *, minutes: float, num_codes: int = 0) -> Judgement:
    """Say in words what measures of a base and an adapted model mean.

    Labels come first. "helped": the first is better for certain, it or another beyond its margin, none is worse so, and
    the model has neither collapsed, nor forgotten another language, nor lost most of what the base foretells; "hurt":
    one is worse beyond its margin. Without labels, or where they tell nothing: "hurt" where codebook or rank collapsed,
    or the held-out loss rose beyond a margin; "fits better" where it fell beyond that, for certain, the model is better
    than guessing, no measure of codes, rank, clusters, steadiness of units and other languages seems worse beyond its
    margin, and the gain is not of its own clips alone. All else is "no evidence". The loss is taken beside that of
    guessing, which depends on the codes. A rank that falls while clusters come apart is no loss: random weights have
    the highest rank.

    Args:
        measures: As an evaluation has them.
        minutes: Of held-out speech that was heard.
        num_codes: Of the adapted model's codebooks together; 0: not known.
    """
    judged = Judging({measure.key: measure for measure in measures})
    collapsed = _has_collapsed(judged, num_codes)
    labels = _by_labels(judged)
    fits = "none" if collapsed else _fits_better(judged)
    kept = _keeps(judged, has_codes=not collapsed)
    if labels == "better":
        is_spoilt = collapsed or not kept.languages or _has_unlearned(judged)
        kind: JudgementKind = "no evidence" if is_spoilt else "helped"
    elif labels == "worse":
        kind = "hurt"
    elif labels == "mixed":
        kind = "no evidence"
    elif collapsed or fits == "worse" or not kept.geometry:
        kind = "hurt"
    else:
        kind = "fits better" if fits == "better" and kept.others and kept.is_general else "no evidence"
    is_conflict = kind == "no evidence" and ("better" in (labels, fits) or labels == "mixed")
    sentence = CONFLICT if is_conflict else SENTENCES.get(kind) or _fits(judged)
    leading = {"helped": (1,), "fits better": (1,), "hurt": (-1,)}.get(kind, (1, 0, -1))
    return Judgement(
        kind,
        sentence,
        tuple(reason for speaks_for, reason in judged.reasons if speaks_for in leading),
        _would_settle(judged, kind, minutes, is_conflict=is_conflict),
        tuple(reason for speaks_for, reason in judged.reasons if speaks_for not in leading),
    )


def _has_collapsed(judged: Judging, num_codes: int) -> bool:
    base, adapted = (judged.value("fit.hard_perplexity", name) for name in (BASE, ADAPTED))
    if base is None or adapted is None:
        return False
    kept = CODES_KEPT * base if _has_learned(judged, BASE) else 0.0  # codes of a model that guesses mean nothing
    if adapted >= max(kept, min(FEWEST_CODES, base), LEAST_SHARE_OF_CODES * num_codes):
        return False
    judged.says(f"it has collapsed: of {base:.0f} codes in use {adapted:.0f} are left, and its loss says nothing", -1)
    return True


def _by_labels(judged: Judging) -> OnLabels:
    """By the measures on labels that decide, together."""
    gains = {key: gain for key in LABELLED if (gain := judged.gain(key)) is not None}
    found = [_by_label(judged, key, gain) for key, gain in gains.items()]
    if "worse" in found:
        return "mixed" if "better" in found else "worse"
    if "better" in found and next(iter(gains.values())).least > 0:
        return "better"
    return "small" if found else "none"


def _by_label(judged: Judging, key: str, gain: HowMuchBetter) -> OnLabels:
    words, margin = judged.measures[key].words, LABELLED[key]
    if gain.least > margin:
        judged.says(f"{words}: {in_points(gain)}", 1)
        return "better"
    if gain.most < -margin:
        judged.says(f"{words}: {in_points(gain)}", -1)
        return "worse"
    if gain.least > 0 or gain.most < 0:
        judged.says(f"{words}: {in_points(gain)}; another seed may make {100 * margin:.0f}")
    else:
        judged.says(f"{words}: no difference that could be told ({in_points(gain)})")
    return "small"


def _fits_better(judged: Judging) -> str:
    """By the held-out loss: "better", "worse", "guesses", "alike", or "none" where it is not known."""
    gain = judged.gain(FIT)
    if gain is None:
        why = "is of too few speakers, recordings or clips to tell" if FIT in judged.measures else "of one is not known"
        judged.says(f"the held-out loss {why}")
        return "none"
    base, adapted = (judged.measures[FIT].values[name] for name in (BASE, ADAPTED))
    shown = f"the held-out loss is {adapted:.2f} nats below that of guessing, the base's {base:.2f}: "
    if gain.most < -FIT_MARGIN:
        judged.says(shown + f"worse by {-gain.about:.2f} ({-gain.most:.2f} to {-gain.least:.2f})", -1)
        return "worse"
    if not _has_learned(judged, ADAPTED):
        judged.says("its held-out loss is that of guessing", -1)
        return "guesses"
    if gain.least > FIT_MARGIN:
        judged.says(shown + f"better by {gain.about:.2f} ({gain.least:.2f} to {gain.most:.2f})", 1)
        return "better"
    judged.says(
        shown + f"no difference of over {FIT_MARGIN} that could be told ({gain.least:+.2f} to {gain.most:+.2f})"
    )
    return "alike"


def _has_unlearned(judged: Judging) -> bool:
    """Whether most of what the base foretells of held-out clips is lost, for certain."""
    gain, base = judged.gain(FIT), judged.value(FIT, BASE)
    if gain is None or base is None or not _has_learned(judged, BASE) or gain.most >= (LEARNED_SHARE - 1) * base:
        return False
    judged.says("most of what the base foretells is lost, as where a model learned its clips by heart", -1)
    return True


def _has_learned(judged: Judging, subject: str) -> bool:
    """Whether a model is better than guessing, for certain."""
    measure = judged.measures.get(FIT)
    below = measure.intervals.get(subject) if measure else None
    return below is not None and below.low >= HealthConfig().chance_margin


@dataclass(frozen=True)
class _Kept:
    """What was kept: the space that features fill, other languages, all that was asked; whether it is of all speech."""

    geometry: bool
    languages: bool
    others: bool
    is_general: bool


def _keeps(judged: Judging, *, has_codes: bool) -> _Kept:
    """What seems worse beyond its margin is not kept; a rank must be so for certain to be a collapse."""
    rank, base_rank = judged.gain("geometry.effective_rank"), judged.value("geometry.effective_rank", BASE)
    clusters, base_clusters = judged.gain("geometry.davies_bouldin"), judged.value("geometry.davies_bouldin", BASE)
    if FIT in judged.measures and not _has_learned(judged, BASE):
        rank = None  # random weights have the highest rank: that of a model that guesses means nothing
    rank_fell = rank is not None and rank.about < -RANK_MARGIN * (base_rank or 0)
    is_certain = rank is not None and rank.most < -RANK_MARGIN * (base_rank or 0)
    if rank_fell:
        fewer = f"features fill fewer dimensions: {before_and_after(judged, 'geometry.effective_rank')}"
        if has_codes and clusters is not None and clusters.least > 0:
            rank_fell = is_certain = False
            judged.says(f"{fewer}; but clusters overlap less: they became tidier, not poorer")
        else:
            judged.says(fewer, -1)
    limits = {
        "geometry.davies_bouldin": (clusters, CLUSTER_MARGIN * (base_clusters or 0), "clusters overlap more"),
        "units.stability": (judged.gain("units.stability"), STABILITY_MARGIN, "units are less steady"),
    }
    lost = [rank_fell]
    for key, (gain, margin, words) in limits.items():
        lost.append(gain is not None and gain.about < -margin)
        if lost[-1]:
            judged.says(f"{words}: {before_and_after(judged, key)}", -1)
    other = judged.gain(FORGETTING)
    forgotten = other is not None and other.about < -FORGETTING_MARGIN
    if forgotten:
        base, adapted = (judged.measures[FORGETTING].values[name] for name in (BASE, ADAPTED))
        told = f"its loss is {adapted:.2f} nats below that of guessing, the base's {base:.2f}"
        judged.says(f"another language is forgotten: {told}", -1)
    return _Kept(not is_certain, not forgotten, not any([*lost, forgotten]), not _by_heart(judged))


def _by_heart(judged: Judging) -> bool:
    """Whether most of the gain is of the very clips that it was trained on."""
    held_out, trained = judged.gain(FIT), judged.gain(MEMORY)
    if held_out is None or trained is None or trained.least <= FIT_MARGIN:
        return False
    if held_out.about >= MEMORY_SHARE * trained.about:
        return False
    others = f"{'fell' if held_out.about > 0 else 'rose'} by {abs(held_out.about):.2f}"
    judged.says(
        f"it knows its clips by heart: their loss fell by {trained.about:.2f} nats, that of others {others}", -1
    )
    return True


SENTENCES: dict[JudgementKind, str] = {
    "helped": "Adapting helped: sounds of this language are told apart better than by the base model.",
    "hurt": "Adapting hurt: keep the base model, or try an earlier checkpoint (--run) or a mixture (--interpolate).",
    "no evidence": "No evidence: nothing shows that the adapted model is better than the base, nor that it is worse.",
}
CONFLICT = "No evidence either way: some measures are better, others are worse; see why."


def _fits(judged: Judging) -> str:
    """What a better fit means beside the labels."""
    first = next((gain for key in LABELLED if (gain := judged.gain(key)) is not None), None)
    if first is None:
        return "It fits your speech better; whether it recognises better needs labels."
    if first.least > 0:
        return "It fits your speech better; on the labels it is better, too, but no more than another seed may make."
    return "It fits your speech better; the labels that were given show no difference that counts."


def _would_settle(judged: Judging, kind: JudgementKind, minutes: float, *, is_conflict: bool) -> tuple[str, ...]:
    """How many more minutes, and which labels."""
    decides = next((key for key in LABELLED if judged.gain(key) is not None), None)
    advice = []
    if decides is None:
        advice.append(
            "ten minutes of held-out speech with transcripts (--transcripts) or phone alignments (--alignments) would "
            "say whether recognition gets better"
        )
    key, margin = (decides, LABELLED[decides]) if decides else (FIT, FIT_MARGIN)
    needed = _minutes_needed(judged.gain(key), margin, minutes)
    if kind in ("no evidence", "fits better") and needed is not None:
        advice.append(
            f"about {needed:.0f} minutes of held-out speech, where {minutes:.0f} were heard (--max-minutes, if so much "
            f"is held out), if the difference is as large as it looks ({judged.measures[key].words})"
        )
    if is_conflict:
        advice.append("a mixture with the base (--interpolate 0.25,0.5,0.75) may keep the better of both")
    return tuple(advice)


def _minutes_needed(gain: HowMuchBetter | None, margin: float, minutes: float) -> float | None:
    """Minutes with which a gain as large as it looks would be told from its margin; None where it is, or is smaller."""
    if gain is None or gain.least > margin or gain.about <= margin:
        return None
    needed = minutes * ((gain.about - gain.least) / (gain.about - margin)) ** 2
    return needed if needed <= MOST_MINUTES else None
