"""Which fields of a task's records change, and how they become passages and records again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.augmentation.passages import Passage, passage_of, tagged_passage
from worker.training.data import Records
from worker.training.failures import UserError
from worker.training.leakage import normalised

Row = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """Records of a task: `fields` change, each by itself, `tags` goes with the one; `kept` tells records apart too."""

    fields: tuple[str, ...]
    tags: str | None = None
    kept: tuple[str, ...] = ()

    def passages(self, row: Row, language: str) -> dict[str, Passage]:
        """The passages of a record by field; an optional text that is missing has none."""
        if self.tags is not None:
            (field,) = self.fields
            return {field: tagged_passage(row[field], row[self.tags], language)}
        return {field: passage_of(row[field], language) for field in self.fields if row.get(field) is not None}

    def values(self, passages: Mapping[str, Passage]) -> Row:
        """What passages are as fields of a record."""
        if self.tags is None:
            return {field: passage.text for field, passage in passages.items()}
        (field,) = self.fields
        words = passages[field].words
        return {field: [word.text for word in words], self.tags: [word.tag for word in words]}

    def key(self, row: Row) -> tuple[Any, ...]:
        """What two records share that say the same."""
        return tuple(_comparable(row.get(name)) for name in (*self.fields, *self.kept))


# By the fields that records of a task have, most particular first.
FORMS: tuple[tuple[frozenset[str], Form], ...] = (
    (frozenset({"tokens", "tags"}), Form(("tokens",), tags="tags")),
    (frozenset({"question", "context", "answers"}), Form(("question",), kept=("context",))),
    (frozenset({"source", "target"}), Form(("source",), kept=("target",))),
    (frozenset({"document", "summary"}), Form(("document",), kept=("summary",))),
    (frozenset({"text", "label"}), Form(("text", "text_pair"))),
)


def form_of(records: Records) -> Form:
    """How records can change. Raises UserError for those of language models, whose text is what they learn."""
    names = set(records.table.column_names)
    for needed, form in FORMS:
        if needed <= names:
            return form
    raise UserError(
        "augmentation_not_for_task",
        "adaptation.augmentation changes what a model reads and keeps what it learns; a language model learns the very "
        "text, and would learn the changes. Leave augmentation out.",
        "adaptation.augmentation",
    )


def _comparable(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    return None if value is None else normalised(value)
