"""Changed copies of texts: what changes, what stays, and that the same seed makes the same."""

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nltk.data
import numpy as np
import pytest
from nltk.corpus import wordnet
from pydantic import ValidationError

from app.catalog.adaptation.augmentation import AugmentationOptions, misfit, needed_files, needed_models
from app.catalog.adaptation.spec import JobFacts
from worker.augmentation import lexicon
from worker.augmentation.edits import closed, delete, insert, replace_synonyms, swap
from worker.augmentation.lexicon import Lexicon, WordNet, matches
from worker.augmentation.mentions import Mentions
from worker.augmentation.passages import Passage, Word, language_of, passage_of, tagged_passage
from worker.augmentation.protection import Protection
from worker.training.entities import entities
from worker.training.failures import UserError

ENGLISH = "The film isn't bad, (really) a tender story of 3 old friends \u2014 see it!"
CHINESE = "这家酒店的服务态度很好, 我们住了3天。"
LEXICON = Lexicon.of_pairs(
    [
        ("film", "movie"),
        ("tender story", "tale"),
        ("story", "narrative"),
        ("friends", "old mates"),
        ("bad", "poor"),
        ("plant", "factory"),
        ("opened", "set up"),
        ("酒店", "旅馆"),
        ("酒店", "宾馆"),
        ("服务态度", "待客之道"),
        ("很", "非常"),
    ]
)
PLAIN = Protection.of([])
SEEDS = range(200)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def words(passage: Passage) -> list[str]:
    return [word.text for word in passage.words]


EDITS: dict[str, Callable[[Passage, int], Passage]] = {
    "synonym": lambda passage, seed: replace_synonyms(passage, 0.2, LEXICON, PLAIN, generator(seed)),
    "insertion": lambda passage, seed: insert(passage, 0.2, LEXICON, PLAIN, generator(seed)),
    "swap": lambda passage, seed: swap(passage, 0.2, generator(seed)),
    "deletion": lambda passage, seed: delete(passage, 0.3, PLAIN, generator(seed)),
}
each_edit = pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ENGLISH, re.findall(r"[\w']+", ENGLISH)),
        ("it 's a well-made , e\u0301te\u0301 film .", ["it", "a", "well-made", "e\u0301te\u0301", "film"]),
        (CHINESE, ["这家", "酒店", "的", "服务态度", "很", "好", "我们", "住", "了", "3", "天"]),
        ("\u2026 !", []),
        ("", []),
    ],
)  # fmt: skip
def test_a_text_is_words_and_what_stands_between_them(text: str, expected: list[str]):
    passage = passage_of(text, "auto")
    assert words(passage) == expected
    assert passage.text == text


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("A film.", "en"),
        ("电影很好", "zh"),
        ("电影 good", "en"),
        ("この映画は良い", "en"),
        ("", "en"),
        ("ein Film", "en"),
    ],
)
def test_a_text_is_chinese_where_most_of_its_letters_are(text: str, language: str):
    assert language_of(text, "auto") == language
    assert language_of(text, "zh") == "zh"


@each_edit
@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_the_same_seed_changes_the_same_and_others_change_something_else(edit: Any, text: str):
    passage = passage_of(text, "auto")
    results = [edit(passage, seed).text for seed in SEEDS]
    assert results == [edit(passage, seed).text for seed in SEEDS]
    assert len(set(results)) > 1
    assert results.count(text) < len(results) / 20  # two swaps may undo one another


@each_edit
@pytest.mark.parametrize("text", ["Good!", "\u2026", "", "3", "不", "not 3"])
def test_what_offers_nothing_to_change_stays_and_nothing_is_ever_empty(edit: Any, text: str):
    passage = passage_of(text, "auto")
    for seed in range(20):
        changed = edit(passage, seed)
        assert changed.text == text or (text == "not 3" and changed.text == "3 not")


def test_synonyms_take_the_place_of_all_occurrences_with_their_capitals():
    passage = passage_of("Film lovers love a film, a FILM in film-land.", "en")
    changed = replace_synonyms(passage, 0.1, LEXICON, PLAIN, generator(1))
    assert changed.text == "Movie lovers love a movie, a MOVIE in film-land."


def test_so_many_phrases_change_as_the_rate_says_and_at_least_one():
    passage = passage_of("film story friends plant opened and so on and on and on and on", "en")
    for rate, expected in ((0.01, 1), (0.2, 2), (0.3, 4), (1.0, 5)):
        for seed in range(20):
            changed = replace_synonyms(passage, rate, LEXICON, PLAIN, generator(seed))
            assert len(set(words(passage)) - set(words(changed))) == expected


