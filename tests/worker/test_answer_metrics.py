"""EM, F1 and the null threshold, beside references written down from the definitions."""

import re
import string
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.training.answers import answer_values, best_threshold, bootstrap_intervals, compare, prevailing

WORDS = ["The", "a", "an", "cat", "Cat's", "sat", "on", "mat.", "U.S.", "%", "42", "é", "naïve"]


# SQuAD's published evaluation, step by step as its papers and scripts define it.
def normalise(text: str) -> str:
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def reference_f1(gold: str, guess: str, *, version: int) -> float:
    gold_words, guess_words = normalise(gold).split(), normalise(guess).split()
    if version == 2 and (not gold_words or not guess_words):
        return float(gold_words == guess_words)
    same = sum((Counter(gold_words) & Counter(guess_words)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(guess_words), same / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def reference(guesses: list[str], golds: list[list[str]], *, version: int) -> tuple[float, float]:
    exact, f1 = [], []
    for guess, gold in zip(guesses, golds, strict=True):
        if version == 2:
            gold = [text for text in gold if normalise(text)] or [""]
        exact.append(max(float(normalise(text) == normalise(guess)) for text in gold))
        f1.append(max(reference_f1(text, guess, version=version) for text in gold))
    return sum(exact) / len(exact), sum(f1) / len(f1)


def random_answers(count: int, *, some_empty: bool) -> tuple[list[str], list[list[str]]]:
    generator = np.random.default_rng(4)

    def text() -> str:
        return " ".join(generator.choice(WORDS, generator.integers(1, 5)))

    golds = [[text() for _ in range(generator.integers(0 if some_empty else 1, 4))] for _ in range(count)]
    guesses = [text() if generator.random() < 0.7 else (gold or [""])[0] for gold in golds]
    return ["" if generator.random() < 0.1 else guess for guess in guesses], golds


@pytest.mark.parametrize("version", [1, 2])
def test_exact_match_and_f1_are_squads(version: int) -> None:
    guesses, golds = random_answers(2000, some_empty=version == 2)
    values = answer_values(compare(guesses, golds, "squad"))
    exact, f1 = reference(guesses, golds, version=version)
    assert values["exact_match"] == pytest.approx(exact, abs=1e-9)
    assert values["f1"] == pytest.approx(f1, abs=1e-9)
    assert 0 < exact < f1 < 1
    if version == 2:
        has_answer = [any(map(normalise, gold)) for gold in golds]
        for name, wanted in (("has_answer", True), ("no_answer", False)):
            those = [index for index, has in enumerate(has_answer) if has is wanted]
            part = reference([guesses[i] for i in those], [golds[i] for i in those], version=2)
            assert (values[f"{name}_exact_match"], values[f"{name}_f1"]) == pytest.approx(part, abs=1e-9)
    else:
        assert set(values) == {"exact_match", "f1"}


@pytest.mark.parametrize(
    ("guess", "gold", "exact", "f1"),
    [
        ("北京市。", "北京市", 1.0, 1.0),
        ("在北京市", "北京市", 0.0, 2 * (3 / 4) * 1 / (3 / 4 + 1)),
        ("北x京", "北京", 0.0, 2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2)),  # the longest run in common is one character
        ("《红楼梦》", "红楼梦", 1.0, 1.0),
        ("GPT-2模型", "gpt2 模型", 0.0, 1.0),
        ("上海", "北京", 0.0, 0.0),
        ("", "北京", 0.0, 0.0),
    ],
)
def test_chinese_answers_are_compared_character_by_character_as_cmrc_does(
    guess: str, gold: str, exact: float, f1: float
) -> None:
    values = answer_values(compare([guess], [[gold, "无关"]], "cmrc"))
    assert values == pytest.approx({"exact_match": exact, "f1": f1}, abs=1e-9)


def test_the_longest_common_run_is_that_of_brute_force() -> None:
    generator = np.random.default_rng(2)
    for _ in range(200):
        guess, gold = ("".join(generator.choice(list("甲乙丙"), generator.integers(1, 9))) for _ in range(2))
        runs = [guess[i:j] for i in range(len(guess)) for j in range(i + 1, len(guess) + 1) if guess[i:j] in gold]
        common = max(map(len, runs), default=0)
        expected = 2 * common / (len(guess) + len(gold))
        assert compare([guess], [[gold]], "cmrc").f1[0] == pytest.approx(expected, abs=1e-9)


def test_the_language_is_told_from_the_answers() -> None:
    assert prevailing([["北京"], ["上海"], ["Paris"]]) == "cmrc"
    assert prevailing([["Paris"], [], ["北京"]]) == "squad"


def mean_f1(
    threshold: float, differences: NDArray[np.float64], f1: NDArray[np.float64], has_answer: NDArray[np.bool_]
) -> float:
    return float(np.where(differences <= threshold, f1, ~has_answer).mean())


def test_no_threshold_gives_a_better_f1_than_the_tuned_one() -> None:
    generator = np.random.default_rng(5)
    for _ in range(100):
        has_answer = generator.random(30) < generator.random()
        f1 = np.where(has_answer, generator.choice([0.0, 0.4, 1.0], 30), 0.0)
        differences = np.round(generator.normal(0, 2, 30) - has_answer, 1)  # ties among them
        differences[generator.random(30) < 0.1] = np.inf

        tuned = best_threshold(differences, f1, has_answer)
        assert np.isfinite(tuned)
        finite = differences[np.isfinite(differences)]
        candidates = [*finite, finite.min() - 1, finite.max() + 1]
        best = max(mean_f1(candidate, differences, f1, has_answer) for candidate in candidates)
        assert mean_f1(tuned, differences, f1, has_answer) == pytest.approx(best, abs=1e-12)


def test_intervals_are_those_of_resampled_questions() -> None:
    guesses, golds = random_answers(300, some_empty=True)
    found = compare(guesses, golds, "squad")
    intervals = bootstrap_intervals(found, 1)
    assert intervals == bootstrap_intervals(found, 1)
    for name, scores in (("exact_match", found.exact), ("f1", found.f1)):
        error = 1.96 * scores.std() / np.sqrt(len(scores))
        assert intervals[name] == pytest.approx([scores.mean() - error, scores.mean() + error], abs=0.01)
