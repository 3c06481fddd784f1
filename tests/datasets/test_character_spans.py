"""Texts with character spans: doccano, Label Studio JSON and JSON-MIN, and how they become tags of words."""

import json

import pytest

from app.datasets.alignment import Span, align, split_words
from app.datasets.values import InvalidValueError
from tests.datasets.conftest import jsonl

NER = {"task": "token-classification"}
TEXT = "Ada Lovelace lives in Paris."
TAGGED = {
    "tokens": ["Ada", "Lovelace", "lives", "in", "Paris", "."],
    "tags": ["B-PER", "I-PER", "O", "O", "B-LOC", "O"],
}
SPANS = [[0, 12, "PER"], [22, 27, "LOC"]]
OBJECTS = [{"start": start, "end": end, "label": label} for start, end, label in SPANS]
OFFSETS = [{"id": 1, "start_offset": start, "end_offset": end, "label": label} for start, end, label in SPANS]
MIN = [{"start": start, "end": end, "text": TEXT[start:end], "labels": [label]} for start, end, label in SPANS]


def studio(result: list, **data: object) -> dict:
    return {
        "id": 1,
        "annotations": [{"id": 5, "was_cancelled": False, "result": result}],
        "predictions": [],
        "data": data or {"text": TEXT},
    }


def labelled(spans: list) -> list[dict]:
    return [{"id": "x", "from_name": "label", "to_name": "text", "type": "labels", "value": span} for span in spans]


@pytest.mark.parametrize(
    "record",
    [
        {"id": 1, "text": TEXT, "label": SPANS},
        {"id": 1, "text": TEXT, "labels": SPANS},
        {"id": 1, "data": TEXT, "label": SPANS},
        {"text": TEXT, "entities": OFFSETS, "relations": []},
        {"text": TEXT, "spans": OBJECTS},
        {"id": 1, "text": TEXT, "label": MIN, "annotator": 1},
        {"text": TEXT, "entities": SPANS[::-1]},
    ],
)
@pytest.mark.parametrize("task", ["token-classification", None])
def test_spans_become_tags_of_words(workbench, record, task):
    none = record | {name: [] for name in ("label", "labels", "entities", "spans") if name in record}
    for name, data in (("a.jsonl", jsonl([record, none])), ("a.json", json.dumps([record, none], indent=1).encode())):
        records = workbench.records(data, name, task=task)
        assert records == [TAGGED | {"row": 1}, TAGGED | {"tags": ["O"] * 6, "row": 2}]
        report = workbench.report(data, name, task=task)
        assert (report["task"], report["layout"]) == ("token-classification", "spans")
        assert report["labels"] == {"PER": 1, "LOC": 1}
        assert not {"text", "label", "entities"} & set(report["unused_columns"])


@pytest.mark.parametrize("task", ["token-classification", None])
def test_the_json_export_of_label_studio_is_read(workbench, task):
    data = json.dumps([studio(labelled(MIN)), studio([])]).encode()
    assert workbench.records(data, "project-1.json", task=task) == [
        TAGGED | {"row": 1},
        TAGGED | {"tags": ["O"] * 6, "row": 2},
    ]
    report = workbench.report(data, "project-1.json", task=task)
    assert (report["format"], report["layout"], report["unit"]) == ("json", "label_studio", "row")


def test_the_annotated_text_of_several_is_named_by_the_client(workbench):
    data = json.dumps([studio(labelled(MIN), title="Ada", body=TEXT)]).encode()
    error = workbench.refused(data, "a.json", **NER)
    assert error.code == "text_in_doubt"
    assert "'title', 'body'" in error.message
    assert workbench.records(data, "a.json", {"tokens": "body"}, **NER) == [TAGGED | {"row": 1}]


def test_columns_of_other_names_are_mapped(workbench):
    data = jsonl([{"body": TEXT, "mentions": SPANS}])
    assert workbench.records(data, "a.jsonl", {"tokens": "body", "tags": "mentions"}, **NER) == [TAGGED | {"row": 1}]


def test_what_label_studio_left_out_or_added_is_told(workbench):
    cancelled = studio(labelled(MIN))
    cancelled["annotations"][0]["was_cancelled"] = True
    error = workbench.refused(json.dumps([studio(labelled(MIN)), cancelled]).encode(), "a.json", **NER)
    assert (error.code, error.data["line"], error.data["unit"]) == ("not_annotated", 2, "row")

    twice = studio([*labelled(MIN), {"type": "choices", "value": {"choices": ["good"]}}])
    twice["annotations"].append({"result": []})
    warnings = workbench.report(json.dumps([twice]).encode(), "a.json", **NER)["warnings"]
    assert {"several_annotations", "other_results"} <= {warning["code"] for warning in warnings}


