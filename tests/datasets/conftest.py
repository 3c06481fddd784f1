"""A run directory in which files are prepared, and what both outcomes leave behind."""

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from app.catalog.plan import PreparationLimits, PreparationPlan
from app.datasets.errors import DataError
from app.datasets.prepare import Prepared, prepare

MIB = 1 << 20


@dataclass(frozen=True)
class Workbench:
    """Prepares bytes as if they had been uploaded under a name."""

    run_dir: Path

    def plan(self, filename: str, columns: dict[str, str] | None = None, **given: Any) -> PreparationPlan:
        limits = {
            "max_decompressed_bytes": 64 * MIB,
            "max_row_bytes": 1 * MIB,
            "memory_bytes": 4096 * MIB,
            "timeout_s": 300.0,
        }
        limits |= {name: given.pop(name) for name in list(given) if name in limits}
        return PreparationPlan(
            job_id="job",
            attempt=1,
            source="source",
            filename=filename,
            columns=columns or {},
            limits=PreparationLimits.model_validate(limits),
            **{"task": "text-classification", "model": None, "tokenizer": None, "max_length": None, **given},
        )

    def prepare(self, data: bytes, filename: str, columns: dict[str, str] | None = None, **given: Any) -> Prepared:
        (self.run_dir / "source").write_bytes(data)
        return prepare(self.plan(filename, columns, **given), self.run_dir, lambda _: None)

    def records(
        self, data: bytes, filename: str, columns: dict[str, str] | None = None, **given: Any
    ) -> list[dict[str, Any]]:
        prepared = self.prepare(data, filename, columns, **given)
        assert self.left_behind() == ["prepared", "prepared/records.parquet", "source"]
        records = pq.read_table(self.run_dir / prepared.records_path).to_pylist()
        # An optional field that a record does not have is null.
        return [{name: value for name, value in record.items() if value is not None} for record in records]

    def report(self, data: bytes, filename: str, columns: dict[str, str] | None = None, **given: Any) -> dict[str, Any]:
        report = self.prepare(data, filename, columns, **given).report
        json.dumps(report, allow_nan=False)
        return report

    def refused(self, data: bytes, filename: str, columns: dict[str, str] | None = None, **given: Any) -> DataError:
        with pytest.raises(DataError) as caught:
            self.prepare(data, filename, columns, **given)
        error = caught.value
        assert self.left_behind() == ["source"]
        json.dumps(error.data, allow_nan=False)
        assert "Fix: " in error.message
        return error

    def left_behind(self) -> list[str]:
        return sorted(str(path.relative_to(self.run_dir)) for path in self.run_dir.rglob("*"))


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def jsonl(records: Iterable[object]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


@pytest.fixture(scope="session")
def reviews() -> list[dict[str, str]]:
    """Records with everything that formats quote or escape."""
    texts = [
        "A warm, funny film.",
        'He said "no", twice; then left.',
        "Two lines\nand a tab\there",
        "naïve café 电影 🎬",
        "  space kept  ",
        "'single' quotes and a back\\slash",
        "{not json}",
        "[1, 2]",
    ]
    return [{"text": text, "label": "pos" if number % 2 else "neg"} for number, text in enumerate(texts)]


@pytest.fixture(scope="session")
def reviews_jsonl(reviews: list[dict[str, str]]) -> bytes:
    return jsonl(reviews)


@pytest.fixture(scope="session")
def reviews_gz(reviews_jsonl: bytes) -> bytes:
    return gzip.compress(reviews_jsonl, mtime=0)
