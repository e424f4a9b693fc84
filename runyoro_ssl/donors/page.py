"""`donors.html`: how near the pools are to the target, between its own yardsticks, and what was taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runyoro_ssl.donors.found import FAR, NEAR, Donors, Language
from runyoro_ssl.page.amounts import amount_of_time, figure, plural, share
from runyoro_ssl.page.charts import histogram, named_bars
from runyoro_ssl.page.dots import DotValue, dot_plot
from runyoro_ssl.page.render import Tile, render_page

DONORS_PAGE = "donors.html"
TEMPLATE = Path(__file__).with_name("donors.html.jinja")
CONTENTS = (("languages", "Languages"), ("clips", "Clips"), ("speakers", "Speakers"), ("how", "How"))


def write_donors_page(path: Path, found: Donors, similarity: np.ndarray, chosen: np.ndarray) -> None:
    """Write the page; the same arguments give the same bytes. `similarity` float (N,), `chosen` bool (N,): of clips."""
    taken: dict[str | None, float] = {one.name: 3600 * one.hours_chosen for one in found.languages if one.hours_chosen}
    voices: dict[str | None, float] = {}
    for voice in found.speakers:
        if voice.hours_chosen:
            voices[f"{voice.name} ({voice.language})"] = 3600 * voice.hours_chosen
    page = render_page(
        TEMPLATE,
        title=f"Donors for {found.target}",
        kind="Donors",
        tiles=_tiles(found),
        contents=CONTENTS,
        found=found,
        near=NEAR,
        far=FAR,
        plot=dot_plot(_dots(found), ""),
        languages=[_row(one) for one in found.languages],
        clips=histogram(
            "Similarity of clips",
            "",
            "Each clip to the target, beside samples of the target as small as the clip.",
            similarity.astype(np.float64),
            chosen,
            noun="clip",
        ),
        own_clips=figure(found.own_clips),
        taken=named_bars(dict(sorted(taken.items(), key=lambda one: -one[1]))),
        voices=named_bars(dict(sorted(voices.items(), key=lambda one: -one[1]))),
        speakers=[
            (one.name, one.language, amount_of_time(3600 * one.hours), figure(one.similarity), _hours(one.hours_chosen))
            for one in found.speakers
        ],
    )
    path.write_text(page, encoding="utf-8", newline="\n")


def _tiles(found: Donors) -> list[Tile]:
    nearest = found.languages[0]
    reading = "not to be told" if nearest.nearness is None else nearest.reading
    return [
        Tile(
            amount_of_time(3600 * found.hours_chosen),
            "taken",
            f"of {found.hours_there:.1f} h, {found.hours_asked:g} asked",
        ),
        Tile(plural(found.clips_chosen, "clip"), "nearest first", f"one speaker {found.max_speaker_share:.0%} at most"),
        Tile(nearest.name, "the nearest", reading, "languages"),
        Tile(f"{found.minutes_heard:.0f} min", "of the target", f"halved by {found.halves}", "how"),
    ]


def _dots(found: Donors) -> Sequence[DotValue]:
    own = DotValue("the target's other half", "diamond", found.own, found.own_low, found.own_high)
    floor = DotValue("its units in random order", "square", found.shuffled)
    pools = [DotValue(one.name, "disc", one.similarity, one.low, one.high, one.reading) for one in found.languages]
    return [own, *pools, floor]


def _row(one: Language) -> tuple[str, ...]:
    interval = "not known" if one.low is None or one.high is None else f"{one.low:.2f} to {one.high:.2f}"
    return (
        one.name,
        amount_of_time(3600 * one.hours),
        "too little" if one.similarity is None else f"{one.similarity:.2f}",
        interval,
        "not known" if one.nearness is None else f"{one.nearness:.2f}",
        one.reading,
        f"{_hours(one.hours_chosen)}, {share(one.hours_chosen, one.hours)}" if one.hours_chosen else "none",
    )


def _hours(hours: float) -> str:
    return amount_of_time(3600 * hours) if hours else "none"
