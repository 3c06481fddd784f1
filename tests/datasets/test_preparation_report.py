import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from app.datasets import lengths
from tests.datasets.conftest import jsonl


def csv_of(*records: tuple[str, str]) -> bytes:
    return "".join(f"{text},{label}\n" for text, label in [("text", "label"), *records]).encode()


def word_tokenizer(path: Path) -> str:
    """One token a word, one special token before and one after; saved with truncation and padding, as many are."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(path / "tokenizer.json"))
    return "tokenizer.json"


def warnings(report) -> dict[str, tuple[int, int | None]]:
    return {warning["code"]: (warning["count"], warning["line"]) for warning in report["warnings"]}


def test_the_report_of_a_small_file_is_complete(workbench, tmp_path):
    data = b'{"text":"a b c","label":"x","id":1}\n\n{"text":"d e","label":"y","id":2}\n'
    report = workbench.report(data, "a.jsonl", model="local/words", tokenizer=word_tokenizer(tmp_path), max_length=4)
    duplicates = {
        "checked_rows": 2,
        "texts": 0,
        "rows": 0,
        "same_label_texts": 0,
        "conflicting_texts": 0,
        "conflicting_rows": 0,
        "examples": [],
    }
    assert {key: value for key, value in report.items() if key != "warnings"} == {
        "task": "text-classification",
        "options": {"problem_type": "single_label_classification"},
        "filename": "a.jsonl",
        "format": "jsonl",
        "compression": None,
        "encoding": "utf-8",
        "delimiter": None,
        "bytes": len(data),
        "rows": 2,
        "unit": "line",
        "blank_lines": 1,
        "fields": {
            "text": {"column": "text", "found_by": "name"},
            "label": {"column": "label", "found_by": "name"},
        },
        "extras": [],
        "layout": None,
        "tag_scheme": None,
        "unused_columns": ["id"],
        "labels": {"x": 1, "y": 1},
        "numbers": None,
        "characters": {"min": 3, "p5": 3, "p50": 3, "p95": 5, "p99": 5, "max": 5, "mean": 4.0},
        "tokens": {
            "model": "local/words",
            "max_length": 4,
            "sampled_rows": 2,
            "lengths": {"min": 4, "p5": 4, "p50": 4, "p95": 5, "p99": 5, "max": 5, "mean": 4.5},
            "share_over_window": 0.5,
            "targets": None,
        },
        "tokens_reason": None,
        "duplicates": duplicates,
        "problems": [],
    }
    assert warnings(report) == {"rare_labels": (2, None), "over_window": (1, None)}


@pytest.mark.parametrize(
    ("task", "read", "written"), [("translation", "source", "target"), ("summarization", "document", "summary")]
)
def test_what_is_to_be_written_is_counted_in_tokens_too(workbench, tmp_path, task, read, written):
    rows = [{read: f"{number} x x", written: "y " * number} for number in (1, 2, 125, 126, 127, 300)]
    given = {"task": task, "model": "m", "tokenizer": word_tokenizer(tmp_path)}
    report = workbench.report(jsonl(rows), "a.jsonl", max_length=512, **given)
    assert report["tokens"]["lengths"]["max"] == 5
    assert report["tokens"]["targets"] == {
        "max_target_length": 128,
        "lengths": {"min": 3, "p5": 3, "p50": 127, "p95": 302, "p99": 302, "max": 302, "mean": 115.5},
        "share_over_max": 2 / 6,
    }
    (warning,) = [warning for warning in report["warnings"] if warning["code"] == "over_target_length"]
    assert "33.3% of the texts to be written are longer than 128 tokens" in warning["message"]
    assert "the longest has 302 tokens" in warning["fix"]
    narrow = workbench.report(jsonl(rows[:2]), "a.jsonl", max_length=3, **given)
    assert narrow["tokens"]["targets"]["max_target_length"] == 3
    assert narrow["tokens"]["targets"]["share_over_max"] == 0.5
    fitting = workbench.report(jsonl(rows[:3]), "a.jsonl", max_length=None, **given)
    assert fitting["tokens"]["targets"]["share_over_max"] == 0
    assert "over_target_length" not in warnings(fitting)


def test_percentiles_are_the_nearest_rank_of_all_lengths(workbench):
    report = workbench.report(csv_of(*(("x" * length, "a") for length in range(1, 201))), "a.csv")
    expected = {"min": 1, "p5": 10, "p50": 100, "p95": 190, "p99": 198, "max": 200, "mean": 100.5}
    assert report["characters"] == expected


def test_a_large_file_is_tokenised_in_part_and_says_so(workbench, tmp_path, monkeypatch):
    monkeypatch.setattr(lengths, "SAMPLED_ROWS", 100)
    data = csv_of(*((f"word {number}", "ab"[number % 2]) for number in range(1001)))
    report = workbench.report(data, "a.csv", model="m", tokenizer=word_tokenizer(tmp_path), max_length=8)
    assert report["tokens"]["sampled_rows"] == 91
    assert report["tokens"]["share_over_window"] == 0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "no model was named"),
        ({"model": "m"}, "m has no tokenizer.json"),
        ({"model": "m", "tokenizer": "none.json"}, "the tokenizer of m cannot be read"),
        ({"model": "m", "tokenizer": "source"}, "the tokenizer of m cannot be read"),
    ],
)
def test_without_a_tokenizer_the_report_says_why_there_are_no_token_lengths(workbench, given, reason):
    report = workbench.report(csv_of(("a b", "x")), "a.csv", **given)
    assert report["tokens"] is None
    assert reason in report["tokens_reason"]


def test_duplicates_are_told_from_conflicting_ones(workbench):
    data = csv_of(
        ("good film", "pos"),
        ("Good  FILM", "pos"),
        ("bad film", "neg"),
        ("bad film", "pos"),
        (" bad film", "neg"),
        ("x y", "pos"),
    )
    report = workbench.report(data, "a.csv")
    assert report["duplicates"] == {
        "checked_rows": 6,
        "texts": 2,
        "rows": 5,
        "same_label_texts": 1,
        "conflicting_texts": 1,
        "conflicting_rows": 3,
        "examples": [{"rows": [4, 5, 6], "labels": ["neg", "pos"]}],
    }
    assert warnings(report)["conflicting_duplicates"] == (1, 4)
    assert warnings(report)["duplicates"] == (1, None)


def test_duplicates_with_one_label_name_the_first_rows(workbench):
    report = workbench.report(csv_of(("a b", "x"), ("c d", "y"), ("a b", "x")), "a.csv")
    assert report["duplicates"]["examples"] == [{"rows": [2, 4], "labels": ["x"]}]
    assert warnings(report)["duplicates"] == (1, 2)


def test_warnings_point_to_the_lines(workbench):
    data = csv_of(
        *((f"film {number}", "pos") for number in range(50)),
        ("?!", "neg"),
        ("caf\ufffd", "neg"),
        ("Tom &amp; Jerry<br />fun", "neg"),
        ("1 < 2 && x > y", "neg"),
        ("fine film", "Pos"),
    )
    report = workbench.report(data, "a.csv")
    assert warnings(report) == {
        "class_imbalance": (1, None),
        "rare_labels": (2, None),
        "label_case": (1, None),
        "no_words": (1, 52),
        "replacement_character": (1, 53),
        "html": (1, 54),
    }
    assert all(warning["fix"] for warning in report["warnings"])


def test_one_label_only_is_a_warning_here_and_left_to_training(workbench):
    report = workbench.report(csv_of(("a b", "x"), ("c d", "x")), "a.csv")
    assert warnings(report)["single_label"] == (1, None)


def test_labels_are_listed_from_the_most_frequent_on(workbench):
    report = workbench.report(csv_of(("a", "x"), ("b", "y"), ("c", "y")), "a.csv")
    assert list(report["labels"].items()) == [("y", 2), ("x", 1)]


def test_records_have_the_fields_of_the_task_and_the_row(workbench):
    prepared = workbench.prepare(csv_of(("a b", "x")), "a.csv")
    schema = pq.read_schema(workbench.run_dir / prepared.records_path)
    assert [(field.name, str(field.type)) for field in schema] == [
        ("text", "string"),
        ("text_pair", "string"),
        ("label", "string"),
        ("row", "int64"),
    ]


def test_row_groups_are_bounded(workbench):
    data = b"".join(json.dumps({"text": "x" * 90_000, "label": i % 2}).encode() + b"\n" for i in range(500))
    prepared = workbench.prepare(data, "a.jsonl")
    metadata = pq.read_metadata(workbench.run_dir / prepared.records_path)
    assert metadata.num_rows == 500
    assert metadata.num_row_groups >= 2


def test_a_second_attempt_in_the_same_directory_starts_clean(workbench):
    workbench.prepare(csv_of(("a b", "x")), "a.csv")
    assert workbench.refused(b"text,label\nx\n", "a.csv").code == "wrong_cell_count"
    assert workbench.records(csv_of(("a b", "x")), "a.csv") == [{"text": "a b", "label": "x", "row": 2}]
