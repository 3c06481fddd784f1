"""The catalogue entry of L2-SP."""

from typing import Annotated

from pydantic import Field, StrictFloat

from app.catalog.adaptation.spec import MethodOptions, MethodSpec

Strength = Annotated[StrictFloat, Field(ge=0, le=1000)]


class L2SpOptions(MethodOptions):
    """`adaptation.l2_sp` of a job."""

    alpha: Strength = Field(
        default=0.01, description="Weight of half the squared distance of the body from its pretrained weights."
    )
    beta: Strength = Field(default=0.01, description="Weight of half the squared length of the head.")


L2_SP = MethodSpec(
    name="l2_sp",
    title="L2-SP: a penalty on the distance from the pretrained weights (Li et al. 2018)",
    options=L2SpOptions,
    impl="worker.methods.l2_sp:L2Sp",
    example={"alpha": 0.01, "beta": 0.01},
)
