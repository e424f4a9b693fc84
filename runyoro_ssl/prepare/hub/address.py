"""The address of a dataset: `hf://org/name?config=C&split=S&revision=R&column=A`.

Or of a local folder that `datasets.load_dataset` reads: `hf:///absolute/folder`, `hf://./relative/folder`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

from runyoro_ssl.errors import ConfigError, did_you_mean

SCHEME = "hf://"
OPTIONS = ("config", "split", "revision", "column")
CONVERTED = "refs/convert/"
"""Where the hub keeps what it has converted by itself, a folder for each configuration."""
PARQUET = f"{CONVERTED}parquet"
USAGE = f"write {SCHEME}org/name?config=C&split=S"
_SPLITS = re.compile(r"[\w.-]+(?:\+[\w.-]+)*")


@dataclass(frozen=True)
class HubAddress:
    """A dataset on the hub, or a local folder; the audio column is found unless it is named."""

    name: str
    config: str | None
    split: str
    revision: str | None = None
    column: str | None = None

    @classmethod
    def parse(cls, address: str) -> Self:
        """Parse `hf://org/name?…`; the split is `train` unless said, and may be several: `train+validation`.

        Raises:
            ConfigError: No name, an option that does not exist, a part of a split, or credentials.
        """
        try:
            parts = urlsplit(address)
        except ValueError as error:  # a bracket without its other
            raise ConfigError(f"prepare.manifest_path is {address}: {error}; {USAGE}") from None
        given = parse_qs(parts.query.replace("+", "%2B"), keep_blank_values=True)  # train+test are two splits
        options = {name: values[-1] for name, values in given.items()}
        parsed = cls(
            parts.netloc + parts.path.rstrip("/"),
            options.get("config") or None,
            options.get("split") or "train",
            options.get("revision") or None,
            options.get("column") or None,
        )
        if problem := parsed._problem(sorted(options.keys() - set(OPTIONS))):
            raise ConfigError(f"prepare.manifest_path is {address}: {problem}")
        return parsed

    def _problem(self, unknown: list[str]) -> str | None:
        if "@" in self.name.partition("/")[0]:
            return "credentials do not belong in it; log in once by `hf auth login`, or set HF_TOKEN"
        if unknown:
            near = did_you_mean(unknown[0], OPTIONS)
            return f'no option "{unknown[0]}"{near}; there are {", ".join(OPTIONS)}: {USAGE}'
        if not self.name:
            return f"no dataset is named; {USAGE}"
        if not _SPLITS.fullmatch(self.split):
            return f'split "{self.split}" is no name of a split; splits are taken whole, and --max-hours takes a part'
        return self._problem_of_place()

    def _problem_of_place(self) -> str | None:
        if self.is_local:
            return "a folder has no revisions; leave revision away" if self.revision else None
        if self.name.startswith(("/", ".", "~")):
            return "no such folder"
        return f"a dataset of the hub is org/name; {USAGE}" if self.name.count("/") != 1 else None

    @property
    def is_local(self) -> bool:
        """Whether the dataset is a folder of this machine."""
        return Path(self.name).is_dir()

    @property
    def splits(self) -> list[str]:
        """The names of the splits."""
        return self.split.split("+")

    def __str__(self) -> str:
        config = f"config={self.config}&" if self.config else ""
        revision = f"&revision={self.revision}" if self.revision else ""
        column = f"&column={self.column}" if self.column else ""
        return f"{SCHEME}{self.name}?{config}split={self.split}{revision}{column}"
