"""How losses of several tasks become one, and whose turn it is, against small independent computations."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from app.catalog.adaptation.multi_task import MULTI_TASK, MultiTaskOptions
from app.catalog.adaptation.spec import JobFacts
from worker.methods.multi_task import MultiTask
from worker.training.auxiliary import Auxiliary, shares
from worker.training.data import Batch, Examples, Ragged
from worker.training.interfaces import Objective
from worker.training.method import Moment


def asked(**more: Any) -> MultiTaskOptions:
    tasks = [
        {"name": "tags", "task": {"type": "token-classification"}, "training_file": "file-1", "weight": 0.5},
        {
            "name": "scores",
            "task": {"type": "text-classification", "problem_type": "regression"},
            "training_file": "file-2",
        },
    ]
    return MultiTaskOptions.model_validate({"tasks": tasks, **more})


def windows(count: int) -> Examples:
    rows = [[number + 1] * (number % 5 + 1) for number in range(count)]
    return Examples(
        {"input_ids": Ragged.of(rows, np.int32, 0)}, {}, np.full(count, 2, np.float32), np.arange(count), False
    )


class Squared:
    """A task whose loss of a batch is the weighted sum of (scale w)^2 over its windows."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def objective(self, model: Any, batch: Batch) -> Objective:
        return Objective(((self.scale * model.weight.sum()) ** 2 * batch.weight).sum(), {})


class Body(nn.Linear):
    """What both tasks share; it says its states as a body of Transformers does."""

    def forward(self, input: torch.Tensor) -> Any:  # noqa: A002 (torch's name)
        return SimpleNamespace(last_hidden_state=super().forward(input))


def method_on(body: Body, **more: Any) -> MultiTask:
    method = MultiTask.from_options(asked(**more))
    method.materials: Any = SimpleNamespace(seed=5)
    method.body = body
    for name, scale, count in (("tags", 3.0, 30), ("scores", 2.0, 10)):
        task: Any = Squared(scale)
        method.others.append(Auxiliary(name, {}, task, body, nn.ParameterDict(), windows(count), 48, 5))  # pyright: ignore[reportArgumentType]
    method.squared = (False, False, True)
    if more.get("weights") == "uncertainty":
        values = {str(number): nn.Parameter(torch.tensor(0.3 * number - 0.2)) for number in range(3)}
        method.log_variances = nn.ParameterDict(values)
    return method


BATCH = Batch(inputs={}, targets={}, weight=torch.tensor([1.0, 2.0, 0.5]), rows=np.arange(3))


def main_loss(model: nn.Module, batch: Batch) -> Objective:
    states = model(torch.ones(3, 2)).last_hidden_state
    return Objective((states.sum(dim=1) * batch.weight).sum(), {})


def body() -> Body:
    torch.manual_seed(2)
    return Body(2, 1, bias=False)


@pytest.mark.parametrize(("step", "number"), [(2, 0), (6, 1)])  # as the seed has it
def test_losses_are_weighed_by_variances_that_are_learned(step: int, number: int) -> None:
    model = body()
    method = method_on(model, weights="uncertainty")
    method.start_step(model, Moment(step, 10, 0.0))
    objective = method.objective(main_loss, model, BATCH)
    assert method.drawn == [1 - number, number]
    assert method.log_variances is not None
    variances = list(method.log_variances.values())
    found = torch.autograd.grad(objective.loss, [model.weight, *variances], allow_unused=True)

    w, ones = model.weight.detach().numpy().astype(np.float64), 3.5  # the weights of the batch's examples
    logs = [-0.2, 0.1, 0.4]
    scale, weight, half = ((3.0, 0.5, 1.0), (2.0, 1.0, 0.5))[number]
    main, other = w.sum() * ones, (scale * w.sum()) ** 2
    ours, theirs = math.exp(-logs[0]), half * math.exp(-logs[number + 1])  # 1 / v, or 1 / (2 v) of a squared error
    expected = ours * main + ones * logs[0] / 2 + weight * ones * (theirs * other + logs[number + 1] / 2)
    assert objective.loss.item() == pytest.approx(expected, rel=1e-5)
    slope = ours * ones + weight * ones * theirs * 2 * scale**2 * w.sum()
    np.testing.assert_allclose(found[0], np.full((1, 2), slope), rtol=1e-5)
    assert found[1].item() == pytest.approx(-ours * main + ones / 2, rel=1e-5)
    assert found[number + 2].item() == pytest.approx(weight * ones * (0.5 - theirs * other), rel=1e-5)
    assert found[3 - number] is None  # a task that was not drawn keeps its variance
    assert objective.sums["auxiliary_loss"].item() == pytest.approx(other * ones, rel=1e-5)


