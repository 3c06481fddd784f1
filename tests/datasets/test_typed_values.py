"""Fields that are no plain strings: lists of labels, numbers, words with tags, answers with offsets."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.catalog.records import RecordField
from app.datasets import agreement
from app.datasets.field_types import CANONICAL, canonical
from app.datasets.values import MISSING, InvalidValueError
from tests.datasets.conftest import jsonl

MULTI = {"options": {"problem_type": "multi_label_classification"}}
REGRESSION = {"options": {"problem_type": "regression"}}


def pairs(*labels: object) -> bytes:
    return jsonl({"text": f"text {number}", "label": label} for number, label in enumerate(labels))


def test_lists_of_labels_are_recognised_and_may_be_empty(workbench):
    data = pairs(["a", "b"], [], ["b", "b", 1])
    report = workbench.report(data, "a.jsonl")
    assert report["options"] == {"problem_type": "multi_label_classification"}
    assert report["labels"] == {"b": 2, "a": 1, "1": 1}
    assert [record["label"] for record in workbench.records(data, "a.jsonl")] == [["a", "b"], [], ["b", "1"]]


def test_a_cell_may_hold_a_list_as_json(workbench):
    data = b'text,label\none,"[""a"", ""b""]"\ntwo,[]\n'
    records = workbench.records(data, "a.csv")
    assert [record["label"] for record in records] == [["a", "b"], []]


def test_lists_of_labels_come_from_parquet_as_well(workbench):
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["x", "y"], "label": [["a"], ["a", "b"]], "other": [1, 2]}), file)
    records = workbench.records(file.getvalue(), "a.parquet")
    assert [record["label"] for record in records] == [["a"], ["a", "b"]]


def test_fractions_are_recognised_as_numbers_to_predict(workbench):
    data = pairs(1, 2.5, 4)
    report = workbench.report(data, "a.jsonl")
    assert (report["options"], report["labels"]) == ({"problem_type": "regression"}, None)
    assert report["numbers"] == pytest.approx({"min": 1, "max": 4, "mean": 2.5, "standard_deviation": 1.5**0.5})
    assert [record["label"] for record in workbench.records(data, "a.jsonl")] == [1.0, 2.5, 4.0]
    assert workbench.report(b"text,label\na,0.5\nb,1\n", "a.csv")["options"] == {"problem_type": "regression"}


def test_whole_numbers_are_classes_unless_regression_is_asked_for(workbench):
    assert workbench.report(pairs(1, 2, 3), "a.jsonl")["options"] == {"problem_type": "single_label_classification"}
    records = workbench.records(pairs(1, 2, "3.5"), "a.jsonl", **REGRESSION)
    assert [record["label"] for record in records] == [1.0, 2.0, 3.5]


def test_a_mixture_of_lists_and_strings_is_in_doubt_and_read_as_single_labels(workbench):
    assert workbench.refused(pairs("a", ["b"]), "a.jsonl").code == "label_is_list"


def test_a_fraction_that_comes_late_names_the_option_that_reads_it(workbench):
    error = workbench.refused(pairs(*[1, 2] * 600, 0.5), "a.jsonl")
    assert (error.code, error.data["line"]) == ("label_is_fraction", 1201)
    assert 'problem_type: "regression"' in error.message


@pytest.mark.parametrize(
    ("label", "options", "code"),
    [
        ("a", MULTI, "labels_not_list"),
        (None, MULTI, "empty_labels"),
        ([" "], MULTI, "empty_label"),
        ([["a"]], MULTI, "label_is_list"),
        ([0.5], MULTI, "label_is_fraction"),
        ("high", REGRESSION, "number_is_text"),
        ("", REGRESSION, "empty_number"),
        (None, REGRESSION, "empty_number"),
        (True, REGRESSION, "number_is_boolean"),
        ([1.5], REGRESSION, "number_is_list"),
        ("nan", REGRESSION, "number_not_finite"),
        (10**400, REGRESSION, "number_not_finite"),
    ],
)
def test_a_bad_value_names_its_line_and_its_fix(workbench, label, options, code):
    good = ["x"] if options is MULTI else 1.5
    error = workbench.refused(pairs(good, label, good), "a.jsonl", **options)
    assert (error.code, error.data["line"], error.data["total"]) == (code, 2, 1)


def test_a_missing_value_of_every_type_says_that_it_is_missing():
    for kind in CANONICAL.values():
        with pytest.raises(InvalidValueError) as caught:
            kind.one(MISSING)
        assert caught.value.code == "missing_field"


def test_an_optional_field_may_be_missing_null_or_empty():
    field = canonical(RecordField("text_pair", "text", "Another text.", optional=True))
    assert [field.one(value) for value in (MISSING, None, "", "x")] == [None, None, None, "x"]
    assert field.many(["x", None, "y", MISSING]) == ["x", None, "y", None]
    assert field.many([None, MISSING]) == [None, None]
    assert field.many(["x", 5]) is None


def test_one_at_a_time_and_many_at_once_agree():
    fine = {
        "id": ["a", 7],
        "text": ["a", "b c"],
        "texts": [["a"], ["b c", "d"]],
        "label": ["a", 3],
        "labels": [["a"], [], ["b", "c"]],
        "number": [1, 2.5, "3"],
        "words": [["a", "", "b"], ["c"]],
        "tags": [["O"], []],
        "extra": ["a", "", 3, 2.5, True],
        "note": ["a", "", 3, 2.5, True],
        "answers": [{"text": ["a"], "answer_start": [3]}, [{"text": "b", "answer_start": 1}]],
        "messages": [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 1}]],
        "tools": [[{"type": "function", "function": {"name": "a"}}], '[{"function": {"name": "é"}}]'],
    }
    assert set(fine) == set(CANONICAL)
    for name, column in fine.items():
        kind = CANONICAL[name]
        one_by_one = [kind.one(value) for value in column]
        assert kind.many(column) in (one_by_one, None)
        assert kind.many(one_by_one) == one_by_one
        assert pa.array(one_by_one, kind.arrow).to_pylist() == one_by_one
        assert kind.characters(one_by_one) > 0


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("words", [], "empty_text"),
        ("words", "a b", "words_not_list"),
        ("words", ["a", None], "words_not_strings"),
        ("tags", [0, 3], "tags_not_strings"),
        ("words", ["a\0"], "nul_character"),
        ("answers", "Paris", "answers_malformed"),
        ("answers", {"text": ["a"]}, "answers_malformed"),
        ("answers", {"text": ["a"], "answer_start": []}, "answers_malformed"),
        ("answers", {"text": ["a"], "answer_start": [-1]}, "answer_start_not_offset"),
        ("answers", {"text": ["a"], "answer_start": ["0"]}, "answer_start_not_offset"),
    ],
)
def test_malformed_lists_and_answers_are_named(kind, value, code):
    with pytest.raises(InvalidValueError) as caught:
        CANONICAL[kind].one(value)
    assert caught.value.code == code
    assert CANONICAL[kind].many([value]) is None


def test_a_record_has_as_many_tags_as_words():
    field = RecordField("tags", "tags", "Tags.", of="tokens")
    agreement.check(field, ["O", "O"], ["a", "b"])
    with pytest.raises(InvalidValueError, match="2 words and 1 tags"):
        agreement.check(field, ["O"], ["a", "b"])
    assert not agreement.all_agree([field], {"tags": [["O"], ["O"]], "tokens": [["a"], ["a", "b"]]})


def test_an_answer_that_stands_elsewhere_shows_both_strings_and_the_right_place():
    field = RecordField("answers", "answers", "Answers.", of="context")
    context = "😀 Tokyo is the capital of Japan."
    agreement.check(field, {"text": ["Tokyo", "Japan"], "answer_start": [2, 26]}, context)
    with pytest.raises(InvalidValueError) as caught:
        agreement.check(field, {"text": ["Tokyo"], "answer_start": [5]}, context)
    assert caught.value.code == "answer_offset"
    assert "'Tokyo'" in caught.value.message
    assert "'yo is'" in caught.value.message
    assert "stands at 2" in caught.value.fix
    with pytest.raises(InvalidValueError) as caught:
        agreement.check(field, {"text": ["Kyoto"], "answer_start": [2]}, context)
    assert "nowhere" in caught.value.fix


def test_the_task_is_told_from_the_file_where_nobody_said_it(workbench):
    report = workbench.report(pairs("a", "b"), "a.jsonl", task=None)
    assert (report["task"], report["options"]) == (
        "text-classification",
        {"problem_type": "single_label_classification"},
    )


def test_a_file_that_fits_no_task_is_described_by_its_columns(workbench):
    error = workbench.refused(json.dumps({"a": 1, "b": 2}).encode(), "a.jsonl", task=None)
    assert error.code == "missing_column"


def test_a_second_text_is_recognised_by_its_usual_names_and_may_be_absent(workbench):
    data = jsonl(
        [
            {"sentence1": "A man sings.", "sentence2": "Someone sings.", "score": 4.5},
            {"sentence1": "Alone.", "sentence2": None, "score": 1},
        ]
    )
    report = workbench.report(data, "a.jsonl")
    assert report["fields"]["text_pair"] == {"column": "sentence2", "found_by": "alias"}
    assert report["characters"]["min"] == len("Alone.")
    assert workbench.records(data, "a.jsonl") == [
        {"text": "A man sings.", "text_pair": "Someone sings.", "label": 4.5, "row": 1},
        {"text": "Alone.", "label": 1.0, "row": 2},
    ]
