"""The catalogue entry of low-rank adaptation."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StringConstraints

from app.catalog.adaptation.spec import MethodOptions, MethodSpec

ModuleName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class LoraOptions(MethodOptions):
    """`adaptation.lora` of a job."""

    r: Annotated[StrictInt, Field(ge=1, le=1024)] = Field(default=8, description="Rank of the two matrices.")
    alpha: Annotated[StrictFloat, Field(gt=0, le=10_000)] = Field(
        default=16.0, description="What they add is scaled by alpha / r; by alpha / sqrt(r) with `rslora`."
    )
    dropout: Annotated[StrictFloat, Field(ge=0, lt=1)] = Field(default=0.0, description="Dropout on their input.")
    target_modules: Literal["auto"] | Annotated[list[ModuleName], Field(min_length=1, max_length=200)] = Field(
        default="auto",
        description="Linear layers of the body that get matrices, by the end of their names (`query`, `value`). "
        "`auto`: all of them.",
    )
    dora: StrictBool = Field(
        default=False, description="Train the length of each weight apart from its direction (DoRA, Liu et al. 2024)."
    )
    rslora: StrictBool = Field(
        default=False, description="Scale by alpha / sqrt(r), which keeps large ranks stable (Kalajdzievski 2023)."
    )


LORA = MethodSpec(
    name="lora",
    title="LoRA: two small matrices beside each linear layer train, and the head; the rest stays as it is",
    options=LoraOptions,
    impl="worker.methods.lora:Lora",
    conflicts={
        "l2_sp": "lora leaves the pretrained weights where they are, so there is no distance to them to penalise",
        "mixout": "lora leaves the pretrained weights where they are, so there is nothing to mix them with",
    },
    example={"r": 8, "alpha": 16.0},
)
