"""The catalogue entry of low-rank adaptation."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StringConstraints, model_validator

from app.catalog.adaptation.spec import MethodOptions, MethodSpec

ModuleName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class LoraOptions(MethodOptions):
    """`adaptation.lora` of a job."""

    r: Annotated[StrictInt, Field(ge=1, le=1024)] = Field(default=8, description="Rank of the two matrices.")
    alpha: Annotated[StrictFloat, Field(gt=0, le=10_000)] = Field(
        default=16.0, description="What they add is scaled by alpha / r; by alpha / sqrt(r) with `rslora`."
    )
    dropout: Annotated[StrictFloat, Field(ge=0, lt=1)] = Field(default=0.0, description="Dropout on their input.")
    target_modules: Literal["auto"] | Annotated[list[ModuleName], Field(min_length=1, max_length=200)] = Field(
        default="auto",
        description="Linear layers of the body that get matrices, by the end of their names (`query`, `value`). "
        "`auto`: all of them.",
    )
    dora: StrictBool = Field(
        default=False, description="Train the length of each weight apart from its direction (DoRA, Liu et al. 2024)."
    )
    rslora: StrictBool = Field(
        default=False, description="Scale by alpha / sqrt(r), which keeps large ranks stable (Kalajdzievski 2023)."
    )
    artifact: Literal["merged", "adapter", "both"] = Field(
        default="both",
        description="What the result is. `merged`: a model like any other. `adapter`: a directory of a few MB that "
        "PEFT loads onto the base model; evaluations and further jobs merge it, and while it is there the base model "
        "cannot be deleted. `both`: the merged model, with the adapter beside it in `adapter/`.",
    )
    quantization: Literal["4bit", "8bit"] | None = Field(
        default=None,
        description="Keep the base model's linear layers in so many bits while the matrices train (QLoRA, Dettmers et "
        "al. 2023). Needs a worker with a CUDA device and `tailor[qlora]`, and `artifact: adapter`.",
    )

    @model_validator(mode="after")
    def _is_not_rounded_twice(self) -> "LoraOptions":
        if self.quantization is not None and self.artifact != "adapter":
            raise ValueError(
                f'artifact is "{self.artifact}", but nothing is merged into a base that is rounded to '
                f'{self.quantization}; ask for "artifact": "adapter", which is merged in full precision where it is '
                "used"
            )
        return self


def _without_base(options: LoraOptions) -> dict[str, str]:
    if options.artifact != "adapter":
        return {}
    reason = (
        'an adapter alone belongs on the base model, which is trained before the adapter is (the option "artifact" '
        'of lora can be "merged" or "both" there)'
    )
    return dict.fromkeys(("continued_pretraining", "meta_learning"), reason)


LORA = MethodSpec(
    name="lora",
    title="LoRA: two small matrices beside each linear layer train, and the head; the rest stays as it is",
    options=LoraOptions,
    impl="worker.methods.lora:Lora",
    conflicts={
        "l2_sp": "lora leaves the pretrained weights where they are, so there is no distance to them to penalise",
        "mixout": "lora leaves the pretrained weights where they are, so there is nothing to mix them with",
    },
    conflicts_of=_without_base,
    example={"r": 8, "alpha": 16.0},
)
