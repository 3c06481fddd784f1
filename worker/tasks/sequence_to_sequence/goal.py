"""What translation and summarization do differently: the fields of records, languages, and how texts are scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from app.catalog.measures import Measure
from worker.training.data import Records
from worker.training.interfaces import Scores
from worker.training.outcomes import Baseline


@dataclass(frozen=True)
class TextStatistics:
    """Of every record: scores of its text by name, and columns of statistics that the measures are computed from."""

    scores: list[dict[str, float]]
    columns: Mapping[str, NDArray[Any]]
    measures: tuple[Measure, ...]


class Goal(Protocol):
    """One of the two on one job's data."""

    @property
    def fields(self) -> tuple[str, str]:
        """The fields of a record that are read and written."""
        ...

    @property
    def languages(self) -> tuple[str | None, str | None]:
        """The languages that are read and written, as far as they were said."""
        ...

    @property
    def verb(self) -> str:
        """What the function of the model card is called."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What scoring in the same way needs, for the artifact."""
        ...

    def score(self, records: Records, predicted: Sequence[str]) -> Scores:
        """Metrics of what was written for the records, with intervals and how they were made in the detail."""
        ...

    def statistics(self, records: Records, predicted: Sequence[str]) -> TextStatistics:
        """What comparisons of two models draw from."""
        ...

    def baseline(self, records: Records) -> Baseline:
        """A text that needs no model."""
        ...
