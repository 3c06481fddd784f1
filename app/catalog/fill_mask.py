"""The catalogue entry of masked language modelling: continued pretraining of encoders on texts of a domain."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat

from app.catalog.model_types import MASKED_LANGUAGE_MODELS
from app.catalog.records import RecordField
from app.catalog.task_spec import TaskSpec, Variant

TEXT = RecordField(
    "text", "text", "A document, however long.", ("content", "body", "document", "abstract", "sentence", "paragraph")
)


class FillMaskOptions(BaseModel):
    """`task` of a job, for masked language modelling."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: Literal["fill-mask"] = "fill-mask"
    mlm_probability: Annotated[StrictFloat, Field(ge=0.01, le=0.9)] = Field(
        default=0.15,
        description="Share of the tokens that are to be predicted, others in each epoch. Of these, 80 % are masked, 10 "
        "% replaced by a random token and 10 % left as they are (Devlin et al. 2019).",
    )
    whole_word_masking: StrictBool = Field(
        default=False,
        description="All tokens of a word are predicted together. Chinese, Japanese kanji and kana count by character.",
    )
    packing: StrictBool = Field(
        default=True,
        description="For training, documents are put one behind the other, with a separator between them, and cut into "
        "blocks of `max_length`. `false`: every document has blocks of its own, as always in validation and test.",
    )


MASKED_TOKENS = Variant(
    name="masked_tokens",
    title="Tokens that were masked in a text",
    fields=(TEXT,),
    metrics=("perplexity", "token_accuracy", "loss"),
    selection_metric="perplexity",
    headline=("perplexity", "token_accuracy"),
    when_too_long="nothing is cut off: texts are cut into blocks that follow one another",
    auto_window=512,
    measures_base=True,
    example=(
        {"text": "The patient was treated with aspirin for three days."},
        {"text": "Blood pressure fell after the second dose."},
        {"text": "No adverse events were reported in the control group."},
        {"text": "The trial enrolled sixty adults with mild asthma."},
        {"text": "Symptoms returned when the treatment was stopped."},
        {"text": "A second scan showed no sign of the tumour."},
        {"text": "Doses above ten milligrams were not tolerated."},
        {"text": "The nurse recorded the temperature every hour."},
    ),
)

FILL_MASK = TaskSpec(
    name="fill-mask",
    title="Masked language modelling: continued pretraining of an encoder on the texts of a domain",
    options=FillMaskOptions,
    variants=(MASKED_TOKENS,),
    model_types=MASKED_LANGUAGE_MODELS,
    impl="worker.tasks.fill_mask:FillMask",
)
