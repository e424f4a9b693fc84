"""The measures of fit, of forgetting, and of what was learned by heart."""

from __future__ import annotations

from collections.abc import Iterator

from runyoro_ssl.evaluate.compared.measured import MeasureKind, measured
from runyoro_ssl.evaluate.heard.clips import HeldOut
from runyoro_ssl.evaluate.heard.material import HeardMaterial
from runyoro_ssl.evaluate.intervals import REPLICATES
from runyoro_ssl.evaluate.measures.fit import per_group, perplexity_of
from runyoro_ssl.evaluate.record import ModelMeasure

WAV2VEC2 = "wav2vec 2.0: Baevski et al., 2020, arXiv 2006.11477"
WORDS = {"fit": "", "forgetting": " on another language", "memory": " on clips that it was trained on"}


def measure_fit(
    material: HeardMaterial, heard: dict[str, HeldOut], *, replicates: int = REPLICATES
) -> Iterator[ModelMeasure]:
    """Contrastive loss, accuracy and perplexities of the models that have a head, on each of what was heard."""
    subjects = tuple(material.fits)
    if not subjects:
        return
    for family, held_out in heard.items():
        fits = [material.fits[name][family] for name in subjects]
        groups, number, where = held_out.groups, held_out.num_groups, WORDS[family]
        ratios = {
            "below_guessing": ("below_guessing", f"loss below that of guessing{where}", "nats", "higher"),
            "contrastive_loss": ("loss", f"loss{where}", "nats", "lower"),
            "accuracy": ("num_correct", f"accuracy{where}", "%", "higher"),
            "chance_loss": ("chance_loss", f"loss of guessing{where}", "nats", "neither"),
        }
        for name, (field, words, unit, better) in ratios.items():
            kind = MeasureKind(f"{family}.{name}", words, unit, better, WAV2VEC2)  # type: ignore[arg-type]  # of the table
            yield measured(kind, subjects, per_group(fits, groups, field), number, replicates=replicates)
        if family != "fit":
            continue
        for name, words in (("hard", "codes in use, the best of each frame"), ("soft", "codes in use, by probability")):
            kind = MeasureKind(f"fit.{name}_perplexity", words, "", "neither", WAV2VEC2)
            yield measured(kind, subjects, perplexity_of(fits, groups, name), number, replicates=replicates)
