"""Words with tags: JSONL and CoNLL columns, every scheme, and what is wrong with them."""

import gzip

import pyarrow.parquet as pq
import pytest

from app.datasets.tag_schemes import Evidence, IllegalTagError, to_iob2
from tests.datasets.conftest import jsonl

NER = {"task": "token-classification"}
CONLL = (
    b"-DOCSTART- -X- O O\n\nAda NNP B-NP B-PER\nLovelace NNP I-NP I-PER\nlives VBZ B-VP O\n\n\n"
    b"In IN O O\nParis NNP O B-LOC\n"
)
SENTENCES = [
    {"tokens": ["Ada", "Lovelace", "lives"], "tags": ["B-PER", "I-PER", "O"], "row": 3},
    {"tokens": ["In", "Paris"], "tags": ["O", "B-LOC"], "row": 8},
]
# One sentence: an entity of three words, one of one word that touches it, one of the other type.
SCHEMES = {
    "IOB1": ["I-PER", "I-PER", "I-PER", "B-PER", "I-LOC", "O", "I-LOC", "I-LOC"],
    "IOB2": ["B-PER", "I-PER", "I-PER", "B-PER", "B-LOC", "O", "B-LOC", "I-LOC"],
    "IOBES": ["B-PER", "I-PER", "E-PER", "S-PER", "S-LOC", "O", "B-LOC", "E-LOC"],
    "BMES": ["B-PER", "M-PER", "E-PER", "S-PER", "S-LOC", "O", "B-LOC", "E-LOC"],
    "BILOU": ["B-PER", "I-PER", "L-PER", "U-PER", "U-LOC", "O", "B-LOC", "L-LOC"],
}
WORDS = [f"w{number}" for number in range(8)]


@pytest.mark.parametrize("column", ["tags", "ner_tags", "labels", "NER"])
def test_words_and_tags_are_read_from_jsonl(workbench, column):
    data = jsonl([{"tokens": ["Ada", "lives"], column: ["B-PER", "O"]}, {"tokens": ["Hi"], column: ["O"]}])
    assert workbench.records(data, "a.jsonl", **NER) == [
        {"tokens": ["Ada", "lives"], "tags": ["B-PER", "O"], "row": 1},
        {"tokens": ["Hi"], "tags": ["O"], "row": 2},
    ]
    report = workbench.report(data, "a.jsonl", task=None)
    assert (report["task"], report["tag_scheme"], report["labels"]) == ("token-classification", "IOB2", {"PER": 1})


@pytest.mark.parametrize("name", ["a.conll", "a.txt", "a", "a.bio", "a.conll.gz"])
@pytest.mark.parametrize("task", ["token-classification", None])
@pytest.mark.parametrize("data", [CONLL, CONLL.replace(b" ", b"\t"), CONLL.replace(b"\n", b"\r\n")])
def test_conll_columns_are_read_with_the_line_of_each_sentence(workbench, name, task, data):
    data = gzip.compress(data) if name.endswith(".gz") else data
    assert workbench.records(data, name, task=task) == SENTENCES
    report = workbench.report(data, name, task=task)
    assert (report["task"], report["format"], report["rows"]) == ("token-classification", "conll", 2)


def test_a_word_may_hold_a_space_between_tabs_and_comments_are_no_words(workbench):
    data = b"# id 7\tdomain=en\nNew York\tB-LOC\n# \tO\n\n# id 8\nHi\tO\n"
    assert workbench.records(data, "a.conll", **NER) == [
        {"tokens": ["New York", "#"], "tags": ["B-LOC", "O"], "row": 2},
        {"tokens": ["Hi"], "tags": ["O"], "row": 6},
    ]


