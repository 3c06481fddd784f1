"""What a job does to its records before it trains: cleaning of texts, copies, and files of its own for evaluation.

The text operations go with the model: they are recorded in its artifact and repeated wherever it reads a text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, model_validator

from app.catalog.task_spec import Variant

# Languages of `stopwordsiso` that put spaces between words. Without spaces a word of a list cannot be told from a part
# of another: Chinese, Japanese and Thai need a list of the caller's own.
Language = Literal[
    "af", "ar", "bg", "bn", "br", "ca", "cs", "da", "de", "el", "en", "eo", "es", "et", "eu", "fa", "fi", "fr", "ga",
    "gl", "gu", "ha", "he", "hi", "hr", "hu", "hy", "id", "it", "ko", "ku", "la", "lt", "lv", "mr", "ms", "nl", "no",
    "pl", "pt", "ro", "ru", "sk", "sl", "so", "st", "sv", "sw", "tl", "tr", "uk", "ur", "vi", "yo", "zu",
]  # fmt: skip
StopWord = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^\S+$")]
Share = Annotated[StrictFloat, Field(ge=0, lt=1)]

# In the order in which they are applied.
TEXT_OPERATIONS = ("strip_html", "unicode_normalization", "lowercase", "stop_words", "collapse_whitespace")
WORD_OPERATIONS = ("unicode_normalization", "lowercase")


class Split(BaseModel):
    """Take validation and test records out of the training file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    validation: Share = Field(default=0.1, description="Share of the records that training is watched by.")
    test: Share = Field(default=0.0, description="Share of the records that are scored once, at the end.")
    group: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None,
        description="Column of the file, such as a document or a customer: records with the same value stay together. "
        "Left out: records of equal text do.",
    )
    stratify: StrictBool = Field(
        default=True,
        description="Every label, or type of entity, has its share in every part, as far as whole groups allow. The "
        "first records of a rare label go to training. Without labels it changes nothing.",
    )
    seed: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="The same seed, file and shares give the same split. Left out: the job's seed."
    )

    @model_validator(mode="after")
    def _leaves_records_to_train_on(self) -> Self:
        taken = self.validation + self.test
        if not 0 < taken < 1:
            raise ValueError(
                f"validation {self.validation:g} and test {self.test:g} add up to {taken:g}; together they must be "
                "more than 0 and less than 1, as the rest is trained on"
            )
        return self


EXAMPLE: dict[str, Any] = {
    "strip_html": True,
    "unicode_normalization": "NFC",
    "collapse_whitespace": True,
    "deduplicate": "training",
    "split": {"validation": 0.1, "test": 0.1, "group": "document_id"},
}


class Preprocessing(BaseModel):
    """`preprocessing` of a job. Left out: records are read as they are.

    Texts are cleaned in the order of the fields. Only what the model reads is: labels and what it is to write stay.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [EXAMPLE]})

    strip_html: StrictBool = Field(
        default=False,
        description="Remove HTML elements and comments, and decode entities. What is no HTML, as in `1 < 2`, stays.",
    )
    unicode_normalization: Literal["NFC", "NFKC"] | None = Field(
        default=None,
        description="NFC: one form of each accented character. NFKC: also of width, ligatures and superscripts.",
    )
    lowercase: StrictBool = Field(default=False, description="Write all letters small.")
    stop_words: Language | Annotated[list[StopWord], Field(min_length=1, max_length=10_000)] | None = Field(
        default=None,
        description="Remove these words, whatever their case: a list of your own, or the one of a language (ISO 639-1) "
        "from `stopwordsiso`. Such lists are long: the English one has 1,298 words, `not` and `good` among them. In "
        "scripts without spaces every character is a word.",
    )
    collapse_whitespace: StrictBool = Field(
        default=False, description="One space for every run of white space, line breaks included; none at the ends."
    )
    deduplicate: Literal["training", "across_splits"] | None = Field(
        default=None,
        description="`training`: of training records with equal text and target keep the first. `across_splits`: also "
        "remove training records whose text stands in validation or test. Texts are compared after cleaning, without "
        "case and white space. Validation and test stay whole.",
    )
    split: Split | None = Field(
        default=None, description="Validation and test records out of the training file, where there are no such files."
    )

    @property
    def cleaning(self) -> dict[str, Any]:
        """The text operations that are asked for, in their order."""
        asked = {name: getattr(self, name) for name in TEXT_OPERATIONS}
        return {name: value for name, value in asked.items() if value}

    def with_seed(self, seed: int) -> "Preprocessing":
        """With the job's seed where the split has none of its own."""
        if self.split is None or self.split.seed is not None:
            return self
        return self.model_copy(update={"split": self.split.model_copy(update={"seed": seed})})


def operations(variant: Variant) -> tuple[str, ...]:
    """The text operations that records of a variant can take without losing what belongs to their words."""
    kinds = {field.type for field in variant.fields if field.is_read}
    if any(field.type == "answers" for field in variant.fields):
        return ()
    if "words" in kinds:
        return WORD_OPERATIONS
    return TEXT_OPERATIONS if "text" in kinds else ()


@dataclass(frozen=True)
class Misfit:
    """An operation that records of a task cannot take: `allowed` are those that they can."""

    param: str
    allowed: list[str]
    message: str


def misfit(task: str, variant: Variant, preprocessing: Preprocessing) -> Misfit | None:
    """The first operation that does not fit records of `variant`; None if all do."""
    allowed = operations(variant)
    name = next((name for name in preprocessing.cleaning if name not in allowed), None)
    if name is None:
        return None
    fits = f"what fits is {', '.join(allowed)}" if allowed else "no operation on texts fits"
    message = f"{name} does not fit {task}: {_reason(variant)}. Leave it out; {fits}."
    return Misfit(f"preprocessing.{name}", list(allowed), message)


def _reason(variant: Variant) -> str:
    kinds = {field.type for field in variant.fields}
    if "answers" in kinds:
        return "answers are places in a text, and would stand at others"
    if "words" in kinds:
        return "every word has a tag, and removed or joined words would leave tags beside the wrong ones"
    return "there is no plain text to clean"


def of_job(spec: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing in a job's `spec`."""
    return Preprocessing.model_validate(spec.get("preprocessing") or {})
