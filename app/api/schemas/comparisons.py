"""Comparisons of two evaluations."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from app.api.schemas.base import Object, RequestModel, ResponseModel
from app.api.schemas.evaluations import EVALUATION_ID
from app.api.schemas.files import FILE_ID
from app.api.schemas.job_objects import MODEL_ID
from app.jobs.comparisons import Comparison, Side
from app.jobs.service import MAX_SEED

OTHER_ID = "eval-2c3d4e5f60718293a4b5c6d7e8f901"
OTHER_MODEL_ID = "ft:starter/minilm-l6:default:reviews-2:7e5c3a1f"
EXAMPLE: Object = {
    "object": "evaluation.comparison",
    "a": {"id": EVALUATION_ID, "model": MODEL_ID},
    "b": {"id": OTHER_ID, "model": OTHER_MODEL_ID},
    "file": FILE_ID,
    "task": {"type": "text-classification", "problem_type": "single_label_classification"},
    "rows": 2000,
    "seed": 0,
    "metric": "f1_macro",
    "significant": True,
    "better": "b",
    "verdict": f"The difference is real: b ({OTHER_MODEL_ID}) is better than a ({MODEL_ID}). f1_macro is 0.876 for a "
    "and 0.912 for b, a difference of +0.036 (95 % interval +0.02 to +0.052, p = 0.0001, 2,000 rows). If the two were "
    "equally good, so large a difference would come about by chance less than once in 20 times.",
    "metrics": [
        {
            "name": "f1_macro",
            "lower_is_better": False,
            "a": 0.876,
            "b": 0.912,
            "difference": 0.036,
            "interval": [0.02, 0.052],
            "p_value": 0.0001,
            "randomizations": 10000,
            "resamples": 1000,
        }
    ],
    "mcnemar": {"only_a_right": 61, "only_b_right": 133, "p_value": 2.6e-07},
}


class ComparisonQuery(RequestModel):
    """Which two, and by what."""

    a: Annotated[str, Field(min_length=1, max_length=64, examples=[EVALUATION_ID])] = Field(
        description="Id of an evaluation."
    )
    b: Annotated[str, Field(min_length=1, max_length=64, examples=[OTHER_ID])] = Field(
        description="Id of another evaluation on the same file."
    )
    metric: str | None = Field(
        default=None, description="What the verdict is about; left out: what models of the task are selected by."
    )
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Of the resamples.")


class ComparedEvaluation(ResponseModel):
    """One of the two."""

    id: str
    model: str

    @classmethod
    def of(cls, side: Side) -> "ComparedEvaluation":
        """The object of a side."""
        return cls(id=side.id, model=side.model)


class MetricDifference(ResponseModel):
    """One metric of both."""

    name: str
    lower_is_better: bool
    a: float
    b: float
    difference: float = Field(description="b - a.")
    interval: tuple[float, float] = Field(description="95 % paired bootstrap interval of the difference.")
    p_value: float = Field(description="Of approximate randomization, two-sided.")
    randomizations: int = Field(description="How many were drawn: fewer where rows are many.")
    resamples: int = Field(description="Of the bootstrap.")


class McNemar(ResponseModel):
    """Rows that one of the two gets right and the other wrong, and McNemar's exact test of them."""

    only_a_right: int
    only_b_right: int
    p_value: float


class ComparisonObject(ResponseModel):
    """Whether two models really differ on the same rows."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    object: Literal["evaluation.comparison"] = "evaluation.comparison"
    a: ComparedEvaluation
    b: ComparedEvaluation
    file: str
    task: dict[str, Any]
    rows: int
    seed: int
    metric: str = Field(description="What the verdict is about.")
    significant: bool = Field(description="Whether its p-value is below 0.05.")
    better: Literal["a", "b"] | None = Field(description="Null where no real difference can be told.")
    verdict: str = Field(description="The same in plain words.")
    metrics: list[MetricDifference] = Field(
        description="Every metric that both have. Each is tested by itself: of twenty, one may look real by chance."
    )
    mcnemar: McNemar | None = Field(description="Null where rows are not simply right or wrong.")

    @classmethod
    def of(cls, found: Comparison) -> "ComparisonObject":
        """The object of a comparison."""
        pair = found.pair
        values = {name: value for name, value in asdict(found).items() if name not in ("pair",)}
        return cls.model_validate(
            values
            | {
                "a": ComparedEvaluation.of(pair.a),
                "b": ComparedEvaluation.of(pair.b),
                "file": pair.file,
                "task": pair.task,
                "metric": pair.metric,
            }
        )
