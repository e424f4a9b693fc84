"""The text of a model card: what it is, how it was trained, what was measured, limits, consent and licence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runyoro_ssl.config import ModelConfig
from runyoro_ssl.dataset.layout import HUB_DATASET
from runyoro_ssl.evaluate.record import ADAPTED, BASE, Evaluation, Interval, ModelMeasure
from runyoro_ssl.evaluate.words import IN_WORDS, number, verdict
from runyoro_ssl.model.load import load_model_config
from runyoro_ssl.model.objective import Chance, chance
from runyoro_ssl.page.amounts import figure, figures
from runyoro_ssl.publish.changes import warning_of_log_mel, way_of
from runyoro_ssl.publish.facts import LOCAL_BASE, Facts, recipe
from runyoro_ssl.publish.licences import find_licence

LIMITS = """\
- It gives features of speech, and no text: a recogniser is fine-tuned from it, on transcribed speech.
- It was adapted to the speakers, the rooms and the microphones of its recordings; on others it was not measured, beyond
  what the numbers above say.
- A lower loss says that the model predicts this speech better. It does not by itself say that a recogniser fine-tuned
  from it makes fewer errors.
- Speech can be about people. What features tell of a speaker, voice and origin among it, was not taken out."""
CONSENT = """\
The recordings are not part of this model, and it does not play them back; but whoever has it may be able to tell that a
voice was among them. Whether the speakers have agreed to that is not known to the toolkit: whoever publishes the model
answers for it."""


def text_of(facts: Facts, *, chosen: str | None, place: str, which: str | None = None) -> str:
    """The text of a card, in Markdown.

    `chosen`: the licence that its owner has chosen, if one was. `which`: what of the run it is, if not its final model.
    """
    part = which or facts.mixture
    of_run = f"Of the run that is described here, this is: {part}.\n" if part else ""
    return f"""# {facts.base_model or LOCAL_BASE}, adapted by continued pre-training

{_what_it_is(facts)}{of_run}
```python
from transformers import Wav2Vec2ForPreTraining, Wav2Vec2Model
model = Wav2Vec2Model.from_pretrained("{place}")
```

## How it was trained

{_recipe(facts)}

## What was measured

{_evaluated(facts.evaluation, which) if facts.evaluation else _held_out(facts)}

## Limits

{LIMITS}

## Recordings, consent and licence

{_rights(facts, chosen)}
"""


def _what_it_is(facts: Facts) -> str:
    result, settings = facts.result, facts.settings
    return f"""Language: {facts.language}. Pre-trained further on {result["train_hours"]:.2f} hours of
speech, without transcripts, by runyoro_ssl {result["version"]}:
{result["total_steps"]} optimizer steps, learning rate {settings["train"]["learning_rate"]:g}{_kept(settings["train"])},
mask probability {settings["masking"]["mask_time_prob"]:g}.{_beside(result)}{_what_learned(result, settings)}
{_revision(facts)}"""


ROLES = {"donor": "speech of another language, a donor", "replay": "speech that the base model knows, a replay"}
"""What sources are for, as a card tells it."""


def _beside(result: Mapping[str, Any]) -> str:
    """What else was heard, where there were several sources. Their names may be those of people: they are not told."""
    sources = result.get("sources", [])
    whole = sum(source["hours_heard"] for source in sources)
    if not whole:
        return ""
    said = [
        f"{source['hours_heard'] / whole:.1%} was {ROLES[source['role']]}"
        f"{f' ({source[HUB_DATASET]})' if source.get(HUB_DATASET) else ''}"
        for source in sources[1:]
    ]
    return f"\nOf the {whole:.2f} hours of audio that it heard, {', '.join(said)}."


def _kept(train: Mapping[str, Any]) -> str:
    return " (kept after warm-up)" if train.get("constant_after_warmup") else ""


def _what_learned(result: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Which weights learned, where not all did."""
    adapter, is_alone = settings.get("adapter", {}), settings["train"].get("train_only", "all") == "feature_encoder"
    if adapter.get("kind", "none") == "none" and not is_alone:
        return ""
    share = result["trained_parameters"] / result["parameters"]
    if is_alone:
        return f"\nThe feature encoder learned alone, {share:.1%} of the weights; the others are as they came."
    return (
        f"\nLow-rank adapters (LoRA) of rank {adapter['rank']} learned, on {', '.join(adapter['targets'])},\n"
        f"and are merged into these weights. Besides learned: {', '.join(adapter['also']) or 'nothing'}; in all\n"
        f"{share:.1%} of the weights."
    )


def _revision(facts: Facts) -> str:
    """Where exactly the base model is to be had."""
    if facts.base_model is None:
        return ""
    return f"\nThe base model is {facts.base_model} at revision `{facts.result['base_revision']}`.\n"


def _recipe(facts: Facts) -> str:
    """Where its settings differ from the defaults, as a table."""
    differing = recipe(facts.settings)
    if not differing:
        return "With the defaults of runyoro_ssl, but for the machine."
    rows = [f"| `{name}` | {value} | {default} |" for name, (value, default) in differing.items()]
    head = ["With the defaults of runyoro_ssl, but:", "", "| setting | here | default |", "|---|---|---|"]
    return "\n".join([*head, *rows])


def _held_out(facts: Facts) -> str:
    """What the run itself has measured, before and after."""
    validations = facts.result["validations"]
    first, best = validations["first"], validations["best"]
    guessing = chance(load_model_config(ModelConfig(model_name_or_path=str(facts.folder))))
    rows = "\n".join(
        f"| {label} | {number(name, first.get(f'eval/{name}'))} | {number(name, best.get(f'eval/{name}'))} |"
        for name, label in measures(guessing).items()
    )
    this = "this model" if facts.mixture else f"this model, step {best['step']:.0f}"
    return f"""Held-out recordings, the same masks and negatives before and after:

| measure | at the start | {this} |
|---|---|---|
{rows}

In a sentence: {verdict(first, best)}. Other measures, and intervals, come of `invoke evaluate`."""


