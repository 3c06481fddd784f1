import json

import pytest

GOOD = b'{"text":"good film","label":"pos"}\n{"text":"bad film","label":"neg"}\n'


def test_records_keep_their_text_and_their_line(workbench, reviews, reviews_jsonl):
    records = workbench.records(b"\n" + reviews_jsonl, "reviews.jsonl")
    assert records == [{**review, "row": line} for line, review in enumerate(reviews, 2)]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(workbench):
    report = workbench.report(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"), "reviews.jsonl")
    assert report["rows"] == 2
    assert report["encoding"] == "utf-8-sig"


def test_blank_lines_are_counted_and_are_no_records(workbench):
    report = workbench.report(GOOD.replace(b"\n", b"\n \n\n"), "reviews.jsonl")
    assert (report["rows"], report["blank_lines"]) == (2, 4)


def test_a_last_line_without_a_line_end_is_read(workbench):
    assert workbench.report(GOOD.rstrip(), "reviews.jsonl")["rows"] == 2


@pytest.mark.parametrize(
    ("line", "code", "column", "fix"),
    [
        (b'{"text": "a", "label": "b"', "invalid_json", 27, "the object is cut off"),
        (b"{'text': 'a', 'label': 'b'}", "invalid_json", 2, "use double quotes"),
        (b'{"text": "a", "label": "b"},', "invalid_json", 28, "no comma between or after"),
        (b'{"text": "a\tb", "label": "b"}', "invalid_json", 12, r"\n and \t"),
        (b'{"text": "a" "label": "b"}', "invalid_json", 14, "json.dumps"),
        (b"some text, pos", "invalid_json", 1, "name a CSV file .csv"),
        (b'["a", "b"]', "not_an_object", 1, 'write {"text"'),
        (b"17", "not_an_object", 1, 'write {"text"'),
        (b"null", "not_an_object", 1, 'write {"text"'),
        (b'{"text": "a", "label": "b", "text": "c"}', "duplicate_key", None, "keep one of them"),
        (b'{"text": "a", "label": "b", "score": NaN}', "not_a_json_number", None, "write null"),
        (b'{"text": "a", "label": -Infinity}', "not_a_json_number", None, "write null"),
        (b'{"text": "a", "label": ' + b"1" * 5000 + b"}", "not_a_json_number", None, "write it as a string"),
        (b'{"text": ' + b"[" * 100_000, "too_deeply_nested", None, "flatten the record"),
        (b'{"text": "a\0b", "label": "b"}', "nul_byte", 12, "tr -d '\\0'"),
        (b'{"text": "a\\u0000b", "label": "b"}', "nul_character", None, "remove the NUL"),
        (b'{"text": "a \\ud83d", "label": "b"}', "lone_surrogate", None, "write the whole character"),
        (b'{"text": "caf\xe9", "label": "b"}', "not_utf8", 14, "iconv -f ISO-8859-1 -t UTF-8"),
        (b'{"text": "\x93quoted\x94", "label": "b"}', "not_utf8", 11, "iconv -f WINDOWS-1252 -t UTF-8"),
        ('{"text": "这部电影", "label": "b"}'.encode("gb18030"), "not_utf8", 11, "iconv -f GB18030 -t UTF-8"),
        (b'{"label": "b"}', "missing_field", None, "give every record the same fields"),
        (b'{"text": null, "label": "b"}', "empty_text", None, "leave the record out"),
        (b'{"text": " \\n", "label": "b"}', "empty_text", None, "leave the record out"),
        (b'{"text": 5, "label": "b"}', "text_is_number", None, "write it as a string"),
        (b'{"text": ["a"], "label": "b"}', "text_is_list", None, "give one string"),
        (b'{"text": {"a": 1}, "label": "b"}', "text_is_object", None, "give one string"),
        (b'{"text": "a", "label": null}', "empty_label", None, "leave the record out"),
        (b'{"text": "a", "label": " "}', "empty_label", None, "leave it out"),
        (b'{"text": "a", "label": 0.5}', "label_is_fraction", None, "regression"),
        (b'{"text": "a", "label": ["b"]}', "label_is_list", None, "one label"),
        (b'{"text": "a", "label": {"b": 1}}', "label_is_object", None, "give one string"),
        (b'{"text": "a", "label": "' + b"b" * 300 + b'"}', "label_too_long", None, "not swapped"),
    ],
)
def test_a_bad_line_is_named_with_its_fix(workbench, line, code, column, fix):
    error = workbench.refused(GOOD + line + b"\n" + GOOD, "reviews.jsonl")
    assert error.code == code
    assert error.data["line"] == 3
    assert error.data["column"] == column
    assert error.data["total"] == 1
    assert error.message.startswith("reviews.jsonl line 3")
    assert fix in error.message


def test_the_byte_offset_of_a_bad_byte_is_that_in_the_file(workbench):
    data = b"\xef\xbb\xbf" + GOOD + b'{"text": "caf\xe9", "label": "b"}\n'
    error = workbench.refused(data, "reviews.jsonl")
    assert f"byte 0xe9 at byte offset {data.index(0xE9)} " in error.message


def test_a_line_beyond_the_limit_is_skipped_and_reading_goes_on(workbench):
    long = b'{"text": "' + b"a" * 5000 + b'", "label": "b"}\n'
    error = workbench.refused(GOOD + long + b"{}\n" + long.rstrip(), "reviews.jsonl", max_row_bytes=2000)
    assert error.code == "row_too_long"
    assert "TAILOR_MAX_ROW_BYTES" in error.message
    assert [(problem["code"], problem["count"]) for problem in error.data["problems"]] == [
        ("row_too_long", 2),
        ("missing_field", 1),
        ("missing_field", 1),
    ]
    assert [place["line"] for place in error.data["problems"][0]["first"]] == [3, 5]


def test_a_line_of_exactly_the_limit_is_read(workbench):
    line = b'{"text": "' + b"a" * 976 + b'", "label": "b"}'
    assert workbench.report(line + b"\n" + GOOD, "a.jsonl", max_row_bytes=len(line))["rows"] == 3
    assert workbench.refused(b" " + line + b"\n" + GOOD, "a.jsonl", max_row_bytes=len(line)).data["line"] == 1


def test_all_problems_are_summarised_by_kind_with_the_first_ten_of_each(workbench):
    bad = b'{"text": "a"}\nnonsense\n{"text": 1, "label": null}\n'
    error = workbench.refused(GOOD + bad * 300, "reviews.jsonl")
    assert error.message.startswith("reviews.jsonl line 3: 'label': the field is missing; 1,199 more problems. Fix:")
    assert {problem["code"]: problem["count"] for problem in error.data["problems"]} == {
        "missing_field": 300,
        "invalid_json": 300,
        "text_is_number": 300,
        "empty_label": 300,
    }
    for problem in error.data["problems"]:
        assert len(problem["first"]) == 10
        assert problem["first"][0]["line"] == problem["line"]
        assert problem["fix"]
    assert [place["line"] for place in error.data["problems"][0]["first"][:3]] == [3, 6, 9]


def test_problems_stay_small_whatever_the_values(workbench):
    records = [{"text": ["x" * 10_000] * 10, "label": {"k" * 10_000: 1}} for _ in range(50)]
    error = workbench.refused(b"".join(json.dumps(record).encode() + b"\n" for record in records), "a.jsonl")
    assert len(json.dumps(error.data)) < 20_000
    error = workbench.refused(jsonl_keys(2000), "a.jsonl")
    assert len(error.message) < 3000


def jsonl_keys(count: int) -> bytes:
    return json.dumps({f"{'k' * 500}{number}": 1 for number in range(count)}).encode()


def test_an_array_of_arrays_is_refused(workbench):
    error = workbench.refused(b'[["a", "b"]]', "my reviews.json")
    assert (error.code, error.data["line"]) == ("json_document", 1)
    assert "objects with named fields" in error.message


def test_an_object_over_several_lines_says_how_to_make_a_line_of_it(workbench):
    error = workbench.refused(b'{\n  "text": "a",\n  "label": "b"\n}\n', "reviews.json")
    assert error.code == "json_document"
    assert "jq -c ." in error.message


def test_a_field_that_first_comes_late_in_the_file_is_found(workbench):
    lines = [b'{"text": "a"}\n'] * 900 + [b'{"text": "a", "label": "x"}\n']
    error = workbench.refused(b"".join(lines), "reviews.jsonl")
    assert (error.code, error.data["total"]) == ("missing_field", 900)


def test_a_file_without_one_good_line_is_read_to_its_end(workbench):
    error = workbench.refused(b"nonsense\n" * 5000, "reviews.jsonl")
    assert (error.code, error.data["total"]) == ("invalid_json", 5000)
