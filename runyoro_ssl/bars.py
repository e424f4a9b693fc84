"""Progress bars on stderr, each on one line of the terminal: what matters least goes where that is narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table
from rich.text import Text

from runyoro_ssl.logs import console
from runyoro_ssl.redaction import printable

BAR_COLUMNS = 20
"""Width of what fills up."""


class DescriptionColumn(ProgressColumn):
    """What a bar counts, as plain text: the names in it may be a stranger's."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        """The words of a task."""
        return Text(printable(task.description))


class OneLineProgress(Progress):
    """A progress bar that never takes more than a line: columns of `spare`, the first first, go until it fits."""

    def __init__(
        self, columns: Sequence[ProgressColumn], *, spare: Sequence[ProgressColumn], is_transient: bool = False
    ) -> None:
        self._all, self._spare = tuple(columns), tuple(spare)
        super().__init__(*columns, console=console, transient=is_transient, disable=not console.file.isatty())
        self.live._lock = console.lock  # noqa: SLF001 - see there

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """The bars as a table, as rich draws it, of as many columns as the terminal has room for."""
        tasks = list(tasks)
        self.columns = self._all
        table = super().make_tasks_table(tasks)
        for left_out in range(1, len(self._spare) + 1):
            if Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width:
                break
            self.columns = tuple(column for column in self._all if column not in self._spare[:left_out])
            table = super().make_tasks_table(tasks)
        return table


def progress(unit: str, *details: ProgressColumn, is_transient: bool = False) -> Progress:
    """A progress bar counting `unit`, with time spent and time left. Silent when stderr is not a terminal.

    `details` stand at its end; where the terminal is narrow they go first, the last one before the others.
    `is_transient`: it leaves no line.
    """
    spinner, bar, spent = SpinnerColumn(), BarColumn(BAR_COLUMNS), TimeElapsedColumn()
    columns = [
        *(spinner, DescriptionColumn(), bar, MofNCompleteColumn(), TextColumn(unit), spent),
        *(TextColumn("left"), TimeRemainingColumn(), *details),
    ]
    return OneLineProgress(columns, spare=[*reversed(details), spent, bar, spinner], is_transient=is_transient)


def download_progress() -> Progress:
    """A progress bar counting bytes, with their rate and the time left. Silent when stderr is not a terminal."""
    spinner, bar, rate = SpinnerColumn(), BarColumn(BAR_COLUMNS), TransferSpeedColumn()
    columns = [spinner, DescriptionColumn(), bar, DownloadColumn(), rate]
    return OneLineProgress([*columns, TextColumn("left"), TimeRemainingColumn()], spare=[bar, spinner, rate])
