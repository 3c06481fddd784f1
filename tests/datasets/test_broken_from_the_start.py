"""Files whose first record is broken, or every one: nobody has said their task, and the bad line must be told still."""

import json
from typing import Any

import pytest

from app.catalog.tasks import TASKS
from tests.datasets.conftest import Workbench, jsonl
from tests.datasets.test_broken_files import GOOD, QUESTION, SPAN, parquet, squad

# A value of another kind, by the type of the field that has it; None where any value is one of some task.
WRONG: dict[str, Any] = {"text": 7, "words": "Ada", "tags": "O", "messages": "Hello", "answers": "Bob"}
FIELDS = [
    (spec.name, variant, field)
    for spec in TASKS.values()
    for variant in spec.variants
    for field in variant.required
    if field.type in WRONG
]


@pytest.mark.parametrize("throughout", [False, True], ids=["first", "throughout"])
@pytest.mark.parametrize(("task", "variant", "field"), FIELDS, ids=[f"{v.name} {f.name}" for _, v, f in FIELDS])
def test_a_task_is_told_from_columns_whatever_their_values(workbench: Workbench, task, variant, field, throughout):
    good = [dict(row) for row in variant.example]
    rows = [row | {field.name: WRONG[field.type]} if throughout or not index else row for index, row in enumerate(good)]
    error = workbench.refused(jsonl(rows), "a.jsonl", task=None)
    assert error.code != "wrong_task"
    assert (error.data["line"], error.data["field"]) == (1, field.name)
    assert error.data["total"] == (len(rows) if throughout else 1)
    told = workbench.refused(jsonl(rows), "a.jsonl", task=task, options=task_options(task, variant.name))
    assert (told.code, told.data["line"], told.data["total"]) == (error.code, 1, error.data["total"])


def task_options(task: str, variant: str) -> dict[str, str]:
    option = TASKS[task].variant_option
    return {option: variant} if option else {}


SPANS = {"text": "Ada", "label": [[0, 3, "PER"]]}
PAIR = {"translation": {"en": "a", "de": "b"}}
ANNOTATED = {"id": 1, "data": {"text": "Ada"}, "annotations": [{"result": [{"type": "labels", "value": SPAN}]}]}
TAGGED = b"Ada B-PER\nLovelace I-PER\n\n"
UNIT = b'<tu><tuv xml:lang="en"><seg>a</seg></tuv><tuv xml:lang="de"><seg>b</seg></tuv></tu>'
HALF = UNIT.replace(b'<tuv xml:lang="de"><seg>b</seg></tuv>', b"")


def array(*items: Any) -> bytes:
    return json.dumps(items).encode()


def tmx(*units: bytes) -> bytes:
    return b'<?xml version="1.0"?><tmx version="1.4"><body>' + b"".join(units) + b"</body></tmx>"


# Name, bytes, the code, how many problems there are.
FORMS: list[tuple[str, bytes, str, int]] = [
    ("a.jsonl", b"{'a'}\n" + jsonl([GOOD] * 5), "invalid_json", 1),
    ("a.jsonl", b"{'a'}\n" * 5, "invalid_json", 5),
    ("a.txt", b"garbage\n" + jsonl([GOOD] * 5), "invalid_json", 1),
    ("a", b"garbage\n" + jsonl([GOOD] * 5), "invalid_json", 1),
    ("a.csv", b"text,label\na,x,y\n" + b"a,x\n" * 5, "wrong_cell_count", 1),
    ("a.csv", b"text,label\n" + b"a,x,y\n" * 5, "wrong_cell_count", 5),
    ("a.ft", b"no label\n" + b"__label__x a\n" * 5, "no_label", 1),
    ("a.ft", b"no label\n" * 5, "no_label", 5),
    ("a.txt", b"no label\n" + b"__label__x a\n" * 5, "no_label", 1),
    ("a.conll", b"Ada\n\n" + TAGGED * 5, "wrong_cell_count", 1),
    ("a.conll", b"Ada\n\n" * 5, "wrong_cell_count", 5),
    ("a.txt", b"Ada\n\n" + TAGGED * 5, "wrong_cell_count", 1),
    ("a.txt", b"Ada Q-PER\n\n" + TAGGED * 5, "unknown_tag", 1),
    ("a.jsonl", jsonl([SPANS | {"label": "PER"}] + [SPANS] * 5), "malformed_spans", 1),
    ("a.jsonl", jsonl([SPANS | {"label": [[0, 3]]}] + [SPANS] * 5), "malformed_span", 1),
    ("a.jsonl", jsonl([SPANS | {"label": [[0, 9, "PER"]]}] * 5), "span_outside_text", 5),
    ("a.jsonl", jsonl([{"translation": "x"}] + [PAIR] * 5), "translation_not_object", 1),
    ("a.jsonl", jsonl([{"translation": "x"}] * 5), "translation_not_object", 5),
    ("a.jsonl", jsonl([{"id": 7, "translation": "x"}] * 5), "translation_not_object", 5),
    ("a.tmx", tmx(HALF, *[UNIT] * 5), "language_missing", 1),
    ("a.json", array(ANNOTATED | {"data": "Ada"}, *[ANNOTATED] * 5), "malformed_task", 1),
    ("a.json", array(*[ANNOTATED | {"annotations": [{"result": "x"}]}] * 5), "malformed_task", 5),
    ("a.json", array(ANNOTATED | {"annotations": [{"result": "x"}]}, *[ANNOTATED] * 5), "malformed_task", 1),
    ("a.json", array(*[ANNOTATED | {"annotations": []}] * 5), "not_annotated", 5),
    ("a.json", squad(7, *[QUESTION] * 5), "question_not_object", 1),
    ("a.json", squad(*[7] * 5), "question_not_object", 5),
    ("a.json", json.dumps({"version": "1.1", "data": [7, [], None]}).encode(), "article_not_object", 3),
    ("a.json", json.dumps({"version": "1.1", "data": [{"title": "x"}] * 2}).encode(), "paragraphs_not_list", 2),
    ("a.json", squad(QUESTION).replace(b'"data": [', b'"data": [{"paragraphs": 7}, '), "paragraphs_not_list", 1),
    ("a.parquet", parquet(tokens=[["Ada"]] * 3, ner_tags=["B-PER"] * 3), "tags_not_list", 3),
    ("a.parquet", parquet(messages=["x"] * 3), "messages_not_list", 3),
]


@pytest.mark.parametrize(("name", "data", "code", "count"), FORMS, ids=[f"{f[0]} {f[2]} {f[3]}" for f in FORMS])
def test_so_is_a_format_told_from_the_lines_that_are_whole(workbench: Workbench, name, data, code, count):
    error = workbench.refused(data, name, task=None)
    assert (error.code, error.data["total"]) == (code, count)
    assert error.data["line"] == (2 if name == "a.csv" else 1)


@pytest.mark.parametrize(
    ("name", "data", "task"),
    [
        ("a.txt", b"The blood group of Ada is O\n\nThat of Bob is AB\n", "fill-mask"),
        ("a.txt", b"name\tcode\nAda\tB-100\nBob\tI-200\n", "fill-mask"),
        ("a.tsv", b"text\tlabel\nAda\tO\n\nBob\tB-200\n\nEve\tB-200\n", "text-classification"),
        ("a.txt", b"To mark a label, write\n__label__ before it.\nThat is all.\n", "fill-mask"),
        ("a.jsonl", jsonl([{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}]), "text-classification"),
    ],
)
def test_what_only_looks_a_little_like_another_format_is_read_as_before(workbench: Workbench, name, data, task):
    assert workbench.report(data, name, task=None)["task"] == task
