"""What translation and summarization do differently: the fields of records, languages, and how texts are scored."""

from collections.abc import Sequence
from typing import Protocol

from worker.training.data import Records
from worker.training.interfaces import Scores


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

    def score(self, records: Records, predicted: Sequence[str]) -> Scores:
        """Metrics of what was written for the records, with intervals and how they were made in the detail."""
        ...

    @property
    def verb(self) -> str:
        """What the function of the model card is called."""
        ...
