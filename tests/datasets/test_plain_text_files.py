import gzip
from typing import Any

import pytest

from app.datasets.formats.plain_text import DOCUMENT_CHARACTERS
from tests.datasets.conftest import Workbench, jsonl

TEXT = b"\xef\xbb\xbf\nThe first document, in two lines,\r\nof which this is the second.\r\n\r\n \r\nThe second one.\n"
DOCUMENTS = [
    {"text": "The first document, in two lines,\nof which this is the second.", "row": 2},
    {"text": "The second one.", "row": 6},
]


@pytest.mark.parametrize("task", ["fill-mask", "text-generation"])
@pytest.mark.parametrize("filename", ["a.txt", "a.md", "a", "a.log"])
def test_documents_are_what_stands_between_blank_lines(workbench: Workbench, task: str, filename: str) -> None:
    assert workbench.records(TEXT, filename, task=task) == DOCUMENTS
    report = workbench.report(gzip.compress(TEXT), f"{filename}.gz", task=task)
    assert (report["format"], report["rows"], report["blank_lines"]) == ("text", 2, 3)
    assert report["options"] == ({} if task == "fill-mask" else {"format": "text"})


def test_a_passage_without_a_blank_line_is_cut_at_a_line_end_and_nothing_is_lost(workbench: Workbench) -> None:
    line = "One text a line, as many corpora have it."
    lines = 3 * DOCUMENT_CHARACTERS // len(line)
    found = workbench.records(f"{line}\n".encode() * lines, "a.txt", task="fill-mask")
    assert len(found) in (3, 4)
    assert "\n".join(document["text"] for document in found).split("\n") == [line] * lines


def test_bytes_that_are_no_text_are_named_with_their_line(workbench: Workbench) -> None:
    error = workbench.refused(b"good\n\nb\xe9d\n", "a.txt", task="fill-mask")
    assert (error.code, error.data["line"], error.data["column"]) == ("not_utf8", 3, 2)


@pytest.mark.parametrize(
    ("filename", "data", "found"),
    [
        ("a.jsonl", jsonl([{"text": "a"}]), "jsonl"),
        ("a.txt", jsonl([{"text": "a"}]), "jsonl"),
        ("a.csv", b"text\na\n", "csv"),
        ("a.txt", b"text\tlabel\na\tb\n", "tsv"),
    ],
)
def test_texts_in_fields_are_read_as_fields(workbench: Workbench, filename: str, data: bytes, found: str) -> None:
    report = workbench.report(data, filename, task="fill-mask")
    assert (report["format"], report["rows"], report["fields"]["text"]["column"]) == (found, 1, "text")


@pytest.mark.parametrize(
    "beside",
    [{"label": "positive"}, {"label": [[0, 5, "LOC"]]}, {"label": ["a", "b"]}, {"text_pair": "second", "label": 0.5}],
)
def test_what_stands_beside_texts_does_not_matter_where_they_are_read_as_texts(
    workbench: Workbench, beside: dict[str, Any]
) -> None:
    data = jsonl([{"text": "Paris in spring"} | beside])
    report = workbench.report(data, "a.jsonl", task="fill-mask")
    assert (report["layout"], report["unused_columns"]) == (None, sorted(beside, reverse=True))
    assert [record["text"] for record in workbench.records(data, "a.jsonl", task="fill-mask")] == ["Paris in spring"]


@pytest.mark.parametrize("data", [TEXT, jsonl([{"text": "a"}])])
def test_without_a_model_a_mere_text_stays_in_doubt_and_is_read(workbench: Workbench, data: bytes) -> None:
    report = workbench.report(data, "a.txt", task=None)
    assert report["task"] == "fill-mask"
    (warning,) = [warning for warning in report["warnings"] if warning["code"] == "task_in_doubt"]
    assert "'text-generation'" in warning["message"]


@pytest.mark.parametrize("task", ["fill-mask", "text-generation"])
def test_the_tasks_that_a_model_fits_settle_the_doubt(workbench: Workbench, task: str) -> None:
    given = {"model": "m", "fitting_tasks": ("text-classification", task)}
    report = workbench.report(TEXT, "a.txt", task=None, **given)
    assert report["task"] == task
    assert not [warning for warning in report["warnings"] if warning["code"] == "task_in_doubt"]


def test_a_model_of_which_nothing_is_known_leaves_the_doubt_to_the_client(workbench: Workbench) -> None:
    error = workbench.refused(TEXT, "a.txt", task=None, model="m", fitting_tasks=())
    assert (error.code, error.param) == ("task_in_doubt", "task")
    assert "'fill-mask', 'text-generation'" in error.message


def test_a_text_beside_other_columns_is_no_mere_text(workbench: Workbench) -> None:
    error = workbench.refused(jsonl([{"text": "a", "stars": 3}]), "a.jsonl", task=None)
    assert error.code == "missing_column"


@pytest.mark.parametrize(
    ("filename", "data", "code"),
    [("a.txt", b"Prose.\n", "wrong_task"), ("a.jsonl", jsonl([{"text": "a"}]), "missing_column")],
)
def test_mere_texts_for_another_task_are_refused_with_those_that_read_them(
    workbench: Workbench, filename: str, data: bytes, code: str
) -> None:
    error = workbench.refused(data, filename, task="text-classification")
    assert error.code == code
    assert "fill-mask or text-generation" in error.message
