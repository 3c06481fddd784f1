"""Hyperparameters of a fine-tuning job: what a client may ask for, and how every `auto` becomes a number."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

Auto = Literal["auto"]
Scheduler = Literal["linear", "cosine", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

PositiveInt = Annotated[StrictInt, Field(ge=1)]
ClassWeight = Annotated[StrictFloat, Field(gt=0, le=1_000_000)]


class Hyperparameters(BaseModel):
    """Hyperparameters as a client asks for them; `"auto"` leaves the choice to Tailor, which reports what it chose."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    n_epochs: Auto | Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        default="auto",
        description="Passes over the training file. `auto`: 3, and more for fewer than 3,000 rows (at most 10).",
    )
    batch_size: Auto | Annotated[StrictInt, Field(ge=1, le=4096)] = Field(
        default="auto", description="Examples in a forward pass. `auto`: 16, or 32 from 5,000 training rows."
    )
    learning_rate_multiplier: Auto | Annotated[StrictFloat, Field(gt=0, le=1000)] = Field(
        default="auto", description="Factor on `learning_rate`. `auto`: 1."
    )
    learning_rate: Auto | Annotated[StrictFloat, Field(gt=0, le=1)] = Field(
        default="auto", description="Peak learning rate. `auto`: 5e-5, or 1e-4 for encoders narrower than 512."
    )
    head_learning_rate_multiplier: Auto | Annotated[StrictFloat, Field(gt=0, le=10_000)] = Field(
        default="auto",
        description="Further factor on the rate of the task's head, which starts from nothing. `auto`: the task's own.",
    )
    warmup_ratio: Annotated[StrictFloat, Field(ge=0, le=0.9)] = Field(
        default=0.1, description="Share of all optimizer steps in which the rate rises from 0 to its peak."
    )
    lr_scheduler: Scheduler = Field(default="linear", description="Shape of the learning rate after warm-up.")
    weight_decay: Annotated[StrictFloat, Field(ge=0, le=1)] = Field(
        default=0.01, description="Decoupled weight decay (AdamW) on matrices; biases and norms are left out."
    )
    max_grad_norm: Annotated[StrictFloat, Field(gt=0, le=1e6)] = Field(
        default=1.0, description="Gradient norm is clipped to this."
    )
    max_length: Auto | Annotated[StrictInt, Field(ge=8, le=131_072)] = Field(
        default="auto",
        description="Window in tokens. `auto`: the model's own, for language models at most 512 to 4,096. What "
        "becomes of a longer text is the task's matter: most read it in overlapping windows.",
    )
    gradient_accumulation_steps: Annotated[StrictInt, Field(ge=1, le=4096)] = Field(
        default=1, description="Batches per optimizer step."
    )
    label_smoothing: Annotated[StrictFloat, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Share of a target that all classes get alike (Szegedy et al. 2016); with any number of labels, "
        "targets move as far towards a half; where texts are written, the classes are the tokens.",
    )
    class_weights: Literal["balanced"] | dict[str, ClassWeight] | None = Field(
        default=None,
        description="`balanced`: rows / (classes x rows of the class); or a weight for every label. With any number of "
        "labels: weights of the rows that have the label; `balanced` makes rows with and without it count the same.",
    )
    early_stopping_patience: PositiveInt | None = Field(
        default=None, description="Stop after this many evaluations without a better result. Needs a validation file."
    )
    eval_interval: Auto | PositiveInt = Field(
        default="auto", description="Optimizer steps between evaluations and checkpoints. `auto`: once an epoch."
    )
    max_steps: PositiveInt | None = Field(default=None, description="Upper bound on optimizer steps.")
    precision: Precision = Field(
        default="auto", description="`auto`: bf16 where the processor computes in it, else fp32. `fp16` needs a GPU."
    )


class ResolvedHyperparameters(BaseModel):
    """The same fields with every `auto` replaced: what the job really ran with. Asking for these gives these again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    head_learning_rate_multiplier: float
    warmup_ratio: float
    lr_scheduler: Scheduler
    weight_decay: float
    max_grad_norm: float
    max_length: int
    gradient_accumulation_steps: int
    label_smoothing: float
    class_weights: Literal["balanced"] | dict[str, float] | None
    early_stopping_patience: int | None
    eval_interval: int
    max_steps: int | None
    precision: Literal["fp32", "bf16", "fp16"]

    @property
    def peak_learning_rate(self) -> float:
        """The rate after warm-up."""
        return self.learning_rate * self.learning_rate_multiplier

    @property
    def peak_head_learning_rate(self) -> float:
        """The rate of the task's head after warm-up."""
        return self.peak_learning_rate * self.head_learning_rate_multiplier


@dataclass(frozen=True)
class TrainingFacts:
    """What is known once data, model and device are there: rows, encoder width, window in tokens, best precision."""

    training_rows: int
    hidden_size: int
    model_window: int
    fast_precision: Literal["fp32", "bf16", "fp16"]
    head_rate_factor: float = 1.0


def resolve(asked: Hyperparameters, facts: TrainingFacts) -> ResolvedHyperparameters:
    """Replace every `auto`. Few rows get more epochs, so that a small file still sees a few hundred updates."""
    batch_size = asked.batch_size if asked.batch_size != "auto" else (32 if facts.training_rows >= 5000 else 16)
    n_epochs = asked.n_epochs if asked.n_epochs != "auto" else min(10, max(3, round(3000 / facts.training_rows)))
    base_rate = asked.learning_rate if asked.learning_rate != "auto" else (1e-4 if facts.hidden_size < 512 else 5e-5)
    multiplier = asked.learning_rate_multiplier if asked.learning_rate_multiplier != "auto" else 1.0
    head = asked.head_learning_rate_multiplier
    batches = -(-facts.training_rows // batch_size)
    steps_per_epoch = -(-batches // asked.gradient_accumulation_steps)
    total_steps = n_epochs * steps_per_epoch
    if asked.max_steps is not None:
        total_steps = min(total_steps, asked.max_steps)
    eval_interval = asked.eval_interval if asked.eval_interval != "auto" else min(steps_per_epoch, total_steps)
    max_length = asked.max_length if asked.max_length != "auto" else facts.model_window
    return ResolvedHyperparameters(
        n_epochs=n_epochs,
        batch_size=batch_size,
        learning_rate_multiplier=multiplier,
        learning_rate=base_rate,
        head_learning_rate_multiplier=head if head != "auto" else facts.head_rate_factor,
        warmup_ratio=asked.warmup_ratio,
        lr_scheduler=asked.lr_scheduler,
        weight_decay=asked.weight_decay,
        max_grad_norm=asked.max_grad_norm,
        max_length=max_length,
        gradient_accumulation_steps=asked.gradient_accumulation_steps,
        label_smoothing=asked.label_smoothing,
        class_weights=asked.class_weights,
        early_stopping_patience=asked.early_stopping_patience,
        eval_interval=eval_interval,
        max_steps=asked.max_steps,
        precision=asked.precision if asked.precision != "auto" else facts.fast_precision,
    )
