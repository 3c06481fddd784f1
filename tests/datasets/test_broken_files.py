"""Every format with a thousand bad records, and files of each task read as another."""

import io
import json
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.catalog.tasks import TASKS
from app.datasets.mapping import can_map
from tests.datasets.conftest import jsonl

LOTS = 1000
NER, QA = {"task": "token-classification"}, {"task": "question-answering"}
WIDE = {"max_row_bytes": 1 << 24}


def parquet(**columns: list[Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def squad(*questions: Any) -> bytes:
    return json.dumps({"version": "1.1", "data": [{"paragraphs": [{"context": "Ada", "qas": questions}]}]}).encode()


def studio(*tasks: Any) -> bytes:
    good = {"id": 1, "data": {"text": "Ada"}, "annotations": [{"result": [{"type": "labels", "value": SPAN}]}]}
    return json.dumps([good, *tasks]).encode()


SPAN = {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}
GOOD = {"text": "a", "label": "x"}
ANSWER = [{"text": "Ada", "answer_start": 0}]
QUESTION = {"id": "q", "question": "Who?", "answers": ANSWER}
SENTENCE = {"tokens": ["Ada"], "tags": ["B-PER"]}
# File name, bytes, what to say at the upload, the code, the position of the first bad record, and of its successor.
CASES: list[tuple[str, bytes, dict[str, Any], str, int, int]] = [
    ("broken.jsonl", jsonl([GOOD]) + b"{'a'}\n" * LOTS, {}, "invalid_json", 2, 3),
    ("array.jsonl", jsonl([GOOD]) + b"[1]\n" * LOTS, {}, "not_an_object", 2, 3),
    ("twice.jsonl", jsonl([GOOD]) + b'{"text": "a", "text": "b"}\n' * LOTS, {}, "duplicate_key", 2, 3),
    ("nan.jsonl", jsonl([GOOD]) + b'{"text": "a", "label": NaN}\n' * LOTS, {}, "not_a_json_number", 2, 3),
    ("empty.jsonl", jsonl([GOOD]) + jsonl([GOOD | {"text": " "}] * LOTS), {}, "empty_text", 2, 3),
    ("number.jsonl", jsonl([GOOD]) + jsonl([GOOD | {"text": 7}] * LOTS), {}, "text_is_number", 2, 3),
    ("missing.jsonl", jsonl([GOOD]) + jsonl([{"text": "a"}] * LOTS), {}, "missing_field", 2, 3),
    ("nul.jsonl", jsonl([GOOD]) + b'{"text": "a\\u0000", "label": "x"}\n' * LOTS, {}, "nul_character", 2, 3),
    ("half.jsonl", jsonl([GOOD]) + b'{"text": "a\\ud83d", "label": "x"}\n' * LOTS, {}, "lone_surrogate", 2, 3),
    ("latin.jsonl", jsonl([GOOD]) + b'{"text": "caf\xe9", "label": "x"}\n' * LOTS, {}, "not_utf8", 2, 3),
    ("broken.json", json.dumps([GOOD, *[7] * LOTS]).encode(), {}, "not_an_object", 2, 3),
    ("empty.json", json.dumps([GOOD, *[GOOD | {"label": ""}] * LOTS]).encode(), {}, "empty_label", 2, 3),
    ("ragged.csv", b"text,label\na,x\n" + b"a,x,y\n" * LOTS, {}, "wrong_cell_count", 3, 4),
    ("quotes.csv", b"text,label\na,x\n" + b'"a"b,x\n' * LOTS, {}, "malformed_quotes", 3, 4),
    ("empty.tsv", b"text\tlabel\na\tx\n" + b"a\t\n" * LOTS, {}, "empty_label", 3, 4),
    (
        "score.csv",
        b"text,score\na,1.5\n" + b"a,high\n" * LOTS,
        {"options": {"problem_type": "regression"}},
        "number_is_text",
        3,
        4,
    ),
    ("null.parquet", parquet(text=["a", *[None] * LOTS], label=["x"] * (LOTS + 1)), {}, "empty_text", 2, 3),
    ("plain.ft", b"__label__x a\n" + b"no label\n" * LOTS, {}, "no_label", 2, 3),
    ("late.ft", b"__label__x a\n" + b"__label__x a __label__y\n" * LOTS, {}, "label_in_text", 2, 3),
    ("lost.conll", b"Ada B-PER\n\n" + b"Ada\n\n" * LOTS, NER, "wrong_cell_count", 3, 5),
    ("start.conll", b"Ada S-PER\n\n" + b"Ada E-PER\n\n" * LOTS, NER, "illegal_tag_sequence", 3, 5),
    ("count.jsonl", jsonl([SENTENCE, *[SENTENCE | {"tags": []}] * LOTS]), NER, "tag_count", 2, 3),
    ("unknown.jsonl", jsonl([SENTENCE, *[SENTENCE | {"tags": ["PER"]}] * LOTS]), NER, "unknown_tag", 2, 3),
    (
        "outside.jsonl",
        jsonl([{"text": "Ada", "label": [[0, 3, "PER"]]}, *[{"text": "Ada", "label": [[0, 9, "PER"]]}] * LOTS]),
        NER,
        "span_outside_text",
        2,
        3,
    ),
    (
        "nolist.jsonl",
        jsonl([{"text": "Ada", "label": [[0, 3, "PER"]]}, *[{"text": "Ada", "label": "PER"}] * LOTS]),
        NER,
        "malformed_spans",
        2,
        3,
    ),
    (
        "studio.json",
        studio(*[{"id": 2, "data": "Ada", "annotations": [{"result": []}]}] * LOTS),
        NER,
        "malformed_task",
        2,
        3,
    ),
    ("bare.json", studio(*[{"id": 2, "data": {"text": "Ada"}, "annotations": []}] * LOTS), NER, "not_annotated", 2, 3),
    ("squad.json", squad(QUESTION, *[7] * LOTS), QA | WIDE, "question_not_object", 2, 3),
    (
        "lost.json",
        squad(QUESTION, *[QUESTION | {"answers": [{"text": "Bob", "answer_start": 0}]}] * LOTS),
        QA | WIDE,
        "answer_offset",
        2,
        3,
    ),
]


@pytest.mark.parametrize(("name", "data", "given", "code", "first", "second"), CASES, ids=[case[0] for case in CASES])
def test_a_thousand_errors_are_one_kind_with_the_first_ten(workbench, name, data, given, code, first, second):
    error = workbench.refused(data, name, **given)
    (problem,) = [problem for problem in error.data["problems"] if problem["code"] == code]
    assert error.code == code
    assert problem["count"] == error.data["total"] == LOTS
    assert [entry["line"] for entry in problem["first"]][:2] == [first, second]
    assert len(problem["first"]) == 10
    assert problem["line"] == error.data["line"] == first
    assert problem["message"]
    assert problem["fix"]
    assert "999 more problems" in error.message
    assert len(json.dumps(error.data)) < 10_000


EXAMPLES = {name: list(spec.variants[0].example) for name, spec in TASKS.items()}
# A text with a label is a text too: such a pair is no mistake that could be told.
PAIRS = [
    (name, other)
    for name, rows in EXAMPLES.items()
    for other, spec in TASKS.items()
    if name != other and not any(can_map(variant, {}, list(rows[0])) for variant in spec.variants)
]


@pytest.mark.parametrize(("holds", "told"), PAIRS, ids=[f"{a} read as {b}" for a, b in PAIRS])
def test_a_file_of_another_task_says_which_task_it_looks_like(workbench, holds, told):
    error = workbench.refused(jsonl(EXAMPLES[holds]), "a.jsonl", task=told)
    if list(EXAMPLES[holds][0]) == ["text"]:  # a column that many tasks have is a sign of none, and a hint
        assert error.code == "missing_column"
        assert re.search(rf"texts alone are data of ([\w-]+ or )*{holds}\b", error.message)
    else:
        assert error.code == "wrong_task", error.message
        assert f"look like {holds} data" in error.message
        assert f"upload it for the task {holds}" in error.message


OTHER_FORMS = [
    ("a.csv", b"text,label\nfine,good\n", "text-classification", "token-classification"),
    ("a.csv", b"review,sentiment\nfine,good\n", "text-classification", "question-answering"),
    ("a.ft", b"__label__x a text\n", "text-classification", "token-classification"),
    ("a.conll", b"Ada B-PER\nLovelace I-PER\n\nHi O\n", "token-classification", "text-classification"),
    ("a.jsonl", jsonl([{"text": "Ada", "label": [[0, 3, "PER"]]}]), "token-classification", "text-classification"),
    ("a.json", studio(), "token-classification", "question-answering"),
    ("a.json", squad(QUESTION), "question-answering", "text-classification"),
    ("a.json", squad(QUESTION), "question-answering", "token-classification"),
    ("a.parquet", parquet(tokens=[["Ada"]], ner_tags=[["B-PER"]]), "token-classification", "text-classification"),
]


@pytest.mark.parametrize(("name", "data", "holds", "told"), OTHER_FORMS)
def test_so_does_a_file_in_the_format_of_another_task(workbench, name, data, holds, told):
    error = workbench.refused(data, name, task=told)
    assert error.code == "wrong_task", error.message
    assert f"{holds} data" in error.message


def test_columns_that_several_tasks_take_are_named_with_the_tasks(workbench):
    both = {"text": "Ada lives", "label": "x", "tokens": ["Ada"], "tags": ["B-PER"]}
    error = workbench.refused(jsonl([both]), "a.jsonl", task=None, fitting_tasks=tuple(TASKS))
    assert (error.code, error.param) == ("task_in_doubt", "task")
    assert "'text-classification', 'token-classification'" in error.message