def test_a_table_with_a_header_stays_a_table_for_every_task(workbench):
    data = b'tokens\ttags\n["Ada"]\t["B-PER"]\n'
    assert workbench.report(data, "a.tsv", **NER)["format"] == "tsv"
    assert workbench.report(b"text\tlabel\ngood\tO\nbad\tB-x\n", "a.tsv", task=None)["task"] == "text-classification"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_recognised_and_converted(workbench, scheme):
    data = jsonl([{"tokens": WORDS, "tags": SCHEMES[scheme]}, {"tokens": ["x"], "tags": ["O"]}])
    report = workbench.report(data, "a.jsonl", **NER)
    assert (report["tag_scheme"], report["labels"]) == (scheme, {"PER": 2, "LOC": 2})
    records = workbench.records(data, "a.jsonl", **NER)
    assert records == [
        {"tokens": WORDS, "tags": SCHEMES["IOB2"], "row": 1},
        {"tokens": ["x"], "tags": ["O"], "row": 2},
    ]
    assert str(pq.read_schema(workbench.run_dir / "prepared/records.parquet").field("tags").type).startswith("list")


def test_tags_with_underscores_and_types_with_hyphens_are_read(workbench):
    data = jsonl([{"tokens": ["a", "b"], "tags": ["B_creative-work", "I_creative-work"]}])
    assert workbench.records(data, "a.jsonl", **NER)[0]["tags"] == ["B-creative-work", "I-creative-work"]


@pytest.mark.parametrize(
    ("tags", "word", "part"),
    [
        (["B-PER", "O", "I-PER"], 3, "'I-PER' continues nothing: it follows O"),
        (["B-PER", "I-LOC", "O"], 2, "'I-LOC' continues nothing: it follows B-PER"),
        (["I-PER", "B-PER", "O"], 1, "'I-PER' continues nothing: the sentence begins with it"),
        (["B-PER", "I-PER", "S-LOC"], 3, "'S-LOC' follows an entity that is not ended"),
        (["S-PER", "O", "B-PER"], 3, "its entity is not ended"),
        (["E-PER", "O", "S-PER"], 1, "'E-PER' continues nothing"),
        (["B-PER", "L-LOC", "U-PER"], 2, "'L-LOC' follows an entity that is not ended"),
    ],
)
def test_an_illegal_sequence_is_named_with_line_and_word(workbench, tags, word, part):
    good = {"tokens": ["a", "b", "c"], "tags": ["B-PER", "B-PER", "O"]}
    if any(tag[0] in "ES" for tag in tags):
        good["tags"] = ["S-PER", "O", "O"]
    if any(tag[0] in "LU" for tag in tags):
        good["tags"] = ["U-PER", "O", "O"]
    records = [good, good, {"tokens": ["a", "b", "c"], "tags": tags}, good]
    error = workbench.refused(jsonl(records), "a.jsonl", **NER)
    assert (error.code, error.data["line"]) == ("illegal_tag_sequence", 3)
    assert f"word {word}, '{'abc'[word - 1]}': its tag" in error.message
    assert part in error.message
    lines = "\n\n".join(
        "\n".join(f"{token}\t{tag}" for token, tag in zip(record["tokens"], record["tags"], strict=True))
        for record in records
    )
    error = workbench.refused(lines.encode(), "a.conll", **NER)
    assert (error.code, error.data["line"]) == ("illegal_tag_sequence", 8 + word)


def test_tags_of_several_schemes_are_refused(workbench):
    error = workbench.refused(jsonl([{"tokens": ["a", "b"], "tags": ["S-PER", "U-PER"]}]), "a.jsonl", **NER)
    assert error.code == "mixed_tag_schemes"
    assert "S-, U-" in error.message


