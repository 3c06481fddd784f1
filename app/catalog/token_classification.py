"""The catalogue entry of token classification: named entities and other spans of words."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.catalog.model_types import TOKEN_CLASSIFIERS
from app.catalog.records import RecordField
from app.catalog.task_spec import TaskSpec, Variant


class TokenClassificationOptions(BaseModel):
    """`task` of a job, for token classification."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["token-classification"] = "token-classification"
    head: Literal["crf", "linear"] = Field(
        default="crf",
        description="`crf`: a conditional random field over the words, which also learns what follows what and never "
        "answers with an illegal sequence. `linear`: every word by itself; loads with plain Transformers.",
    )


ENTITIES = Variant(
    name="entities",
    title="Spans of words with a type, as IOB2 tags",
    fields=(
        RecordField("tokens", "words", "The words of a sentence.", ("words",)),
        RecordField(
            "tags",
            "tags",
            "A tag for each word: O, B-TYPE, I-TYPE. IOB1, IOBES and BILOU are recognised and converted to IOB2.",
            ("ner_tags", "labels", "ner", "ner_labels"),
            of="tokens",
            target=True,
        ),
    ),
    metrics=("f1", "precision", "recall", "f1_macro", "accuracy", "loss"),
    selection_metric="f1",
    headline=("f1", "precision", "recall"),
    example=(
        {
            "tokens": ["Ada", "Lovelace", "was", "born", "in", "London", "."],
            "tags": ["B-PER", "I-PER", "O", "O", "O", "B-LOC", "O"],
        },
        {
            "tokens": ["Siemens", "opened", "a", "plant", "in", "Leipzig", "."],
            "tags": ["B-ORG", "O", "O", "O", "O", "B-LOC", "O"],
        },
        {"tokens": ["Call", "Grace", "Hopper", "tomorrow", "."], "tags": ["O", "B-PER", "I-PER", "O", "O"]},
        {"tokens": ["Nothing", "happened", "."], "tags": ["O", "O", "O"]},
        {
            "tokens": ["The", "Bank", "of", "England", "raised", "rates", "."],
            "tags": ["O", "B-ORG", "I-ORG", "I-ORG", "O", "O", "O"],
        },
        {"tokens": ["Paris", "and", "London", "signed", "."], "tags": ["B-LOC", "O", "B-LOC", "O", "O"]},
        {
            "tokens": ["Alan", "Turing", "worked", "for", "Ferranti", "."],
            "tags": ["B-PER", "I-PER", "O", "O", "B-ORG", "O"],
        },
        {"tokens": ["She", "left", "Siemens", "."], "tags": ["O", "O", "B-ORG", "O"]},
    ),
)
TOKEN_CLASSIFICATION = TaskSpec(
    name="token-classification",
    title="Token classification: named entities, as spans of words",
    options=TokenClassificationOptions,
    variants=(ENTITIES,),
    model_types=TOKEN_CLASSIFIERS,
    impl="worker.tasks.token_classification:TokenClassification",
)
