"""The catalogue entry of augmentation: more training records, made of those that the job has."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    model_validator,
)

from app.catalog.adaptation.spec import (
    CONTROL,
    TASKS_WITH_TARGETS,
    FileId,
    JobFacts,
    MethodOptions,
    MethodSpec,
    ModelId,
    NeededFile,
    NeededModel,
)
from app.catalog.fill_mask import FILL_MASK
from app.catalog.model_types import MASKED_LANGUAGE_MODELS
from app.catalog.token_classification import TOKEN_CLASSIFICATION
from app.catalog.translation import TRANSLATION, Language

Rate = Annotated[StrictFloat, Field(gt=0, le=1)]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
ProtectedWord = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^\S+$")]
SHARE_OF_WORDS = "Share of a text's words that change, at least one of them."
# A lexicon is read as pairs of texts: a word, and what may stand in its place.
LEXICON = {"type": TRANSLATION.name}


class Operation(BaseModel):
    """One way to change a text; names that it does not have are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SynonymReplacement(Operation):
    """Words give way to synonyms of the lexicon, all occurrences of a word to the same (Wei & Zou 2019)."""

    type: Literal["synonym"]
    rate: Rate = Field(default=0.1, description=SHARE_OF_WORDS)


class Insertion(Operation):
    """Synonyms of words of the text, put in at random places (Wei & Zou 2019)."""

    type: Literal["insertion"]
    rate: Rate = Field(default=0.1, description="Insertions, as a share of the text's words; at least one.")


class Swap(Operation):
    """Two words at random change places (Wei & Zou 2019)."""

    type: Literal["swap"]
    rate: Rate = Field(default=0.1, description="Swaps, as a share of the text's words; at least one.")


class Deletion(Operation):
    """Words are left out at random (Wei & Zou 2019)."""

    type: Literal["deletion"]
    rate: Rate = Field(default=0.1, description="Probability that a word goes; at least one does, and one stays.")


class ContextualSubstitution(Operation):
    """Words are masked, and a masked language model fills the gaps (after Kobayashi 2018).

    It knows the text and not the label: what it puts in fits the sentence and may turn its meaning.
    """

    type: Literal["contextual"]
    rate: Rate = Field(default=0.15, description=SHARE_OF_WORDS)
    top_k: Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        default=10, description="Words are drawn from so many of the likeliest, in proportion to their probability."
    )
    model: ModelId | None = Field(
        default=None,
        description="A model with a head for masked tokens, say one that a job of `fill-mask` made. Left out: the base "
        "model, which must have one.",
    )


class TranslationModel(Operation):
    """A model that translates. One that a job of this service made knows its languages and its prefix itself."""

    model: ModelId = Field(description="Id of the model.")
    source_language: Language | None = Field(default=None, description="As in the options of translation.")
    target_language: Language | None = Field(default=None, description="As in the options of translation.")
    source_prefix: Annotated[str, Field(max_length=1000)] = Field(
        default="", description="As in the options of translation."
    )


class BackTranslation(Operation):
    """Texts are translated into another language and back (Sennrich et al. 2016; for spans Yaseen & Langer 2021).

    Where words have tags, only stretches of at least three words outside of entities are.
    """

    type: Literal["back_translation"]
    to: TranslationModel = Field(description="What translates into the other language.")
    back: TranslationModel = Field(description="What translates back.")
    num_beams: Annotated[StrictInt, Field(ge=1, le=64)] = Field(
        default=4, description="Beginnings that are gone on with at once."
    )
    temperature: Annotated[StrictFloat, Field(gt=0, le=10)] | None = Field(
        default=None,
        description="Draw each token at this temperature (Edunov et al. 2018), in place of the search by beams. "
        "Without it all copies of a record are the same, and only the first is kept.",
    )


class MentionReplacement(Operation):
    """Entities give way to others of their type from the training file (Dai & Adel 2020): for tagged words only."""

    type: Literal["mention_replacement"]
    rate: Rate = Field(default=0.5, description="Probability that an entity is replaced; at least one is.")


AnyOperation = Annotated[
    SynonymReplacement | Insertion | Swap | Deletion | ContextualSubstitution | BackTranslation | MentionReplacement,
    Field(discriminator="type"),
]
READ_LEXICON = ("synonym", "insertion")