def test_the_longest_phrase_is_found_but_not_across_punctuation_or_what_is_protected():
    def found(text: str, protection: Protection = PLAIN) -> list[str]:
        return [match.phrase for match in matches(passage_of(text, "auto"), LEXICON, protection)]

    assert found("a tender story of friends") == ["tender story", "friends"]
    assert found("tender, story") == ["story"]
    assert found("a Tender  Story") == ["tender story"]
    assert found("a tender story", Protection.of(["Tender"])) == ["story"]
    assert found(CHINESE) == ["酒店", "服务态度"]  # 很 means nothing by itself


def test_numbers_negations_and_words_of_the_caller_are_neither_replaced_nor_left_out():
    everything = Lexicon.of_pairs(
        (word, "X") for word in ["not", "3", "n't", "isn't", "never", "acting", "good", "不好", "没有", "好"]
    )
    protection = Protection.of(["Acting"])
    for text, kept in (
        ("isn't good , not 3 times , never , ca n't beat acting", ["isn't", "not", "3", "never", "n't", "acting"]),
        ("服务不好, 没有 3 本好书", ["不好", "没有", "3"]),
    ):
        passage = passage_of(text, "auto")
        for seed in range(50):
            for changed in (
                replace_synonyms(passage, 1.0, everything, protection, generator(seed)),
                delete(passage, 0.9, protection, generator(seed)),
            ):
                assert [word for word in words(changed) if word in kept] == kept


def test_an_insertion_keeps_the_words_in_their_order_and_adds_synonyms():
    passage = passage_of(ENGLISH, "en")
    places: Counter[int] = Counter()
    for seed in SEEDS:
        changed = words(insert(passage, 0.1, LEXICON, PLAIN, generator(seed)))
        assert len(changed) == len(passage.words) + 1
        (new,) = [place for place in range(len(changed)) if changed[:place] + changed[place + 1 :] == words(passage)][
            :1
        ]
        assert changed[new] in ("movie", "tale", "old mates", "poor")
        places[new] += 1
    assert set(places) == set(range(len(passage.words) + 1))


def test_a_swap_moves_words_and_leaves_punctuation():
    passage = passage_of(ENGLISH, "en")
    for seed in SEEDS:
        changed = swap(passage, 0.05, generator(seed))
        assert Counter(words(changed)) == Counter(words(passage))
        assert sum(one != other for one, other in zip(words(changed), words(passage), strict=True)) == 2
        assert [word.before for word in changed.words] == [word.before for word in passage.words]


