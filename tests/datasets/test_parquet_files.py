import decimal
import io
import json
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def parquet(columns, schema=None, **options) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), file, **options)
    return file.getvalue()


TEXTS = ["good film", "bad film", "good film again"]


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_string_type_and_compression_is_read(workbench, reviews, kind, compression):
    texts, labels = ([review[name] for review in reviews] for name in ("text", "label"))
    if kind == pa.binary():
        texts = [text.encode() for text in texts]
    data = parquet({"text": pa.array(texts).cast(kind), "label": labels}, compression=compression)
    assert workbench.records(data, "a.parquet") == [
        {**review, "row": number} for number, review in enumerate(reviews, 1)
    ]


def test_record_numbers_go_on_over_row_groups_and_batches(workbench):
    count = 20_000
    data = parquet(
        {"text": [f"text {i}" for i in range(count)], "label": [i % 3 for i in range(count)]}, row_group_size=7001
    )
    records = workbench.records(data, "a.parquet")
    assert [record["row"] for record in records] == list(range(1, count + 1))
    assert records[-1] == {"text": "text 19999", "label": "1", "row": count}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pa.array([1, 0, 1], pa.int8()), ["1", "0", "1"]),
        (pa.array([2**63, 0, 1], pa.uint64()), [str(2**63), "0", "1"]),
        (pa.array([1.0, -2.0, 1.0]), ["1", "-2", "1"]),
        (pa.array([True, False, True]), ["true", "false", "true"]),
        (pa.array([decimal.Decimal("1.00"), decimal.Decimal("2.00"), decimal.Decimal("1.00")]), ["1", "2", "1"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    ],
)
def test_labels_of_every_scalar_type_become_text(workbench, labels, names):
    records = workbench.records(parquet({"text": TEXTS, "label": labels}), "a.parquet")
    assert [record["label"] for record in records] == names


@pytest.mark.parametrize(
    ("label", "code", "fix"),
    [
        (pa.array(["a", None, "a"]), "empty_label", "leave the record out"),
        (pa.array(["a", "", "a"]), "empty_label", "leave it out"),
        (pa.array(["a", None, "a"]).dictionary_encode(), "empty_label", "leave the record out"),
        (pa.array([[1], None, [2]]), "empty_labels", "leave the record out"),
        (pa.array([1.0, None, 0.5]), "empty_number", "leave the record out"),
        (pa.array([1.0, float("nan"), 2.0]), "empty_label", "leave it out"),
        (pa.array([b"a", b"\xff", b"c"]), "not_utf8", "as UTF-8 strings"),
    ],
)
def test_a_bad_label_names_its_row(workbench, label, code, fix):
    error = workbench.refused(parquet({"text": TEXTS, "label": label}), "a.parquet")
    assert (error.code, error.data["line"], error.data["unit"], error.data["total"]) == (code, 2, "row", 1)
    assert error.message.startswith("a.parquet row 2: 'label': ")
    assert fix in error.message


def test_a_text_that_is_not_utf8_names_its_row(workbench):
    texts = pa.array([b"good", b"caf\xe9", b"bad"]).view(pa.string())
    error = workbench.refused(parquet({"text": texts, "label": ["a", "b", "a"]}), "a.parquet")
    assert (error.code, error.data["line"]) == ("not_utf8", 2)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[date(2020, 1, 1)]] * 3),
        pa.array([date(2020, 1, 1)] * 3),
        pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
    ],
)
def test_a_column_of_another_type_is_named_with_its_type(workbench, column):
    error = workbench.refused(parquet({"text": TEXTS, "label": column}), "a.parquet")
    assert error.code == "wrong_column_type"
    assert error.param == "columns"
    assert error.data["field"] == "label"
    assert str(column.type)[:4] in error.message


def test_columns_of_any_type_that_are_not_used_do_not_matter(workbench):
    nested = pa.array([{"a": [1]}] * 3)
    report = workbench.report(parquet({"meta": nested, "text": TEXTS, "label": [1, 2, 1]}), "a.parquet")
    assert report["unused_columns"] == ["meta"]


def test_a_number_as_text_is_an_error(workbench):
    error = workbench.refused(parquet({"text": [1, 2, 3], "label": ["a", "b", "c"]}), "a.parquet")
    assert (error.code, error.data["total"]) == ("text_is_number", 3)


def test_a_value_beyond_the_limit_is_named_and_the_rest_is_read(workbench):
    texts = ["a" * 3000, "b", "c" * 3000, ""]
    error = workbench.refused(parquet({"text": texts, "label": list("abcd")}), "a.parquet", max_row_bytes=2000)
    assert [(p["code"], p["count"], p["line"]) for p in error.data["problems"]] == [
        ("row_too_long", 2, 1),
        ("empty_text", 1, 4),
    ]
    assert "TAILOR_MAX_ROW_BYTES" in error.message


