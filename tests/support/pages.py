"""A page as it is written: its elements, and what a reader sees."""

from __future__ import annotations

import html as markup
import re
from html.parser import HTMLParser

VOID = {"meta", "img", "link", "rect", "br", "circle", "path", "input", "hr"}


class Elements(HTMLParser):
    """The start tags of a page, after checking that every one is closed in its turn."""

    def read(self, html: str) -> list[tuple[str, dict[str, str | None]]]:
        """(Tag, attributes) of every element."""
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []
        return self.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing to close."""
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """It ends what began last."""
        assert self.open.pop() == tag


def text_of(html: str) -> str:
    """What a reader sees, spaces joined."""
    return " ".join(markup.unescape(re.sub(r"<(script|style)>.*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL)).split())
