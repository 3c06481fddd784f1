"""The catalogue entry of training whose features tell source and target domain apart as little as they can."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from app.catalog.adaptation.spec import CONTROL, TASKS_WITH_TARGETS, JobFacts, MethodOptions, MethodSpec
from app.catalog.model_types import CAUSAL_LANGUAGE_MODELS


class DomainAdversarialOptions(MethodOptions):
    """`adaptation.domain_adversarial` of a job."""

    loss: Literal["dann", "mmd", "coral"] = Field(
        default="dann",
        description="What draws the features of both domains together. `dann`: a discriminator that learns to tell "
        "them apart, and whose gradient reaches the model reversed (Ganin et al. 2016). `mmd`: the maximum mean "
        "discrepancy of five Gaussian kernels, whose variances are the mean squared distance of a batch's features "
        "times 1/4, 1/2, 1, 2 and 4 (Long et al. 2015). `coral`: the distance of their covariances (Sun & Saenko "
        "2016). It is small by itself, about 0.000003 between two kinds of reviews read by `starter/minilm-l6`, so "
        "that weights of 10,000 to 1,000,000 make it count beside the task's loss.",
    )
    weight: Annotated[StrictFloat, Field(gt=0, le=1_000_000_000)] = Field(
        default=1.0, description="Weight beside the task's loss; with `dann` on the reversed gradient alone."
    )
    schedule: Literal["rising", "constant"] = Field(
        default="rising",
        description="`rising`: the weight is multiplied by 2 / (1 + exp(-10 p)) - 1, p from 0 to 1 being the share of "
        "the steps that is done, so that the discriminator learns first (Ganin et al. 2016). `constant`: it is not.",
    )
    features: Literal["mean", "first"] = Field(
        default="mean",
        description="What stands for a text: the mean of its tokens' last states, or the state of the first token "
        "alone, of which models that read from left to right make nothing.",
    )
    hidden_size: Annotated[StrictInt, Field(ge=1, le=4096)] = Field(
        default=128, description="Units in the discriminator's one hidden layer; of no matter to `mmd` and `coral`."
    )
    domain_field: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None,
        description="Column of the training file that names the domain of each record, where it has several: the "
        "discriminator then tells each of them and the target apart; `mmd` and `coral` are the mean over domains.",
    )
    control: StrictBool = Field(default=True, description=CONTROL)


def _columns(options: DomainAdversarialOptions) -> tuple[str, ...]:
    return () if options.domain_field is None else (options.domain_field,)


def _misfit(options: DomainAdversarialOptions, facts: JobFacts) -> str | None:
    if options.features == "first" and facts.model_type in CAUSAL_LANGUAGE_MODELS:
        return (
            f'has features "first", and models of type {facts.model_type!r} read from left to right: the state of the '
            'first token knows nothing of the text. Give "mean".'
        )
    return None


DOMAIN_ADVERSARIAL = MethodSpec(
    name="domain_adversarial",
    title="Features that are alike in training texts and unlabelled target texts: DANN, MMD or CORAL",
    options=DomainAdversarialOptions,
    impl="worker.methods.domain_adversarial:DomainAdversarial",
    tasks=TASKS_WITH_TARGETS,
    why_tasks="language models learn from any text, so train on the target texts themselves",
    extras=_columns,
    needs_target=True,
    misfit=_misfit,
    example={"loss": "dann", "weight": 1.0},
)
