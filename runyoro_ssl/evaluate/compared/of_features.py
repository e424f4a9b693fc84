"""The measures of features, without labels: geometry, units, query by example, change; and the layer they are of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from runyoro_ssl.evaluate.compared.measured import MeasureKind, measured
from runyoro_ssl.evaluate.grid import GRID
from runyoro_ssl.evaluate.heard.material import CHANGES, HeardMaterial
from runyoro_ssl.evaluate.intervals import REPLICATES, PerGroup
from runyoro_ssl.evaluate.measures import geometry, retrieval, units
from runyoro_ssl.evaluate.measures.change import linear_cka
from runyoro_ssl.evaluate.record import ADAPTED, BASE, LayerCurve, ModelMeasure
from runyoro_ssl.model.draws import derive_seed

SLOW_REPLICATES = 200
"""Of what takes a while each: ranks and clusters."""
RANK = MeasureKind(
    "geometry.effective_rank", "effective rank", "", "higher", "RankMe: Garrido et al., 2023, arXiv 2210.02885"
)
CLUSTERS = MeasureKind(
    *("geometry.davies_bouldin", "overlap of clusters (Davies-Bouldin)", "", "lower"),
    "Davies and Bouldin, 1979; Whetten et al., 2025, arXiv 2501.05966",
)
UNIFORMITY = MeasureKind("geometry.uniformity", "uniformity", "", "neither", "Wang and Isola, 2020, arXiv 2005.10242")
BITRATE = MeasureKind("units.bitrate", "what units carry", "bits/s", "neither", "ZeroSpeech 2019, arXiv 1904.11469")
STABILITY = MeasureKind(
    *("units.stability", "units that stay under noise and speed", "%", "higher"), "Gat et al., 2023, arXiv 2209.15483"
)
SPEAKER = MeasureKind(
    "units.speaker_information", "what a unit tells of the speaker", "bits", "neither", "Miller and Madow, 1955"
)
POOLED = MeasureKind(
    *("retrieval.pooled", "query by example, means of frames (mean reciprocal rank)", "", "higher"),
    "Kamper et al., 2015, arXiv 1510.01032",
)
DTW = MeasureKind(
    *("retrieval.dtw", "query by example, aligned (mean reciprocal rank)", "", "higher"),
    "Hazen et al., 2009, doi 10.1109/ASRU.2009.5372889",
)


CKA = MeasureKind(
    "change.cka", "likeness of base and adapted (linear CKA)", "", "neither", "Kornblith et al., 2019, arXiv 1905.00414"
)
SNIPPET_SEC = retrieval.SNIPPET_FRAMES * GRID.frame_sec


@dataclass
class FeatureMeasures:
    """Measures of the features of a material. Layers are chosen on half A of the groups; all else is of half B."""

    material: HeardMaterial
    replicates: int = REPLICATES
    at: int | None = None
    """The layer of geometry and units, where it is given; None: that at which the base is best."""
    left_out: dict[str, str] = field(default_factory=dict)
    """What could not be measured, and why."""
    units_of_b: dict[int, np.ndarray] = field(default_factory=dict)
    """The adapted model's units of the clips of half B, by their index, once they are measured."""

    @cached_property
    def own_layers(self) -> dict[str, int]:
        """The layer of each subject at which snippets of half A are found best."""
        if not len(self._snippets(half=True)[1].clips):
            return {name: 2 * (self._depth(name) - 1) // 3 for name in self.material.subjects}
        curves = {name: self._retrieval_by_layer(name, half=True) for name in self.material.subjects}
        return {name: int(np.argmax(curve)) for name, curve in curves.items()}

    @cached_property
    def layers(self) -> dict[str, int]:
        """The same, but for the adapted model the base's, where it has as many: ranks compare within a layer only."""
        if not self._are_alike:
            return self.own_layers
        layer = self.own_layers[BASE] if self.at is None else self.at
        return {**self.own_layers, BASE: layer, ADAPTED: layer}

    @cached_property
    def _are_alike(self) -> bool:
        """Whether both models have as many layers, as wide: only then are their ranks and clusters compared."""
        widths = [self.material.features[name]["none"].widths for name in (BASE, ADAPTED)]
        return widths[0] == widths[1]

    def all(self) -> Iterator[ModelMeasure]:
        """Every measure, at the chosen layers."""
        yield from self._geometry()
        yield from self._units()
        if len(self._snippets(half=False)[1].clips):
            yield from self._retrieval()
        else:
            self.left_out["query by example"] = f"no clip is as long as a snippet, {SNIPPET_SEC} s"

    def curves(self) -> Iterator[LayerCurve]:
        """Ranks, query by example and change, by layer; log-mel spectra have one."""
        subjects = list(self.material.subjects)
        ranks = {name: [self._rank(name, layer) for layer in range(self._depth(name))] for name in subjects}
        yield _curve(RANK, ranks)
        if len(self._snippets(half=False)[1].clips):
            yield _curve(POOLED, {name: self._retrieval_by_layer(name, half=False) for name in subjects})
        if self._depth(BASE) == self._depth(ADAPTED):
            change = [
                linear_cka(*(self._frames(name, layer) for name in (BASE, ADAPTED)))
                for layer in range(self._depth(BASE))
            ]
            yield _curve(CKA, {ADAPTED: change})

    # Clips and frames

    def _depth(self, name: str) -> int:
        return self.material.features[name]["none"].num_layers

    @cached_property
    def _half_b(self) -> np.ndarray:
        """Places, among all clips, of those of half B."""
        return np.flatnonzero(~self.material.held_out.in_a)

    def _groups(self, clips: np.ndarray) -> tuple[np.ndarray, int]:
        """The groups of these clips, numbered anew; how many."""
        names, groups = np.unique(self.material.held_out.groups[clips], return_inverse=True)
        return groups, len(names)

    def _frames(self, name: str, layer: int) -> np.ndarray:
        """Clean frames of half B: float32 (N, H)."""
        clips = self.material.features[name]["none"].clips(layer)
        return np.concatenate([clips[index] for index in self._half_b])

    def _groups_of_frames(self) -> tuple[np.ndarray, int]:
        features = self.material.features[BASE]["none"]
        groups, number = self._groups(self._half_b)
        return np.repeat(groups, np.diff(features.starts)[self._half_b]), number

    # Geometry

    def _rank(self, name: str, layer: int) -> float:
        frames = self._frames(name, layer)
        one_group = np.zeros(len(frames), dtype=np.int64)
        return geometry.effective_rank(geometry.grams(frames, one_group, 1)[0])

    def _geometry(self) -> Iterator[ModelMeasure]:
        subjects, layers = self.material.subjects, self.layers
        groups, number = self._groups_of_frames()
        frames = [self._frames(name, layers[name]) for name in subjects]
        grams = [geometry.grams(one, groups, number) for one in frames]
        rank, clusters_of = (
            replace(kind, better=kind.better if self._are_alike else "neither") for kind in (RANK, CLUSTERS)
        )
        yield measured(
            rank,
            subjects,
            geometry.rank_statistic(grams),
            number,
            layers=layers,
            replicates=min(SLOW_REPLICATES, self.replicates),
        )
        generator = np.random.default_rng(derive_seed("evaluate", "sample"))
        sample = np.sort(generator.choice(len(groups), min(geometry.SAMPLE, len(groups)), replace=False))
        clusters = [
            units.fit_units(one, np.random.default_rng(derive_seed("evaluate", "clusters")), geometry.NUM_CLUSTERS)
            for one in frames
        ]
        samples = [one[sample] for one in frames]
        labels = [fitted.predict(one) for fitted, one in zip(clusters, samples, strict=True)]
        statistic = geometry.cluster_statistic(samples, labels, groups[sample])
        yield measured(
            clusters_of, subjects, statistic, number, layers=layers, replicates=min(SLOW_REPLICATES, self.replicates)
        )
        kernels = [geometry.similarity_kernel(one[: geometry.SAMPLE // 2]) for one in samples]
        statistic = geometry.uniformity_statistic(kernels, groups[sample][: geometry.SAMPLE // 2])
        yield measured(
            UNIFORMITY, subjects, statistic, number, layers=layers, replicates=min(SLOW_REPLICATES, self.replicates)
        )

    # Units

    def _units(self) -> Iterator[ModelMeasure]:
        subjects, layers, held_out = self.material.subjects, self.layers, self.material.held_out
        clean: dict[str, list[np.ndarray]] = {}
        changed: dict[str, dict[str, list[np.ndarray]]] = {}
        for name in subjects:
            of = self.material.features[name]
            clips = of["none"].clips(layers[name])
            fitted_on = np.concatenate([clips[index] for index in np.flatnonzero(held_out.in_a)])
            fitted = units.fit_units(fitted_on, np.random.default_rng(derive_seed("evaluate", "units")))
            clean[name] = [fitted.predict(clips[index]) for index in range(len(clips))]
            changed[name] = {how: list(map(fitted.predict, of[how].clips(layers[name]))) for how in CHANGES}
        best = ADAPTED if ADAPTED in clean else BASE
        self.units_of_b = {int(index): clean[best][index] for index in self._half_b}
        groups, number = self._groups(self._half_b)
        of_b = [[clean[name][index] for index in self._half_b] for name in subjects]
        yield measured(
            BITRATE, subjects, units.bitrate_statistic(of_b, groups), number, layers=layers, replicates=self.replicates
        )
        yield self._stability(clean, changed)
        speakers = [held_out.clips[index].speaker for index in self._half_b]
        if None not in speakers and len(set(speakers)) > 1:
            _, numbers = np.unique(np.array(speakers), return_inverse=True)
            statistic = units.speaker_information_statistic(of_b, numbers, groups)
            yield measured(
                SPEAKER, subjects, statistic, number, layers=layers, replicates=min(SLOW_REPLICATES, self.replicates)
            )

    def _stability(
        self, clean: Mapping[str, Sequence[np.ndarray]], changed: Mapping[str, Mapping[str, Sequence[np.ndarray]]]
    ) -> ModelMeasure:
        """Over clips of half B that were heard changed, each change counted alike."""
        places = self._changed_of(half=False)
        indices = np.array([self.material.changed[place] for place in places])
        groups, number = self._groups(indices)
        parts = [
            units.stability(
                [[clean[name][index] for index in indices] for name in self.material.subjects],
                [[changed[name][how][place] for place in places] for name in self.material.subjects],
                groups,
            )
            for how in CHANGES
        ]
        both = PerGroup(sum(part.numerators for part in parts), sum(part.denominators for part in parts))  # type: ignore[arg-type]  # numpy's sum
        return measured(STABILITY, self.material.subjects, both, number, layers=self.layers, replicates=self.replicates)

    def _changed_of(self, *, half: bool) -> list[int]:
        """Places, among the clips that were changed, of those of a half."""
        return [
            place for place, index in enumerate(self.material.changed) if self.material.held_out.in_a[index] == half
        ]

    # Query by example

    def _snippets(self, *, half: bool) -> tuple[list[int], retrieval.Snippets]:
        places = self._changed_of(half=half)
        starts = self.material.features[BASE]["noise"].starts
        lengths = [int(starts[place + 1] - starts[place]) for place in places]
        generator = np.random.default_rng(derive_seed("evaluate", "snippets", int(half)))
        return places, retrieval.choose_snippets(lengths, generator)

    def _cut(self, name: str, layer: int, *, half: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Queries, each snippet once, with noise and at another speed in turn; and the clean answers."""
        places, snippets = self._snippets(half=half)
        of = self.material.features[name]
        clean = of["none"].clips(layer)
        answers = retrieval.cut([clean[self.material.changed[place]] for place in places], snippets)
        changed = {how: of[how].clips(layer) for how in CHANGES}
        cuts = [retrieval.cut([changed[how][place] for place in places], snippets, how) for how in CHANGES]
        return [cuts[turn % len(cuts)][turn] for turn in range(len(answers))], answers

    def _retrieval_by_layer(self, name: str, *, half: bool) -> list[float]:
        found = []
        for layer in range(self._depth(name)):
            similarity = retrieval.pooled_similarity(*self._cut(name, layer, half=half))
            found.append(float(retrieval.reciprocal_ranks(similarity).mean()))
        return found

    def _retrieval(self) -> Iterator[ModelMeasure]:
        subjects, layers = self.material.subjects, self.own_layers
        places, snippets = self._snippets(half=False)
        groups, number = self._groups(np.array([self.material.changed[places[clip]] for clip in snippets.clips]))
        cuts = [self._cut(name, layers[name], half=False) for name in subjects]
        for kind, similar in ((POOLED, retrieval.pooled_similarity), (DTW, retrieval.dtw_similarity)):
            ranks = [retrieval.reciprocal_ranks(similar(*cut)) for cut in cuts]
            yield measured(
                kind,
                subjects,
                retrieval.per_group(ranks, groups, number),
                number,
                layers=layers,
                replicates=self.replicates,
            )


def _curve(kind: MeasureKind, values: Mapping[str, Sequence[float]]) -> LayerCurve:
    """A measure by layer, of the subjects of which it is known at each."""
    known = {name: list(map(float, curve)) for name, curve in values.items() if np.all(np.isfinite(curve))}
    return LayerCurve(kind.key, kind.words, kind.unit, kind.better, known)