def test_no_rows_no_columns_and_columns_of_one_name_are_errors(workbench):
    empty = parquet({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())})
    assert workbench.refused(empty, "a.parquet").code == "no_records"
    assert workbench.refused(parquet({}), "a.parquet").code == "missing_column"
    twice = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(TEXTS)] * 2, names=["text", "text"]), twice)
    error = workbench.refused(twice.getvalue(), "a.parquet")
    assert error.code == "duplicate_column"
    assert "'text'" in error.message


def test_a_cut_off_file_is_told_from_a_damaged_one(workbench):
    data = parquet({"text": TEXTS * 100, "label": ["a", "b", "c"] * 100})
    error = workbench.refused(data[:-100], "a.parquet")
    assert error.code == "truncated_parquet"
    assert "upload it again" in error.message
    name = data.index(b"label", len(data) // 2)
    for damaged in (
        data[:name] + b"\xff" + data[name + 1 :],
        data[:4] + b"\xff" * 50 + data[54:],
        data[:-60] + b"\xff" * 40 + data[-20:],
    ):
        error = workbench.refused(damaged, "a.parquet")
        assert error.code == "corrupt_parquet"
        assert "write the file again" in error.message


def test_an_encrypted_file_says_that_it_is_encrypted(workbench):
    data = parquet({"text": TEXTS, "label": TEXTS})
    error = workbench.refused(b"PARE" + data[4:-4] + b"PARE", "a.parquet")
    assert error.code == "encrypted_parquet"
    assert "unencrypted" in error.message


def test_a_gzipped_file_is_unpacked_and_the_copy_removed(workbench, reviews):
    import gzip

    data = parquet({"text": TEXTS, "label": ["a", "b", "a"]})
    assert len(workbench.records(gzip.compress(data), "a.parquet.gz")) == 3
    assert workbench.refused(gzip.compress(data[:-10]), "a.parquet.gz").code == "truncated_parquet"
    assert workbench.refused(gzip.compress(data)[:-10], "a.parquet.gz").code == "truncated_gzip"


def test_a_declared_size_beyond_the_limit_is_refused_before_reading(workbench):
    data = parquet({"text": ["a" * 1000 + str(i) for i in range(1000)], "label": [1] * 1000}, compression="zstd")
    error = workbench.refused(data, "a.parquet", max_decompressed_bytes=100_000)
    assert error.code == "decompression_bomb"
    assert "TAILOR_MAX_DECOMPRESSED_BYTES" in error.message
    assert "times the size of the file" in error.message


def test_one_long_value_repeated_by_the_dictionary_is_stopped_at_the_limit(workbench):
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["a" * 100_000]))
    data = parquet({"text": long, "label": [1] * 100_000}, compression="zstd")
    assert len(data) < 100_000
    error = workbench.refused(data, "a.parquet")
    assert error.code == "decompression_bomb"
    assert "TAILOR_MAX_DECOMPRESSED_BYTES" in error.message


def test_numbers_of_classes_get_the_names_that_hugging_face_datasets_keeps(workbench):
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
        "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
        "ner_tags": {"feature": {"names": ["O", "B-LOC", "I-LOC"], "_type": "ClassLabel"}, "_type": "Sequence"},
    }
    schema = pa.schema(
        [
            ("text", pa.string()),
            ("label", pa.int64()),
            ("tokens", pa.list_(pa.string())),
            ("ner_tags", pa.list_(pa.int64())),
        ],
        {"huggingface": json.dumps({"info": {"features": features}})},
    )
    columns = {"text": ["a b", "c d"], "label": [1, 0], "tokens": [["In", "New", "York"], ["x"]]}
    data = parquet(columns | {"ner_tags": [[0, 1, 2], [0]]}, schema=schema)
    assert [record["label"] for record in workbench.records(data, "a.parquet")] == ["pos", "neg"]
    records = workbench.records(data, "a.parquet", task="token-classification")
    assert [record["tags"] for record in records] == [["O", "B-LOC", "I-LOC"], ["O"]]
    unknown = parquet(columns | {"label": [1, -1], "ner_tags": [[0, 1, 2], [0]]}, schema=schema)
    assert workbench.refused(unknown, "a.parquet").code == "empty_label"
    broken = schema.with_metadata({"huggingface": "{"})
    plain = parquet(columns | {"ner_tags": [[0, 1, 2], [0]]}, schema=broken)
    assert [record["label"] for record in workbench.records(plain, "a.parquet")] == ["1", "0"]
