"""report.html in a real browser: nothing is asked for, nothing complains, every picture is drawn, on paper too."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest

from runyoro_ssl.publish.report.write import write_report
from support.browser import Browser
from support.evaluations import bare_evaluation, full_evaluation, unit_examples
from support.runs import add_events, log_steps

WIDTHS = (390, 1200)
EMPTY = """
return [...document.querySelectorAll('svg, img, .area, .track, .whisker, .spot, .event, .foot, .bar i')].filter(one => {
  if (one.closest('details:not([open])')) return false;
  const box = one.getBoundingClientRect();
  return (box.width < 1 && !one.matches('.event')) || (box.height < 1 && !one.matches('.whisker'));
}).map(one => one.outerHTML.slice(0, 200));
"""
"""Pictures, and parts of them, that take no room."""
UNPAINTED = """
return [...document.querySelectorAll('path.stroke')].filter(one => one.getTotalLength() === 0).length
  + [...document.images].filter(one => !one.complete || one.naturalWidth === 0).length;
"""
OUTSIDE = """
return [...document.querySelectorAll('body *')].filter(one => {
  const box = one.getBoundingClientRect();
  const isShown = box.width > 0 && !one.closest('details, .unseen');
  return isShown && (box.right > innerWidth + 1 || box.left < -1);
}).map(one => one.outerHTML.slice(0, 120));
"""
"""What stands beyond either edge of the window."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A judged run with everything, one that was not judged, an evaluation of foreign models with most left out."""
    folder = tmp_path_factory.mktemp("pages")
    judged = log_steps(folder / "judged", 400)
    add_events(judged, 120, 400)
    (folder / "foreign").mkdir()
    return {
        "judged": write_report(judged, evaluation=full_evaluation(), units=unit_examples()),
        "unjudged": write_report(log_steps(folder / "unjudged", 400)),
        "foreign": write_report(folder / "foreign", evaluation=bare_evaluation()),
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["judged", "unjudged", "foreign"])
def test_page_is_drawn_whole_and_asks_for_nothing(
    name: str, width: int, chromium: Browser, pages: dict[str, Path]
) -> None:
    """No request but for the file, no complaint of script or policy, no empty picture, no scrolling sideways."""
    chromium.open(pages[name], width=width)
    assert chromium.run(EMPTY) == []
    assert chromium.run(UNPAINTED) == 0
    assert chromium.run("return document.documentElement.scrollWidth <= innerWidth")
    assert chromium.run(OUTSIDE) == []
    assert chromium.requests() == [pages[name].as_uri()]
    assert chromium.complaints() == []


def test_everything_to_draw_is_there(chromium: Browser, pages: dict[str, Path]) -> None:
    """Curves, events, dots with whiskers, layers, checkpoints, units: as many as the run and its evaluation have."""
    chromium.open(pages["judged"], width=1200)
    count = "return document.querySelectorAll('{}').length"
    evaluation = full_evaluation()
    num_values = sum(len(measure.values) for measure in evaluation.measures)
    assert chromium.run(count.format("#curves .plot path.stroke")) == 9
    assert chromium.run(count.format("#curves .event")) == 3 * 5
    assert chromium.run(count.format("#measures .dots .spot")) == num_values
    assert chromium.run(count.format("#measures .pairs .spot")) == 2 * 2 * 10
    assert chromium.run(count.format("#measures .whisker")) == num_values
    assert chromium.run(count.format("#layers .plot path.stroke")) == sum(
        len(curve.values) for curve in evaluation.curves
    )
    assert chromium.run(count.format("#keep figure")) == 2 * len(evaluation.candidates[0].values)
    assert chromium.run(count.format("#units img")) == sum(len(unit.clips) for unit in unit_examples())
    assert chromium.run(count.format("#units .here")) == chromium.run(count.format("#units img"))
    assert chromium.run(count.format("#units .matrix rect")) == 3 * 3


def test_sound_plays(chromium: Browser, pages: dict[str, Path]) -> None:
    """The policy lets the page's own clips be heard."""
    chromium.open(pages["judged"], width=1200)
    seconds = chromium.driver.execute_async_script(
        "const done = arguments[0], one = document.querySelector('audio');"
        "one.onloadedmetadata = () => done(one.duration); one.onerror = () => done(-1); one.load();"
    )
    assert seconds == pytest.approx(0.2, abs=0.1)
    assert chromium.complaints() == []


