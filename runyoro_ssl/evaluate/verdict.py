"""The verdict: what the measures say together, by a rule that is written here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from runyoro_ssl.config import HealthConfig
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
MOST_MINUTES = 600.0
"""What `--max-minutes` takes: more speech than that is no advice."""

FIT, MEMORY, FORGETTING = (f"{family}.below_guessing" for family in ("fit", "memory", "forgetting"))
LABELLED = {"phones.abx_within": 0.01, "phones.probe": 0.02, "text.cer": 0.02}
"""What decides where there are labels, and how much of it is no difference: models that differ in the seed alone
differed by 0.5 points of ABX and 1.9 of the probe at most, in seven pairs. The first that was measured decides, unless
another is worse."""
OnLabels = Literal["better", "worse", "mixed", "small", "alike", "none"]


class HowMuchBetter(NamedTuple):
    """How much better the adapted model is by a measure."""

    least: float
    about: float
    most: float


@dataclass
class _Judging:
    """What is found, one after the other."""

    measures: dict[str, ModelMeasure]
    reasons: list[str] = field(default_factory=list)

    def gain(self, key: str) -> HowMuchBetter | None:
        """That of a measure; None: it was not measured, has no interval, or neither way is better."""
        measure = self.measures.get(key)
        if measure is None or measure.difference is None or measure.difference_interval is None:
            return None
        low, middle, high = measure.difference_interval.low, measure.difference, measure.difference_interval.high
        return {"higher": HowMuchBetter(low, middle, high), "lower": HowMuchBetter(-high, -middle, -low)}.get(
            measure.better
        )

    def value(self, key: str, subject: str) -> float | None:
        """A measure of a subject."""
        return self.measures[key].values.get(subject) if key in self.measures else None

    def says(self, reason: str) -> None:
        """Remember why."""
        self.reasons.append(reason)


def judge(measures: Sequence[ModelMeasure], *, minutes: float, num_codes: int = 0) -> Judgement:
    """Say in words what measures of a base and an adapted model mean.

    Labels come first. "helped": the first is better, for certain and beyond its margin, none is worse, and the model
    has neither collapsed nor forgotten another language; "hurt": one is worse so. Without labels, or where they tell
    nothing: "hurt" where codebook or rank collapsed, or the held-out loss rose beyond a margin; "fits better" where it
    fell beyond that, for certain, the model is better than guessing, no measure of codes, rank, clusters, steadiness of
    units and other languages seems worse beyond its margin, and the gain is not of its own clips alone. All else is "no
    evidence". The loss is taken beside that of guessing, which depends on the codes. A rank that falls while clusters
    come apart is no loss: random weights have the highest rank.

    Args:
        measures: As an evaluation has them.
        minutes: Of held-out speech that was heard.
        num_codes: Of the adapted model's codebooks together; 0: not known.
    """
    judged = _Judging({measure.key: measure for measure in measures})
    collapsed = _has_collapsed(judged, num_codes)
    labels, fits, kept = _by_labels(judged), _fits_better(judged), _keeps(judged, has_codes=not collapsed)
    if labels == "better":
        kind: JudgementKind = "no evidence" if collapsed or not kept.languages else "helped"
    elif labels == "worse":
        kind = "hurt"
    elif labels == "mixed":
        kind = "no evidence"
    elif collapsed or fits == "worse" or not kept.geometry:
        kind = "hurt"
    else:
        kind = "fits better" if fits == "better" and kept.others and kept.is_general else "no evidence"
    is_conflict = kind == "no evidence" and ("better" in (labels, fits) or labels == "mixed")
    sentence = _sentence(kind, labels, is_conflict=is_conflict)
    return Judgement(kind, sentence, tuple(judged.reasons), _would_settle(judged, kind, labels, minutes))


def _has_collapsed(judged: _Judging, num_codes: int) -> bool:
    base, adapted = (judged.value("fit.hard_perplexity", name) for name in (BASE, ADAPTED))
    if base is None or adapted is None:
        return False
    kept = CODES_KEPT * base if _has_learned(judged, BASE) else 0.0  # codes of a model that guesses mean nothing
    if adapted >= max(kept, min(FEWEST_CODES, base), LEAST_SHARE_OF_CODES * num_codes):
        return False
    judged.says(f"it has collapsed: of {base:.0f} codes in use {adapted:.0f} are left, and its loss says nothing")
    return True


def _by_labels(judged: _Judging) -> OnLabels:
    """By the measures on labels that decide, together."""
    gains = {key: gain for key in LABELLED if (gain := judged.gain(key)) is not None}
    found = [_by_label(judged, key, gain) for key, gain in gains.items()]
    if "worse" in found:
        return "mixed" if "better" in found else "worse"
    return found[0] if found else "none"


def _by_label(judged: _Judging, key: str, gain: HowMuchBetter) -> OnLabels:
    words, margin = judged.measures[key].words, LABELLED[key]
    if gain.least > margin:
        judged.says(f"{words}: better by {gain.about:.1%} ({gain.least:.1%} to {gain.most:.1%})")
        return "better"
    if gain.most < -margin:
        judged.says(f"{words}: worse by {-gain.about:.1%} ({-gain.most:.1%} to {-gain.least:.1%})")
        return "worse"
    if gain.least > 0 or gain.most < 0:
        which, low, about, high = "better", *gain
        if gain.most < 0:
            which, low, about, high = "worse", -gain.most, -gain.about, -gain.least
        judged.says(f"{words}: {which} by {about:.1%} ({low:.1%} to {high:.1%}); another seed may make {margin:.1%}")
        return "small"
    judged.says(f"{words}: no difference that could be told ({gain.least:+.1%} to {gain.most:+.1%})")
    return "alike"


def _fits_better(judged: _Judging) -> str:
    """By the held-out loss: "better", "worse", "guesses", "alike", or "none" where it is not known."""
    gain = judged.gain(FIT)
    if gain is None:
        judged.says("the loss of both models is not known, or of too few speakers, recordings or clips to tell")
        return "none"
    shown = f"{abs(gain.about):.2f} nats ({min(map(abs, gain)):.2f} to {max(map(abs, gain)):.2f})"
    if gain.most < -FIT_MARGIN:
        judged.says(f"held-out loss is higher, beside that of guessing, by {shown}")
        return "worse"
    if not _has_learned(judged, ADAPTED):
        judged.says("its held-out loss is that of guessing")
        return "guesses"
    if gain.least > FIT_MARGIN:
        judged.says(f"held-out loss is lower, beside that of guessing, by {shown}")
        return "better"
    told = f"({gain.least:+.2f} to {gain.most:+.2f})"
    judged.says(f"held-out loss: no difference of over {FIT_MARGIN} nats that could be told {told}")
    return "alike"


def _has_learned(judged: _Judging, subject: str) -> bool:
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


def _keeps(judged: _Judging, *, has_codes: bool) -> _Kept:
    """What seems worse beyond its margin is not kept; a rank must be so for certain to be a collapse."""
    rank, base_rank = judged.gain("geometry.effective_rank"), judged.value("geometry.effective_rank", BASE)
    clusters, base_clusters = judged.gain("geometry.davies_bouldin"), judged.value("geometry.davies_bouldin", BASE)
    rank_fell = rank is not None and rank.about < -RANK_MARGIN * (base_rank or 0)
    is_certain = rank is not None and rank.most < -RANK_MARGIN * (base_rank or 0)
    if rank_fell:
        judged.says(f"features fill fewer dimensions: {_both(judged, 'geometry.effective_rank')}")
        if has_codes and clusters is not None and clusters.least > 0:
            rank_fell = is_certain = False
            judged.says("clusters overlap less, so features became tidier, not poorer")
    limits = {
        "geometry.davies_bouldin": (clusters, CLUSTER_MARGIN * (base_clusters or 0), "clusters overlap more"),
        "units.stability": (judged.gain("units.stability"), STABILITY_MARGIN, "units are less steady"),
    }
    lost = [rank_fell]
    for key, (gain, margin, words) in limits.items():
        lost.append(gain is not None and gain.about < -margin)
        if lost[-1]:
            judged.says(f"{words}: {_both(judged, key)}")
    other = judged.gain(FORGETTING)
    forgotten = other is not None and other.about < -FORGETTING_MARGIN
    if other is not None and forgotten:
        judged.says(f"another language is forgotten: its loss rose by {-other.about:.2f} nats")
    return _Kept(not is_certain, not forgotten, not any([*lost, forgotten]), not _by_heart(judged))


def _both(judged: _Judging, key: str) -> str:
    values = judged.measures[key].values
    return f"{values[BASE]:.3g} to {values[ADAPTED]:.3g}"


def _by_heart(judged: _Judging) -> bool:
    """Whether most of the gain is of the very clips that it was trained on."""
    held_out, trained = judged.gain(FIT), judged.gain(MEMORY)
    if held_out is None or trained is None or trained.least <= FIT_MARGIN:
        return False
    if held_out.about >= MEMORY_SHARE * trained.about:
        return False
    judged.says(
        f"it knows its clips by heart: their loss fell by {trained.about:.2f} nats, others' by {held_out.about:.2f}"
    )
    return True


def _sentence(kind: JudgementKind, labels: OnLabels, *, is_conflict: bool) -> str:
    if kind == "helped":
        return "Adapting helped: sounds of this language are told apart better than by the base model."
    if kind == "hurt":
        return "Adapting hurt: keep the base model, or an earlier checkpoint."
    if kind == "fits better" and labels != "none":
        return "It fits your speech better; the labels that were given do not tell its recognition from the base's."
    if kind == "fits better":
        return "It fits your speech better; whether it recognises better needs labels."
    if is_conflict:
        return "No evidence: some measures are better, others are worse; see why."
    return "No evidence: nothing shows that the adapted model is better than the base, nor that it is worse."


def _would_settle(judged: _Judging, kind: JudgementKind, labels: OnLabels, minutes: float) -> tuple[str, ...]:
    """How many more minutes, and which labels."""
    advice = []
    if labels == "none":
        advice.append(
            "ten minutes of held-out speech with transcripts (--transcripts) or phone alignments (--alignments) would "
            "say whether recognition gets better"
        )
    for key, margin in {**LABELLED, FIT: FIT_MARGIN}.items():
        needed = _minutes_needed(judged.gain(key), margin, minutes)
        if kind in ("no evidence", "fits better") and needed is not None:
            advice.append(
                f"about {needed:.0f} minutes of held-out speech by more speakers (--max-minutes), if the difference is "
                f"as large as it looks ({judged.measures[key].words}); now there are {minutes:.0f}"
            )
            break
    if kind == "hurt":
        advice.append("an earlier checkpoint (--run), or a mixture with the base (--interpolate 0.25,0.5,0.75)")
    return tuple(advice)


def _minutes_needed(gain: HowMuchBetter | None, margin: float, minutes: float) -> float | None:
    """Minutes with which a gain as large as it looks would be told from its margin; None where it is, or is smaller."""
    if gain is None or gain.least > margin or gain.about <= margin:
        return None
    needed = minutes * ((gain.about - gain.least) / (gain.about - margin)) ** 2
    return needed if needed <= MOST_MINUTES else None
