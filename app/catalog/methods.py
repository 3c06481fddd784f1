"""Every way to adapt a model. A new method is one entry here and one module in `worker/methods`.

Full fine-tuning is what happens when `adaptation` is empty; a method is named in `adaptation` and may be combined
with others that list it in `composes_with`.
"""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

ALL_TASKS = "*"


@dataclass(frozen=True)
class MethodSpec:
    """A method: its options, the tasks it serves and the methods it composes with; `impl` names its class."""

    name: str
    title: str
    options: type[BaseModel]
    tasks: tuple[str, ...]
    composes_with: tuple[str, ...]
    impl: str


class FullOptions(BaseModel):
    """Full fine-tuning has no options of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


FULL = MethodSpec(
    name="full",
    title="Full fine-tuning: every parameter trains",
    options=FullOptions,
    tasks=(ALL_TASKS,),
    composes_with=(),
    impl="worker.methods.full:FullFineTuning",
)

METHODS: dict[str, MethodSpec] = {spec.name: spec for spec in (FULL,)}
DEFAULT_METHOD = FULL.name
