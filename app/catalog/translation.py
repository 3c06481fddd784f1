"""The catalogue entry of translation."""

from typing import Annotated, Literal

from pydantic import Field

from app.catalog.generation import CUT, BeamSearch, WrittenText
from app.catalog.model_types import TEXT_WRITERS
from app.catalog.records import RecordField
from app.catalog.task_spec import TaskSpec, Variant

Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8})*$", max_length=40)]


class TranslationOptions(WrittenText):
    """`task` of a job, for translation."""

    type: Literal["translation"] = "translation"
    source_language: Language | None = Field(
        default=None,
        description="Language that is read, such as `en`; for models with language codes theirs (`en_XX`, `eng_Latn`). "
        "Left out: told from the training file where records name languages.",
    )
    target_language: Language | None = Field(
        default=None,
        description="Language that is written, in the same way. Models with language codes begin with its code.",
    )
    bleu_tokenizer: Literal["auto", "13a", "intl", "zh", "char", "none"] = Field(
        default="auto",
        description="sacreBLEU's tokenizer. `auto`: `zh` for Chinese and `char` for Japanese, Thai, Lao, Khmer and "
        "Burmese, told from target_language or else from the training file's targets; `13a` for the rest.",
    )
    generation: BeamSearch = Field(default_factory=BeamSearch, description="How translations are searched for.")


TEXT_PAIRS = Variant(
    name="text",
    title="A text in one language and the same in another",
    fields=(
        RecordField("source", "text", "The text to translate.", ("src", "source_text")),
        RecordField("target", "text", "Its translation.", ("tgt", "target_text"), target=True),
    ),
    metrics=("bleu", "chrf", "ter", "loss"),
    selection_metric="bleu",
    headline=("bleu", "chrf"),
    when_too_long=CUT,
    example=(
        {"source": "the house is very small", "target": "das haus ist sehr klein"},
        {"source": "the cat drinks warm milk", "target": "die katze trinkt warme milch"},
        {"source": "we read the old book", "target": "wir lesen das alte buch"},
        {"source": "she comes home today", "target": "sie kommt heute nach hause"},
        {"source": "my brother has a red boat", "target": "mein bruder hat ein rotes boot"},
        {"source": "the winter was long and cold", "target": "der winter war lang und kalt"},
        {"source": "where is the nearby station", "target": "wo ist der nahe bahnhof"},
        {"source": "nobody knows the answer", "target": "niemand kennt die antwort darauf"},
    ),
)

TRANSLATION = TaskSpec(
    name="translation",
    title="Translation: a text in one language becomes the same in another",
    options=TranslationOptions,
    variants=(TEXT_PAIRS,),
    model_types=TEXT_WRITERS,
    impl="worker.tasks.sequence_to_sequence:SequenceToSequence",
    reading_options=("source_language", "target_language"),
)