class AugmentationOptions(MethodOptions):
    """`adaptation.augmentation` of a job.

    Only training records are copied and changed, after validation and test records were taken out of their file. In a
    copy only what the model reads changes: texts of a classification, each by itself; words outside of entities; the
    question, but not the context of an answer; what is translated or summarized. Punctuation stays, and no copy is
    empty. Numbers, negations and `protected_words` are neither replaced nor left out.
    """

    operations: list[AnyOperation] = Field(
        min_length=1,
        max_length=20,
        description="They take turns, in an order of each record's own: a copy is the work of one of them.",
    )
    copies: Annotated[StrictInt, Field(ge=1, le=64)] = Field(
        default=4,
        description="Changed copies a record. Those equal to another training record are left out and counted. Wei & "
        "Zou 2019 advise 16 for 500 records and 4 for 5,000 and more.",
    )
    lexicon_file: FileId | None = Field(
        default=None,
        description="File of synonyms for `synonym` and `insertion`: JSONL, CSV or TSV, one pair a row, a word (or "
        "words) in `source` and what may stand in its place in `target`. Left out: WordNet, where NLTK has its data on "
        "the worker.",
    )
    lexicon_columns: dict[Literal["source", "target"], ColumnName] = Field(
        default={}, description="Its columns, where they have other names."
    )
    language: Literal["auto", "en", "zh"] = Field(
        default="auto",
        description="How words are told apart, and which of them are function words or negations. `auto`: Chinese "
        "where most letters of a text are Chinese characters, else English, which does for other languages with "
        "spaces between words.",
    )
    protected_words: list[ProtectedWord] = Field(
        default=[], max_length=10_000, description="Further words that stay, whatever their case: terms of the domain."
    )
    control: StrictBool = Field(default=True, description=CONTROL)

    @model_validator(mode="after")
    def _lexicon_is_read(self) -> Self:
        if self.lexicon_file is not None and not self.reads_lexicon:
            raise ValueError(
                f"lexicon_file is {self.lexicon_file!r}, but no operation reads it; name "
                f"{' or '.join(READ_LEXICON)} in operations, or leave it out"
            )
        if self.lexicon_columns and self.lexicon_file is None:
            raise ValueError("lexicon_columns are given without a lexicon_file; give both or neither")
        return self

    @property
    def reads_lexicon(self) -> bool:
        """Whether an operation needs synonyms."""
        return any(operation.type in READ_LEXICON for operation in self.operations)


def model_key(operation: int, option: str) -> str:
    """How a model of an operation is called among those that the method uses."""
    return f"operations.{operation}.{option}"


def needed_files(options: AugmentationOptions, task: Mapping[str, Any]) -> tuple[NeededFile, ...]:
    """The lexicon."""
    if options.lexicon_file is None:
        return ()
    columns = {str(field): column for field, column in options.lexicon_columns.items()}
    return (NeededFile("augmentation.lexicon_file", options.lexicon_file, LEXICON, columns),)


def needed_models(options: AugmentationOptions) -> tuple[NeededModel, ...]:
    """Masked models and translators."""
    found: list[NeededModel] = []
    for number, operation in enumerate(options.operations):
        named: dict[str, tuple[str, str]] = {}
        if isinstance(operation, ContextualSubstitution) and operation.model is not None:
            named = {"model": (operation.model, FILL_MASK.name)}
        elif isinstance(operation, BackTranslation):
            named = {
                "to.model": (operation.to.model, TRANSLATION.name),
                "back.model": (operation.back.model, TRANSLATION.name),
            }
        for option, (model_id, task) in named.items():
            found.append(NeededModel(f"augmentation.{model_key(number, option)}", model_id, task))
    return tuple(found)


def misfit(options: AugmentationOptions, facts: JobFacts) -> str | None:
    """What an operation cannot do for a job."""
    for number, operation in enumerate(options.operations):
        if isinstance(operation, MentionReplacement) and facts.task not in (None, TOKEN_CLASSIFICATION.name):
            return (
                f"exchanges entities in operations[{number}] (mention_replacement), and records of {facts.task} have "
                f"no tagged words. Leave the operation out; it is for {TOKEN_CLASSIFICATION.name}."
            )
        own = isinstance(operation, ContextualSubstitution) and operation.model is None
        if own and facts.model_type is not None and facts.model_type not in MASKED_LANGUAGE_MODELS:
            return (
                f"fills masks in operations[{number}] (contextual) with the base model, which is of type "
                f"{facts.model_type!r} and cannot. Name a model there that was fine-tuned for {FILL_MASK.name}."
            )
    return None


AUGMENTATION = MethodSpec(
    name="augmentation",
    title="Augmentation: changed copies of training records: synonyms, EDA, masked models, back-translation, mentions",
    options=AugmentationOptions,
    impl="worker.methods.augmentation:Augmentation",
    tasks=TASKS_WITH_TARGETS,
    why_tasks="a language model learns the very text, and would learn the changes",
    files=needed_files,
    models=needed_models,
    misfit=misfit,
    example={"operations": [{"type": "swap"}, {"type": "deletion", "rate": 0.1}], "copies": 4},
)
