"""The catalogue entry of text classification."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.catalog.model_types import SEQUENCE_CLASSIFIERS
from app.catalog.records import RecordField
from app.catalog.task_spec import TaskSpec, Variant

TEXT = RecordField(
    "text",
    "text",
    "The text to classify.",
    ("sentence", "review", "content", "comment", "body", "sentence1", "text_a", "text1", "question1", "premise"),
)
PAIR = RecordField(
    "text_pair",
    "text",
    "A second text, where two are read together: paraphrase, entailment, similarity.",
    ("sentence2", "text_b", "text2", "question2", "hypothesis"),
    optional=True,
)


class TextClassificationOptions(BaseModel):
    """`task` of a job, for text classification."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["text-classification"] = "text-classification"
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] | None = Field(
        default=None,
        description="Exactly one label a text; any number of labels, none included; or a number to predict. Left out: "
        "told from the training file: lists are any number of labels, fractions are numbers to predict, and the rest, "
        "whole numbers too, are single labels.",
    )


SINGLE_LABEL = Variant(
    name="single_label_classification",
    title="Exactly one label a text",
    fields=(
        TEXT,
        PAIR,
        RecordField(
            "label",
            "label",
            "Its label; numbers are read as text.",
            ("sentiment", "class", "category", "intent"),
            target=True,
        ),
    ),
    metrics=(
        "accuracy",
        "precision_macro",
        "recall_macro",
        "f1_macro",
        "precision_weighted",
        "recall_weighted",
        "f1_weighted",
        "loss",
    ),
    selection_metric="f1_macro",
    headline=("accuracy", "f1_macro"),
    example=(
        {"text": "A warm, funny and quietly devastating film.", "label": "positive"},
        {"text": "Two hours of my life that nobody is giving back.", "label": "negative"},
        {"text": "The lead is superb and the last act earns every tear.", "label": "positive"},
        {"text": "Loud, long and empty.", "label": "negative"},
        {"text": "I would watch it again tonight.", "label": "positive"},
        {"text": "The script gives its actors nothing to do.", "label": "negative"},
        {"text": "Gorgeous to look at and smart about grief.", "label": "positive"},
        {"text": "A lazy sequel that forgot the jokes.", "label": "negative"},
    ),
)

MULTI_LABEL = Variant(
    name="multi_label_classification",
    title="Any number of labels a text, none included",
    fields=(
        TEXT,
        PAIR,
        RecordField(
            "label",
            "labels",
            "A list of labels, which may be empty.",
            ("labels", "tags", "classes", "categories", "topics"),
            target=True,
        ),
    ),
    metrics=(
        "f1_micro",
        "f1_macro",
        "f1_weighted",
        "precision_micro",
        "recall_micro",
        "precision_macro",
        "recall_macro",
        "precision_weighted",
        "recall_weighted",
        "accuracy",
        "hamming_loss",
        "loss",
    ),
    selection_metric="f1_micro",
    headline=("f1_micro", "f1_macro"),
    example=(
        {"text": "The rent is due and the tap drips again.", "label": ["housing", "money"]},
        {"text": "My train was late for the third time this week.", "label": ["transport"]},
        {"text": "The bus fare went up again.", "label": ["transport", "money"]},
        {"text": "Nothing to report, just saying hello.", "label": []},
        {"text": "They want two months of rent in advance.", "label": ["housing", "money"]},
        {"text": "The lift in our building is broken.", "label": ["housing"]},
        {"text": "The bank closed my account.", "label": ["money"]},
        {"text": "No bus stops near the new flats.", "label": ["transport", "housing"]},
    ),
)

REGRESSION = Variant(
    name="regression",
    title="A number for each text",
    fields=(
        TEXT,
        PAIR,
        RecordField("label", "number", "The number to predict.", ("score", "rating", "value"), target=True),
    ),
    metrics=("spearman", "pearson", "r2", "mse", "mae", "rmse", "loss"),
    selection_metric="spearman",
    headline=("spearman", "pearson", "rmse"),
    example=(
        {"text": "Perfect from the first minute to the last.", "label": 5.0},
        {"text": "Good, if a little long.", "label": 3.5},
        {"text": "I walked out.", "label": 0.5},
        {"text": "Fine for a rainy evening.", "label": 3.0},
        {"text": "A waste of a strong cast.", "label": 1.5},
        {"text": "One of the best of the year.", "label": 4.5},
        {"text": "Dull, but well shot.", "label": 2.0},
        {"text": "I would watch it again tonight.", "label": 4.0},
    ),
)

TEXT_CLASSIFICATION = TaskSpec(
    name="text-classification",
    title="Text classification of texts and pairs: a label (sentiment, topic, intent), many labels, or a score",
    options=TextClassificationOptions,
    variants=(SINGLE_LABEL, MULTI_LABEL, REGRESSION),
    variant_option="problem_type",
    model_types=SEQUENCE_CLASSIFIERS,
    impl="worker.tasks.text_classification:TextClassification",
)
