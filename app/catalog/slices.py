"""What the rows of an evaluation are sliced by."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt


class ColumnSlices(BaseModel):
    """One slice for each value of a column of the file, such as its domain or its source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["column"]
    column: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="Name of a column of the file.")


class LengthSlices(BaseModel):
    """Slices by the length of what the model reads, in its own tokens; each slice has about as many rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["length"]
    bins: Annotated[StrictInt, Field(ge=2, le=20)] = Field(
        default=4, description="How many slices; fewer where many rows are equally long."
    )


SliceBy = Annotated[ColumnSlices | LengthSlices, Field(discriminator="type")]