@pytest.mark.parametrize(
    ("record", "code", "part"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "tag_count", "2 words and 1 tags"),
        ({"tokens": [], "tags": []}, "empty_text", "empty"),
        ({"tokens": "Ada lives", "tags": ["O"]}, "words_not_list", "list of strings"),
        ({"tokens": ["a"], "tags": [3]}, "tags_not_strings", "names"),
        ({"tokens": ["a"], "tags": ["NOUN"]}, "unknown_tag", "word 1, 'a': its tag 'NOUN' is no tag"),
        ({"tokens": ["a"], "tags": ["B-"]}, "unknown_tag", "'B-'"),
        ({"tokens": ["a"]}, "missing_field", "missing"),
        ({"tokens": ["a"], "tags": None}, "empty_tags", "null"),
    ],
)
def test_a_bad_record_is_named_with_its_line(workbench, record, code, part):
    good = {"tokens": ["a"], "tags": ["B-X"]}
    error = workbench.refused(jsonl([good, record, good]), "a.jsonl", **NER)
    assert (error.code, error.data["line"], error.data["total"]) == (code, 2, 1)
    assert part in error.message


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        (b"Paris", "wrong_cell_count", "one column, 'Paris'"),
        (b"Paris\tNNP\tB-LOC", "wrong_cell_count", "3 columns where the lines before have 2"),
        (b"Paris\tNNP", "unknown_tag", "'NNP' is no tag"),
        (b"Par\xe9s\tB-LOC", "not_utf8", "iconv"),
        (b"Par\0is\tB-LOC", "nul_byte", "tr -d"),
    ],
)
def test_a_bad_line_of_conll_is_named(workbench, line, code, part):
    error = workbench.refused(b"Ada\tB-PER\nlives\tO\n\nIn\tO\n" + line + b"\n", "a.conll", **NER)
    assert (error.code, error.data["line"]) == (code, 5)
    assert part in error.message


def test_a_file_without_blank_lines_says_so_before_it_fills_the_memory(workbench):
    error = workbench.refused(b"word\tO\n" * 1000, "a.conll", max_row_bytes=1000, **NER)
    assert (error.code, error.data["line"]) == ("row_too_long", 1)
    assert "blank line after each sentence" in error.message


def test_a_thousand_errors_are_summarised_by_kind(workbench):
    data = jsonl([{"tokens": ["a"], "tags": ["NOUN"]}] * 1000 + [{"tokens": ["a"], "tags": ["O", "O"]}] * 1000)
    error = workbench.refused(data, "a.jsonl", **NER)
    assert error.data["total"] == 1000
    assert [(problem["code"], problem["count"], len(problem["first"])) for problem in error.data["problems"]] == [
        ("tag_count", 1000, 10)
    ]
    error = workbench.refused(data[: data.index(b'["O", "O"]')].rpartition(b"\n")[0], "a.jsonl", **NER)
    assert [(problem["code"], problem["count"]) for problem in error.data["problems"]] == [("unknown_tag", 1000)]


def test_data_of_another_task_is_recognised_both_ways(workbench):
    error = workbench.refused(b"text,label\ngood,pos\n", "a.csv", **NER)
    assert error.code == "wrong_task"
    assert "text-classification" in error.message
    error = workbench.refused(CONLL, "a.txt", task="text-classification")
    assert error.code == "wrong_task"
    assert "token-classification" in error.message


def test_long_sentences_are_counted_in_tokens_of_their_words(workbench, tmp_path):
    from tests.datasets.test_preparation_report import word_tokenizer

    data = jsonl([{"tokens": ["a"] * 10, "tags": ["O"] * 10}, {"tokens": ["a"], "tags": ["B-X"]}])
    report = workbench.report(data, "a.jsonl", model="m", tokenizer=word_tokenizer(tmp_path), max_length=8, **NER)
    assert report["tokens"]["lengths"]["max"] == 12
    assert report["tokens"]["share_over_window"] == 0.5


def test_a_scheme_is_told_by_the_fewest_breaches():
    evidence = Evidence()
    evidence.add(["B-PER", "O", "B-LOC", "I-LOC", "O", "B-PER"])
    evidence.add(["O", "I-PER"])
    assert (evidence.scheme(), evidence.is_iob2) == ("IOB2", False)
    with pytest.raises(IllegalTagError) as caught:
        to_iob2(["O", "I-PER"], "IOB2")
    assert caught.value.index == 1
