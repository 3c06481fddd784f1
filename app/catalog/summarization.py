"""The catalogue entry of summarization."""

from typing import Literal

from pydantic import Field

from app.catalog.generation import CUT, SummarySearch, WrittenText
from app.catalog.model_types import TEXT_WRITERS
from app.catalog.records import RecordField
from app.catalog.task_spec import TaskSpec, Variant


class SummarizationOptions(WrittenText):
    """`task` of a job, for summarization."""

    type: Literal["summarization"] = "summarization"
    rouge_tokenizer: Literal["auto", "english", "words", "characters"] = Field(
        default="auto",
        description="What ROUGE compares. `english`: the library's own words, a to z and digits, without endings "
        "(Porter). `words`: words of any alphabet; runs of Chinese characters are cut into words by jieba. "
        "`characters`: as `words`, but every character of scripts without spaces is one. `auto`: `characters` where "
        "most summaries of the training file are in such a script, `english` where most letters are a to z, else "
        "`words`.",
    )
    generation: SummarySearch = Field(default_factory=SummarySearch, description="How summaries are searched for.")


SUMMARIES = Variant(
    name="text",
    title="A text and its summary",
    fields=(
        RecordField("document", "text", "The text to summarize.", ("article", "text", "dialogue", "source_text")),
        RecordField(
            "summary", "text", "Its summary, which is learned.", ("highlights", "tldr", "abstract"), target=True
        ),
        RecordField(
            "references",
            "texts",
            "All good summaries, where there are several: scores are those of the best match. Left out: the summary.",
            ("summaries",),
            optional=True,
        ),
    ),
    metrics=("rouge1", "rouge2", "rougeL", "rougeLsum", "loss"),
    selection_metric="rougeL",
    headline=("rouge1", "rouge2", "rougeL"),
    when_too_long=CUT,
    example=(
        {
            "document": "the river rose over night, and by noon the old bridge was closed to all cars.",
            "summary": "the old bridge is closed",
            "references": ["the old bridge is closed", "high water closes the bridge"],
        },
        {
            "document": "after nine years of work the town has opened a new library with a garden on its roof.",
            "summary": "a new library opens",
        },
        {
            "document": "rain fell on most days of the week, so the harvest starts late in the whole valley.",
            "summary": "rain delays the harvest",
        },
        {
            "document": "the bakery in the long street sells its last bread today, as nobody wants to take it over.",
            "summary": "the bakery shuts down today",
        },
        {
            "document": "two boats met in thick fog off the harbour; nobody was hurt, and both could go on.",
            "summary": "boats collide in thick fog",
            "references": ["boats collide in thick fog", "nobody hurt as two boats meet"],
        },
        {
            "document": "trains between the two cities are to run every half hour from the first day of may.",
            "summary": "more trains run from may",
        },
        {
            "document": "a young fox was found in the cellar of the school and was brought back to the forest.",
            "summary": "fox found in school cellar",
        },
        {
            "document": "the council wants to plant five hundred trees, most of them along the road to the station.",
            "summary": "council plants many new trees",
        },
    ),
)

SUMMARIZATION = TaskSpec(
    name="summarization",
    title="Summarization: a short text that says what a long one does",
    options=SummarizationOptions,
    variants=(SUMMARIES,),
    model_types=TEXT_WRITERS,
    impl="worker.tasks.sequence_to_sequence:SequenceToSequence",
)
