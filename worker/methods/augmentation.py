"""Augmentation: changed copies of the training records, made once, before they are encoded."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from app.catalog.adaptation.augmentation import AugmentationOptions
from worker.augmentation.copies import Copies, make_copies
from worker.protocol import Log
from worker.training.data import Records
from worker.training.materials import Materials
from worker.training.method import Method

KEPT = "augmentation.parquet"  # the copies in a checkpoint; the report stands in the metadata of the file
REPORT = "report"


@dataclass
class Augmentation(Method):
    """Copies stand behind the records and have the `row` of that which they were made of."""

    options: AugmentationOptions
    copies: Copies | None = None

    @classmethod
    def from_options(cls, options: BaseModel) -> Self:
        """With a job's options."""
        return cls(cast(AugmentationOptions, options))

    def augment(self, train: Records, materials: Materials) -> Records:
        """The records and their copies; a resumed run has those of its checkpoint."""
        path = None if materials.kept is None else materials.kept / KEPT
        if path is not None and path.exists():
            self.copies = _read(path)
        else:
            self.copies = make_copies(self.options, train, materials)
            materials.emit(_log(self.copies.report))
        return replace(train, table=pa.concat_tables([train.table, self.copies.table]))

    def keep(self, directory: Path) -> None:
        """The copies, which may have taken hours."""
        assert self.copies is not None  # a checkpoint is of a run that has begun
        metadata = {REPORT: json.dumps(self.copies.report)}
        table = self.copies.table.replace_schema_metadata(metadata)
        pq.write_table(table, directory / KEPT, compression="zstd")

    def report(self) -> dict[str, Any]:
        """How many copies each operation made, how many were left out and why, and examples."""
        return {} if self.copies is None else self.copies.report


def _read(path: Path) -> Copies:
    with pq.ParquetFile(path) as parquet:
        table = parquet.read()
    metadata: dict[bytes, bytes] = table.schema.metadata
    return Copies(table.replace_schema_metadata(None), json.loads(metadata[REPORT.encode()]))


def _log(report: dict[str, Any]) -> Log:
    operations = ", ".join(f"{entry['made']} by {entry['type']}" for entry in report["operations"])
    return Log(
        f"Augmentation made {report['made']} changed copies of {report['records']} training records ({operations}). "
        f"Left out: {report['unchanged']} in which nothing changed, {report['duplicate']} equal to another record.",
        level="info" if report["made"] else "warn",
        data={"code": "augmented"} | {name: report[name] for name in report if name != "examples"},
    )
