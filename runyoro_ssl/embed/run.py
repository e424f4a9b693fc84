"""`invoke embed`: recordings to features, or to units, in memory that does not grow with their length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from runyoro_ssl.bars import progress
from runyoro_ssl.embed.encoder import choose_layers, features_of, key_of_weights
from runyoro_ssl.embed.units import Units, UnitSpan, find_units, stretches
from runyoro_ssl.embed.windows import Decoded, cut, listen
from runyoro_ssl.embed.write import CSV, NPZ, PARQUET, check_new, opened, write_csv, write_text_grid
from runyoro_ssl.errors import EmbedError
from runyoro_ssl.evaluate.measures.units import FITTED_ON, Sample
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.allocator import give_back_freed
from runyoro_ssl.model.listener import Listener

log = get_logger()


@dataclass(frozen=True)
class Request:
    """What is asked for. `units`: how many, or those of a file; None for features alone."""

    files: tuple[Path, ...]
    output: Path
    layer: str | None
    units: int | Path | None
    window_sec: float
    seed: int
    overwrite: bool

    @property
    def csv(self) -> Path:
        """The units of all recordings."""
        return self.output.with_suffix(CSV)

    @property
    def centres(self) -> Path:
        """The units themselves, for other recordings."""
        return self.output.with_suffix(f".centres{NPZ}")

    @property
    def grids(self) -> Path:
        """The folder of a TextGrid for each recording."""
        return self.output.with_suffix(".TextGrids")


@dataclass(frozen=True)
class Embedded:
    """What was written: `files` by what they are; `frames` by recording; the layers."""

    files: dict[str, Path]
    frames: dict[str, int]
    layers: list[int]
    num_units: int | None = None


def check_request(request: Request) -> None:
    """Refuse, before a model is loaded, what cannot be done.

    Raises:
        EmbedError: No recordings, one that is none, an output of an unknown kind or in the way.
    """
    if not request.files:
        raise EmbedError("no recording is given: embed FILE …")
    for path in request.files:
        if path.is_dir():
            raise EmbedError(f"{path} is a folder; give recordings, such as {path}/*.wav")
        if not path.exists():
            raise EmbedError(f"{path}: no such file; quote a name that has blanks in it")
    suffix = request.output.suffix
    if suffix not in (NPZ, PARQUET, CSV) or (suffix == CSV and request.units is None):
        of_csv = "; .csv is for --units" if suffix == CSV else ""
        raise EmbedError(f"--output {request.output}: give a name that ends in {NPZ} or {PARQUET}{of_csv}")
    paths = [request.output]
    if request.units is not None:
        paths += [request.csv, request.grids, *([request.centres] if isinstance(request.units, int) else [])]
    check_new(*dict.fromkeys(paths), overwrite=request.overwrite)


def embed(request: Request, encoder: Listener) -> Embedded:
    """Write what is asked for; all of it, or nothing of it.

    Raises:
        EmbedError: A recording, a layer or units that cannot be.
    """
    layers, units = _choose(request, encoder)
    heard = _listen(request.files, encoder)
    seconds = sum(one.num_samples for one in heard.values()) / encoder.frames.sample_rate
    passes = 2 if isinstance(request.units, int) else 1
    with progress("s of audio") as bar:
        task = bar.add_task("Hearing", total=round(seconds * passes))
        run = _Run(request, encoder, layers, heard, lambda num_samples: _advance(bar, task, num_samples, encoder))
        if isinstance(request.units, int):
            units = run.find_units(request.units)
        labels = run.write(units)
    written = {} if request.output.suffix == CSV else {"features": request.output}
    frames = {name: encoder.frames.count(one.num_samples) for name, one in heard.items()}
    if units is None:
        return Embedded(written, frames, layers)
    written |= _write_units(request, units, {name: run.stretches(name, found) for name, found in labels.items()})
    return Embedded(written, frames, layers, len(units.centres))


def _advance(bar: Progress, task: object, num_samples: int, encoder: Listener) -> None:
    bar.advance(task, num_samples / encoder.frames.sample_rate)  # type: ignore[arg-type] # a TaskID
    give_back_freed()  # windows are of several lengths: what one has freed suits no other, and the heap grows


def _choose(request: Request, encoder: Listener) -> tuple[list[int], Units | None]:
    """The layers, and the units of a file if one is given."""
    if not isinstance(request.units, Path):
        layers = choose_layers(request.layer, encoder.num_layers)
        if request.units is not None and len(layers) > 1:
            raise EmbedError("--units are of one layer: give its number as --layer")
        return layers, None
    units = Units.load(request.units)
    if units.centres.shape[1] != encoder.hidden_size:
        raise EmbedError(
            f"--units {request.units} are of a model with {units.centres.shape[1]} numbers a frame, this one has "
            f"{encoder.hidden_size}; give that as --model"
        )
    if units.model != key_of_weights(encoder):
        raise EmbedError(f"--units {request.units} were found with another model, and mean nothing here; give that one")
    layers = choose_layers(str(units.layer) if request.layer is None else request.layer, encoder.num_layers)
    if layers != [units.layer]:
        raise EmbedError(f"--units {request.units} are of layer {units.layer}; leave --layer out")
    return layers, units


def _listen(files: Sequence[Path], encoder: Listener) -> dict[str, Decoded]:
    """The recordings by name: what cannot be decoded is said before hours are spent on the others."""
    paths = list(dict.fromkeys(files))
    names = Counter(path.name for path in paths)
    heard = {}
    for path in paths:
        found, notes = listen(path, encoder.frames, normalize=encoder.normalizes)
        for flaw in notes.flaws:
            log.warning("recording_is_damaged", path=str(path), flaw=str(flaw), used="as far as it goes")
        heard[path.name if names[path.name] == 1 else path.as_posix()] = found
    return heard


@dataclass(frozen=True)
class _Run:
    """Recordings that were decoded once, on their way through the model."""

    request: Request
    encoder: Listener
    layers: list[int]
    heard: dict[str, Decoded]
    advance: Callable[[int], None]

    def find_units(self, num_units: int) -> Units:
        """Units of the frames of all recordings."""
        sample = Sample(FITTED_ON, np.random.default_rng(self.request.seed))
        for name in self.heard:
            for features in self.features(name):
                sample.show(features[:, 0])
        return find_units(sample, num_units, self.layers[0], seed=self.request.seed, model=key_of_weights(self.encoder))

    def write(self, units: Units | None) -> dict[str, np.ndarray]:
        """Write the features, if they are wanted; the labels by recording, if there are units."""
        labels: dict[str, np.ndarray] = {}
        frames, size = self.encoder.frames, self.encoder.hidden_size
        with opened(self.request.output, self.layers, size) as sink:
            for name, one in self.heard.items():
                count = frames.count(one.num_samples)
                if sink:
                    sink.begin(name, frames.centres_sec(0, count), (count, len(self.layers), size))
                found = []
                for features in self.features(name):
                    if sink:
                        sink.add(features)
                    if units:
                        found.append(units.label(features[:, 0]))
                if sink:
                    sink.end()
                if units:
                    labels[name] = np.concatenate(found)
        return labels

    def features(self, name: str) -> Iterator[np.ndarray]:
        """Of a recording, window by window: float32 (f, L, H)."""
        for window in cut(self.heard[name], self.encoder.frames, self.request.window_sec):
            states = features_of(self.encoder, window.samples, self.layers)
            yield states[window.first : window.last]
            self.advance((window.last - window.first) * self.encoder.frames.stride)

    def stretches(self, name: str, labels: np.ndarray) -> list[UnitSpan]:
        """Labels of a recording as stretches of time."""
        frames = self.encoder.frames
        length_sec = self.heard[name].num_samples / frames.sample_rate
        return list(stretches(labels, frames.frame_sec, length_sec))


def _write_units(request: Request, units: Units, found: dict[str, list[UnitSpan]]) -> dict[str, Path]:
    written = {"units": request.csv, "units by recording, for Praat": request.grids}
    write_csv(request.csv, found)
    request.grids.mkdir(exist_ok=True)
    stems = Counter(Path(name).stem for name in found)
    for name, one in found.items():
        bare = Path(name).stem if stems[Path(name).stem] == 1 else name.strip("/").replace("/", "-")
        write_text_grid(request.grids / f"{bare}.TextGrid", one)
    if isinstance(request.units, int):
        units.save(request.centres)
        written["the same units for other recordings"] = request.centres
    return written
