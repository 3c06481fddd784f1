"""The catalogue entry of prototypes."""

from app.catalog.adaptation.spec import MethodOptions, MethodSpec


class PrototypeOptions(MethodOptions):
    """`adaptation.prototype` of a job. There is nothing to choose but the control."""


PROTOTYPE = MethodSpec(
    name="prototype",
    title="Prototypes: a new head begins at the means of each label's features (Snell et al. 2017), for few examples",
    options=PrototypeOptions,
    impl="worker.methods.prototype:Prototype",
    tasks=("text-classification", "token-classification"),
    why_tasks="only a head with an output for each label can begin at the means of labels",
)
