from collections import Counter

import pytest

from worker.training.partition import partition

SHARES = {"validation": 0.1, "test": 0.2}


def counts(parts: list[str]) -> dict[str, int]:
    return dict(Counter(parts))


def each_alone(rows: int) -> list[str]:
    return [str(row) for row in range(rows)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1000, {"train": 700, "validation": 100, "test": 200}),
        (10, {"train": 7, "validation": 1, "test": 2}),
        (7, {"train": 5, "validation": 1, "test": 1}),
    ],
)
def test_parts_have_their_shares(rows: int, expected: dict[str, int]) -> None:
    assert counts(partition(each_alone(rows), [[]] * rows, SHARES, 1)) == expected


def test_every_label_has_its_share_in_every_part() -> None:
    labels = [["rare"]] * 10 + [["common"]] * 990
    parts = partition(each_alone(1000), labels, SHARES, 1)
    of_label = {
        label: counts([part for part, (of,) in zip(parts, labels, strict=True) if of == label])
        for label in ("rare", "common")
    }
    assert of_label["rare"] == {"train": 7, "validation": 1, "test": 2}
    assert of_label["common"] == {"train": 693, "validation": 99, "test": 198}


def test_many_labels_of_few_rows_still_fill_every_part_and_each_stands_in_training() -> None:
    labels = [[f"label {number // 4}"] for number in range(1000)]
    parts = partition(each_alone(1000), labels, SHARES, 1)
    assert counts(parts) == {"train": 700, "validation": 100, "test": 200}
    assert {label for part, (label,) in zip(parts, labels, strict=True) if part == "train"} == {
        label for (label,) in labels
    }


def test_records_with_several_labels_count_for_the_rarest_and_training_knows_all() -> None:
    labels = [["a", "b"] if number % 5 else ["b", "c", "a"] if number % 2 else [] for number in range(200)]
    parts = partition(each_alone(200), labels, SHARES, 1)
    assert counts(parts) == {"train": 140, "validation": 20, "test": 40}
    held = [record for part, record in zip(parts, labels, strict=True) if part == "test"]
    assert [sum("c" in record for record in held), sum(not record for record in held)] == [4, 4]


def test_records_of_a_group_are_never_parted() -> None:
    groups = [f"group {number % 37}" for number in range(500)]
    parts = partition(groups, [[str(number % 3)] for number in range(500)], SHARES, 1)
    assert all(len({part for part, g in zip(parts, groups, strict=True) if g == group}) == 1 for group in set(groups))
    found = counts(parts)
    assert found["validation"] == pytest.approx(50, abs=14)
    assert found["test"] == pytest.approx(100, abs=14)


def test_the_seed_decides_and_nothing_else() -> None:
    labels = [[str(number % 3)] for number in range(300)]
    first = partition(each_alone(300), labels, SHARES, 1)
    assert first == partition(each_alone(300), labels, SHARES, 1)
    assert first != partition(each_alone(300), labels, SHARES, 2)
    # Written down, so that a split that was made with an older Tailor is noticed when it is no longer made so.
    assert [
        number for number, part in enumerate(partition(each_alone(20), [[]] * 20, SHARES, 13)) if part == "test"
    ] == FROZEN


FROZEN = [3, 4, 10, 18]
