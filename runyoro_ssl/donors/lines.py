"""What `clips.jsonl` of a pool tells of its clips: whose they are, under which licence; every line checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runyoro_ssl.dataset.layout import CLIPS
from runyoro_ssl.donors.pools import Pool
from runyoro_ssl.errors import DatasetError
from runyoro_ssl.redaction import shortly

REMEDY = "it says whose the clips are, and under which licence: prepare the pool again"


class ClipLine(BaseModel):
    """A line. What else there is in it is not looked at."""

    model_config = ConfigDict(strict=True)

    id: str
    audio_filepath: str
    recording: str
    speaker: str | None
    language: str | None
    licence: str | None = None
    offset: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    gain: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    measures: dict[str, float] = {}


def check_lines(pools: Sequence[Pool]) -> None:
    """Read every line once, before the work.

    Raises:
        DatasetError: As `clip_lines`.
    """
    for pool in pools:
        deque(clip_lines(pool), maxlen=0)


def clip_lines(pool: Pool) -> Iterator[tuple[int, ClipLine]]:
    """(row of the training split, its line): there they stand first, in the same order.

    Raises:
        DatasetError: There are too few, or other ones; or one that no `prepare` wrote.
    """
    path, ids = pool.path / CLIPS, pool.column("id")
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file; {REMEDY}")
    row = -1
    try:
        with path.open(encoding="utf-8") as file:
            for row, text in enumerate(islice(file, len(ids))):
                line = ClipLine.model_validate_json(text)
                if line.id != ids[row]:
                    raise DatasetError(f"{path} line {row + 1}: clip {line.id}, the dataset has {ids[row]}; {REMEDY}")
                yield row, line
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"])) or "it"
        missing = first["type"] == "missing"
        seen = f"{what} is " + ("missing" if missing else f"{shortly(first['input'])}: {first['msg'].lower()}")
        raise DatasetError(f"{path} line {row + 1}: {seen}; {REMEDY}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({type(error).__name__}: {error}); {REMEDY}") from None
    if row + 1 < len(ids):
        raise DatasetError(f"{path}: has {row + 1} lines for {len(ids)} clips; {REMEDY}")
