"""Whatever bytes come, preparation ends in records or in a DataError, and leaves nothing else behind."""

import gzip
import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.datasets.errors import DataError
from app.datasets.prepare import Prepared

SEEDS = 60


def whole_file(kind, reviews, reviews_jsonl) -> bytes:
    if kind == "jsonl":
        return reviews_jsonl * 3
    if kind == "jsonl.gz":
        return gzip.compress(reviews_jsonl, mtime=0) + gzip.compress(reviews_jsonl, mtime=0)
    if kind == "csv":
        rows = [f'"{review["text"].replace(chr(34), chr(34) * 2)}",{review["label"]}' for review in reviews]
        return "\n".join(["text,label", *rows]).encode()
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(reviews * 20), file, compression="snappy", row_group_size=50)
    return file.getvalue()


def damaged(data: bytes, chance: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(broken) + 1)
        length = chance.choice((1, 1, 2, 7, 40))
        match chance.randrange(5):
            case 0:
                broken[at : at + length] = chance.randbytes(length)
            case 1:
                del broken[at : at + length]
            case 2:
                broken[at:at] = chance.choice((b'"', b"\n", b"\0", b"\r", b"{", b"\xff", b",", b"\xe2\x82", b'"\n"'))
            case 3:
                broken[at:at] = broken[at : at + length]
            case _:
                del broken[at:]
        if not broken:
            break
    return bytes(broken)


def outcome(workbench, data: bytes, filename: str) -> Prepared | DataError:
    try:
        return workbench.prepare(data, filename, max_row_bytes=5000)
    except DataError as error:
        return error


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_random_damage_ends_in_records_or_in_a_data_error(workbench, reviews, reviews_jsonl, kind):
    data = whole_file(kind, reviews, reviews_jsonl)
    outcomes = set()
    for seed in range(SEEDS):
        broken = damaged(data, random.Random(f"{kind} {seed}"))
        prepared = outcome(workbench, broken, f"a.{kind}")
        if isinstance(prepared, DataError):
            assert "Fix: " in prepared.message, seed
            assert workbench.left_behind() == ["source"], seed
            outcomes.add(prepared.code)
        else:
            records = pq.read_table(workbench.run_dir / prepared.records_path)
            assert records.num_rows == prepared.report["rows"], seed
            assert all(text.strip() for text in records["text"].to_pylist()), seed
            outcomes.add("prepared")
    assert len(outcomes) > 2


def test_random_bytes_are_never_records(workbench):
    for seed in range(100):
        chance = random.Random(seed)
        head = chance.choice((b"", b"{", b'{"text"', b"PAR1", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0", b"text,label\n"))
        with pytest.raises(DataError):
            workbench.prepare(head + chance.randbytes(chance.randrange(2000)), chance.choice(("a", "a.csv", "a.jsonl")))
