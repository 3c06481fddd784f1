"""BLEU, chrF, TER and ROUGE are the libraries' own numbers, to the last digit."""

import random

import pytest
import sacrebleu
from rouge_score import rouge_scorer

from worker.training.summary_metrics import (
    CharacterTokenizer,
    WordTokenizer,
    sentence_lines,
    summary_scores,
    tokenizer_for,
)
from worker.training.translation_metrics import corpus_scores, tokenizer_of

ENGLISH = [
    "The river rises in the northern hills, and it meets the sea at the old harbour.",
    "Nobody knows why the mill closed in spring; the wheel still turns!",
    "A mason called Ann Reed built the bridge. It took nine years.",
    "Two boats met in fog.",
]
CHINESE = [
    "河流发源于北部山区、在老港口入海。",
    "没有人知道磨坊为什么在春天关闭。轮子还在转。",
    "桥花了九年才建成。",
    "两条船在雾中相遇。",
]


def noisy(texts: list[str], seed: int = 1) -> list[str]:
    """Worse versions of texts: words or characters are dropped, doubled and swapped."""
    generator = random.Random(seed)
    found: list[str] = []
    for text in texts:
        parts = text.split(" ") if " " in text else list(text)
        parts = [part for part in parts if generator.random() > 0.15]
        parts.insert(generator.randrange(len(parts) + 1), generator.choice(parts))
        generator.shuffle(parts[:4])
        found.append((" " if " " in text else "").join(parts))
    return found


@pytest.mark.parametrize(
    ("texts", "tokenizer"), [(ENGLISH, "13a"), (ENGLISH, "intl"), (CHINESE, "zh"), (CHINESE, "char")]
)
def test_scores_of_translations_are_those_of_sacrebleu(texts: list[str], tokenizer: str) -> None:
    predicted = noisy(texts)
    found = corpus_scores(predicted, texts, tokenizer, seed=3)  # pyright: ignore[reportArgumentType]
    by_character = tokenizer in ("zh", "char")
    library = {
        "bleu": sacrebleu.corpus_bleu(predicted, [texts], tokenize=tokenizer, force=True).score,
        "chrf": sacrebleu.corpus_chrf(predicted, [texts]).score,
        "ter": sacrebleu.corpus_ter(predicted, [texts], normalized=by_character, asian_support=by_character).score,
    }
    assert found.values == pytest.approx(library, abs=1e-9)
    assert 0 < found.values["bleu"] < 100
    assert f"tok:{tokenizer}" in found.signatures["bleu"]
    assert found.signatures["bleu"].endswith(f"version:{sacrebleu.__version__}")
    for name, (low, high) in found.intervals.items():
        assert low <= found.values[name] <= high


def test_intervals_are_those_of_drawing_sentences_anew() -> None:
    texts = ENGLISH * 5
    predicted = noisy(texts, seed=5)
    generator = random.Random(2)
    scores: list[float] = []
    for _ in range(400):
        rows = generator.choices(range(len(texts)), k=len(texts))
        drawn = [predicted[row] for row in rows], [[texts[row] for row in rows]]
        scores.append(sacrebleu.corpus_bleu(*drawn, force=True).score)
    low, high = corpus_scores(predicted, texts, "13a", seed=3).intervals["bleu"]
    ordered = sorted(scores)
    assert low == pytest.approx(ordered[10], abs=2.5)
    assert high == pytest.approx(ordered[-11], abs=2.5)


def test_long_texts_are_scored_without_ter() -> None:
    long = [" ".join(ENGLISH * 3)] * 4
    assert set(corpus_scores(long, long, "13a", seed=1).values) == {"bleu", "chrf"}


def test_a_perfect_and_an_empty_translation() -> None:
    perfect = corpus_scores(ENGLISH, ENGLISH, "13a", seed=1).values
    assert perfect == pytest.approx({"bleu": 100.0, "chrf": 100.0, "ter": 0.0})
    assert corpus_scores(["", "", "", ""], ENGLISH, "13a", seed=1).values["bleu"] == 0


@pytest.mark.parametrize(
    ("language", "targets", "tokenizer"),
    [
        ("zh", ENGLISH, "zh"),
        ("zho_Hans", ENGLISH, "zh"),
        ("zh-CN", ENGLISH, "zh"),
        ("ja_XX", ENGLISH, "char"),
        ("de", CHINESE, "13a"),
        (None, CHINESE, "zh"),
        (None, ["これは本です。", "水を飲む。"], "char"),
        (None, ["สวัสดี", "ขอบคุณ"], "char"),
        (None, [*ENGLISH, *CHINESE[:3]], "13a"),
        (None, ENGLISH, "13a"),
    ],
)
def test_the_tokenizer_is_told_from_the_language_or_from_the_targets(
    language: str | None, targets: list[str], tokenizer: str
) -> None:
    assert tokenizer_of(language, targets) == tokenizer


NAMES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


@pytest.mark.parametrize(
    ("texts", "tokenizer", "library"),
    [
        (ENGLISH, "english", rouge_scorer.RougeScorer(NAMES, use_stemmer=True)),
        (ENGLISH, "words", rouge_scorer.RougeScorer(NAMES, tokenizer=WordTokenizer())),
        (CHINESE, "characters", rouge_scorer.RougeScorer(NAMES, tokenizer=CharacterTokenizer())),
        (CHINESE, "words", rouge_scorer.RougeScorer(NAMES, tokenizer=WordTokenizer())),
    ],
)
def test_scores_of_summaries_are_those_of_rouge_score(texts: list[str], tokenizer: str, library: object) -> None:
    predicted = noisy(texts)
    references = [[text, other] for text, other in zip(texts, noisy(texts, 7), strict=True)]
    found = summary_scores(predicted, references, tokenizer, seed=3)  # pyright: ignore[reportArgumentType]
    for name in NAMES:
        total = 0.0
        for text, good in zip(predicted, references, strict=True):
            scores = [library.score(sentence_lines(one), sentence_lines(text))[name].fmeasure for one in good]  # pyright: ignore
            total += max(scores)
        assert found.values[name] == pytest.approx(total / len(texts), abs=1e-9)
        low, high = found.intervals[name]
        assert 0 < low <= found.values[name] <= high <= 1


def test_english_words_by_hand() -> None:
    scores = summary_scores(["the cats sat"], [["the cat is here", "the cat sat down"]], "english", seed=1).values
    assert scores["rouge1"] == pytest.approx(2 * 3 / (3 + 4))  # the, cat(s), sat
    assert scores["rouge2"] == pytest.approx(2 * 2 / (2 + 3))


def test_tokens_of_other_alphabets() -> None:
    assert CharacterTokenizer().tokenize("GPT-4 在2023年发布") == ["gpt", "4", "在", "2023", "年", "发", "布"]
    assert WordTokenizer().tokenize("我不想在这些条件下工作。") == ["我", "不想", "在", "这些", "条件", "下", "工作"]
    assert WordTokenizer().tokenize("Größe zählt, naïve Leute!") == ["größe", "zählt", "naïve", "leute"]
    assert (
        sentence_lines("One is here. Two is there. 三在这里。四在那里。")
        == "One is here.\nTwo is there.\n三在这里。\n四在那里。"
    )


@pytest.mark.parametrize(
    ("summaries", "tokenizer"),
    [(ENGLISH, "english"), (CHINESE, "characters"), (["Größe zählt.", "Äpfel fallen."], "words"), (["123"], "english")],
)
def test_the_rouge_tokenizer_is_told_from_the_summaries(summaries: list[str], tokenizer: str) -> None:
    assert tokenizer_for(summaries) == tokenizer