def test_a_deletion_takes_the_share_of_the_words_in_their_order():
    passage = passage_of(" ".join(f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz") + ".", "en")
    gone = 0
    for seed in SEEDS:
        changed = words(delete(passage, 0.2, PLAIN, generator(seed)))
        rest = iter(words(passage))
        assert all(word in rest for word in changed)
        gone += 26 - len(changed)
    assert gone / (26 * len(SEEDS)) == pytest.approx(0.2, abs=0.02)


def test_one_word_is_left_whatever_the_rate():
    passage = passage_of("a tender story", "en")
    left = {delete(passage, 1.0, PLAIN, generator(seed)).text for seed in SEEDS}
    assert left == {"a", "tender", "story"}


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [("", " ", ""), (" ", "", ""), (" ", " ", " "), (", ", " ", ", "), (" ", ", ", ", "), (" (", ") ", " () ")],
)
def test_punctuation_stays_where_a_word_goes(before: str, after: str, left: str):
    assert closed(before, after) == left


SENTENCES = [
    ("Siemens AG opened a new plant in New York .", "B-ORG I-ORG O O O O O B-LOC I-LOC O"),
    ("The Bank of England and Ferranti opened a film plant .", "O B-ORG I-ORG I-ORG O B-ORG O O O O O"),
    ("Rome and Paris friends", "B-LOC O B-LOC O"),
    ("London Paris", "B-LOC B-LOC"),
    ("no story", "O O"),
    ("Ada", "B-PER"),
    ("odd film", "I-PER O"),
]
TAGGED = [tagged_passage(tokens.split(), tags.split(), "auto") for tokens, tags in SENTENCES]
TAGGED += [
    tagged_passage(list("我在北京酒店吃很多"), ["O", "O", "B-LOC", "I-LOC", *["O"] * 5], "auto"),
    tagged_passage(["北京", "酒店", "很", "好"], ["B-LOC", "O", "O", "O"], "auto"),
]


def mentions_of(passage: Passage) -> list[tuple[str, tuple[str, ...]]]:
    found = entities([word.tag for word in passage.words])
    return [(kind, tuple(words(passage)[start:end])) for kind, start, end in found]


@each_edit
@pytest.mark.parametrize("passage", TAGGED, ids=lambda passage: passage.text)
def test_entities_keep_their_words_and_tags_and_their_order(edit: Any, passage: Passage):
    for seed in SEEDS:
        changed = edit(passage, seed)
        assert mentions_of(changed) == mentions_of(passage)
        assert [word for word in changed.words if word.tag != "O"] == [
            Word(word.text, mate.before, word.tag)
            for word, mate in zip(
                (word for word in passage.words if word.tag != "O"),
                (word for word in changed.words if word.tag != "O"),
                strict=True,
            )
        ]
        assert all(word.text and " " not in word.text for word in changed.words)


def test_a_synonym_of_several_words_is_several_tokens_and_of_characters_where_tokens_are():
    changed = [
        words(replace_synonyms(passage, 0.2, LEXICON, PLAIN, generator(seed))) for passage in TAGGED for seed in SEEDS
    ]
    assert ["Siemens", "AG", "set", "up", "a", "new", "factory", "in", "New", "York", "."] in changed
    assert ["我", "在", "北", "京", "宾", "馆", "吃", "很", "多"] in changed
    assert ["北京", "宾馆", "很", "好"] in changed


def test_mentions_give_way_to_others_of_their_type_with_tags_that_fit():
    mentions = Mentions.of(TAGGED)
    assert mentions.by_type["ORG"] == (("Siemens", "AG"), ("Bank", "of", "England"), ("Ferranti",))
    seen: set[str] = set()
    for passage in TAGGED:
        for seed in SEEDS:
            changed = mentions.replace(passage, 0.5, generator(seed))
            before, after = mentions_of(passage), mentions_of(changed)
            assert [kind for kind, _ in after] == [kind for kind, _ in before]
            assert all(mention in mentions.by_type[kind] for kind, mention in after)
            outside = [word.text for word in passage.words if word.tag == "O"]
            assert [word.text for word in changed.words if word.tag == "O"] == outside
            alone = all(len(mentions.by_type[kind]) == 1 for kind, _ in before)
            assert (after == before) == alone
            seen.add(changed.text)
    assert "Bank of England opened a new plant in New York ." in seen
    assert "Siemens AG opened a new plant in London ." in seen
    assert "The Siemens AG and Bank of England opened a film plant ." in seen


def test_every_entity_is_replaced_as_often_as_the_rate_says():
    passage = tagged_passage([f"w{number}" for number in range(40)], ["B-X"] * 40, "en")
    mentions, changed = Mentions.of([passage]), 0
    for seed in range(50):
        after = mentions.replace(passage, 0.3, generator(seed))
        changed += sum(one != other for one, other in zip(words(after), words(passage), strict=True))
    assert changed / (40 * 50) == pytest.approx(0.3, abs=0.03)


def write_wordnet(directory: Path) -> None:
    """WordNet 3's files with two senses of `film`, as `wndb(5WN)` describes them."""
    directory.mkdir(parents=True)
    senses = {"n": [["film", "movie", "motion_picture"], ["film", "thin_coat"]], "v": [["film", "shoot"]]}
    names = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
    (directory / "index.sense").write_text("")
    for part, name in names.items():
        data, index = b"", {}
        for lemmas in senses.get(part, []):
            for lemma in lemmas:
                index.setdefault(lemma, []).append(len(data))
            listed = " ".join(f"{lemma} 0" for lemma in lemmas)
            frames = "01 + 08 00 " if part == "v" else ""
            data += f"{len(data):08d} 03 {part} {len(lemmas):02x} {listed} 000 {frames}| gloss\n".encode()
        (directory / f"data.{name}").write_bytes(data)
        lines = [
            f"{lemma} {part} {len(at)} 0 {len(at)} 0 {' '.join(f'{place:08d}' for place in at)}  \n"
            for lemma, at in sorted(index.items())
        ]
        (directory / f"index.{name}").write_text("".join(lines))
        (directory / f"{name}.exc").write_text("films film\n" if part == "n" else "")
    (directory / "lexnames").write_text("".join(f"{number:02d}\tname\t1\n" for number in range(4)))


@pytest.fixture
def nltk_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for NLTK's data; what the machine has is not seen."""
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    lexicon._in_wordnet.cache_clear()
    return tmp_path


def test_wordnet_is_used_where_nltk_has_its_data(nltk_data: Path):
    write_wordnet(nltk_data / "corpora" / "wordnet")
    try:
        assert WordNet().of("films", "en") == ("film", "movie", "motion picture", "thin coat", "shoot")
        changed = replace_synonyms(passage_of("A film.", "en"), 0.1, WordNet(), PLAIN, generator(2))
        assert changed.text in ("A movie.", "A motion picture.", "A thin coat.", "A shoot.")
        with pytest.raises(UserError, match=r"no WordNet for 'zh'.* nltk.downloader omw-"):
            WordNet().of("酒店", "zh")
    finally:
        wordnet._unload()  # what was read from here is gone with the folder
        lexicon._in_wordnet.cache_clear()


@pytest.mark.parametrize("text", ["A film.", "酒店很好"])
def test_without_wordnet_the_error_says_what_to_do(text: str, nltk_data: Path):
    with pytest.raises(UserError, match="lexicon_file") as caught:
        replace_synonyms(passage_of(text, "auto"), 0.1, WordNet(), PLAIN, generator(1))
    assert str(caught.value).endswith("python -m nltk.downloader wordnet.")
    assert caught.value.param == "adaptation.augmentation.lexicon_file"


def test_a_lexicon_forgets_pairs_of_a_word_with_itself_and_empty_ones():
    found = Lexicon.of_pairs(
        [("Film", "film"), (" ", "movie"), ("film", ""), ("film", "a  movie"), ("FILM", "a movie")]
    )
    assert found.entries == {"film": ("a movie",)}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "Field required"),
        ({"operations": []}, "at least 1 item"),
        ({"operations": [{"type": "swap"}], "copies": 0}, "greater than or equal to 1"),
        ({"operations": [{"type": "shuffle"}]}, "'synonym', 'insertion', 'swap', 'deletion', 'contextual'"),
        ({"operations": [{"type": "swap", "top_k": 3}]}, "Extra inputs are not permitted"),
        ({"operations": [{"type": "swap", "rate": 0.0}]}, "greater than 0"),
        ({"operations": [{"type": "swap"}], "lexicon_file": "file-1"}, "no operation reads it; name synonym or"),
        ({"operations": [{"type": "synonym"}], "lexicon_columns": {"source": "a"}}, "without a lexicon_file"),
        ({"operations": [{"type": "back_translation", "to": {"model": "a"}}]}, "back_translation.back"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], says: str):
    with pytest.raises(ValidationError) as caught:
        AugmentationOptions.model_validate(options)
    assert says in str(caught.value)


