import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.datasets.conftest import jsonl

RECORDS = [
    {"text": "A warm film.", "label": "good", "site": "a", "year": 1999, "seen": True},
    {"text": "A cold film.", "label": "bad", "site": "b", "year": 2001.5, "seen": None},
    {"text": "A lukewarm film.", "label": "bad", "site": None, "seen": False},
]
KEPT = [("a", "1999", "true"), ("b", "2001.5", None), (None, None, "false")]


def as_parquet(records) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), file)
    return file.getvalue()


def kept(records, *names):
    return [tuple(record.get(f"extra:{name}") for name in names) for record in records]


def test_columns_that_are_asked_for_stand_beside_the_fields_as_strings(workbench):
    records = workbench.records(jsonl(RECORDS), "a.jsonl", extras=("site", "year", "seen"))
    assert kept(records, "site", "year", "seen") == KEPT
    assert [record["text"] for record in records] == [record["text"] for record in RECORDS]


def test_every_format_with_columns_keeps_them(workbench):
    rows = [{"text": row["text"], "label": row["label"], "site": row["site"] or ""} for row in RECORDS]
    lines = [",".join(row.values()) for row in rows]
    files = {
        "a.csv": "\n".join(["text,label,site", *lines]).encode(),
        "a.jsonl.gz": gzip.compress(jsonl(rows)),
        "a.parquet": as_parquet(rows),
        "a.json": b"[" + b",".join(jsonl(rows).splitlines()) + b"]",
    }
    for name, data in files.items():
        assert kept(workbench.records(data, name, extras=("site",)), "site") == [("a",), ("b",), (None,)], name


def test_a_column_may_be_kept_although_a_field_is_read_from_it(workbench):
    for name, data in (("a.jsonl", jsonl(RECORDS)), ("a.parquet", as_parquet(RECORDS))):
        records = workbench.records(data, name, extras=("label",))
        assert kept(records, "label") == [("good",), ("bad",), ("bad",)]


def test_records_with_character_spans_keep_their_other_columns(workbench):
    records = [{"text": "Ada in Paris", "label": [[0, 3, "PER"]], "site": "a"}, {"text": "No one", "label": []}]
    found = workbench.records(jsonl(records), "a.jsonl", task="token-classification", extras=("site",))
    assert kept(found, "site") == [("a",), (None,)]
    assert found[0]["tags"] == ["B-PER", "O", "O"]


def test_the_report_names_them_and_they_are_not_unused(workbench):
    report = workbench.report(jsonl(RECORDS), "a.jsonl", extras=("site", "year"))
    assert report["extras"] == ["site", "year"]
    assert report["unused_columns"] == ["seen"]
    assert set(report["fields"]) == {"text", "label"}


def test_a_column_that_is_not_there_is_an_error_with_the_nearest_one(workbench):
    error = workbench.refused(jsonl(RECORDS), "a.jsonl", extras=("sites",))
    assert error.code == "missing_column"
    assert "'sites'" in error.message
    assert "Fix: name 'site'" in error.message


@pytest.mark.parametrize(("value", "code"), [([1], "extra_is_list"), ({"a": 1}, "extra_is_object")])
def test_a_kept_column_has_one_value_for_each_record(workbench, value, code):
    error = workbench.refused(jsonl([*RECORDS, RECORDS[0] | {"site": value}]), "a.jsonl", extras=("site",))
    assert (error.code, error.data["line"], error.data["field"]) == (code, 4, "site")


def test_the_domain_of_records_is_kept_unasked_and_never_wrong(workbench):
    domains = ["books", None, ["a list"], {"an": "object"}, 7]
    rows = [RECORDS[0] | {"domain": domain} for domain in domains]
    assert kept(workbench.records(jsonl(rows), "a.jsonl"), "domain") == [("books",), (None,), (None,), (None,), ("7",)]
    report = workbench.report(jsonl(rows), "a.jsonl", extras=("site",))
    assert report["extras"] == ["site", "domain"]
    assert report["unused_columns"] == ["year", "seen"]
    table = b"text,label,domain\nA warm film.,good,books\nA cold film.,bad,\n"
    assert kept(workbench.records(table, "a.csv"), "domain") == [("books",), (None,)]
    parquet = as_parquet([row | {"domain": ["a list"]} for row in RECORDS])
    assert kept(workbench.records(parquet, "a.parquet"), "domain") == [(None,)] * 3
    error = workbench.refused(jsonl(rows), "a.jsonl", extras=("domain",))
    assert error.code == "extra_is_list"
