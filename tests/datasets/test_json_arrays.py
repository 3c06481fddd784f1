import json

import pytest

RECORDS = [{"text": f"film {number} 电影 🎬", "label": "ab"[number % 2]} for number in range(2000)]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a"])
def test_a_json_array_of_objects_is_read_record_by_record(workbench, indent, name, monkeypatch):
    monkeypatch.setattr("app.datasets.formats.json_array.BLOCK_BYTES", 1000)
    data = b"\xef\xbb\xbf" + json.dumps(RECORDS, indent=indent, ensure_ascii=False).encode() + b"\n"
    records = workbench.records(data, name)
    assert [record["text"] for record in records] == [record["text"] for record in RECORDS]
    assert [record["row"] for record in records] == list(range(1, 2001))
    report = workbench.report(data, name)
    assert (report["format"], report["unit"], report["rows"]) == ("json", "row", 2000)


@pytest.mark.parametrize(
    ("data", "code", "parts"),
    [
        (b'[{"text": "a", "label": "b"}', "invalid_json", ["cut off"]),
        (b'[{"text": "a", "label": "b"},', "invalid_json", ["cut off"]),
        (b'[{"text": "a",\n "label": }]', "invalid_json", ["row 1", "line 2 column 11", "json.dump"]),
        (b'[{"text": "a", "label": "b"}] x', "trailing_content", ["'x'"]),
        (b'[{"text": "a", "label": "b"}, 5]', "not_an_object", ["row 2", "5"]),
        (b'[{"text": "a", "text": "b", "label": "b"}]', "duplicate_key", ["'text'"]),
        (b'[{"text": "a", "label": NaN}]', "not_a_json_number", ["NaN"]),
        (b'[{"text": "caf\xe9", "label": "b"}]', "not_utf8", ["offset 14"]),
        (b'[{"text": "a"}, {"text": "b"}]', "missing_column", ["'label'"]),
        (b"[]", "missing_column", []),
    ],
)
def test_a_broken_array_is_named_with_its_record(workbench, data, code, parts):
    error = workbench.refused(data, "a.json")
    assert error.code == code
    for part in parts:
        assert part in error.message


def test_a_record_beyond_the_limit_is_named(workbench):
    data = json.dumps([{"text": "a", "label": "b"}, {"text": "x" * 5000, "label": "b"}]).encode()
    error = workbench.refused(data[:-200] + b"x" * 3_000_000 + data[-200:], "a.json", max_row_bytes=1000)
    assert (error.code, error.data["line"]) == ("row_too_long", 2)
