import gzip

import pytest

LINE = b'{"text":"good film","label":"pos"}\n'


def test_a_gzipped_file_gives_the_same_records(workbench, reviews, reviews_jsonl, reviews_gz):
    assert workbench.records(reviews_gz, "a.jsonl.gz") == workbench.records(reviews_jsonl, "a.jsonl")
    report = workbench.report(reviews_gz, "a.jsonl.gz")
    assert (report["format"], report["compression"], report["bytes"]) == ("jsonl", "gzip", len(reviews_gz))


def test_members_one_after_the_other_and_padding_are_one_file(workbench):
    data = gzip.compress(LINE[:10]) + gzip.compress(b"") + b"\0" * 700 + gzip.compress(LINE[10:] + LINE) + b"\0" * 9
    assert workbench.report(data, "a.jsonl.gz")["rows"] == 2


def test_many_blocks_are_read_as_one_stream(workbench):
    lines = [b'{"text":"film %d","label":"%d"}\n' % (number, number % 7) for number in range(100_000)]
    assert workbench.report(gzip.compress(b"".join(lines), 1), "a.jsonl.gz")["rows"] == len(lines)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda data: data[:-4], "truncated_gzip"),
        (lambda data: data[: len(data) // 2], "truncated_gzip"),
        (lambda data: data[:5], "truncated_gzip"),
        (lambda data: data + b"trailing", "trailing_garbage"),
        (lambda data: data + b"x", "trailing_garbage"),
        (lambda data: data[:-8] + b"\0\0\0\0" + data[-4:], "corrupt_gzip"),
        (lambda data: data[:12] + b"\xff\xff\xff\xff" + data[16:], "corrupt_gzip"),
    ],
)
def test_damaged_data_says_how_and_what_to_do(workbench, damage, code):
    error = workbench.refused(damage(gzip.compress(LINE * 50, mtime=0)), "a.jsonl.gz")
    assert error.code == code
    assert "gzip -t" in error.message


def test_problems_before_the_damage_are_reported_too(workbench):
    data = gzip.compress(b'{"text":"x"}\n' * 3 + LINE * 200_000)
    error = workbench.refused(data[:-20], "a.jsonl.gz")
    assert error.code == "truncated_gzip"
    assert "3 more problems" in error.message


def test_more_than_the_limit_is_a_bomb_with_its_ratio(workbench):
    error = workbench.refused(gzip.compress(LINE * 100_000), "a.jsonl.gz", max_decompressed_bytes=1_000_000)
    assert error.code == "decompression_bomb"
    assert "1,000,000 bytes, the limit TAILOR_MAX_DECOMPRESSED_BYTES" in error.message
    assert "times the" in error.message


def test_exactly_the_limit_is_read(workbench):
    data = LINE * 100
    assert workbench.report(gzip.compress(data), "a.jsonl.gz", max_decompressed_bytes=len(data))["rows"] == 100
