"""Does continued pre-training help, on real speech, and would the toolkit say so? In miniature, with a control.

`python tests/in_miniature.py SPEECH WORK`: two and a half hours on one core. A base of 5.9 M parameters learns
Kinyarwanda and Swahili; three seeds of it go on with Luganda, and three, the sham, for as many steps with more of the
first two. Each is compared with the base by `evaluate`, on Luganda by speakers whom none of them has heard, with phone
alignments.
What is in WORK already is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from miniature.stages import HOW, evaluate, make_base, prepare_both, train

from runyoro_ssl.logs import print_table

SEEDS = 3
MORE_STEPS, MORE_RATE = 150, 1e-4
MEASURES = {
    "fit.contrastive_loss": ("loss", 1, "{:.2f}"),
    "forgetting.contrastive_loss": ("loss on the base's languages", 1, "{:.2f}"),
    "geometry.effective_rank": ("rank", 1, "{:.0f}"),
    "units.stability": ("steady units, %", 100, "{:.1f}"),
    "phones.abx_within": ("ABX within, %", 100, "{:.1f}"),
    "phones.abx_across": ("ABX across, %", 100, "{:.1f}"),
    "phones.probe": ("probe, %", 100, "{:.1f}"),
}
"""By key: its name in the table, what it is multiplied by, how it is written."""


def main() -> None:
    """Prepare, align, train, evaluate; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("speech", type=Path, help="the folder that holds bantu/ and more/, each with manifest.jsonl")
    parser.add_argument("work", type=Path)
    given = parser.parse_args()
    speech, work = given.speech.resolve(), given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    prepare_both(speech, work)
    base = make_base(work)
    told = {}
    for data, kind in (("target", "continued"), ("known", "sham")):
        for seed in range(SEEDS):
            name = f"{kind}-{seed}"
            settings = (*HOW, f"train.learning_rate={MORE_RATE}")
            model = train(work / "models" / name, base, data, steps=MORE_STEPS, settings=settings, seed=seed)
            told[name] = evaluate(work, base, model)
    print_table("Beside the base", ["model", "verdict", *(words for words, _, _ in MEASURES.values())], rows(told))


def rows(told: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Spectra, the base, and each model: value, and where its difference from the base lies."""
    first = next(iter(told.values()))
    found = [["log-mel", "", *cells(first, "log-mel")], ["base", "", *cells(first, "base")]]
    for name, one in told.items():
        found.append([name, str(one["verdict"]["kind"]), *cells(one, "adapted")])
    return found


def cells(evaluation: dict[str, Any], subject: str) -> list[str]:
    """The measures of a subject."""
    by_key = {one["key"]: one for one in evaluation["measures"]}
    found = []
    for key, (_, times, written) in MEASURES.items():
        measure = by_key.get(key)
        if measure is None or subject not in measure["values"]:
            found.append("")
            continue
        text = written.format(times * measure["values"][subject])
        between = measure["difference_interval"]
        if subject == "adapted" and between:
            text += f" ({times * between['low']:+.2f} to {times * between['high']:+.2f})"
        found.append(text)
    return found


if __name__ == "__main__":
    main()
