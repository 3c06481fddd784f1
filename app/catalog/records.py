"""What a record of a task holds: typed fields, and the column names data sets use for them."""

from dataclasses import dataclass, replace
from typing import Literal

# id: a name of the record. text: a string. texts: several. label: a class, as a string. labels: any number of different
# classes. number: a float. words: a text cut into words. tags: one string for every word of the field `of`. answers:
# {"text": [], "answer_start": []}, each text standing in the field `of` at that offset, in code points. messages: a
# chat, each message with role and content. tools: descriptions of functions that a chat may call, as a JSON array.
# extra: what a column that no field is read from says of the record, as a string. note: the same, where nothing is
# wrong with a record that it does not fit.
FieldType = Literal[
    "id", "text", "texts", "label", "labels", "number", "words", "tags", "answers", "messages", "tools", "extra", "note"
]
DOMAIN = "domain"  # the column that says which domain a record is of; it is kept wherever there is one
READ_TYPES = frozenset({"text", "words", "messages"})


@dataclass(frozen=True)
class RecordField:
    """One field of a task's canonical record.

    `aliases` are lower-case column names that are recognised as it. An `optional` field may be missing or null. `of` is
    the field that a value must agree with. `target`: what the model is to produce, of whatever type.
    """

    name: str
    type: FieldType
    description: str
    aliases: tuple[str, ...] = ()
    optional: bool = False
    of: str | None = None
    target: bool = False

    @property
    def is_read(self) -> bool:
        """Whether a model reads it as its input."""
        return self.type in READ_TYPES and not self.target


def extra(column: str) -> RecordField:
    """A column of the file that is kept beside the task's fields, to group or slice records by."""
    return RecordField(f"extra:{column}", "extra", f"The column {column} of the file.", optional=True)


def note(column: str) -> RecordField:
    """A column that nobody asked for, kept like an `extra` one; values that are none of one record's are left out."""
    return replace(extra(column), type="note")
