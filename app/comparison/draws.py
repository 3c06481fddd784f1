"""Draws of rows. Rows with equal statistics are alike, so that they are drawn by their number."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CELLS_AT_ONCE = 2_000_000  # float64 cells of one chunk: 16 MB


def alike(rows: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """The different rows, how many there are of each, and which of them each row is."""
    different, place, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return different, counts, place.reshape(-1)


def chunks(resamples: int, width: int) -> Iterator[int]:
    """Sizes of chunks of resamples that fit into memory."""
    size = max(1, min(resamples, CELLS_AT_ONCE // max(1, width)))
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def bootstrap_weights(generator: np.random.Generator, counts: NDArray[np.int64], size: int) -> Floats:
    """How often each kind of row is among as many rows as there are, drawn with replacement: [size, kinds]."""
    total = int(counts.sum())
    if len(counts) * 4 < total:
        return generator.multinomial(total, counts / total, size=size).astype(np.float64)
    kind_of_row = np.repeat(np.arange(len(counts)), counts)
    drawn = kind_of_row[generator.integers(0, total, (size, total))]
    drawn += (np.arange(size) * len(counts))[:, None]
    return np.bincount(drawn.ravel(), minlength=size * len(counts)).reshape(size, -1).astype(np.float64)


def swaps(generator: np.random.Generator, counts: NDArray[np.int64], size: int) -> Floats:
    """Of each kind of row, how many are swapped between two systems, each by the toss of a coin: [size, kinds]."""
    if counts.max(initial=1) == 1:
        return generator.integers(0, 2, (size, len(counts)), dtype=np.uint8).astype(np.float64)
    return generator.binomial(counts, 0.5, size=(size, len(counts))).astype(np.float64)
