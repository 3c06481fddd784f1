import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

JSONL = b'{"text":"good film","label":"pos"}\n{"text":"bad film","label":"neg"}\n'
CSV = b"text,label\ngood film,pos\nbad film,neg\n"


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["good film", "bad film"], "label": ["pos", "neg"]}), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("filename", "data", "found"),
    [
        ("a.jsonl", JSONL, "jsonl"),
        ("a.NDJSON", JSONL, "jsonl"),
        ("a.json", JSONL, "jsonl"),
        ("a.csv", CSV, "csv"),
        ("a.tsv", CSV.replace(b",", b"\t"), "tsv"),
        ("a.pq", parquet(), "parquet"),
        ("a.b.csv.gz", gzip.compress(CSV), "csv"),
        ("a.csv", gzip.compress(CSV), "csv"),
        ("data", JSONL, "jsonl"),
        ("data", CSV, "csv"),
        ("data.txt", CSV.replace(b",", b"\t"), "tsv"),
        ("data", parquet(), "parquet"),
        ("", JSONL, "jsonl"),
        ("..", JSONL, "jsonl"),
        ("/", CSV, "csv"),
        (".gz", gzip.compress(JSONL), "jsonl"),
        ("a\nb\0.csv", CSV, "csv"),
    ],
)
def test_name_and_content_tell_the_format(workbench, filename, data, found):
    report = workbench.report(data, filename)
    assert (report["format"], report["rows"]) == (found, 2)
    assert "extension_mismatch" not in [warning["code"] for warning in report["warnings"]]


@pytest.mark.parametrize(
    ("filename", "data", "found"),
    [("a.csv", JSONL, "jsonl"), ("a.jsonl", parquet(), "parquet"), ("a.csv", parquet(), "parquet")],
)
def test_content_wins_over_a_wrong_name_and_the_report_says_so(workbench, filename, data, found):
    report = workbench.report(data, filename)
    assert (report["format"], report["rows"]) == (found, 2)
    warning = next(warning for warning in report["warnings"] if warning["code"] == "extension_mismatch")
    assert warning["fix"] == f"name it .{found}"


def test_a_gz_name_without_gzip_data_is_a_warning(workbench):
    report = workbench.report(JSONL, "a.jsonl.gz")
    assert report["compression"] is None
    assert report["warnings"][0]["code"] == "extension_mismatch"


def test_text_under_a_parquet_name_is_refused(workbench):
    error = workbench.refused(CSV, "a.parquet")
    assert error.code == "not_parquet"
    assert ".csv" in error.message


@pytest.mark.parametrize("data", [b"", b"\n", b"  \r\n\n", b"\xef\xbb\xbf", gzip.compress(b""), gzip.compress(b"\n")])
@pytest.mark.parametrize("filename", ["a.jsonl", "a.csv", "a", "a.csv.gz"])
def test_an_empty_file_is_refused(workbench, data, filename):
    error = workbench.refused(data, filename)
    assert error.code == "empty_file"
    assert "upload a file with records" in error.message


@pytest.mark.parametrize(
    ("data", "what", "fix"),
    [
        (b"PK\x03\x04rest", "ZIP archive or an Excel workbook", "save the sheet as CSV"),
        (b"\x28\xb5\x2f\xfdrest", "Zstandard", "unzstd"),
        (b"BZh9rest", "bzip2", "bunzip2"),
        (b"\xfd7zXZ\0rest", "xz data", "unxz"),
        (b"%PDF-1.7", "PDF", "extract"),
        (b"SQLite format 3\0", "SQLite", "export"),
        (b"ARROW1\0\0rest", "Arrow IPC", "Parquet"),
        (gzip.compress(gzip.compress(JSONL)), "gzip data inside gzip data", "gunzip"),
        (b"\x80\x04\x95rest", "pickle", "JSONL"),
    ],
)
def test_other_kinds_of_files_are_named_with_the_way_out(workbench, data, what, fix):
    error = workbench.refused(data, "a.csv")
    assert error.code == "unsupported_format"
    assert what in error.message
    assert fix in error.message


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("utf-16", "UTF-16"), ("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE"), ("utf-32", "UTF-32")],
)
@pytest.mark.parametrize("packed", [False, True])
def test_wide_encodings_are_named_with_the_command_that_converts_them(workbench, encoding, name, packed):
    data = CSV.decode().encode(encoding)
    error = workbench.refused(gzip.compress(data) if packed else data, "a.csv.gz" if packed else "a.csv")
    assert (error.code, error.data["line"], error.data["column"]) == ("not_utf8", 1, 1)
    read = "gzip -dc a.csv.gz" if packed else "cat a.csv"
    assert f"`{read} | iconv -f {name} -t UTF-8 > a.fixed.csv`" in error.message
