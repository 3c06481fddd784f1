import csv
import io

import pytest

GOOD = b"text,label\ngood film,pos\nbad film,neg\n"


def table(reviews, delimiter=",", newline="\r\n") -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=newline)
    writer.writerow(["text", "label"])
    writer.writerows((review["text"], review["label"]) for review in reviews)
    return file.getvalue().encode()


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t"), ("a.tab", "\t"), ("a", ",")],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_records_are_the_same_with_every_delimiter_and_line_end(workbench, reviews, name, delimiter, newline):
    records = workbench.records(table(reviews, delimiter, newline), name)
    assert [{"text": record["text"], "label": record["label"]} for record in records] == reviews
    # The third text has a line break in it.
    assert [record["row"] for record in records] == [2, 3, 4, 6, 7, 8, 9, 10]


def test_the_report_names_the_delimiter(workbench, reviews):
    report = workbench.report(table(reviews, ";"), "a.csv")
    assert (report["format"], report["delimiter"]) == ("csv", ";")


def test_a_byte_order_mark_is_no_part_of_the_first_column(workbench):
    assert workbench.report(b"\xef\xbb\xbf" + GOOD, "a.csv")["fields"]["text"]["column"] == "text"


def test_blank_lines_are_counted_before_the_header_and_after_it(workbench):
    report = workbench.report(b"\n" + GOOD + b"\n  \n", "a.csv")
    assert (report["rows"], report["blank_lines"]) == (2, 3)


def test_lines_are_counted_from_the_top_of_the_file(workbench):
    records = workbench.records(b"\n\n" + GOOD, "a.csv")
    assert [record["row"] for record in records] == [4, 5]


@pytest.mark.parametrize(
    ("line", "code", "column", "fix"),
    [
        (b"a,b,c", "wrong_cell_count", None, "in double quotes"),
        (b"alone", "wrong_cell_count", None, "in double quotes"),
        (b'"a"b,c', "malformed_quotes", None, 'He said ""no""'),
        (b"a\rb,c", "malformed_quotes", None, "end lines with"),
        (b"a,", "empty_label", None, "give the record a label"),
        (b",b", "empty_text", None, "fill it in"),
        (b"a\0,b", "nul_byte", 2, "tr -d"),
        (b"caf\xe9,b", "not_utf8", 4, "iconv"),
    ],
)
def test_a_bad_row_is_named_and_reading_goes_on(workbench, line, code, column, fix):
    error = workbench.refused(GOOD + line + b"\ngood,pos\nx,y,z\n", "a.csv")
    assert (error.code, error.data["line"], error.data["column"]) == (code, 4, column)
    assert fix in error.message
    assert error.data["total"] == 2
    last = error.data["problems"][-1]
    assert last["first"][-1]["line"] == 6


def test_a_ragged_row_says_how_many_cells_were_expected_and_found(workbench):
    error = workbench.refused(GOOD + b"a,b,c\n", "a.csv")
    assert "3 cells where the header has 2 ('text', 'label')" in error.message


def test_an_unterminated_quote_names_the_line_and_column_where_it_opens(workbench):
    error = workbench.refused(GOOD + b'fine,"pos"\n"x ""y"" z,pos\n' + b"more,pos\n" * 5, "a.csv")
    assert (error.code, error.data["line"], error.data["column"]) == ("unterminated_quote", 5, 1)
    assert "twice" in error.message


def test_an_unterminated_quote_in_a_large_file_does_not_fill_the_memory(workbench):
    error = workbench.refused(GOOD + b'good,"x\n' + b"more,pos\n" * 5000, "a.csv", max_row_bytes=10_000)
    assert (error.code, error.data["line"], error.data["column"]) == ("unterminated_quote", 4, 6)
    assert "TAILOR_MAX_ROW_BYTES" in error.message


def test_a_header_alone_has_no_records(workbench):
    for data in (b"text,label\n", b"text,label"):
        error = workbench.refused(data, "a.csv")
        assert error.code == "no_records"
        assert "add records" in error.message


def test_a_column_named_twice_is_an_error(workbench):
    error = workbench.refused(b"text,label,text\na,b,c\n", "a.csv")
    assert (error.code, error.data["line"]) == ("duplicate_column", 1)
    assert "'text' twice" in error.message


def test_a_column_without_a_name_is_reported_and_not_used(workbench):
    report = workbench.report(b",text,label\n0,good,pos\n1,bad,neg\n", "a.csv")
    assert report["unused_columns"] == [""]
    warning = next(warning for warning in report["warnings"] if warning["code"] == "unnamed_column")
    assert warning["line"] == 1
    assert "index=False" in warning["fix"]


def test_a_broken_header_ends_the_reading(workbench):
    error = workbench.refused(b'"text"x,label\na,b\n', "a.csv")
    assert (error.code, error.data["line"], error.data["total"]) == ("malformed_quotes", 1, 1)
    error = workbench.refused(b"t\xe9xt,label\na,b\n", "a.csv")
    assert (error.code, error.data["line"], error.data["total"]) == ("not_utf8", 1, 1)


def test_a_file_without_header_says_that_the_first_line_names_the_columns(workbench):
    first = b"This is a rather long review of a film that I saw on Monday,1\n"
    error = workbench.refused(first * 3, "a.csv")
    assert error.code == "missing_column"
    assert "the first line must name the columns" in error.message


def test_numbers_stay_as_they_are_written(workbench):
    records = workbench.records(b"text,label\na b,01\nc d,1.0\n5,1\n", "a.csv")
    assert [(record["text"], record["label"]) for record in records] == [("a b", "01"), ("c d", "1.0"), ("5", "1")]


def test_old_macintosh_line_ends_say_how_to_convert_them(workbench):
    error = workbench.refused(GOOD.replace(b"\n", b"\r"), "a.csv")
    assert error.code == "carriage_return_lines"
    assert r"tr '\r' '\n'" in error.message