def test_fixed_weights_add_the_mean_of_the_other_batch() -> None:
    model = body()
    method = method_on(model)
    method.start_step(model, Moment(2, 10, 0.0))
    objective = method.objective(main_loss, model, BATCH)
    w = model.weight.sum().item()
    assert objective.loss.item() == pytest.approx(w * 3.5 + 0.5 * (3 * w) ** 2 * 3.5, rel=1e-5)
    report = method.report()
    assert report["main"] == {"mean_loss": pytest.approx(w, rel=1e-5), "weight": 1.0}
    tags, scores = report["tasks"]
    assert (tags["batches"], tags["windows"], tags["weight"]) == (1, 30, 0.5)
    assert tags["mean_loss"] == pytest.approx((3 * w) ** 2, rel=1e-5)
    assert (scores["batches"], scores["mean_loss"]) == (0, None)


@pytest.mark.parametrize(
    ("sampling", "step", "power"),
    [("proportional", 7, 1.0), ("temperature", 7, 0.25), ("annealed", 0, 1.0), ("annealed", 5, 0.6)],
)
def test_a_task_is_as_probable_as_its_windows_say(sampling: Any, step: int, power: float) -> None:
    model = body()
    method = method_on(model, sampling=sampling, temperature=4.0)
    method.start_step(model, Moment(step, 10, 0.0))
    assert method.power() == pytest.approx(power)
    assert shares([30, 10], power)[0] == pytest.approx(30**power / (30**power + 10**power))
    for number in range(400):
        method.start_step(model, Moment(step * 1000 + number, 1000 * 10, 0.0))
        method.objective(main_loss, model, BATCH)
    assert method.drawn[0] / 400 == pytest.approx(30**power / (30**power + 10**power), abs=0.06)


def test_a_task_goes_through_all_of_its_windows_round_by_round() -> None:
    drawn: list[int] = []
    other = method_on(body()).others[0]
    while len(drawn) < 60:
        drawn += other.draw(4, torch.device("cpu")).rows.tolist()
    assert sorted(drawn[:30]) == sorted(drawn[30:]) == list(range(30))
    assert drawn[:30] != drawn[30:]
    again = method_on(body()).others[0]
    again.position = 28
    assert again.draw(4, torch.device("cpu")).rows.tolist() == drawn[28:32]


def test_every_task_names_its_file_and_how_it_is_read() -> None:
    options = asked()
    first, second = MULTI_TASK.files(options, {"type": "text-classification"})
    assert (first.key, first.file_id) == ("multi_task.tasks.0.training_file", "file-1")
    assert second.task == {"type": "text-classification", "problem_type": "regression"}
    plain = MultiTaskOptions.model_validate(
        {"tasks": [{"name": "a", "task": {"type": "text-classification"}, "training_file": "file-1"}]}
    )
    assert plain.tasks[0].reading()["problem_type"] == "single_label_classification"
    with pytest.raises(ValidationError, match="two tasks are called 'tags'"):
        MultiTaskOptions(tasks=[options.tasks[0], options.tasks[0]])


def test_a_task_that_the_base_model_cannot_be_trained_for_is_refused() -> None:
    assert MULTI_TASK.misfit(asked(), JobFacts("bert", 0)) is None
    assert MULTI_TASK.misfit(asked(), JobFacts(None, 0)) is None
    found = MULTI_TASK.misfit(asked(), JobFacts("bart", 0))
    assert found is not None
    assert found.startswith("has 'tags', a task of token-classification, which models of type 'bart' cannot be trained")
