"""What an entry of the task catalogue says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from app.catalog.records import RecordField

LOWER_IS_BETTER = frozenset({"loss", "mse", "mae", "rmse", "perplexity", "ter"})


@dataclass(frozen=True)
class Variant:
    """One form of a task: what its records hold and what it is measured by.

    `headline` are the metrics that events and the model card name; the model with the best `selection_metric` is kept.
    `when_too_long` says what becomes of texts beyond the model's window. `auto_window`: `max_length: "auto"` is at most
    this, in tokens. `measures_base`: the base model can do it already, and is evaluated before training.
    """

    name: str
    title: str
    fields: tuple[RecordField, ...]
    metrics: tuple[str, ...]
    selection_metric: str
    headline: tuple[str, ...]
    example: tuple[dict[str, Any], ...]
    when_too_long: str = "nothing is cut: such texts are read in overlapping windows, which takes longer"
    auto_window: int | None = None
    measures_base: bool = False

    @property
    def lower_is_better(self) -> bool:
        """Whether the model with the lowest `selection_metric` is kept."""
        return self.selection_metric in LOWER_IS_BETTER

    @property
    def target(self) -> RecordField | None:
        """The field to predict; None where the text itself is."""
        return next((field for field in self.fields if field.target), None)

    @property
    def texts(self) -> tuple[RecordField, ...]:
        """The fields that a model reads, as texts or cut into words."""
        return tuple(field for field in self.fields if field.is_read and field.type in ("text", "words"))

    @property
    def required(self) -> tuple[RecordField, ...]:
        """The fields that every record has."""
        return tuple(field for field in self.fields if not field.optional)


@dataclass(frozen=True)
class TaskSpec:
    """A task: its options and variants; `impl` names the class that trains it.

    `variant_option` is the option whose value names the variant; left out, the variant is told from the data. The
    options in `reading_options` change how a file becomes records as well.
    """

    name: str
    title: str
    options: type[BaseModel]
    variants: tuple[Variant, ...]
    model_types: frozenset[str]
    impl: str
    variant_option: str | None = None
    reading_options: tuple[str, ...] = ()

    def candidates(self, options: Mapping[str, Any]) -> tuple[Variant, ...]:
        """The variant that the options name, or all of them."""
        asked = options.get(self.variant_option) if self.variant_option else None
        return tuple(variant for variant in self.variants if asked in (None, variant.name))

    def variant(self, options: Mapping[str, Any]) -> Variant:
        """The variant that the options name, or the first."""
        return self.candidates(options)[0]

    def reading(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those options that the records depend on, as far as they are given."""
        names = (self.variant_option, *self.reading_options)
        return {name: options[name] for name in names if name and options.get(name) is not None}

    def with_variant(self, variant: Variant) -> dict[str, Any]:
        """The option that names a variant; empty where a task has no choice."""
        return {self.variant_option: variant.name} if self.variant_option else {}
