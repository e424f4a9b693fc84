"""HTML pages in one file that needs nothing else: template, style, script, and the policy that allows no other script.

A page's template extends `page.html.jinja` and fills its blocks `main` and `footer`; `charts.html.jinja` draws what
`charts` computes.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runyoro_ssl.page.amounts import amount_of_time, clock, number

HERE = Path(__file__).parent
STYLE = "page.css"
HEAD = 2048
"""Characters of a page, among which its policy is."""
SOURCES = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
POLICY = f"{SOURCES}; base-uri 'none'; form-action 'none'"
"""A page loads nothing but what is in it, and leads nowhere else: of that, `default-src` says nothing."""


class Tile(NamedTuple):
    """A figure at the top of a page, what it is, and a remark, which may lead to a place of the page."""

    figure: str
    name: str
    remark: str
    place: str = ""


def render_page(
    template: Path,
    *,
    title: str,
    kind: str,
    tiles: Sequence[Tile],
    contents: Sequence[tuple[str, str]],
    **values: Any,
) -> str:
    """Fill a template; the same arguments give the same text.

    Args:
        template: `NAME.html.jinja`. `NAME.css` and `NAME.js` beside it, if they are there, go into the page.
        title: The name of what is shown.
        kind: What is shown, e.g. "Prepared corpus".
        tiles: The figures at the top.
        contents: (identifier, name) of each section to link to.
        values: What the template shows. Strings are escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"time": amount_of_time, "clock": clock, "number": number}
    name = template.name.partition(".")[0]
    script = _read(template.with_name(f"{name}.js"))
    return environment.get_template(template.name).render(
        title=title,
        kind=kind,
        tiles=tiles,
        contents=contents,
        style="\n\n".join(_read(file) for file in (HERE / STYLE, template.with_name(f"{name}.css"))),
        script=script,
        policy=f"{POLICY}; script-src '{_digest(script)}'" if script else POLICY,
        **values,
    )


def is_page(path: Path) -> bool:
    """Whether a file is a page that was rendered here, by whatever version: it has our policy at its head."""
    with path.open(encoding="utf-8") as file:
        return SOURCES in html.unescape(file.read(HEAD))


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip("\n") if file.exists() else ""


def _digest(script: str) -> str:
    """What the page's content security policy allows to run: this script, and nothing that hides in the data."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
