"""Every NLP task Tailor trains. A new task is one entry here and one module in `worker/tasks`."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Model types whose Transformers class has a sequence-classification head. Checked against Transformers by a test.
SEQUENCE_CLASSIFIERS = frozenset(
    {
        "albert",
        "bert",
        "big_bird",
        "camembert",
        "canine",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "flaubert",
        "funnel",
        "gpt2",
        "llama",
        "longformer",
        "mobilebert",
        "modernbert",
        "mpnet",
        "qwen2",
        "qwen3",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roformer",
        "squeezebert",
        "xlm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xlnet",
    }
)


@dataclass(frozen=True)
class RecordField:
    """One field of a task's canonical record, and the column names data sets use for it."""

    name: str
    type: Literal["text", "label"]
    description: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskSpec:
    """A task: its record schema, options, metrics and an example; `impl` names the class that trains it."""

    name: str
    title: str
    fields: tuple[RecordField, ...]
    options: type[BaseModel]
    metrics: tuple[str, ...]
    selection_metric: str
    model_types: frozenset[str]
    example: tuple[dict[str, Any], ...]
    impl: str


class TextClassificationOptions(BaseModel):
    """`task` of a job, for text classification."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["text-classification"] = "text-classification"
    problem_type: Literal["single_label_classification"] = Field(
        default="single_label_classification", description="Each text has exactly one label."
    )


TEXT_CLASSIFICATION = TaskSpec(
    name="text-classification",
    title="Text classification: one label a text (sentiment, topic, intent)",
    fields=(
        RecordField("text", "text", "The text to classify.", ("sentence", "review", "content", "comment", "body")),
        RecordField(
            "label", "label", "Its label; numbers are read as text.", ("sentiment", "class", "category", "intent")
        ),
    ),
    options=TextClassificationOptions,
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
    model_types=SEQUENCE_CLASSIFIERS,
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
    impl="worker.tasks.text_classification:TextClassification",
)

TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in (TEXT_CLASSIFICATION,)}
DEFAULT_TASK = TEXT_CLASSIFICATION.name
