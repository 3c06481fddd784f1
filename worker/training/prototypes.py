"""A linear classifier made of class means: what prototypical networks (Snell, Swersky & Zemel 2017) classify by."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

SCALES = 12.0  # how far the logarithm of the scale may be from that of the start of its search
TINY = 1e-12
Floats = NDArray[np.float64]


@dataclass
class ClassMeans:
    """Weighted sums of the features of each class, [classes, width], and their weights [classes]."""

    sums: Floats
    weights: Floats

    @classmethod
    def none(cls, classes: int, width: int) -> "ClassMeans":
        """Before any features are seen."""
        return cls(np.zeros((classes, width)), np.zeros(classes))

    def add(self, features: Floats, labels: NDArray[np.int64], weights: Floats) -> None:
        """Take in rows [rows, width] of these classes."""
        np.add.at(self.sums, labels, features * weights[:, None])
        np.add.at(self.weights, labels, weights)

    @property
    def means(self) -> Floats:
        """Of each class; one that no row was of has the mean of the others."""
        seen = self.weights > 0
        means = np.zeros_like(self.sums)
        means[seen] = self.sums[seen] / self.weights[seen, None]
        means[~seen] = means[seen].mean(axis=0)
        return means

    @property
    def log_shares(self) -> Floats:
        """Logarithm of each class's share; one that no row was of counts as half of the rarest."""
        weights = np.where(self.weights > 0, self.weights, self.weights[self.weights > 0].min() / 2)
        return np.log(weights / weights.sum())


@dataclass(frozen=True)
class LinearHead:
    """`weight` [classes, width]; `bias` [classes], or None."""

    weight: Floats
    bias: Floats | None


def head_of(found: ClassMeans, scale: float, *, bias: bool) -> LinearHead:
    """The head whose logits are -scale |x - mean|^2 + log share, up to what is the same for all classes.

    Expanded as in the paper's equation 8 this is linear in x. Without a bias |mean|^2 has no place: then rows are means
    of length one, as in weight imprinting (Qi, Brown & Lowe 2018), so that logits are scale x |x| x the cosine.
    """
    means = found.means
    if not bias:
        rows = _of_length_one(means)
        return LinearHead(scale * (rows - rows.mean(axis=0)), None)
    centre = means.mean(axis=0)  # equal for all classes, so nothing changes but the size of the weights
    lengths = np.square(means).sum(axis=1) - np.square(centre).sum()
    return LinearHead(2 * scale * (means - centre), found.log_shares - scale * lengths)


@dataclass(frozen=True)
class Scale:
    """The likeliest scale, and the share of rows that are classified right by the means of the other rows."""

    value: float
    accuracy: float | None


def likeliest_scale(
    found: ClassMeans, features: Floats, labels: NDArray[np.int64], weights: Floats, *, bias: bool
) -> Scale:
    """The scale with the highest likelihood of some rows, each judged by means that it is not part of.

    As one in so many rows and one more may have another class, the scale is finite even where all are told right: a
    head that is certain would hardly learn any more. Of a class's only row nothing can be said. Where all are such,
    logits differ by about 1 between near and far.
    """
    similar = _similarities(found, features, labels, weights, bias=bias)
    others = _has_others(found, labels, weights)
    spread = float(np.mean(similar.max(axis=1) - similar.mean(axis=1)))
    start = 1 / max(spread, TINY)
    if not others.any():
        return Scale(start, None)
    similar, truth = similar[others], labels[others]
    shares = found.log_shares if bias else np.zeros(len(found.weights))
    doubt = 1 / (len(truth) + 1)

    def loss(exponent: float) -> float:
        logits = start * np.exp(exponent) * similar + shares
        likelihoods = log_softmax(logits, axis=1)
        own = likelihoods[np.arange(len(truth)), truth]
        return -float(np.mean((1 - doubt) * own + doubt * likelihoods.mean(axis=1)))

    best: Any = minimize_scalar(loss, bounds=(-SCALES, SCALES), method="bounded")
    scale = start * float(np.exp(best.x))
    return Scale(scale, float(np.mean((scale * similar + shares).argmax(axis=1) == truth)))


def _similarities(
    found: ClassMeans, features: Floats, labels: NDArray[np.int64], weights: Floats, *, bias: bool
) -> Floats:
    """What the scale is multiplied with, [rows, classes]; a row's own class has its mean without the row."""
    means, rows = found.means, np.arange(len(labels))
    others = _has_others(found, labels, weights)
    own = means[labels]
    left = found.weights[labels][others] - weights[others]
    own[others] = (found.sums[labels][others] - weights[others, None] * features[others]) / left[:, None]
    if not bias:
        similar = features @ _of_length_one(means).T
        similar[rows, labels] = (features * _of_length_one(own)).sum(axis=1)
        return similar
    distances = np.square(features).sum(axis=1)[:, None] - 2 * features @ means.T + np.square(means).sum(axis=1)
    distances[rows, labels] = np.square(features - own).sum(axis=1)
    return -distances


def _has_others(found: ClassMeans, labels: NDArray[np.int64], weights: Floats) -> NDArray[np.bool_]:
    """Whether the class of each row has further rows."""
    return found.weights[labels] - weights > TINY * found.weights[labels]


def _of_length_one(rows: Floats) -> Floats:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)
