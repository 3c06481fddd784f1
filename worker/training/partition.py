"""Training, validation and test records out of one file: by shares, whole groups, and with every label's share."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

TRAIN = "train"


@dataclass(frozen=True)
class _Unit:
    """Records that stay together, by their numbers, and the labels among them."""

    records: list[int]
    labels: frozenset[str]

    def order(self, seed: int) -> tuple[int, bytes]:
        """Large units first, as small ones fill what is left; equal ones in an order that only the seed decides."""
        digest = blake2b(f"{seed}:{self.records[0]}".encode(), digest_size=8).digest()
        return -len(self.records), digest


def partition(
    groups: Sequence[str], labels: Sequence[Collection[str]], shares: Mapping[str, float], seed: int
) -> list[str]:
    """The part of every record: `train`, or one of `shares`.

    Records of one of `groups` are in one part. Units are gone through by their rarest label, and each goes to the part
    that lacks most; what a label leaves over is made up for by the next. The first records of any label go to `train`.
    The order comes from BLAKE2b of the seed and the record's number, so that no library's generator changes a split.
    """
    frequency = Counter(label for record in labels for label in set(record))
    by_label: dict[str | None, list[_Unit]] = {}
    for unit in _units(groups, labels):
        rarest = min(unit.labels, key=lambda label: (frequency[label], label), default=None)
        by_label.setdefault(rarest, []).append(unit)
    shares = {**shares, TRAIN: 1 - sum(shares.values())}
    lacking = dict.fromkeys(shares, 0.0)
    trained: set[str] = set()
    parts = [TRAIN] * len(groups)
    for label in sorted(by_label, key=lambda label: (frequency[label] if label else len(groups), label or "")):
        units = sorted(by_label[label], key=lambda unit: unit.order(seed))
        rows = sum(len(unit.records) for unit in units)
        for part, share in shares.items():
            lacking[part] += share * rows
        for unit in units:
            part = max(lacking, key=lacking.__getitem__) if unit.labels <= trained else TRAIN
            lacking[part] -= len(unit.records)
            if part == TRAIN:
                trained |= unit.labels
            for record in unit.records:
                parts[record] = part
    return parts


def _units(groups: Sequence[str], labels: Sequence[Collection[str]]) -> list[_Unit]:
    records: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        records.setdefault(group, []).append(number)
    return [
        _Unit(numbers, frozenset(label for number in numbers for label in labels[number]))
        for numbers in records.values()
    ]
