"""The catalogue entry of full fine-tuning."""

from app.catalog.adaptation.spec import MethodOptions, MethodSpec


class FullOptions(MethodOptions):
    """Full fine-tuning has no options of its own."""


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
