"""What the domain report says of texts, where the right answer is known: words, tokens, vocabularies."""

import math
import time

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.contract.tiny import write_tiny_decoder, write_tiny_encoder
from worker.domain_report.corpora import SOURCE, TARGET, Corpora, Corpus
from worker.domain_report.tokenizer_use import measure
from worker.domain_report.vocabulary import divergence, log_odds, shift
from worker.domain_report.words import spaced, vocabulary_words


def tokenizer(*pieces: str) -> PreTrainedTokenizerFast:
    """WordPiece with these pieces."""
    vocabulary = {piece: number for number, piece in enumerate(["[UNK]", "[PAD]", *pieces])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")


def corpora(source: list[str], target: list[str]) -> Corpora:
    return Corpora(Corpus(SOURCE, source), Corpus(TARGET, target, target=True), [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The film's END-credits, 3.5 of 5!", ["the", "film's", "end", "credits", "3", "5", "of", "5"]),
        ("'quoted' \u2019tis", ["quoted", "tis"]),
        ("\uff21\uff22\uff23 é e\u0301", ["abc", "é", "é"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs belong to their words
        ("模型微调 is fine", ["模型", "微调", "is", "fine"]),
        ("\x00 <b> 😀", ["b"]),
        ("", []),
    ],
)
def test_words_are_those_of_a_reader_in_any_script(text: str, words: list[str]) -> None:
    assert list(vocabulary_words(text)) == words


def test_signs_are_split_off_as_data_sets_of_words_have_them() -> None:
    assert spaced("Ada Lovelace, born in 1815 (London).") == "Ada Lovelace , born in 1815 ( London ) ."


def test_words_are_found_in_linear_time() -> None:
    started = time.process_time()
    for text in ("a" * 200_000, "'" * 200_000, "a'" * 100_000, "\u0941" * 200_000, "a\u0941'" * 60_000, "字" * 20_000):
        list(vocabulary_words(text))
        spaced(text)
    assert time.process_time() - started < 5  # a pattern that goes back would take hours


def test_tokens_a_word_unknown_words_and_long_texts_are_counted() -> None:
    known = tokenizer("the", "film", "re", "##view", "##s", "a", "##b", ".")
    texts = ["The film reviews.", "the abbb qqq", "a"]
    found = measure(Corpus(TARGET, texts, target=True), known, 5, seed=1)
    assert found is not None
    # the film re ##view ##s . | the a ##b ##b ##b [UNK] | a
    assert (found.texts, found.measured, found.units, found.tokens) == (3, 3, 8, 13)
    assert found.fertility == 13 / 8
    assert found.unknown_share == 1 / 13
    assert found.split_share == 1 / 7  # only `abbb` has four pieces; the full stop is no word
    assert found.beyond_window_share == 2 / 3
    assert (found.unit, found.target) == ("word", True)


def test_special_tokens_take_room_in_the_window_but_are_no_tokens_of_words(
    tiny_encoder: PreTrainedTokenizerBase,
) -> None:
    texts = ["film " * length for length in (3, 4, 5)]
    found = measure(Corpus(SOURCE, texts), tiny_encoder, 6, seed=1)
    assert found is not None
    assert (found.tokens, found.fertility) == (12, 1.0)
    assert found.beyond_window_share == 1 / 3  # [CLS] and [SEP] and five


def test_characters_count_where_no_spaces_are_and_bytes_are_no_unknown_tokens(
    tiny_decoder: PreTrainedTokenizerBase,
) -> None:
    found = measure(Corpus(SOURCE, ["你好世界", "模型"]), tiny_decoder, 48, seed=1)
    assert found is not None
    assert (found.unit, found.units, found.tokens) == ("character", 6, 18)  # three bytes each
    assert (found.fertility, found.split_share, found.unknown_share) == (3.0, None, None)
    mixed = measure(Corpus(SOURCE, ["the film 好"]), tiny_decoder, 48, seed=1)
    assert mixed is not None
    assert mixed.unit == "word or character"


def test_a_piece_with_the_space_before_it_belongs_to_the_word_behind_the_space(
    tiny_decoder: PreTrainedTokenizerBase,
) -> None:
    found = measure(Corpus(SOURCE, ["qzxv a", "a qzxv"]), tiny_decoder, 48, seed=1)
    assert found is not None
    assert found.split_share == 2 / 4


def test_a_tokenizer_without_offsets_gives_the_same_numbers(tiny_encoder: PreTrainedTokenizerBase) -> None:
    class Slow:
        """The same tokenizer, as one in Python looks from outside."""

        is_fast = False
        unk_token_id = tiny_encoder.unk_token_id
        num_special_tokens_to_add = tiny_encoder.num_special_tokens_to_add
        __call__ = staticmethod(tiny_encoder.__call__)

    texts = ["Perfect from the first minute.", "qqqq zzzzz a film", "日本", ""]
    slow, fast = (measure(Corpus(SOURCE, texts), kind, 48, seed=1) for kind in (Slow(), tiny_encoder))  # type: ignore[arg-type]
    assert slow == fast
    assert fast is not None
    assert fast.split_share == 2 / 9


def test_a_corpus_without_texts_has_no_tokens_to_speak_of() -> None:
    assert measure(Corpus(SOURCE, []), tokenizer("a"), 8, seed=1) is None
    empty = measure(Corpus(SOURCE, ["", " "]), tokenizer("a"), 8, seed=1)
    assert empty is not None
    assert (empty.fertility, empty.unknown_share, empty.split_share) == (None, 0.0, None)


def test_large_corpora_are_sampled_by_texts_and_by_characters() -> None:
    corpus = Corpus(SOURCE, [f"{number:04d}" for number in range(1000)])
    assert len(set(corpus.sample(50, 10**6, seed=1))) == 50
    assert corpus.sample(50, 10**6, seed=1) == corpus.sample(50, 10**6, seed=1) != corpus.sample(50, 10**6, seed=2)
    assert sum(map(len, corpus.sample(1000, 101, seed=1))) == 101
    assert sorted(corpus.sample(5000, 10**6, seed=1)) == corpus.texts


def test_the_same_texts_have_no_shift_and_texts_without_a_common_word_the_greatest() -> None:
    texts = ["the film was good", "the film was long and the end was loud"] * 10
    same = shift(corpora(texts, texts[::-1]), seed=1)
    assert same is not None
    assert same.divergence == pytest.approx(0, abs=1e-12)
    assert (same.unseen_tokens, same.unseen_types) == (0, 0)
    assert same.target_words == same.source_words == []

    other = shift(corpora(texts, ["judge court statute", "court court"] * 10), seed=1)
    assert other is not None
    assert other.divergence == pytest.approx(1, abs=1e-12)
    assert (other.unseen_tokens, other.unseen_types) == (1, 1)
    assert 0 < other.without_shift < 0.3
    assert [word.word for word in other.target_words] == ["court", "judge", "statute"]
    assert other.target_words[0].target_per_million == pytest.approx(1e6 * 3 / 5)
    assert {word.word for word in other.source_words} == set(" ".join(texts).split())
    assert shift(corpora(texts, ["...", ""]), seed=1) is None


def test_two_samples_of_one_distribution_differ_as_shuffled_texts_do() -> None:
    generator = np.random.default_rng(3)
    draws = generator.zipf(1.5, (400, 20)) % 500
    texts = [" ".join(f"w{number}" for number in row) for row in draws]
    found = shift(corpora(texts[:200], texts[200:]), seed=1)
    assert found is not None
    assert found.divergence == pytest.approx(found.without_shift, rel=0.1)
    assert found.unseen_types > 0.1  # which alone would look like a shift


def test_divergence_is_that_of_scipy_and_symmetric() -> None:
    from scipy.spatial.distance import jensenshannon

    one, other = np.array([3.0, 0, 2, 5]), np.array([1.0, 4, 0, 5])
    assert divergence(one, other) == pytest.approx(jensenshannon(one, other, base=2) ** 2)
    assert divergence(one, other) == pytest.approx(divergence(7 * other, one))


def test_log_odds_by_the_equations_of_the_paper() -> None:
    """Monroe et al. 2008, equations 15, 20 and 22, written out for one word."""
    one, other = np.array([8.0, 1, 3]), np.array([2.0, 6, 12])
    found = log_odds(one, other)
    both, smaller = one + other, 12.0
    for word in range(3):
        prior = both[word] / both.sum() * smaller
        a = (one[word] + prior) / (one.sum() + smaller - one[word] - prior)
        b = (other[word] + prior) / (other.sum() + smaller - other[word] - prior)
        variance = 1 / (one[word] + prior) + 1 / (other[word] + prior)
        assert found[word] == pytest.approx((math.log(a) - math.log(b)) / math.sqrt(variance))
    assert log_odds(other, one) == pytest.approx(-found)


@pytest.fixture(scope="module")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """A byte-level tokenizer."""
    return AutoTokenizer.from_pretrained(write_tiny_decoder(tmp_path_factory.mktemp("decoder")))


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """A tokenizer of word pieces with two special tokens."""
    return AutoTokenizer.from_pretrained(write_tiny_encoder(tmp_path_factory.mktemp("encoder")))