def test_dark_scheme_has_light_letters(chromium: Browser, pages: dict[str, Path]) -> None:
    """Letters and ground change places."""
    brightness = (
        "return getComputedStyle(document.body)[arguments[0]].match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    )
    found = {}
    for scheme in ("light", "dark"):
        chromium.open(pages["judged"], width=1200, scheme=scheme)
        found[scheme] = [chromium.driver.execute_script(brightness, name) for name in ("color", "backgroundColor")]
    assert found["light"][1] - found["light"][0] > 400
    assert found["dark"][0] - found["dark"][1] > 400


def test_printed_page_has_its_pictures(chromium: Browser, pages: dict[str, Path]) -> None:
    """On paper without backgrounds: curves and dots are strokes and fills, which are printed; players are not."""
    chromium.open(pages["judged"], width=1200)
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert chromium.run(EMPTY) == []
    assert chromium.run("return [...document.querySelectorAll('audio, nav')].every(one => one.offsetHeight === 0)")
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    points = chromium.run(POINTS)
    whole, bare = chromium.printed(), _without_pictures(chromium)
    assert whole.startswith(b"%PDF")
    assert points > 1000
    assert _num_segments(whole, "l") - _num_segments(bare, "l") >= points
    assert _num_segments(whole, "c") - _num_segments(bare, "c") > len(full_evaluation().measures)
    assert whole.count(b"/Subtype /Image") >= len(unit_examples())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_is_white_and_has_the_numbers(scheme: str, chromium: Browser, pages: dict[str, Path]) -> None:
    """Whatever the screen is; tables that are folded there are not here."""
    chromium.open(pages["judged"], width=1200, scheme=scheme)
    folded = "return [...document.querySelectorAll('.numbers table')].filter(one => !one.checkVisibility()).length"
    assert chromium.run(folded) > 10
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    assert chromium.run(folded) == 0
    ground = "return [document.body, document.querySelector('.card')].map(one => getComputedStyle(one).backgroundColor)"
    assert chromium.run(ground) == ["rgb(255, 255, 255)"] * 2
    assert chromium.run("return getComputedStyle(document.body).color") == "rgb(28, 28, 26)"
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


WRAPPED = """
return [...document.querySelectorAll('.dot-text b, .dot-text small span, .legend > span')]
  .filter(one => {
    const range = document.createRange();
    range.selectNodeContents(one);
    const bottoms = [...range.getClientRects()].filter(box => box.width).map(box => box.bottom);
    return Math.max(...bottoms) - Math.min(...bottoms) > 10;
  }).map(one => one.textContent);
"""
"""Values, intervals, layers, and words of the legend that are on two lines."""
TOUCHING = """
return [...document.querySelectorAll('.dots')].flatMap(plot => {
  const boxes = [...plot.querySelectorAll('.dot-row:not(.axis)')].map(row =>
    ['.dot-name', '.dot-text'].map(part => {
      const range = document.createRange();
      range.selectNodeContents(row.querySelector(part));
      return range.getBoundingClientRect();
    }));
  return boxes.slice(1).filter((box, row) => box.some((one, side) => one.top < boxes[row][side].bottom + 2));
}).length;
"""
"""Rows whose name, or number, is less than two pixels below that of the row above."""


@pytest.mark.parametrize("width", WIDTHS)
def test_names_and_numbers_of_rows_stand_apart(width: int, chromium: Browser, pages: dict[str, Path]) -> None:
    """Mixtures with long names, too; an interval, a layer and a symbol with its word are each on one line."""
    chromium.open(pages["judged"], width=width)
    assert chromium.run(WRAPPED) == []
    assert chromium.run(TOUCHING) == 0
    if width > 1000:
        lines = "return [...document.querySelectorAll('.dot-text small')].filter(one => one.offsetHeight > 20).length"
        assert chromium.run(lines) == 0
        names = "return [...document.querySelectorAll('.dot-name')].filter(one => one.offsetHeight > 30).length"
        assert chromium.run(names) == 0


def test_no_heading_is_left_alone_at_the_end_of_a_sheet(chromium: Browser, pages: dict[str, Path]) -> None:
    """What must stay with what follows it says so; tables, and charts with theirs, may go on overleaf."""
    chromium.open(pages["judged"], width=1200)
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    style = "return [...document.querySelectorAll('{}')].map(one => getComputedStyle(one).{})"
    assert set(chromium.run(style.format("h2, h3, h4, main .lead", "breakAfter"))) == {"avoid"}
    assert set(chromium.run(style.format(".lead, .card:not(.curves, .matrix), .plot", "breakInside"))) == {"avoid"}
    assert set(chromium.run(style.format(".curves, .matrix", "breakInside"))) == {"auto"}
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


POINTS = """
return [...document.querySelectorAll('.plot path.stroke')].map(one => one.getAttribute('d').split('L').length - 1)
  .reduce((a, b) => a + b);
"""
"""Segments of all curves of the page."""


def _without_pictures(chromium: Browser) -> bytes:
    """The same page on paper when all pictures are taken out."""
    chromium.run("for (const one of document.querySelectorAll('svg, .whisker, img')) one.remove()")
    return chromium.printed()


def _num_segments(pdf: bytes, operator: str) -> int:
    """How many straight (l) or curved (c) segments the pages of a PDF draw."""
    found = 0
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, flags=re.DOTALL):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        found += len(re.findall(rb"(?m)^(?:-?[\d.]+ )+" + operator.encode() + rb"$", content))
    return found
