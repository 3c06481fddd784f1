"""SQuAD's JSON document, and the same questions as flattened JSONL."""

import gzip
import json
from typing import Any

import pytest

from tests.datasets.conftest import jsonl

CONTEXT = "😀 Tokyo is the capital of Japan. Tokyo is large."
QAS: list[dict[str, Any]] = [
    {"id": "q1", "question": "What is the capital?", "answers": [{"text": "Tokyo", "answer_start": 2}]},
    {
        "id": "q2",
        "question": "Where is it?",
        "answers": [{"text": "Japan", "answer_start": 26}, {"text": "of Japan", "answer_start": 23}],
    },
]
IMPOSSIBLE = {
    "id": "q3",
    "question": "Who rules it?",
    "answers": [],
    "is_impossible": True,
    "plausible_answers": [{"text": "Tokyo", "answer_start": 2}],
}
RECORDS = [
    {
        "id": qa["id"],
        "question": qa["question"],
        "context": CONTEXT,
        "answers": {name: [answer[name] for answer in qa["answers"]] for name in ("text", "answer_start")},
        "row": row,
    }
    for row, qa in enumerate([*QAS, IMPOSSIBLE], 1)
]


def document(*qas: Any, version: str = "v2.0", **paragraph: Any) -> dict[str, Any]:
    content = {"context": CONTEXT, "qas": list(qas)} | paragraph
    return {"version": version, "data": [{"title": "Tokyo", "paragraphs": [content]}]}


VERSION_1 = document(*QAS, version="1.1")
VERSION_2 = document(*[qa | {"is_impossible": False} for qa in QAS], IMPOSSIBLE)


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(VERSION_2).encode(),
        json.dumps(VERSION_2, indent=2, ensure_ascii=False).encode(),
        json.dumps(VERSION_2, sort_keys=True).encode(),
        b"\xef\xbb\xbf" + json.dumps(VERSION_2).encode(),
        gzip.compress(json.dumps(VERSION_2).encode()),
    ],
    ids=["on one line", "on many lines", "with sorted keys", "with a byte-order mark", "compressed"],
)
@pytest.mark.parametrize("task", ["question-answering", None])
def test_every_way_to_write_the_document_gives_the_same_records(workbench, data, task):
    assert workbench.records(data, "dev.json", task=task) == RECORDS


def test_version_1_has_no_is_impossible(workbench):
    assert workbench.records(json.dumps(VERSION_1).encode(), "train.json", task=None) == RECORDS[:2]


def test_flattened_lines_are_the_same_records(workbench):
    rows = [{name: value for name, value in record.items() if name != "row"} for record in RECORDS]
    assert workbench.records(jsonl(rows), "dev.jsonl", task=None) == RECORDS


def test_the_report_counts_questions_and_warns_of_nothing(workbench):
    report = workbench.report(json.dumps(VERSION_2).encode(), "dev.json", task=None)
    assert (report["task"], report["format"], report["rows"], report["unit"]) == (
        "question-answering",
        "squad",
        3,
        "row",
    )
    assert report["warnings"] == []


def test_another_name_is_mentioned_and_does_no_harm(workbench):
    report = workbench.report(json.dumps(VERSION_2).encode(), "dev.jsonl", task=None)
    assert [warning["code"] for warning in report["warnings"]] == ["extension_mismatch"]


def test_many_paragraphs_are_read_whatever_the_blocks_they_fall_into(workbench):
    articles = [
        {"title": f"é{number}", "paragraphs": [{"context": f"{'é' * 900} x{number}", "qas": [
            {"id": number, "question": "?!a", "answers": [{"text": f"x{number}", "answer_start": 901}]}]}]}
        for number in range(300)
    ]  # fmt: skip
    data = json.dumps({"data": articles}, ensure_ascii=False).encode()
    assert len(data) > 4 * 65_536
    records = workbench.records(data, "train.json", task=None)
    assert [record["id"] for record in records] == list(map(str, range(300)))
    assert [record["row"] for record in records] == list(range(1, 301))


PRETTY = json.dumps(VERSION_2, indent=1)


@pytest.mark.parametrize(
    ("data", "code", "place"),
    [
        (PRETTY.replace('"qas"', "qas", 1).encode(), "invalid_json", "line 9 column 6"),
        (PRETTY.replace("Who rules", "Who \\q rules").encode(), "invalid_json", "line "),
        (PRETTY[:-60].encode(), "truncated_json", "cut off"),
        ((PRETTY + "]").encode(), "invalid_json", "trailing garbage"),
        (PRETTY.replace("Who", "Wh\u00f3").encode("latin-1"), "not_utf8", "iconv -f ISO-8859-1"),
    ],
    ids=["a key without quotes", "a bad escape", "cut off", "more behind the end", "Latin-1"],
)
def test_a_damaged_document_says_where(workbench, data, code, place):
    error = workbench.refused(data, "dev.json", task=None)
    assert error.code == code
    assert place in error.message


