"""Metrics as functions of what is known of each row: what an evaluation stores so that two of them can be compared.

A row's statistics are numbers by name, such as `hits`, `guessed` and `gold`. A measure says how they become a metric.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

# Of which columns, in this order, and how. s(x) is the sum of a column over rows, n their number:
# mean (x): s(x) / n.  root_mean (x): sqrt(s(x) / n).  ratio (x, y): s(x) / s(y), 0 where s(y) is 0.
# f1 (hits, guessed, gold): 2 s(hits) / (s(guessed) + s(gold)), 0 where there are none.
# exp_ratio (x, y): exp(s(x) / s(y)), as perplexity is.
# bleu (lengths of system and reference, matches and totals of 1- to 4-grams), chrf (n-grams of the system, of the
# reference and of both, from 1 to 6 characters): sacreBLEU's with its defaults.
# f1_macro (truth, predicted): ids of classes; the mean F1 of the classes that occur in either, as scikit-learn has it.
# pearson, spearman, r2 (truth, predicted): numbers.
Form = Literal["mean", "root_mean", "ratio", "f1", "exp_ratio", "bleu", "chrf", "f1_macro", "pearson", "spearman", "r2"]


class Measure(BaseModel):
    """A metric: its name, the form of its computation, and the columns of statistics that it is computed from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    form: Form
    columns: tuple[str, ...]
    lower_is_better: bool = False


class Statistics(BaseModel):
    """What the columns of an evaluation's statistics mean. `classes` are named by the ids in columns of classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[str, ...]
    measures: tuple[Measure, ...]
    classes: tuple[str, ...] = ()
    gold: tuple[str, ...] = Field(default=(), description="Columns that say what is right, whatever the model is.")
    right: str | None = Field(default=None, description="The column that is 1 where a row is right and 0 where not.")
