"""The catalogue entry of adversarial training on embeddings."""

from typing import Annotated

from pydantic import Field, StrictFloat

from app.catalog.adaptation.spec import MethodOptions, MethodSpec


class FgmOptions(MethodOptions):
    """`adaptation.fgm` of a job."""

    epsilon: Annotated[StrictFloat, Field(gt=0, le=1000)] = Field(
        default=1.0, description="Length of the step that each text's embeddings make towards a greater loss."
    )
    weight: Annotated[StrictFloat, Field(gt=0, le=1000)] = Field(
        default=1.0, description="Weight of the loss after that step, beside the loss before it."
    )


FGM = MethodSpec(
    name="fgm",
    title="FGM: training also on embeddings moved towards a greater loss (Miyato et al. 2017)",
    options=FgmOptions,
    impl="worker.methods.fgm:Fgm",
    example={"epsilon": 1.0},
)