def measures(guessing: Chance) -> dict[str, str]:
    """The measures that a card shows: label by name."""
    guessed = {
        "contrastive_loss": "",
        "chance_loss": f" ({guessing.loss:.3f} where all frames differ)",
        "accuracy": f" (guessing: 1 of {guessing.num_choices})",
        "hard_perplexity": "",
    }
    return {name: IN_WORDS[name] + by_guessing for name, by_guessing in guessed.items()}


def _evaluated(evaluation: Evaluation, which: str | None) -> str:
    """The verdict of an evaluation in its own words, its measures with their intervals."""
    speech, found = evaluation.speech, evaluation.verdict
    over = evaluation.drawn
    intervals = (
        f"Intervals are of 95 %, over {over}" if over else f"For intervals the {speech.intervals_over} are too few"
    )
    new = "that neither model was trained on" if speech.refused is not None else "(not checked: trained on or not)"
    heard = (
        f"{speech.seconds / 60:.1f} minutes of speech {new}: {speech.clips} clips of "
        f"{speech.recordings} recordings; speakers: {speech.speakers or 'not known'}. {intervals}."
    )
    reasons = [f"- {reason}" for reason in [*filter(None, [warning_of_log_mel(evaluation)]), *found.reasons]]
    reasons += [f"- although: {reason}" for reason in found.although]
    reasons += [f"- to settle it: {advice}" for advice in found.would_settle]
    said = [f"**{found.kind.capitalize()}.** {found.sentence}", "", *reasons]
    if which is not None:
        said = [f"This model was chosen of several. {evaluation.why_kept[:1].upper()}{evaluation.why_kept[1:]}."]
        said += ["", f"Of the run's final model beside its base the verdict is: {found.kind}. {found.sentence}"]
    return "\n".join([*said, "", heard, "", *_table(evaluation, which)])


def _table(evaluation: Evaluation, which: str | None) -> list[str]:
    """The measures: of the base and of this model, with intervals; where it is another, its values beside both."""
    measures = [measure for measure in evaluation.measures if ADAPTED in measure.values]
    if which is None:
        head = ["| measure | base model | this model | difference |", "|---|---|---|---|"]
        return [*head, *(_row(measure) for measure in measures)]
    of_base, of_final, of_this = (evaluation.values_of(name) for name in (BASE, ADAPTED, which))
    head = ["| measure | base model | final model of the run | this model |", "|---|---|---|---|"]
    rows = [[_name(one), *(_value(of, one) for of in (of_base, of_final, of_this))] for one in measures]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def _row(measure: ModelMeasure) -> str:
    both = [_cell(measure, measure.values.get(who), measure.intervals.get(who)) for who in (BASE, ADAPTED)]
    difference = _cell(measure, measure.difference, measure.difference_interval, is_difference=True)
    return f"| {' | '.join([_name(measure), *both, difference])} |"


def _name(measure: ModelMeasure) -> str:
    way = way_of(measure.key, measure.better)
    better = "" if way == "neither" else f" ({way} is better)"
    return f"{measure.words}{f', {measure.unit}' if measure.unit else ''}{better}"


def _value(values: Mapping[str, float], measure: ModelMeasure) -> str:
    return figure(values.get(measure.key), measure.unit).removesuffix(measure.unit).rstrip()


def _cell(measure: ModelMeasure, value: float | None, interval: Interval | None, *, is_difference: bool = False) -> str:
    """A value and its interval, of shares in per cent and of their differences in points, without the unit."""
    ends = [interval.low, interval.high] if interval else []
    if value is None or not all(map(math.isfinite, (value, *ends))):
        return figure(None)
    said, *between = figures([value, *ends], measure.unit, is_signed=is_difference)
    return f"{said} ({' to '.join(between)})" if between else said


def _rights(facts: Facts, chosen: str | None) -> str:
    """What it was made of, as sums; whose consent it takes; the licences."""
    material, carried = facts.material, facts.licence
    lines = [_made_of(material)]
    lines += [f"- Recordings: {line}." for line in _licences_of(facts)]
    lines.append(f"- Base model: {facts.base_licence or 'its licence is unknown: look it up'}.")
    lines += [f"- {reason}" for reason in carried.reasons]
    if chosen:
        lines.append(f"- This model: {chosen}, as its owner has chosen.")
    elif carried.must_decide:
        lines.append(f"- This model: its owner has to decide, as {carried.must_decide}.")
    else:
        lines.append(f"- This model: {carried.licence}, which its base model and its recordings ask for.")
    return "\n".join([*lines, "", CONSENT])


def _made_of(material: Mapping[str, Any]) -> str:
    if not material:
        return "Of its recordings nothing is on record here.\n"
    speakers = f"{material['speakers']} speakers" if material["speakers"] else "speakers who are not told apart"
    return f"Trained on {material['recordings']} recordings by {speakers}.\n"


def _licences_of(facts: Facts) -> list[str]:
    """Hours by licence. What is no licence of the hub's list is not quoted: it may name somebody."""
    hours: dict[str, float] = {}
    for text, seconds in facts.seconds_by_licence.items():
        found = find_licence(text)
        name = found.name if found else "under terms that are no licence of the hub's list"
        hours[name] = hours.get(name, 0.0) + seconds / 3600
    without = facts.material.get("seconds", 0.0) / 3600 - sum(hours.values())
    if without > 0.0001:  # noqa: PLR2004 - what rounding leaves
        hours["without a stated licence"] = without
    return [f"{found:.2f} h {name}" for name, found in hours.items()]
