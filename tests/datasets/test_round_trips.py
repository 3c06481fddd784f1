import csv
import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def as_csv(reviews, delimiter) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, ["label", "text"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(reviews)
    return file.getvalue().encode()


def as_parquet(reviews) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(reviews), file, compression="zstd")
    return file.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_every_format_gives_the_same_records_and_counts(workbench, reviews, reviews_jsonl, packed):
    files = {
        "a.jsonl": reviews_jsonl,
        "a.csv": as_csv(reviews, ";"),
        "a.tsv": as_csv(reviews, "\t"),
        "a.parquet": as_parquet(reviews),
    }
    records, reports = [], []
    for filename, data in files.items():
        data, filename = (gzip.compress(data), f"{filename}.gz") if packed else (data, filename)
        records.append([(record["text"], record["label"]) for record in workbench.records(data, filename)])
        reports.append(workbench.report(data, filename))
    assert records == [[(review["text"], review["label"]) for review in reviews]] * len(files)
    for report in reports:
        for key in ("rows", "labels", "characters", "duplicates", "unused_columns"):
            assert report[key] == reports[0][key]
