"""Features of clips, computed once for each model and kept by what they depend on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from runyoro_ssl.disk.drafts import AS_IT_IS, os_lock
from runyoro_ssl.disk.durable import new_folder, remove_folder
from runyoro_ssl.disk.whereabouts import has_name
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.heard.clips import HeldOut
from runyoro_ssl.evaluate.heard.subjects import Subject
from runyoro_ssl.evaluate.perturb import Perturbation, perturb
from runyoro_ssl.model.draws import derive_seed

FEATURES_VERSION = 1
"""Raised when the same model and clips would give other features."""
LARGEST_HALF = 6e4
"""Nearly the largest number of float16, in which features are kept; larger ones are cut to it."""
GIB = 1 << 30
META = "features.json"


@dataclass(frozen=True)
class Features:
    """The features of some clips: of each layer a file of float16 (frames, width), clip after clip.

    `starts`: int64 (clips + 1,), where each clip begins. `indices`: which of the held-out clips they are of.
    """

    folder: Path
    indices: tuple[int, ...]
    starts: np.ndarray
    widths: tuple[int, ...]

    @property
    def num_layers(self) -> int:
        """Layers, the input of the first among them."""
        return len(self.widths)

    def layer(self, layer: int) -> np.ndarray:
        """All frames of a layer: float32 (frames, width)."""
        return np.asarray(self._mapped(layer), np.float32)

    def clips(self, layer: int) -> list[np.ndarray]:
        """The same clip by clip: float32 (F, width) each."""
        frames = self.layer(layer)
        return [frames[begin:end] for begin, end in zip(self.starts[:-1], self.starts[1:], strict=True)]

    def _mapped(self, layer: int) -> np.ndarray:
        shape = (int(self.starts[-1]), self.widths[layer])
        return np.memmap(_file(self.folder, layer), dtype=np.float16, mode="r", shape=shape)


@dataclass(frozen=True)
class FeatureCache:
    """A folder of features, each under a name that says what it depends on; several processes may share it.

    At most so many bytes, those used longest ago go; but none that was got and not released, however large it is:
    who needs a folder has a shared OS lock of it.
    """

    folder: Path
    max_bytes: int = 8 * GIB
    _needed: dict[Path, int] = field(default_factory=dict, init=False, compare=False)

    def get(
        self,
        subject: Subject,
        held_out: HeldOut,
        how: Perturbation,
        indices: Sequence[int],
        *,
        on_clip: Callable[[], object] = lambda: None,
    ) -> Features:
        """The features of held-out clips as `how` changes them, computed where they are not there yet.

        They stay until they are released.
        """
        chosen = derive_seed(*map(int, indices))
        name = f"{subject.key}-{held_out.digest()}-{how}-{chosen:016x}-v{FEATURES_VERSION}"
        folder = self.folder / name
        found = self._take(folder)
        for _ in indices if found else ():
            on_clip()
        if found is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with new_folder(folder) as unfinished:
                    _compute(unfinished, subject, held_out, how, indices, on_clip=on_clip)
            except OSError:
                if (found := self._take(folder)) is None:  # unless another process was quicker
                    raise
            found = found or self._take(folder)
            self.trim()
        if found is None:
            raise EvaluationError(f"{folder}: what was just written cannot be read; look at the disk, and run it again")
        folder.touch()
        return found

    def _take(self, folder: Path) -> Features | None:
        """Features that are there, whole, and from now on needed. What is there and not whole goes."""
        with suppress(OSError):
            opened = self._needed.pop(folder, None) or os.open(folder, AS_IT_IS)
            if os_lock(opened, fcntl.LOCK_SH) is not False and has_name(opened, folder):
                if (found := _read(folder)) is not None:
                    self._needed[folder] = opened
                    return found
                remove_folder(folder)
            os.close(opened)
        return None

    def release(self, features: Iterable[Features]) -> None:
        """Let go of features that nothing is made of any more: they stay as long as there is room."""
        for one in features:
            if (opened := self._needed.pop(one.folder, None)) is not None:
                os.close(opened)
        self.trim()

    @property
    def size(self) -> int:
        """Of all that is kept, bytes."""
        return sum(self._sizes().values())

    def _sizes(self) -> dict[Path, int]:
        folders = [path for path in self.folder.iterdir() if (path / META).is_file()] if self.folder.is_dir() else []
        return {path: sum(file.stat().st_size for file in path.iterdir()) for path in folders}

    def trim(self) -> None:
        """Remove what was not used for longest, until the rest is small enough, or needed."""
        with suppress(OSError):
            sizes = self._sizes()
            excess = sum(sizes.values()) - self.max_bytes
            for path in sorted(sizes, key=lambda path: path.stat().st_mtime):
                if excess <= 0:
                    break
                if path not in self._needed and _remove_unneeded(path):
                    excess -= sizes[path]


def _remove_unneeded(folder: Path) -> bool:
    """Remove features, unless another process needs them."""
    opened = os.open(folder, AS_IT_IS)
    try:
        if os_lock(opened) is False:
            return False
        remove_folder(folder)
        return True
    finally:
        os.close(opened)


def _compute(
    folder: Path,
    subject: Subject,
    held_out: HeldOut,
    how: Perturbation,
    indices: Sequence[int],
    *,
    on_clip: Callable[[], object],
) -> None:
    starts, widths = [0], [0] * subject.num_layers
    with _layer_files(folder, subject.num_layers) as files:
        for index in indices:
            clip = held_out.clips[index]
            waveform = perturb(held_out.waveform(index), how, clip.id, held_out.sampling_rate)
            states = subject.features(waveform)
            for layer, (file, state) in enumerate(zip(files, states, strict=True)):
                np.clip(np.nan_to_num(state), -LARGEST_HALF, LARGEST_HALF).astype(np.float16).tofile(file)
                widths[layer] = state.shape[1]
            starts.append(starts[-1] + len(states[0]))
            on_clip()
    meta = {"indices": list(map(int, indices)), "starts": starts, "widths": widths}
    (folder / META).write_text(json.dumps(meta), encoding="utf-8")


@contextmanager
def _layer_files(folder: Path, num_layers: int) -> Iterator[list[Any]]:
    with ExitStack() as stack:
        yield [stack.enter_context(_file(folder, layer).open("wb")) for layer in range(num_layers)]


def _file(folder: Path, layer: int) -> Path:
    return folder / f"layer-{layer:02d}.f16"


def _read(folder: Path) -> Features | None:
    """Features that are there and whole."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        starts, widths = np.array(meta["starts"]), tuple(meta["widths"])
        whole = all(_file(folder, layer).stat().st_size == 2 * starts[-1] * width for layer, width in enumerate(widths))
        return Features(folder, tuple(meta["indices"]), starts, widths) if whole else None
    except (OSError, ValueError, KeyError):
        return None