def test_files_and_models_are_named_by_the_options_that_ask_for_them():
    options = AugmentationOptions.model_validate(
        {
            "operations": [
                {"type": "synonym"},
                {"type": "contextual"},
                {"type": "contextual", "model": "ft:masked"},
                {"type": "back_translation", "to": {"model": "ft:to"}, "back": {"model": "ft:back"}},
            ],
            "lexicon_file": "file-1",
            "lexicon_columns": {"source": "word", "target": "synonym"},
        }
    )
    (file,) = needed_files(options, {"type": "text-classification"})
    assert (file.key, file.file_id, file.task) == ("augmentation.lexicon_file", "file-1", {"type": "translation"})
    assert file.columns == {"source": "word", "target": "synonym"}
    assert [(model.key, model.model_id, model.task) for model in needed_models(options)] == [
        ("augmentation.operations.2.model", "ft:masked", "fill-mask"),
        ("augmentation.operations.3.to.model", "ft:to", "translation"),
        ("augmentation.operations.3.back.model", "ft:back", "translation"),
    ]
    assert options.control


@pytest.mark.parametrize(
    ("operation", "facts", "says"),
    [
        ("mention_replacement", JobFacts("bert", 0, "text-classification"), "records of text-classification have"),
        ("mention_replacement", JobFacts("bert", 0, "token-classification"), None),
        ("mention_replacement", JobFacts("bert", 0), None),
        ("contextual", JobFacts("gpt2", 0), "is of type 'gpt2' and cannot"),
        ("contextual", JobFacts("bert", 0), None),
        ("swap", JobFacts("gpt2", 0, "text-classification"), None),
    ],
)
def test_what_does_not_fit_a_job_is_known_when_it_is_created(operation: str, facts: JobFacts, says: str | None):
    options = AugmentationOptions.model_validate({"operations": [{"type": "swap"}, {"type": operation}]})
    found = misfit(options, facts)
    assert (found is None) == (says is None)
    assert found is None or (says or "") in found
    assert found is None or "operations[1]" in found


def test_random_sentences_stay_aligned_through_every_edit():
    draw = random.Random(7)
    tokens = ["film", "story", "friends", "opened", ".", ",", "a", "the", "x1", "not", "'s", "", "\u200b"]
    for seed in range(300):
        tags: list[str] = []
        for _ in range(draw.randint(0, 12)):
            before = tags[-1] if tags else "O"
            tags.append(draw.choice(["O", "O", "B-X", "B-Y", *([f"I-{before[2:]}"] * 2 if before != "O" else [])]))
        passage = tagged_passage([draw.choice(tokens) for _ in tags], tags, "auto")
        if not passage.words:
            continue
        for edit in EDITS.values():
            assert mentions_of(edit(passage, seed)) == mentions_of(passage)