def test_offsets_of_browsers_are_counted_in_code_points(workbench):
    text = "😀😀 Ada in Paris"
    spans = [{"start": 5, "end": 8, "text": "Ada", "labels": ["PER"]}]
    (record,) = workbench.records(json.dumps([studio(labelled(spans), text=text)]).encode(), "a.json", **NER)
    assert list(zip(record["tokens"], record["tags"], strict=True))[2] == ("Ada", "B-PER")


@pytest.mark.parametrize(
    ("span", "code", "part"),
    [
        ([20, 99, "LOC"], "span_outside_text", "28 characters"),
        ([5, 5, "PER"], "span_outside_text", "5 to 5"),
        ([3, 4, "PER"], "span_without_word", "white space"),
        ([4, 17, "PER"], "spans_overlap", "share the word 'Lovelace'"),
        ([0, 3, ""], "empty_label", "empty"),
        ([0, "3", "PER"], "malformed_span", "no whole numbers"),
        ("PER", "malformed_span", "no span"),
        ({"start": 0, "end": 3, "labels": ["PER", "ORG"]}, "several_labels", "2 labels"),
        ({"start": 0, "end": 3, "label": "PER", "text": "Bob"}, "span_text_mismatch", "'Bob'"),
    ],
)
def test_a_span_that_cannot_be_aligned_is_an_error_with_its_line(workbench, span, code, part):
    good = {"text": TEXT, "label": SPANS}
    error = workbench.refused(jsonl([good, {"text": TEXT, "label": [SPANS[0], span]}]), "a.jsonl", **NER)
    assert (error.code, error.data["line"], error.data["total"]) == (code, 2, 1)
    assert part in error.message


def test_a_span_that_cuts_a_word_is_widened_and_every_one_is_reported(workbench):
    data = jsonl([{"text": TEXT, "label": [[0, 8, "PER"], [23, 27, "LOC"]]}])
    assert workbench.records(data, "a.jsonl", **NER) == [TAGGED | {"row": 1}]
    (warning,) = [w for w in workbench.report(data, "a.jsonl", **NER)["warnings"] if w["code"] == "span_widened"]
    assert (warning["count"], warning["line"]) == (2, 1)
    assert "'Ada Love'" in warning["message"]
    assert "'Ada Lovelace'" in warning["message"]


def test_space_at_the_ends_of_a_span_is_no_word_of_it():
    aligned = align("In Paris now", [Span(2, 9, "LOC")])
    assert (aligned.words, aligned.tags, aligned.widened) == (["In", "Paris", "now"], ["O", "B-LOC", "O"], [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3.5%, e-mail", ["It", "'", "s", "3", ".", "5", "%", ",", "e", "-", "mail"]),
        ("naïve café", ["naïve", "café"]),
        ("e\u0301te\u0301 fini", ["e\u0301te\u0301", "fini"]),
        ("我住在北京。OK", ["我", "住", "在", "北", "京", "。", "OK"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("กรุงเทพ", ["ก", "รุ", "ง", "เ", "ท", "พ"]),
        ("a😀b", ["a", "😀", "b"]),
        ("\u0301", ["\u0301"]),
        ("snake_case v2", ["snake_case", "v2"]),
        ("", []),
    ],
)
def test_words_are_split_as_the_script_asks(text, words):
    assert [text[start:end] for start, end in split_words(text)] == words


def test_text_in_a_language_without_spaces_is_tagged_by_character(workbench):
    data = jsonl([{"text": "我住在北京", "label": [[3, 5, "LOC"]]}])
    (record,) = workbench.records(data, "a.jsonl", **NER)
    assert record["tags"] == ["O", "O", "O", "B-LOC", "I-LOC"]


def test_spans_that_touch_are_two_entities():
    assert align("北京上海", [Span(0, 2, "LOC"), Span(2, 4, "LOC")]).tags == ["B-LOC", "I-LOC", "B-LOC", "I-LOC"]
    with pytest.raises(InvalidValueError, match="share the word"):
        align("Paris", [Span(0, 3, "A"), Span(3, 5, "B")])


def test_spans_given_as_text_classification_say_which_task_they_are_for(workbench):
    error = workbench.refused(jsonl([{"text": TEXT, "label": SPANS}]), "a.jsonl", task="text-classification")
    assert error.code == "wrong_task"
    assert "token-classification" in error.message