def test_damage_behind_the_first_block_is_placed_by_line_and_byte(workbench):
    qas = [QAS[0] | {"id": str(number)} for number in range(2000)]
    text = json.dumps(document(*qas), indent=1, ensure_ascii=True)
    line = text.split("\n").index('       "id": "1500",') + 1
    broken = text.replace('"id": "1500"', '"id": nil', 1)
    error = workbench.refused(broken.encode(), "dev.json", task=None)
    assert f"line {line} column 15" in error.message
    byte = broken.encode().index(b"nil") + 2
    assert f"(byte {byte:,} of the file)" in error.message


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (
            document(*QAS, IMPOSSIBLE | {"answers": [{"text": "Tokyo", "answer_start": 2}]}),
            "impossible_with_answers",
            "q3",
        ),
        (document(*QAS, IMPOSSIBLE | {"is_impossible": False}), "possible_without_answers", "q3"),
        (document(*QAS, {"id": "q4", "question": "Why?"}), "missing_field", "answers"),
        (document(*QAS, {"id": "q4", "answers": []}), "missing_field", "question"),
        (document(*QAS, "why?"), "question_not_object", "data[0].paragraphs[0].qas[2]"),
        ({"data": [*VERSION_1["data"], {"paragraphs": [{"context": "x"}]}]}, "qas_not_list", "data[1].paragraphs[0]"),
        ({"data": [*VERSION_1["data"], {"paragraphs": ["x"]}]}, "paragraph_not_object", "data[1].paragraphs[0]"),
    ],
)
def test_what_a_question_lacks_is_named_with_its_number(workbench, content, code, message):
    error = workbench.refused(json.dumps(content).encode(), "dev.json", task=None)
    assert (error.code, error.data["line"], error.data["unit"]) == (code, 3, "row")
    assert message in error.message


def test_a_document_without_questions_is_refused(workbench):
    assert workbench.refused(b'{"version": "1.1", "data": []}', "dev.json", task=None).code == "no_records"


def test_a_paragraph_without_end_is_refused_before_it_fills_the_memory(workbench):
    content = document(*QAS, context="x" * 3_000_000)
    error = workbench.refused(json.dumps(content).encode(), "dev.json", task=None, max_row_bytes=1 << 20)
    assert error.code == "row_too_long"
    assert "TAILOR_MAX_ROW_BYTES" in error.message


def test_questions_uploaded_for_another_task_say_what_they_look_like(workbench):
    error = workbench.refused(json.dumps(VERSION_2).encode(), "dev.json", task="text-classification")
    assert error.code == "wrong_task"
    assert "question-answering" in error.message


def test_a_thousand_misplaced_answers_are_counted_and_the_first_ten_shown(workbench):
    rows = [
        {"context": CONTEXT, "question": "?a", "answers": {"text": ["Tokyo"], "answer_start": [7]}} for _ in range(1000)
    ]
    error = workbench.refused(jsonl(rows), "dev.jsonl", task=None)
    (problem,) = error.data["problems"]
    assert (problem["code"], problem["count"], len(problem["first"])) == ("answer_offset", 1000, 10)


@pytest.mark.parametrize(
    ("text", "start", "found", "fix"),
    [
        (
            "Japan",
            29,
            "'n. To'",
            "count code points from 0, not bytes, as answer_start 29 does: the answer stands at 26",
        ),
        ("Japan", 27, "'apan.'", "not UTF-16 code units, as answer_start 27 does: the answer stands at 26"),
        ("Tokyo", 30, "'n. '", "stands at 33, the nearest of 2 places"),
        ("Kyoto", 2, "'Tokyo'", "it stands nowhere in the context."),
        ("tokyo", 2, "'Tokyo'", "nowhere in the context in this case of its letters"),
        (" Japan.\n", 25, "' Japan. '", "nowhere in the context with the white space around it"),
        ("Japan", 500, "''", "the answer stands at 26"),
    ],
)
def test_an_answer_that_is_not_where_it_is_said_to_be_shows_both_strings_and_the_fix(
    workbench, text, start, found, fix
):
    qa = {"id": "q", "question": "Where?", "answers": [{"text": text, "answer_start": start}]}
    error = workbench.refused(json.dumps(document(qa)).encode(), "dev.json", task=None)
    assert (error.code, error.data["line"]) == ("answer_offset", 1)
    assert repr(text) in error.message
    assert found.strip("'")[:3] in error.message
    assert fix in error.message


def test_an_empty_answer_is_no_way_to_say_unanswerable(workbench):
    qa = {"id": "q", "question": "Where?", "answers": [{"text": "", "answer_start": 0}]}
    error = workbench.refused(json.dumps(document(qa)).encode(), "dev.json", task=None)
    assert error.code == "empty_answer"
    assert "empty lists" in error.message
