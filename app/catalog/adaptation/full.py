"""The catalogue entry of full fine-tuning."""

from typing import Self

from pydantic import model_validator

from app.catalog.adaptation.spec import MethodOptions, MethodSpec


class FullOptions(MethodOptions):
    """Full fine-tuning has no options of its own."""

    @model_validator(mode="after")
    def _is_the_control(self) -> Self:
        if self.control:
            raise ValueError(
                "control is True, but a control is itself full fine-tuning: there would be nothing to compare; ask for "
                "the control of another method, or leave it out"
            )
        return self


FULL = MethodSpec(
    name="full",
    title="Full fine-tuning: every parameter trains",
    options=FullOptions,
    impl="worker.methods.full:FullFineTuning",
    conflicts={
        "freeze": "full fine-tuning trains every parameter, and freeze keeps some as they are",
        "lora": "full fine-tuning trains every parameter, and lora trains small matrices beside them",
    },
)
