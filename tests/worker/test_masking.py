from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from worker.training.data import Ragged
from worker.training.masking import Masking, choose, predicted_tokens, renumbered, token_units, word_units

MASK, VOCABULARY, LENGTH = 1, 1000, 400
SPECIAL = np.zeros(VOCABULARY, dtype=np.bool_)
SPECIAL[:3] = True


def masking(ids: NDArray[np.int32], seed: int = 7, share: float = 0.15) -> Masking:
    units = Ragged.of([token_units(row, SPECIAL) for row in ids], np.int32, -1)
    return Masking(units, predicted_tokens(units, share), MASK, VOCABULARY, seed)


def windows(count: int = 40) -> NDArray[np.int32]:
    ids = np.random.default_rng(1).integers(3, VOCABULARY, (count, LENGTH)).astype(np.int32)
    ids[:, 0] = ids[:, -1] = 2
    return ids


def drawn(of: Masking, ids: NDArray[Any], rows: list[int], epoch: int | None) -> tuple[NDArray[Any], dict[str, Any]]:
    inputs = {"input_ids": ids[rows].astype(np.int64)}
    return inputs["input_ids"], of(inputs, np.array(rows), epoch)


def test_of_15_percent_80_are_masked_10_replaced_and_10_left() -> None:
    ids = windows()
    changed, targets = drawn(masking(ids), ids, list(range(40)), 0)
    place = targets["place"]
    assert len(place) == 40 * round(0.15 * (LENGTH - 2)) == len(np.unique(place))
    assert np.array_equal(targets["token"], ids.reshape(-1)[place])
    found = changed.reshape(-1)[place]
    assert abs((found == MASK).mean() - 0.8) < 0.03
    assert abs((found == targets["token"]).mean() - 0.1) < 0.03
    untouched = np.setdiff1d(np.arange(ids.size), place)
    assert np.array_equal(changed.reshape(-1)[untouched], ids.reshape(-1)[untouched])
    assert (targets["share"] == 1).all()


def test_special_tokens_are_never_predicted_and_a_short_text_has_one_token_to_predict() -> None:
    ids = np.array([[2, 50, 2], [2, 2, 60]], dtype=np.int32)
    _, targets = drawn(masking(ids), ids, [0, 1], 0)
    assert targets["place"].tolist() == [1, 5]
    assert targets["token"].tolist() == [50, 60]


def test_a_windows_mask_depends_on_seed_epoch_and_window_and_on_nothing_else() -> None:
    ids = windows()

    def places(of: Masking, rows: list[int], row: int, epoch: int | None) -> list[int]:
        _, targets = drawn(of, ids, rows, epoch)
        own = targets["place"][targets["place"] // LENGTH == rows.index(row)]
        return (own % LENGTH).tolist()

    alone = places(masking(ids), [5], 5, 3)
    assert places(masking(ids), [9, 1, 5], 5, 3) == alone
    assert places(masking(ids), [5], 5, 4) != alone
    assert places(masking(ids, seed=8), [5], 5, 3) != alone
    assert places(masking(ids), [6], 6, 3) != alone


def test_evaluation_has_the_same_masks_whatever_the_seed() -> None:
    ids = windows(8)
    rows = list(range(8))
    first, targets = drawn(masking(ids, seed=1), ids, rows, None)
    again, others = drawn(masking(ids, seed=2), ids, rows, None)
    assert np.array_equal(first, again)
    assert np.array_equal(targets["place"], others["place"])


def test_whole_units_are_chosen_and_come_as_near_to_the_count_as_they_can_on_average() -> None:
    sizes = np.random.default_rng(2).integers(1, 6, 80)
    units = np.repeat(np.arange(80), sizes)
    counts: list[int] = []
    for number in range(400):
        chosen = choose(units, 36, np.random.default_rng(number))
        assert set(np.flatnonzero(np.isin(units, units[chosen]))) == set(chosen)
        counts.append(len(chosen))
    assert abs(np.mean(counts) - 36) < 0.5
    assert len(choose(np.array([0, 0, 0, 0]), 1, np.random.default_rng(0))) == 4


def test_the_tokens_of_a_word_are_one_unit_and_characters_without_spaces_stand_alone() -> None:
    text = "tea 中文 かな teas 한국"
    characters = {character: number for number, character in enumerate(sorted(set(text) - {" "}), 3)}
    tokenizer = Tokenizer(models.WordPiece({**characters, **{f"##{c}": n + 100 for c, n in characters.items()}}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    units = word_units(text, tokenizer.encode(text), SPECIAL)
    assert units.tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 6]


def test_bytes_of_a_character_are_one_unit() -> None:
    tokenizer = Tokenizer(models.BPE({c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), 3)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert word_units("ab 中文", tokenizer.encode("ab 中文"), SPECIAL).tolist() == [0, 0, 1, 2, 2, 2, 3, 3, 3]


def test_units_of_a_block_are_numbered_anew() -> None:
    assert renumbered([7, 7, -1, 9, 12, 12]).tolist() == [0, 0, -1, 1, 2, 2]
    assert renumbered([-1, -1]).tolist() == [-1, -1]
