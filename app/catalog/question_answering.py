"""The catalogue entry of extractive question answering."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from app.catalog.model_types import QUESTION_ANSWERERS
from app.catalog.records import RecordField
from app.catalog.task_spec import TaskSpec, Variant


class QuestionAnsweringOptions(BaseModel):
    """`task` of a job, for extractive question answering."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: Literal["question-answering"] = "question-answering"
    doc_stride: Annotated[StrictInt, Field(ge=0, le=65_536)] = Field(
        default=128,
        description="Tokens that two consecutive windows of a long context share, so that an answer at the edge of one "
        "stands whole in the other. At most half of what the question leaves of a window.",
    )
    max_answer_length: Annotated[StrictInt, Field(ge=1, le=4096)] = Field(
        default=30, description="Longest answer that is predicted, in tokens."
    )
    n_best: Annotated[StrictInt, Field(ge=1, le=100)] = Field(
        default=5, description="Answers kept for each question that the result shows, the best first."
    )
    null_threshold: Literal["auto"] | StrictFloat = Field(
        default="auto",
        description="A question is left unanswered where the score of no answer exceeds that of the best answer by "
        "more than this. `auto`: what gives the best F1 on the validation file, or 0 without one; every question is "
        "answered if the training file has an answer to every one.",
    )
    normalization: Literal["auto", "squad", "cmrc"] = Field(
        default="auto",
        description="How answers are compared. `squad`: words, without case, punctuation and the articles a, an, the. "
        "`cmrc`: Chinese characters, as CMRC 2018 does. `auto`: `cmrc` where most answers of the training file hold "
        "Chinese characters.",
    )


EXTRACTIVE = Variant(
    name="extractive",
    title="The answer is a span of the context, or there is none",
    fields=(
        RecordField("id", "id", "The question's id.", ("qid", "question_id", "qas_id"), optional=True),
        RecordField("question", "text", "The question.", ("query",)),
        RecordField("context", "text", "The text that holds the answer.", ("passage", "paragraph", "document")),
        RecordField(
            "answers",
            "answers",
            'Answers as {"text": […], "answer_start": […]}, offsets in code points; empty lists: unanswerable.',
            ("answer",),
            of="context",
            target=True,
        ),
    ),
    metrics=("exact_match", "f1", "loss"),
    selection_metric="f1",
    headline=("exact_match", "f1"),
    example=(
        {
            "id": "river-1",
            "question": "where does the river rise",
            "context": "The river rises in the northern hills, and it meets the sea at the old harbour.",
            "answers": {"text": ["the northern hills"], "answer_start": [19]},
        },
        {
            "id": "river-2",
            "question": "where does the river meet the sea",
            "context": "The river rises in the northern hills, and it meets the sea at the old harbour.",
            "answers": {"text": ["the old harbour", "at the old harbour"], "answer_start": [63, 60]},
        },
        {
            "id": "river-3",
            "question": "who owns the boats",
            "context": "The river rises in the northern hills, and it meets the sea at the old harbour.",
            "answers": {"text": [], "answer_start": []},
        },
        {
            "id": "bridge-1",
            "question": "who built the bridge",
            "context": "A mason called Ann Reed built the bridge of local stone, which took nine years.",
            "answers": {"text": ["Ann Reed"], "answer_start": [15]},
        },
        {
            "id": "bridge-2",
            "question": "how long did it take",
            "context": "A mason called Ann Reed built the bridge of local stone, which took nine years.",
            "answers": {"text": ["nine years"], "answer_start": [68]},
        },
        {
            "id": "bridge-3",
            "question": "what is the bridge made of",
            "context": "A mason called Ann Reed built the bridge of local stone, which took nine years.",
            "answers": {"text": ["local stone"], "answer_start": [44]},
        },
        {
            "id": "mill-1",
            "question": "when did the mill close",
            "context": "Nobody knows why the mill closed in spring, but the wheel still turns.",
            "answers": {"text": ["spring", "in spring"], "answer_start": [36, 33]},
        },
        {
            "id": "mill-2",
            "question": "what does the mill sell",
            "context": "Nobody knows why the mill closed in spring, but the wheel still turns.",
            "answers": {"text": [], "answer_start": []},
        },
    ),
)

QUESTION_ANSWERING = TaskSpec(
    name="question-answering",
    title="Question answering: the span of a text that answers a question, or that there is none",
    options=QuestionAnsweringOptions,
    variants=(EXTRACTIVE,),
    model_types=QUESTION_ANSWERERS,
    impl="worker.tasks.question_answering:QuestionAnswering",
)
