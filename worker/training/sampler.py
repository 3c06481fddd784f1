"""Which examples make up which optimizer step: a pure function of (seed, epoch), so its position is one number."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BATCHES_PER_BUCKET = 50  # examples are sorted by length inside this many batches: random enough, and hardly any padding


class Sampler(Protocol):
    """Which examples make up which step."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        ...

    def epoch(self, epoch: int) -> list[list[NDArray[np.int64]]]:
        """The epoch's steps, each a list of batches of example numbers. A function of `epoch`."""
        ...


@dataclass(frozen=True)
class LengthBuckets:
    """Every example once an epoch, batches of similar length in random order.

    A step's examples are drawn as one group and then cut into `accumulation` batches, so that half the batch size with
    twice the accumulation sees the same groups.
    """

    lengths: NDArray[np.int64]
    batch_size: int
    accumulation: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last may be smaller."""
        return -(-len(self.lengths) // (self.batch_size * self.accumulation))

    def epoch(self, epoch: int) -> list[list[NDArray[np.int64]]]:
        """The epoch's steps, each a list of batches of example numbers."""
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(len(self.lengths))
        group = self.batch_size * self.accumulation
        groups: list[NDArray[np.int64]] = []
        for start in range(0, len(order), group * BATCHES_PER_BUCKET):
            bucket = order[start : start + group * BATCHES_PER_BUCKET]
            bucket = bucket[np.argsort(self.lengths[bucket], kind="stable")]
            groups += [bucket[at : at + group] for at in range(0, len(bucket), group)]
        steps = [groups[index] for index in generator.permutation(len(groups))]
        return [[step[at : at + self.batch_size] for at in range(0, len(step), self.batch_size)] for step in steps]


def evaluation_batches(lengths: NDArray[np.int64], tokens_per_batch: int) -> list[NDArray[np.int64]]:
    """All examples, longest first, in batches of at most `tokens_per_batch` padded tokens."""
    order = np.argsort(-lengths, kind="stable")
    batches: list[NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        size = max(1, tokens_per_batch // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches
