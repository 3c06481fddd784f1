"""Perplexity and accuracy over tokens, put together from sums over windows."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from worker.training.data import Batch

RESAMPLES = 1000
CELLS_PER_CHUNK = 4_000_000  # int64 counts of resampled windows held at once: 32 MB


class WindowTokens(NamedTuple):
    """Of the tokens that are predicted in a window: the sum of their losses, how many are right, how many there are."""

    loss: float
    right: int
    tokens: int


def window_sums(batch: Batch, losses: torch.Tensor, right: torch.Tensor) -> list[WindowTokens]:
    """Sums over each window's tokens, [places] both, in double precision."""
    windows, width = batch.inputs["input_ids"].shape
    of = (batch.targets["place"] // width).cpu().numpy()
    summed = np.bincount(of, losses.double().cpu().numpy(), windows).tolist()
    hits = np.bincount(of, right.cpu().numpy(), windows).astype(int).tolist()
    counts = np.bincount(of, minlength=windows).tolist()
    return [WindowTokens(*sums) for sums in zip(summed, hits, counts, strict=True)]


def language_values(windows: Sequence[WindowTokens]) -> dict[str, float]:
    """`loss` is the mean over tokens of their negative log-likelihood in nats, `perplexity` its exponential.

    Nothing where there is no token, as in a slice of empty texts.
    """
    loss, right, tokens = np.array(windows, dtype=np.float64).reshape(-1, 3).sum(axis=0).tolist()
    if not tokens:
        return {}
    return {
        "perplexity": _perplexity(loss / tokens),
        "token_accuracy": right / tokens,
        "loss": loss / tokens,
    }


def language_detail(windows: Sequence[WindowTokens], seed: int) -> dict[str, Any]:
    """Number of `tokens` that were predicted, and 95 % percentile bootstrap `intervals` (Efron 1979).

    What is drawn with replacement are windows, since tokens of one text are not independent of each other.
    """
    sums = np.array(windows, dtype=np.float64).reshape(-1, 3)
    if not len(sums):
        return {"tokens": 0}
    generator = np.random.default_rng(seed)
    count = len(sums)
    chunk = max(1, CELLS_PER_CHUNK // count)
    drawn: list[NDArray[np.float64]] = []
    for start in range(0, RESAMPLES, chunk):
        draws = generator.multinomial(count, np.full(count, 1 / count), size=min(chunk, RESAMPLES - start))
        drawn.append(draws @ sums)
    loss, right, tokens = np.concatenate(drawn).T
    samples = {"loss": loss / tokens, "token_accuracy": right / tokens}
    intervals = {name: np.percentile(values, [2.5, 97.5]).tolist() for name, values in samples.items()}
    # The exponential keeps the order, so its percentiles are those of the loss.
    intervals["perplexity"] = [_perplexity(bound) for bound in intervals["loss"]]
    return {"tokens": int(sums[:, 2].sum()), "intervals": intervals, "resamples": RESAMPLES}


def _perplexity(loss: float) -> float:
    """Infinite where the weights have diverged, which evaluation then says."""
    return math.exp(loss) if loss < 700 else math.inf
