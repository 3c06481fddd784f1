"""The catalogue entry of weight averaging."""

from typing import Annotated

from pydantic import Field, StrictFloat

from app.catalog.adaptation.spec import MethodOptions, MethodSpec


class EmaOptions(MethodOptions):
    """`adaptation.ema` of a job."""

    decay: Annotated[StrictFloat, Field(gt=0, lt=1)] = Field(
        default=0.99,
        description="Share of the average that a step keeps; it remembers about 1 / (1 - decay) steps. In the first "
        "steps it is lower, (1 + step) / (10 + step), so that the start is soon forgotten.",
    )


EMA = MethodSpec(
    name="ema",
    title="EMA: evaluations and the result use a moving average of the weights (Polyak & Juditsky 1992)",
    options=EmaOptions,
    impl="worker.methods.ema:Ema",
    example={"decay": 0.99},
)
