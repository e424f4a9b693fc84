"""Clips that cannot be read are left out here, told and counted; at some point they are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.dataset.layout import CLIPS
from runyoro_ssl.errors import LoaderError
from runyoro_ssl.logs import get_logger

log = get_logger()

NUM_SHOWN = 5
"""Rows that the error names."""


@dataclass
class Unreadable:
    """The rows of a split that could not be read so far, and the share of it beyond which they are too many.

    Each process knows of those that it was given itself; the share is always that of the whole split.
    """

    num_clips: int
    max_share: float
    place: Callable[[int], tuple[str, int]] = lambda row: ("", row)
    """The name of the dataset that a row is of, where there are several, and its row there."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Where there are several, the clips of each, by its name: the share is that of the worst."""
    _rows: set[int] = field(default_factory=set, init=False)

    def leave_out(self, batches: Sequence[TrainingBatch]) -> list[TrainingBatch]:
        """Give the batches that have clips left. A row left out is counted, and told the first time.

        Raises:
            LoaderError: Rows were left out that are, with all before them, too many.
        """
        left_out = {row: why for batch in batches for row, why in batch.unreadable.items()}
        for row in sorted(left_out.keys() - self._rows):
            name, its_row = self.place(row)
            log.warning("clip_unreadable", row=its_row, because=left_out[row], **({"source": name} if name else {}))
        self._rows |= left_out.keys()
        if left_out and self.share > self.max_share:
            raise LoaderError(self._explain(next(iter(left_out.values()))))
        return [batch for batch in batches if batch.clip_samples]

    @property
    def share(self) -> float:
        """Share of the split's clips that could not be read so far; of several, of the one that has most of them."""
        if not self.sizes:
            return len(self._rows) / self.num_clips
        counts = Counter(self.place(row)[0] for row in self._rows)
        return max((count / self.sizes[name] for name, count in counts.items()), default=0.0)

    def state_dict(self) -> dict[str, list[int]]:
        """The rows so far, as JSON values for a checkpoint."""
        return {"rows": sorted(self._rows)}

    def load_state_dict(self, state: dict[str, list[int]]) -> None:
        """Count on from the rows of a checkpoint."""
        self._rows = set(state["rows"])

    def _explain(self, why: str) -> str:
        rows = sorted(self._rows)
        shown = ", ".join(map(self._name, rows[:NUM_SHOWN])) + (", …" if len(rows) > NUM_SHOWN else "")
        return (
            f"{len(rows)} of {self.num_clips} training clips cannot be read, more than train.max_unreadable_share "
            f"{self.max_share:g}: rows {shown} ({why}); row N is line N + 1 of the dataset's {CLIPS}. Make the "
            "dataset anew with `invoke prepare --overwrite`, or raise --set train.max_unreadable_share; then "
            "--resume-from-checkpoint last"
        )

    def _name(self, row: int) -> str:
        name, row = self.place(row)
        return f"{row} of {name}" if name else str(row)
