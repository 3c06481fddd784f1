"""The catalogue entry of freezing: parts of the pretrained body stay as they are, or move more slowly."""

import re
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StringConstraints, field_validator, model_validator

from app.catalog.adaptation.spec import MethodOptions, MethodSpec

EMBEDDINGS, ENCODER = "embeddings", "encoder"
LAYERS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class FreezeOptions(MethodOptions):
    """`adaptation.freeze` of a job."""

    layers: list[str] = Field(
        default=[],
        max_length=100,
        description='What stays as it is: "embeddings", layers by number ("0", "0-5", counted from the embeddings), or '
        '"encoder": the whole pretrained body, so that only the head trains.',
    )
    patterns: list[Pattern] = Field(
        default=[],
        max_length=100,
        description='Further parameters that stay, by name, with * and ?: "*.attention.*", "*.LayerNorm.*".',
    )
    gradual_unfreezing: Annotated[StrictFloat, Field(gt=0, le=1000)] | None = Field(
        default=None,
        description="Epochs between thawing one layer and the next below it: first only the head trains, then the "
        "topmost layer too, at last the embeddings (Howard & Ruder 2018). What `layers` and `patterns` name stays.",
    )
    layer_decay: Annotated[StrictFloat, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="Factor on the learning rate from each layer to the one below it (Howard & Ruder 2018; 0.95 is "
        "usual for encoders). The rate of the topmost layer is `learning_rate`; the head has its own.",
    )

    cache_features: StrictBool = Field(
        default=True,
        description="With the whole body frozen: compute what it makes of each text once and keep it on disk, so that "
        "further epochs cost only the head. The result is the same up to rounding.",
    )

    @field_validator("layers")
    @classmethod
    def _known_places(cls, value: list[str]) -> list[str]:
        for place in value:
            found = LAYERS.fullmatch(place)
            if place not in (EMBEDDINGS, ENCODER) and found is None:
                raise ValueError(f'{place!r} is no part of a model; give "embeddings", "encoder", "3" or "0-5"')
            if found and found[2] and int(found[2]) < int(found[1]):
                raise ValueError(f"{place!r} counts backwards; give {found[2]}-{found[1]}")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> "FreezeOptions":
        if not (self.layers or self.patterns or self.gradual_unfreezing or self.layer_decay < 1):
            raise ValueError("nothing is frozen: give layers, patterns, gradual_unfreezing or layer_decay")
        return self

    def numbers(self) -> set[int]:
        """Layers that `layers` names by number."""
        found = [match for place in self.layers if (match := LAYERS.fullmatch(place))]
        return {number for match in found for number in range(int(match[1]), int(match[2] or match[1]) + 1)}

    def names(self, part: Literal["embeddings", "encoder"]) -> bool:
        """Whether `layers` names this part."""
        return part in self.layers


FREEZE = MethodSpec(
    name="freeze",
    title="Freezing: embeddings, layers or the whole body stay as they are; rates that fall from layer to layer",
    options=FreezeOptions,
    impl="worker.methods.freeze:Freeze",
    conflicts={"lora": "lora freezes the whole body by itself and trains small matrices in all of its layers"},
    example={"layers": ["embeddings", "0-2"]},
)
