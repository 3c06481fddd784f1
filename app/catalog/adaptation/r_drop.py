"""The catalogue entry of R-Drop."""

from typing import Annotated

from pydantic import Field, StrictFloat

from app.catalog.adaptation.spec import MethodOptions, MethodSpec


class RDropOptions(MethodOptions):
    """`adaptation.r_drop` of a job."""

    alpha: Annotated[StrictFloat, Field(gt=0, le=1000)] = Field(
        default=1.0,
        description="Weight of the divergence between the outputs of two passes that differ by dropout: the mean of "
        "both Kullback-Leibler divergences, over labels, tokens, or places of an answer; with a conditional random "
        "field over the labels of each word before the field; with numbers the squared difference in units of the "
        "loss. The paper uses 0.1 to 5. Each step takes two passes, so twice as long.",
    )


R_DROP = MethodSpec(
    name="r_drop",
    title="R-Drop: two passes with different dropout are to come to the same; takes twice as long (Wu et al. 2021)",
    options=RDropOptions,
    impl="worker.methods.r_drop:RDrop",
    example={"alpha": 1.0},
)
