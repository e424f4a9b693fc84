"""The measures that need labels: phones compared and probed, text read from frozen features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.dataset.read import load_splits, read_fingerprint
from runyoro_ssl.evaluate.compared.measured import MeasureKind, measured
from runyoro_ssl.evaluate.heard.clips import HeldOut
from runyoro_ssl.evaluate.heard.material import HeardMaterial
from runyoro_ssl.evaluate.intervals import PerGroup
from runyoro_ssl.evaluate.labels.alignments import label_clips, read_alignments
from runyoro_ssl.evaluate.labels.frames import frame_labels
from runyoro_ssl.evaluate.labels.places import places_of, read_stretches
from runyoro_ssl.evaluate.labels.transcripts import read_metadata, transcripts_of
from runyoro_ssl.evaluate.measures.abx import abx_error
from runyoro_ssl.evaluate.measures.abx_pairs import phone_pairs
from runyoro_ssl.evaluate.measures.abx_task import AbxSpeakers, AbxTask, draw_task
from runyoro_ssl.evaluate.measures.group_sums import GroupSums
from runyoro_ssl.evaluate.measures.not_measured import NotMeasured
from runyoro_ssl.evaluate.measures.probe import gather_frames, probe_phones
from runyoro_ssl.evaluate.measures.segments import cut_segments
from runyoro_ssl.evaluate.measures.text import CtcCurve, TranscribedClips, ctc_curve
from runyoro_ssl.evaluate.record import ADAPTED, BASE, LayerCurve, ModelMeasure, PhonePair
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.draws import derive_seed

log = get_logger()

FEW_LAYERS = 8
"""At most so many layers are looked at, evenly spread, to choose one by its phones."""
MANY_LAYERS = 13
"""Of a model with more, these alone are on the curve, too; of others, every one."""
ABX_SOURCE = "Schatz, 2016; ZeroSpeech 2021, arXiv 2011.11588; fastabx, arXiv 2505.02692"
ABX: dict[AbxSpeakers, MeasureKind] = {
    "within": MeasureKind(
        "phones.abx_within", "phone ABX error within speakers", "%", "lower", ABX_SOURCE, is_labelled=True
    ),
    "across": MeasureKind(
        "phones.abx_across", "phone ABX error across speakers", "%", "lower", ABX_SOURCE, is_labelled=True
    ),
}
ABX_BY_LAYER = MeasureKind(
    *("phones.abx_within_pooled", "phone ABX error within speakers, of means of frames", "%", "lower", ABX_SOURCE),
    is_labelled=True,
)
PROBE = MeasureKind(
    *(
        "phones.probe",
        "phones named right by a linear probe",
        "%",
        "higher",
        "Alain and Bengio, 2016, arXiv 1610.01644",
    ),
    is_labelled=True,
)
MIN_READ = 0.03
"""Of characters, that must be read beyond those of a layer that hears nothing."""
CER_SOURCE = "frozen features and linear CTC: SUPERB, arXiv 2105.01051"


@dataclass
class Labels:
    """Of each held-out clip its phones, and its text; None where it has none. `left_out`: what, and why."""

    phones: Sequence[Sequence[Phone] | None] | None = None
    texts: Sequence[str | None] | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def read_labels(
    dataset: Path, held_out: HeldOut, *, alignments: Path | None, tier: str | None = None, transcripts: bool
) -> Labels:
    """Read what labels there are of held-out clips.

    Raises:
        EvaluationError: Alignments are bad, ambiguous, or of other recordings.
        DatasetError: The dataset does not say where its clips lie.
    """
    labels = Labels()
    if alignments is None and not transcripts:
        return labels
    stretches = read_stretches(dataset, held_out.sampling_rate)
    splits = load_splits(dataset, sampling_rate=held_out.sampling_rate)
    metadata = read_metadata(splits, {clip.source for clip in held_out.clips})
    if alignments is not None:
        rows = [{"id": clip.id, "source": clip.source, "metadata": metadata[clip.id]} for clip in held_out.clips]
        files = read_alignments(alignments, tier)
        found = label_clips(files, places_of(rows, stretches))
        for name, count in files.tiers.items():
            log.info("phones_read", tier=name, files=count)
        labels.phones = found.phones
        labels.left_out |= {f"phones: {why}": f"{count} clips" for why, count in found.left_out.items()}
    if transcripts:
        longest = float(read_fingerprint(dataset)["settings"]["max_duration_sec"])
        ids, sources = [clip.id for clip in held_out.clips], [clip.source for clip in held_out.clips]
        texts = transcripts_of(ids, sources, stretches, metadata, longest)
        labels.texts = texts.texts
        labels.left_out |= {f"text: {why}": f"{count} clips" for why, count in texts.left_out.items()}
    return labels


@dataclass
class LabelMeasures:
    """Measures on labels: learned, and layers chosen, on half A of the groups, reported on half B."""

    material: HeardMaterial
    labels: Labels
    fallback: Mapping[str, int]
    """The layer of each subject that was chosen without labels."""
    left_out: dict[str, str] = field(default_factory=dict)
    pairs: list[PhonePair] = field(default_factory=list)
    """Of phones, of base and adapted model, once ABX within speakers is measured."""

    def all(self) -> Iterator[ModelMeasure]:
        """Every measure for which there are labels; what cannot be made is in `left_out`."""
        layers = dict(self.fallback)
        if self.labels.phones is not None:
            layers = self._layers_by_phones() or layers
            for speakers, kind in ABX.items():
                yield from self._try(kind.words, partial(self._abx, speakers, layers))
            yield from self._try(PROBE.words, partial(self._probe, layers))
        if self.labels.texts is not None:
            yield from self._try("character errors", partial(self._text, layers))

    def curves(self) -> Iterator[LayerCurve]:
        """ABX within speakers by layer, by the distance that chooses one: of half B, the triplets of the measure."""
        if self.labels.phones is None:
            return
        try:
            task, clips, _ = self._task_of_b("within")
        except NotMeasured:
            return
        at = {name: self._layers_of(name, MANY_LAYERS) for name in self.material.subjects}
        kind = ABX_BY_LAYER
        values = {name: [self._error(task, name, layer, clips) for layer in layers] for name, layers in at.items()}
        skipped = {name: layers for name, layers in at.items() if len(layers) < self._depth(name)}
        yield LayerCurve(kind.key, kind.words, kind.unit, kind.better, values, skipped)

    def _try(self, what: str, make: Callable[[], Iterable[ModelMeasure]]) -> list[ModelMeasure]:
        """What can be made; nothing where it cannot, and why is remembered."""
        try:
            return list(make())
        except NotMeasured as why:
            self.left_out[what] = str(why)
            return []

    # Halves of clips

    def _clips(self, *, in_a: bool) -> np.ndarray:
        return np.flatnonzero(self.material.held_out.in_a == in_a)

    def _groups(self, labels: Sequence[object]) -> tuple[np.ndarray, int]:
        """The groups of all clips, numbered so that those of half B with labels come first; how many these are."""
        held_out = self.material.held_out
        labelled = [index for index in self._clips(in_a=False) if labels[index]]
        names = [*dict.fromkeys(held_out.groups[labelled].tolist())]
        number = len(names)
        names += [one for one in dict.fromkeys(held_out.groups.tolist()) if one not in set(names)]
        places = {name: place for place, name in enumerate(names)}
        return np.array([places[one] for one in held_out.groups.tolist()]), number

    def _depth(self, name: str) -> int:
        return self.material.features[name]["none"].num_layers

    def _layers_of(self, name: str, many: int) -> list[int]:
        """Every layer of a subject, up to `many`; of more, a few, evenly spread."""
        depth = self._depth(name)
        number = depth if depth <= many else FEW_LAYERS
        layers: list[int] = np.unique(np.linspace(0, depth - 1, number).round().astype(int)).tolist()
        return layers

    def _features(self, name: str, layer: int) -> list[np.ndarray]:
        return self.material.features[name]["none"].clips(layer)

    def _task(self, clips: np.ndarray, speakers: AbxSpeakers, groups: np.ndarray, num_groups: int) -> AbxTask:
        assert self.labels.phones is not None  # noqa: S101 - asked before
        held_out, features = self.material.held_out, self.material.features[BASE]["none"]
        lengths = np.diff(features.starts)
        segments = cut_segments(
            [self.labels.phones[index] for index in clips],
            [int(lengths[index]) for index in clips],
            [held_out.clips[index].speaker or held_out.clips[index].recording for index in clips],
            [int(groups[index]) for index in clips],
        )
        generator = np.random.default_rng(derive_seed("evaluate", "abx", speakers))
        return draw_task(segments, speakers, generator, num_groups=num_groups)

    # Phones

    def _layers_by_phones(self) -> dict[str, int]:
        """The layer of each subject with the least ABX error within speakers, on half A; nothing where it has none."""
        clips = self._clips(in_a=True)
        groups, _ = self._groups(self.labels.phones or ())
        try:
            task = self._task(clips, "within", groups, int(groups.max()) + 1)
        except NotMeasured:
            return {}
        chosen: dict[str, int] = {}
        for name in self.material.subjects:
            layers = self._layers_of(name, FEW_LAYERS)
            errors = [self._error(task, name, layer, clips) for layer in layers]
            chosen[name] = layers[int(np.argmin(errors))]
        return chosen

    def _error(self, task: AbxTask, name: str, layer: int, clips: np.ndarray) -> float:
        features = self._features(name, layer)
        return abx_error(task, [features[index] for index in clips], by="mean").value

    def _task_of_b(self, speakers: AbxSpeakers) -> tuple[AbxTask, np.ndarray, int]:
        """What is compared on half B; of which clips, and of how many groups."""
        clips = np.array([index for index in self._clips(in_a=False) if (self.labels.phones or ())[index]])
        if not len(clips):
            raise NotMeasured("no clip of the half that is reported has phones")
        groups, number = self._groups(self.labels.phones or ())
        return self._task(clips, speakers, groups, number), clips, number

    def _abx(self, speakers: AbxSpeakers, layers: Mapping[str, int]) -> Iterator[ModelMeasure]:
        task, clips, number = self._task_of_b(speakers)
        sums = {}
        for name in self.material.subjects:
            features = self._features(name, layers[name])
            sums[name] = abx_error(task, [features[index] for index in clips], by="dtw")
        if speakers == "within":
            self.pairs = phone_pairs(task, {name: sums[name] for name in (BASE, ADAPTED) if name in sums})
        yield measured(ABX[speakers], self.material.subjects, _together([*sums.values()]), number, layers=layers)

    def _probe(self, layers: Mapping[str, int]) -> Iterator[ModelMeasure]:
        groups, number = self._groups(self.labels.phones or ())
        phones, sums = self.labels.phones or (), []
        for name in self.material.subjects:
            halves = []
            for in_a in (True, False):
                clips, features = self._clips(in_a=in_a), self._features(name, layers[name])
                labels = [frame_labels(phones[index], len(features[index])) for index in clips]
                halves.append(
                    gather_frames([features[index] for index in clips], labels, [int(groups[index]) for index in clips])
                )
            generator = np.random.default_rng(derive_seed("evaluate", "probe"))
            train, test = halves
            found = probe_phones(train, test, generator, num_groups=int(groups.max()) + 1)
            sums.append(_first(found.accuracy(), number))
        yield measured(PROBE, self.material.subjects, _together(sums), number, layers=layers)

    # Text

    def _text(self, layers: Mapping[str, int]) -> Iterator[ModelMeasure]:
        """Character error rates, learned from as much as there is of half A; the most first."""
        groups, number = self._groups(self.labels.texts or ())
        curves = {}
        for name in self.material.subjects:
            halves = [self._transcribed(name, layers[name], groups, in_a=in_a) for in_a in (True, False)]
            curves[name] = ctc_curve(*halves, num_groups=int(groups.max()) + 1)
        points = [list(curve.points) for curve in curves.values()]
        _check_that_something_is_read(curves)
        for place in reversed(range(len(points[0]))):
            minutes = points[0][place].minutes
            key = "text.cer" if place == len(points[0]) - 1 else f"text.cer_{minutes:g}"
            words = f"character errors, learned from {minutes:g} min of text"
            kind = MeasureKind(key, words, "%", "lower", CER_SOURCE, is_labelled=True)
            sums = _together([_first(of[place].errors, number) for of in points])
            yield measured(kind, self.material.subjects, sums, number, layers=layers)

    def _transcribed(self, name: str, layer: int, groups: np.ndarray, *, in_a: bool) -> TranscribedClips:
        texts = self.labels.texts or []
        clips = [int(index) for index in self._clips(in_a=in_a) if texts[index]]
        features = self._features(name, layer)
        return TranscribedClips(
            [features[index] for index in clips], [texts[index] or "" for index in clips], groups[clips]
        )


def _check_that_something_is_read(curves: Mapping[str, CtcCurve]) -> None:
    """Raise NotMeasured where no subject reads better than a layer that hears nothing: all such rates are alike."""
    least = min(curve.points[-1].errors.value for curve in curves.values())
    unheard = min(curve.unheard_rate for curve in curves.values())
    if least > unheard - MIN_READ:
        raise NotMeasured(
            f"no model reads better ({least:.0%} of characters wrong) than one that hears nothing ({unheard:.0%}): "
            "more minutes with transcripts are needed, or a stronger base"
        )


def _first(sums: GroupSums, number: int) -> GroupSums:
    """The sums of the first groups: those of half B."""
    return GroupSums(sums.numerators[:number], sums.denominators[:number])


def _together(sums: Sequence[GroupSums]) -> PerGroup:
    """Of several subjects."""
    return PerGroup(np.stack([one.numerators for one in sums]), np.stack([one.denominators for one in sums]))
