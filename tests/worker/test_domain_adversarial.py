"""Losses that draw domains together against small independent computations, and the domains that records name."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import BertForSequenceClassification

from app.catalog.adaptation.domain_adversarial import DOMAIN_ADVERSARIAL, DomainAdversarialOptions
from app.catalog.adaptation.spec import JobFacts
from app.catalog.plan import DataFile
from tests.worker.small_bert import small_bert
from worker.methods.domain_adversarial import DomainAdversarial
from worker.training.bodies import features_of
from worker.training.data import Batch, Examples, Ragged, Records
from worker.training.domain_losses import coral, mmd, reversed_gradient, rising_weight
from worker.training.failures import UserError
from worker.training.interfaces import Objective
from worker.training.method import Moment
from worker.training.running import RunningMean

Array = NDArray[np.float64]
TASK: Any = None  # asked for nothing


def two_domains() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    source = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    target = torch.randn(4, 3, generator=generator, dtype=torch.float64) * 1.5 + 0.4
    return source.requires_grad_(), target.requires_grad_()


def test_the_weight_rises_from_nothing_to_one() -> None:
    assert rising_weight(0.0) == 0.0
    assert rising_weight(0.1) == pytest.approx((math.e - 1) / (math.e + 1))  # tanh(5 p)
    assert rising_weight(1.0) == pytest.approx(math.tanh(5))


def test_features_go_through_and_their_gradient_comes_back_reversed() -> None:
    features = torch.tensor([[1.0, -2.0]], requires_grad=True)
    passed = reversed_gradient(features, 0.3)
    assert torch.equal(passed, features)
    (passed.square().sum() / 2).backward()
    torch.testing.assert_close(features.grad, -0.3 * features.detach())


def test_coral_and_its_gradient_are_those_of_the_covariances() -> None:
    source, target = two_domains()
    loss = coral(source, target)
    loss.backward()

    def centred(features: torch.Tensor) -> Array:
        values = features.detach().numpy()
        return values - values.mean(axis=0)

    one, other = centred(source), centred(target)
    difference = one.T @ one / 4 - other.T @ other / 3
    assert loss.item() == pytest.approx((difference**2).sum() / (4 * 3**2))
    # The derivative by C_s is (C_s - C_t) / (2 d^2), and that of C_s by a feature 2 / (n - 1) times the centred one.
    np.testing.assert_allclose(source.grad, one @ difference * 2 / 4 / (2 * 3**2))
    np.testing.assert_allclose(target.grad, -other @ difference * 2 / 3 / (2 * 3**2))


def test_mmd_and_its_gradient_are_those_of_the_sums_over_pairs() -> None:
    source, target = two_domains()
    loss = mmd(source, target)
    loss.backward()

    points: Array = torch.cat([source, target]).detach().numpy()
    texts = range(len(points))
    pairs = [(i, j) for i in texts for j in texts if i != j]
    scale = np.mean([((points[i] - points[j]) ** 2).sum() for i, j in pairs])
    value, gradient = 0.0, np.zeros_like(points)
    for i, j in pairs:
        within = 1 / (5 * 4) if i < 5 else 1 / (4 * 3)
        share = within if (i < 5) == (j < 5) else -1 / (5 * 4)  # the last are met twice: 2 / (n m) in all
        for factor in (0.25, 0.5, 1, 2, 4):
            kernel = math.exp(-((points[i] - points[j]) ** 2).sum() / (factor * scale)) / 5
            value += share * kernel
            slope = share * kernel * -2 * (points[i] - points[j]) / (factor * scale)
            gradient[i] += slope
            gradient[j] -= slope
    assert loss.item() == pytest.approx(value)
    np.testing.assert_allclose(source.grad, gradient[:5])
    np.testing.assert_allclose(target.grad, gradient[5:])


def test_mmd_of_one_point_seen_many_times_is_zero() -> None:
    assert mmd(torch.ones(3, 4), torch.ones(2, 4)).item() == 0.0


@pytest.fixture
def model() -> BertForSequenceClassification:
    return small_bert(layers=1)


SOURCE = torch.tensor([[2, 5, 7, 9], [3, 4, 0, 0], [1, 1, 6, 0]])
BATCH = Batch(
    inputs={"input_ids": SOURCE, "attention_mask": (SOURCE > 0).long()},
    targets={"label": torch.tensor([0, 1, 1])},
    weight=torch.tensor([1.0, 2.0, 0.5]),
    rows=np.array([4, 0, 2]),
)
TARGET = [11, 12, 13]


def cross_entropy(model: torch.nn.Module, batch: Batch) -> Objective:
    losses = functional.cross_entropy(model(**batch.inputs).logits, batch.targets["label"], reduction="none")
    return Objective((losses * batch.weight).sum(), {})


def method_on(model: BertForSequenceClassification, **options: Any) -> DomainAdversarial:
    """In the middle of a run: of six windows two are of domain b; the target is one text, so it is always drawn."""
    method = DomainAdversarial.from_options(DomainAdversarialOptions(**options))
    method.sources = ("a", "b")
    method.source_of = np.array([0, 1, 0, 0, 1, 0])
    method.adapt(model, TASK)
    method.target = Examples(
        {"input_ids": Ragged.of([TARGET], np.int32, 0)}, {}, np.ones(1, np.float32), np.zeros(1, np.int64), False
    )
    method.start_step(model, Moment(step=3, total_steps=10, epoch=0.5))
    return method


def features(model: BertForSequenceClassification) -> torch.Tensor:
    """Means over the tokens of the three texts and of three times the target, [6, 8]."""
    states = model.bert(input_ids=SOURCE, attention_mask=(SOURCE > 0).long()).last_hidden_state
    source = torch.stack([state[ids > 0].mean(dim=0) for state, ids in zip(states, SOURCE, strict=True)])
    target = model.bert(input_ids=torch.tensor([TARGET])).last_hidden_state.mean(dim=1)
    return torch.cat([source, target.expand(3, -1)])


def gradients(loss: torch.Tensor, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(module.named_parameters(), found, strict=True)
    }


def test_the_discriminator_follows_its_loss_and_the_model_goes_against_it(model: BertForSequenceClassification) -> None:
    method = method_on(model, weight=0.7, hidden_size=5)
    objective = method.objective(cross_entropy, model, BATCH)

    discriminator = method.modules()["discriminator"]
    first, last = discriminator[0], discriminator[2]  # pyright: ignore[reportIndexIssue]
    logits = (features(model) @ first.weight.T + first.bias).clamp_min(0) @ last.weight.T + last.bias
    domains = torch.tensor([1, 0, 0, 2, 2, 2])  # of windows 4, 0 and 2, and of the target
    loss = -logits.log_softmax(dim=1)[torch.arange(6), domains].mean() * 3.5  # the weights of the batch's texts
    plain = cross_entropy(model, BATCH).loss
    torch.testing.assert_close(objective.loss, plain + loss)
    torch.testing.assert_close(objective.sums["domain_loss"], loss)

    found = gradients(objective.loss, discriminator)
    for name, gradient in gradients(loss, discriminator).items():
        torch.testing.assert_close(found[name], gradient)
    found, of_task, of_domains = (gradients(one, model) for one in (objective.loss, plain, loss))
    factor = 0.7 * math.tanh(5 * 0.3)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, of_task[name] - factor * of_domains[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("loss", "distance"), [("coral", coral), ("mmd", mmd)])
def test_a_distance_is_the_mean_over_domains_that_have_two_texts(
    loss: Any, distance: Any, model: BertForSequenceClassification
) -> None:
    method = method_on(model, loss=loss, weight=50.0, schedule="constant")
    assert not method.modules()
    objective = method.objective(cross_entropy, model, BATCH)
    both = features(model)
    expected = 50 * distance(both[1:3], both[3:]) * 3.5  # of domain b the batch has one text
    plain = cross_entropy(model, BATCH).loss
    torch.testing.assert_close(objective.loss, plain + expected)
    found, wanted = gradients(objective.loss, model), gradients(plain + expected, model)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-3)


def test_a_batch_without_two_texts_of_a_domain_has_the_loss_of_the_task(model: BertForSequenceClassification) -> None:
    method = method_on(model, loss="mmd", schedule="constant")
    method.source_of = np.arange(6)
    method.sources = tuple("abcdef")
    objective = method.objective(cross_entropy, model, BATCH)
    assert torch.equal(objective.loss, cross_entropy(model, BATCH).loss)


def test_the_first_token_is_found_behind_padding_on_the_left() -> None:
    states = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert features_of(states, mask, "first").tolist() == [[2.0, 3.0], [6.0, 7.0]]
    assert features_of(states, mask, "mean").tolist() == [[3.0, 4.0], [8.0, 9.0]]


def records(domains: list[str | None]) -> Records:
    file = DataFile(path="", file_id="file-1", filename="reviews.csv", sha256="", rows=len(domains))
    return Records("train", file, pa.table({"extra:shop": domains, "row": range(2, len(domains) + 2)}))


def test_the_domains_are_the_values_of_the_column() -> None:
    method = DomainAdversarial.from_options(options := DomainAdversarialOptions(domain_field="shop"))
    materials: Any = type("Materials", (), {"seed": 5})
    method.augment(records(["dvd", "books", "dvd"]), materials)
    assert (method.sources, method.source_of.tolist()) == (("books", "dvd"), [1, 0, 1])
    assert DOMAIN_ADVERSARIAL.extras(options) == ("shop",)
    with pytest.raises(UserError, match=r"2 records .* 'reviews.csv' have nothing in the column 'shop'.*: rows 3, 4\."):
        method.augment(records(["dvd", None, None]), materials)
    with pytest.raises(UserError, match="101 different values; at most 100"):
        method.augment(records([str(number) for number in range(101)]), materials)


def test_a_running_mean_is_the_mean_and_later_forgets() -> None:
    mean = RunningMean(2)
    assert mean.value() is None
    for value in (4.0, 2.0, 7.0):
        mean.add(torch.tensor(value))
    assert mean.value() == 5.0  # half of 3 and half of 7
    other = RunningMean(2)
    other.restore(mean.tensor())
    other.add(torch.tensor(1.0))
    assert other.value() == 3.0
    fresh = RunningMean(2)
    fresh.restore(RunningMean(2).tensor())
    assert fresh.value() is None


@pytest.mark.parametrize(
    ("features", "model_type", "fits"),
    [("first", "gpt2", False), ("first", "bert", True), ("first", None, True), ("mean", "gpt2", True)],
)
def test_the_first_token_stands_for_nothing_that_is_read_from_left_to_right(
    features: Any, model_type: str | None, fits: bool
) -> None:
    found = DOMAIN_ADVERSARIAL.misfit(DomainAdversarialOptions(features=features), JobFacts(model_type, 1))
    assert (found is None) == fits


def test_language_models_are_told_to_train_on_the_texts_themselves() -> None:
    assert DOMAIN_ADVERSARIAL.refusal("summarization") is None
    found = DOMAIN_ADVERSARIAL.refusal("fill-mask")
    assert found is not None
    assert found.startswith("domain_adversarial is not for fill-mask: language models learn from any text")
