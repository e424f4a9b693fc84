"""The page with clips to hear takes longer than all else: but for the test of it, another stands for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from runyoro_ssl.donors import write

WRITE_PAGE = write.write_page


@pytest.fixture(scope="session", autouse=True)
def _no_sound() -> Iterator[None]:
    def write_page(path: Path, *_given: Any, **_named: Any) -> None:
        path.write_text("to be heard")

    with mock.patch.object(write, "write_page", write_page):
        yield


@pytest.fixture
def _with_sound() -> Iterator[None]:
    """The page as it is."""
    with mock.patch.object(write, "write_page", WRITE_PAGE):
        yield
