"""What jobs say of texts that a model writes: how long they may be, and how they are searched for."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

AUTO_TARGET_LENGTH = 128
CUT = "their ends are cut off: give shorter texts, or take a model that reads more"

TargetLength = Literal["auto"] | Annotated[StrictInt, Field(ge=2, le=16_384)]
EvaluationRows = Annotated[StrictInt, Field(ge=1, le=1_000_000)]


class BeamSearch(BaseModel):
    """How a text is searched for, in the words of Transformers' `generation_config.json`, where the artifact has it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    num_beams: Annotated[StrictInt, Field(ge=1, le=64)] = Field(
        default=4, description="Beginnings that are gone on with at once; 1: always the likeliest next token."
    )
    min_new_tokens: Annotated[StrictInt, Field(ge=0, le=16_384)] = Field(
        default=0, description="A text does not end before it has so many tokens."
    )
    length_penalty: Annotated[StrictFloat, Field(ge=-10, le=10)] = Field(
        default=1.0,
        description="Exponent of the length that a text's score is divided by: above 1 favours longer ones.",
    )
    no_repeat_ngram_size: Annotated[StrictInt, Field(ge=0, le=100)] = Field(
        default=0, description="No sequence of so many tokens occurs twice in a text; 0: any may."
    )
    repetition_penalty: Annotated[StrictFloat, Field(gt=0, le=100)] = Field(
        default=1.0, description="Above 1, tokens that the text has already become less likely (Keskar et al. 2019)."
    )
    early_stopping: StrictBool = Field(
        default=True, description="End as soon as there are `num_beams` complete texts; else when no better can come."
    )

    def settings(self) -> dict[str, Any]:
        """The settings that mean something: a single beam has no length penalty and no early end."""
        return self.model_dump(exclude={"length_penalty", "early_stopping"} if self.num_beams == 1 else set())


class SummarySearch(BeamSearch):
    """The same, where a model that repeats itself is the usual trouble."""

    no_repeat_ngram_size: Annotated[StrictInt, Field(ge=0, le=100)] = Field(
        default=3, description="No sequence of so many tokens occurs twice in a text; 0: any may."
    )


class WrittenText(BaseModel):
    """What options of translation and summarization share."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source_prefix: Annotated[str, Field(max_length=1000)] = Field(
        default="",
        description="Put before every text that is read: `summarize: ` or `translate English to German: ` for T5, "
        "`>>deu<< ` for a Marian model of several languages.",
    )
    max_target_length: TargetLength = Field(
        default="auto",
        description=f"Longest text that is written, in tokens; longer ones are cut off in training. `auto`: "
        f"{AUTO_TARGET_LENGTH}, or the window where that is smaller.",
    )
    evaluation_rows: EvaluationRows = Field(
        default=200,
        description="Rows of the validation file, drawn at random, that evaluations during training look at. The whole "
        "file is scored at the end.",
    )
