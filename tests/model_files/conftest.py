"""A run directory in which archives are checked as a worker's child checks them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.catalog.plan import PreparationLimits, RegistrationPlan
from app.datasets.errors import DataError
from app.model_files.check import CheckedModel, check
from worker.python_files import PYTHON_FILES

MIB = 1 << 20


@dataclass
class Desk:
    """Checks bytes as if they had been uploaded."""

    run_dir: Path
    said: list[str] = field(default_factory=list)

    def check(self, archive: bytes, filename: str = "bert.tar.gz", **limits: Any) -> CheckedModel:
        (self.run_dir / "source").write_bytes(archive)
        return self.check_source(filename, **limits)

    def check_source(self, filename: str, **limits: Any) -> CheckedModel:
        return check(self.plan(filename, **limits), self.run_dir, self.said.append, PYTHON_FILES)

    def plan(self, filename: str, **limits: Any) -> RegistrationPlan:
        given = {
            "max_decompressed_bytes": 64 * MIB,
            "max_row_bytes": MIB,
            "memory_bytes": 4096 * MIB,
            "timeout_s": 300.0,
        }
        return RegistrationPlan(
            job_id="regjob",
            attempt=1,
            source="source",
            filename=filename,
            model="@default/bert",
            limits=PreparationLimits.model_validate(given | limits),
        )

    def refused(self, archive: bytes, filename: str = "bert.tar.gz", **limits: Any) -> DataError:
        with pytest.raises(DataError) as caught:
            self.check(archive, filename, **limits)
        assert caught.value.message.startswith(f"{filename}: ")
        return caught.value

    @property
    def names(self) -> list[str]:
        return sorted(
            path.relative_to(self.run_dir / "model").as_posix() for path in (self.run_dir / "model").rglob("*")
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    return Desk(run_dir)
