"""The catalogue entry of text generation: chats, completions of prompts, and plain texts for causal models."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from app.catalog.fill_mask import MASKED_TOKENS, TEXT
from app.catalog.model_types import CAUSAL_LANGUAGE_MODELS
from app.catalog.records import RecordField
from app.catalog.task_spec import TaskSpec, Variant

METRICS = ("perplexity", "token_accuracy", "loss")
HEADLINE = ("perplexity", "token_accuracy")
CUT = (
    "the oldest part of what comes before the answer is left out, and the end of an answer that fills three quarters "
    "of the window alone; raise max_length where the model allows it"
)


class TextGenerationOptions(BaseModel):
    """`task` of a job, for text generation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["text-generation"] = "text-generation"
    format: Literal["chat", "completion", "text"] | None = Field(
        default=None,
        description="`chat`: messages, of which the assistant's are learned. `completion`: a prompt and the completion "
        "that is learned. `text`: documents that are learned whole. Left out: told from the training file.",
    )
    packing: StrictBool = Field(
        default=True,
        description="`text` only: for training, documents are put one behind the other, each with its end-of-text "
        "token, and cut into blocks of `max_length`. `false`: every document has blocks of its own, as always in "
        "validation and test.",
    )


def _chat(question: str, answer: str, system: str | None = None) -> dict[str, list[dict[str, str]]]:
    before = [] if system is None else [{"role": "system", "content": system}]
    return {
        "messages": [*before, {"role": "user", "content": question}, {"role": "assistant", "content": answer}],
    }


CHAT = Variant(
    name="chat",
    title="Chats as OpenAI has them: every assistant message is learned",
    fields=(
        RecordField(
            "messages",
            "messages",
            'Messages as {"role": "system" | "developer" | "user" | "assistant" | "tool", "content": "…"}; '
            '`"weight": 0` on an assistant message leaves it out of the loss.',
            ("conversation",),
        ),
        RecordField("tools", "tools", "Functions that the assistant may call, as OpenAI writes them.", optional=True),
    ),
    metrics=METRICS,
    selection_metric="perplexity",
    headline=HEADLINE,
    when_too_long=CUT,
    auto_window=4096,
    measures_base=True,
    example=(
        _chat("Which port does the service use?", "Port 8000.", "You answer in a few words."),
        _chat("How do I stop it?", "Press Ctrl-C."),
        _chat("Where are the logs?", "In the data directory, under logs.", "You answer in a few words."),
        _chat("Can I pause a job?", "Yes, and resume it later."),
        _chat("Who may see my files?", "Only your project.", "You answer in a few words."),
        _chat("What is a checkpoint?", "The state of a run on disk."),
        _chat("Does it need a GPU?", "No, but it helps."),
        _chat("How do I get a key?", "Run tailor keys create.", "You answer in a few words."),
    ),
)

COMPLETION = Variant(
    name="completion",
    title="Prompts and their completions: the completion is learned",
    fields=(
        RecordField("prompt", "text", "What the model is given."),
        RecordField(
            "completion",
            "text",
            "What follows it; put a space or a line break between the two where there is to be one.",
            ("response",),
            target=True,
        ),
    ),
    metrics=METRICS,
    selection_metric="perplexity",
    headline=HEADLINE,
    when_too_long=CUT,
    auto_window=4096,
    measures_base=True,
    example=(
        {"prompt": "Capital of France:", "completion": " Paris"},
        {"prompt": "Capital of Italy:", "completion": " Rome"},
        {"prompt": "Capital of Spain:", "completion": " Madrid"},
        {"prompt": "Capital of Norway:", "completion": " Oslo"},
        {"prompt": "Opposite of hot:", "completion": " cold"},
        {"prompt": "Opposite of early:", "completion": " late"},
        {"prompt": "Colour of snow:", "completion": " white"},
        {"prompt": "Colour of grass:", "completion": " green"},
    ),
)

PLAIN_TEXT = Variant(
    name="text",
    title="Documents, learned whole: continued pretraining of a causal model",
    fields=(TEXT,),
    metrics=METRICS,
    selection_metric="perplexity",
    headline=HEADLINE,
    when_too_long="nothing is cut off: texts are cut into blocks that follow one another",
    auto_window=1024,
    measures_base=True,
    example=MASKED_TOKENS.example,
)

TEXT_GENERATION = TaskSpec(
    name="text-generation",
    title="Text generation: chats, completions of prompts, or plain texts, with a causal language model",
    options=TextGenerationOptions,
    variants=(CHAT, COMPLETION, PLAIN_TEXT),
    variant_option="format",
    model_types=CAUSAL_LANGUAGE_MODELS,
    impl="worker.tasks.text_generation:TextGeneration",
)
