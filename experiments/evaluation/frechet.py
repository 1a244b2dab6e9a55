"""The Frechet distance between two sets of features, as if each were a Gaussian (Heusel et al., 2017; of videos:
Unterthiner et al., 2018)."""

from __future__ import annotations

import numpy as np


def frechet_distance(real_vd: np.ndarray, made_vd: np.ndarray) -> float:
    """Squared distance of the means plus that of the covariances; features [V, D] of any number of videos each.

    Covariances are divided by V, as in the published evaluation. Of few videos the distance is biased upwards: compare
    figures of equal numbers only.
    """
    (mean_real, real), (mean_made, made) = (_moments(features) for features in (real_vd, made_vd))
    # The trace of the root of real @ made, by symmetric matrices alone: those may be singular.
    values, vectors = np.linalg.eigh(real)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    both = np.linalg.eigvalsh(root @ made @ root)
    cross = np.sqrt(np.clip(both, 0, None)).sum()
    return float(np.square(mean_real - mean_made).sum() + np.trace(real) + np.trace(made) - 2 * cross)


def _moments(features_vd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features = np.asarray(features_vd, np.float64)
    return features.mean(0), np.cov(features, rowvar=False, bias=True)
