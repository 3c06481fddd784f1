"""The catalogue entry of mixout."""

from typing import Annotated

from pydantic import Field, StrictFloat

from app.catalog.adaptation.spec import MethodOptions, MethodSpec


class MixoutOptions(MethodOptions):
    """`adaptation.mixout` of a job."""

    p: Annotated[StrictFloat, Field(gt=0, lt=1)] = Field(
        default=0.5, description="Share of the body's weights that each step replaces by the pretrained ones."
    )


MIXOUT = MethodSpec(
    name="mixout",
    title="Mixout: every step computes with a random share of the pretrained weights (Lee et al. 2020)",
    options=MixoutOptions,
    impl="worker.methods.mixout:Mixout",
    example={"p": 0.5},
)
