"""The catalogue entry of stochastic weight averaging."""

from typing import Annotated

from pydantic import Field, StrictFloat

from app.catalog.adaptation.spec import MethodOptions, MethodSpec


class SwaOptions(MethodOptions):
    """`adaptation.swa` of a job."""

    start: Annotated[StrictFloat, Field(ge=0, lt=1)] = Field(
        default=0.75,
        description="Share of the training steps after which averaging begins. Each later step's weights count the "
        "same. Evaluations before then, which can be chosen too, are of the weights as they are. A learning rate that "
        'does not fall to zero gives the average more to work with: "lr_scheduler": "constant".',
    )


SWA = MethodSpec(
    name="swa",
    title="SWA: evaluations and the result use the mean of the weights along the end of the run (Izmailov et al. 2018)",
    options=SwaOptions,
    impl="worker.methods.swa:Swa",
    conflicts={"ema": "both say which average of the weights is evaluated and saved"},
    example={"start": 0.75},
)
