"""Geometry: how features fill their space. A collapse shows here before anywhere else."""

from __future__ import annotations

import numpy as np

from runyoro_ssl.evaluate.intervals import Statistic

NUM_CLUSTERS = 50
SAMPLE = 2000
"""Frames whose clusters, and whose distances, are looked at."""


def effective_rank(gram: np.ndarray) -> float:
    """The exponential of the entropy of the singular values, by the Gram matrix Z^T Z of features Z: float64 (H, H).

    From 1, where all frames lie on one line, to H. RankMe: Garrido et al., 2023, arXiv 2210.02885, eq. 1; within a
    layer it follows what a model is good for (RankMe-t, 2409.10787).
    """
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    share = values / max(values.sum(), 1e-300) + 1e-7
    return float(np.exp(-(share * np.log(share)).sum()))


def grams(frames: np.ndarray, group_of_frame: np.ndarray, num_groups: int) -> np.ndarray:
    """Gram matrices by group, of features less their mean over all: float32 (N, H) -> float64 (G, H, H).

    The mean, which is large in a Transformer, says nothing of what frames differ in.
    """
    centred = frames - frames.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.stack([_gram(centred[group_of_frame == group]) for group in range(num_groups)])


def _gram(frames: np.ndarray) -> np.ndarray:
    return np.asarray(frames.T @ frames, np.float64)


def rank_statistic(by_subject: list[np.ndarray]) -> Statistic:
    """The effective rank with weights on groups, of Gram matrices (G, H, H) of each subject."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.array([[effective_rank(np.tensordot(row, of, axes=1)) for of in by_subject] for row in weights])

    return statistic


def davies_bouldin(frames: np.ndarray, labels: np.ndarray) -> float:
    """How much clusters of frames overlap: float32 (N, H), int (N,). 0: not at all. NaN with fewer than two clusters.

    Davies and Bouldin, 1979; Whetten et al., 2025, arXiv 2501.05966, found it to follow downstream results.
    """
    return float(cluster_statistic([frames], [labels], np.zeros(len(labels), dtype=np.int64))(np.ones((1, 1)))[0, 0])


def cluster_statistic(samples: list[np.ndarray], labels: list[np.ndarray], group_of_frame: np.ndarray) -> Statistic:
    """The Davies-Bouldin index with weights on groups, of sampled frames (N, H) and their clusters (N,).

    The middles of clusters stay those of the whole sample: drawn anew from fewer frames, clusters would look denser.
    """
    parts = [_cluster_parts(frames, of, group_of_frame) for frames, of in zip(samples, labels, strict=True)]

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.stack([_overlap(weights, *part) for part in parts], axis=1)

    return statistic


def _cluster_parts(frames: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, ...]:
    """By group and cluster, summed distances to the middle, and frames: (G, K) each; between middles, (K, K)."""
    names, labels = np.unique(labels, return_inverse=True)
    frames = frames.astype(np.float64)
    middles = np.stack([frames[labels == label].mean(0) for label in range(len(names))])
    distances, counts = np.zeros((2, int(groups.max()) + 1, len(names)))
    np.add.at(distances, (groups, labels), np.linalg.norm(frames - middles[labels], axis=1))
    np.add.at(counts, (groups, labels), 1)
    apart = np.linalg.norm(middles[:, None] - middles[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return distances, counts, apart


def _overlap(weights: np.ndarray, distances: np.ndarray, counts: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Of each cluster that is there the worst neighbour, on average: (R, G) -> (R,)."""
    there = weights @ counts
    spread = np.where(there > 0, (weights @ distances) / np.maximum(there, 1), np.nan)
    found = []
    for row in spread:
        known = np.flatnonzero(np.isfinite(row))
        if len(known) < 2:  # noqa: PLR2004 - one cluster overlaps nothing
            found.append(np.nan)
            continue
        ratios = (row[known][:, None] + row[known][None]) / apart[np.ix_(known, known)]
        found.append(ratios.max(1).mean())
    return np.array(found)


def similarity_kernel(frames: np.ndarray) -> np.ndarray:
    """exp(-2 |x - y|^2) of frames brought to unit length, without the diagonal: float32 (N, H) -> float64 (N, N)."""
    unit = frames / np.maximum(np.linalg.norm(frames, axis=1, keepdims=True), 1e-12)
    kernel: np.ndarray = np.exp(np.minimum(4 * (unit @ unit.T).astype(np.float64) - 4, 0))
    np.fill_diagonal(kernel, 0)
    return kernel


def uniformity_statistic(kernels: list[np.ndarray], group_of_frame: np.ndarray) -> Statistic:
    """The logarithm of the mean kernel over pairs of frames: the lower, the more evenly they fill the sphere.

    Wang and Isola, 2020, arXiv 2005.10242, eq. 2, with t = 2.
    """

    def statistic(weights: np.ndarray) -> np.ndarray:
        on_frames = weights[:, group_of_frame]
        pairs = on_frames.sum(1) ** 2 - (on_frames**2).sum(1)
        sums = [np.einsum("ri,ij,rj->r", on_frames, kernel, on_frames, optimize=True) for kernel in kernels]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([np.log(one / pairs) for one in sums], axis=1)

    return statistic
