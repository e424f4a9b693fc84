"""The page of a run, written again as the run goes on, and its card at the end."""

from __future__ import annotations

from pathlib import Path

from runyoro_ssl.errors import describe
from runyoro_ssl.logs import get_logger
from runyoro_ssl.publish.card import write_model_card
from runyoro_ssl.publish.report.write import REPORT_PAGE, write_report

log = get_logger()


class PageKeeper:
    """Writes report.html of a run whenever it is told of the run's folder.

    What goes wrong costs the page, and never the run: it is warned of once, and tried again the next time.
    """

    def __init__(self) -> None:
        self._is_warned = False

    def write_page(self, folder: Path) -> None:
        """Write the page of the run in a folder."""
        try:
            write_report(folder)
        except Exception as error:  # noqa: BLE001 - a page must not cost the run
            if not self._is_warned:
                log.warning("report_not_written", path=str(folder / REPORT_PAGE), why=describe(error), run="goes on")
            self._is_warned = True

    def write_card_and_page(self, folder: Path) -> None:
        """Write what a finished run leaves for people.

        Raises:
            TrainingError: The model card could not be written.
        """
        write_model_card(folder)
        self.write_page(folder)
