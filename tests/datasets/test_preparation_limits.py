"""Bombs go off in a process of their own: memory and CPU bounds are those of a whole process."""

import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.datasets.errors import DataError
from app.datasets.limits import Deadline

MIB = 1 << 20
PROGRAM = """
import json, re, sys
from pathlib import Path
from app.catalog.plan import PreparationPlan
from app.datasets.errors import DataError
from app.datasets.prepare import prepare
run_dir = Path(sys.argv[1])
plan = PreparationPlan.model_validate_json((run_dir / "plan.json").read_text())
code, message = "prepared", ""
try:
    prepare(plan, run_dir, lambda _: None)
except DataError as error:
    code, message = error.code, error.message
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({"code": code, "message": message, "peak": peak}))
"""


def in_a_process(workbench, filename: str, **limits) -> dict:
    (workbench.run_dir / "plan.json").write_text(workbench.plan(filename, **limits).model_dump_json())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(workbench.run_dir)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"},
    )
    left = [name for name in workbench.left_behind() if name not in ("plan.json", "source")]
    assert left == [], left
    return json.loads(done.stdout)


def gzip_of_zeros(path: Path, size: int) -> None:
    """Members of 64 MiB each, one after the other; a thousandth of `size` on disk."""
    member = gzip.compress(b"0" * (64 * MIB), 1)
    with path.open("wb") as file:
        for _ in range(size // (64 * MIB)):
            file.write(member)


def test_a_gzip_bomb_is_stopped_at_the_limit_in_little_memory(workbench):
    # What lies beyond the limit is never unpacked.
    gzip_of_zeros(workbench.run_dir / "source", 10 * 1024 * MIB)
    outcome = in_a_process(workbench, "a.jsonl.gz", max_decompressed_bytes=256 * MIB, memory_bytes=512 * MIB)
    assert outcome["code"] == "decompression_bomb"
    assert "TAILOR_MAX_DECOMPRESSED_BYTES" in outcome["message"]
    assert outcome["peak"] < 250 * MIB


def test_a_parquet_bomb_of_one_repeated_value_is_stopped_in_little_memory(workbench):
    rows = 2_000_000
    # 2 million times 1 MB from a file of a few kilobytes.
    long = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()).take(pa.array([0] * rows)), pa.array(["a" * 10**6]))
    labels = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x"]))
    pq.write_table(pa.table({"text": long, "label": labels}), workbench.run_dir / "source", compression="zstd")
    assert (workbench.run_dir / "source").stat().st_size < MIB
    outcome = in_a_process(workbench, "a.parquet", max_decompressed_bytes=256 * MIB, memory_bytes=512 * MIB)
    assert outcome["code"] == "decompression_bomb"
    assert outcome["peak"] < 500 * MIB


def test_a_parquet_file_that_needs_too_much_memory_names_the_setting(workbench):
    # Too large a chunk to stay a dictionary, and a batch is 8,192 values of 5 MB.
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), pa.array(["a" * 5 * 10**6]))
    table = pa.table({"text": long, "label": [1] * 50_000})
    pq.write_table(table, workbench.run_dir / "source", compression="zstd", store_schema=False)
    outcome = in_a_process(
        workbench, "a.parquet", memory_bytes=512 * MIB, max_row_bytes=8 * MIB, max_decompressed_bytes=4096 * MIB
    )
    assert outcome["code"] == "file_too_large_to_parse"
    assert "TAILOR_PREPARATION_MEMORY_BYTES" in outcome["message"]
    assert outcome["peak"] < 1024 * MIB


def test_json_that_unfolds_beyond_the_memory_names_the_setting(workbench):
    # 15 MiB of `[],` in one line make five million lists of 56 bytes and more.
    (workbench.run_dir / "source").write_bytes(b'{"text": [' + b"[]," * (5 * MIB) + b"[]]}\n")
    outcome = in_a_process(workbench, "a.jsonl", memory_bytes=192 * MIB, max_row_bytes=128 * MIB)
    assert outcome["code"] == "file_too_large_to_parse"
    assert "TAILOR_PREPARATION_MEMORY_BYTES" in outcome["message"]


def test_the_time_limit_names_the_setting(workbench):
    error = workbench.refused(b'{"text":"a","label":"b"}\n' * 1000, "a.jsonl", timeout_s=0.0)
    assert error.code == "preparation_timeout"
    assert "TAILOR_PREPARATION_TIMEOUT_S" in error.message


def test_a_deadline_ahead_lets_go_on():
    Deadline.after(3600).check()
    with pytest.raises(DataError):
        Deadline.after(-1).check()


def test_the_bounds_are_given_back_whatever_happens(workbench):
    before = [resource.getrlimit(which) for which in (resource.RLIMIT_DATA, resource.RLIMIT_CPU)]
    threads = pa.cpu_count()
    workbench.records(b"text,label\na b,x\n", "a.csv")
    (workbench.run_dir / "prepared" / "records.parquet").unlink()
    (workbench.run_dir / "prepared").rmdir()
    workbench.refused(b"text,label\na b\n", "a.csv")
    assert [resource.getrlimit(which) for which in (resource.RLIMIT_DATA, resource.RLIMIT_CPU)] == before
    assert pa.cpu_count() == threads


def test_preparation_imports_no_heavy_library_and_no_database():
    program = "import sys, app.datasets.prepare; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"torch", "transformers", "datasets", "sqlalchemy", "fastapi", "worker", "pandas"})
