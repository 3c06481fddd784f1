"""Verdicts on outcomes that were made up to be better, worse or the same."""

import numpy as np
import pytest
from numpy.typing import NDArray

from app.catalog.measures import Measure
from app.catalog.tasks import TASKS
from worker.domain_report.verdict import Control, Verdict, difference_on, holm, judge
from worker.training.outcomes import Outcomes

CLASSIFICATION = TASKS["text-classification"].variants[0]
LANGUAGE = TASKS["fill-mask"].variants[0]
ACCURACY = Measure(name="accuracy", form="mean", columns=("right",))
MACRO = Measure(name="f1_macro", form="f1_macro", columns=("truth", "predicted"))
PERPLEXITY = Measure(name="perplexity", form="exp_ratio", columns=("loss", "tokens"), lower_is_better=True)
ROWS = 400
DANN = {"domain_adversarial": {"control": True}}


def outcomes(right: NDArray[np.bool_]) -> Outcomes:
    truth = np.arange(len(right)) % 2
    columns = {"right": right, "truth": truth, "predicted": np.where(right, truth, 1 - truth)}
    return Outcomes([{}] * len(right), columns, (ACCURACY, MACRO), classes=("a", "b"), gold=("truth",), right="right")


def model(wrong: int, first: int = 0) -> Outcomes:
    """Wrong on so many rows, counted from the first."""
    rows = np.arange(ROWS)
    return outcomes((rows < first) | (rows >= first + wrong))


def verdict(ours: Outcomes, control: Outcomes) -> Verdict:
    against = Control(("domain_adversarial",), control.matrix, {})
    return judge(DANN, CLASSIFICATION, "test", ours, against, seed=1)


def test_a_model_that_is_right_more_often_was_helped() -> None:
    found = verdict(model(20), model(60))
    assert (found.outcome, found.negative_transfer) == ("helped", False)
    assert found.decisive is not None
    assert (found.metric, found.decisive.b, found.decisive.a) == ("f1_macro", 0.95, 0.85)
    assert found.sentence == (
        "domain_adversarial helped: f1_macro is 0.9500 on the test file, and 0.8500 for the control; the difference is "
        f"+0.1000 (95 % interval {found.decisive.interval[0]:.4f} to {found.decisive.interval[1]:.4f}, p < 0.001 by "
        "approximate randomization on 400 rows)."
    )
    assert found.mcnemar is not None
    assert (found.mcnemar.only_b_right, found.mcnemar.only_a_right) == (40, 0)
    assert [test.name for test in found.measured] == ["accuracy", "f1_macro"]


def test_a_model_that_is_right_less_often_shows_negative_transfer_by_name() -> None:
    found = verdict(model(60), model(20))
    assert (found.outcome, found.negative_transfer) == ("hurt", True)
    assert found.sentence.startswith("domain_adversarial hurt: this is negative transfer, ")
    assert "the difference is -0.1000" in found.sentence


@pytest.mark.parametrize("other", [model(40), model(40, first=200), model(45, first=200)])
def test_models_that_are_wrong_about_as_often_show_no_measurable_difference(other: Outcomes) -> None:
    found = verdict(model(40), other)
    assert (found.outcome, found.negative_transfer) == ("no_measurable_difference", False)
    assert found.sentence.startswith("domain_adversarial made no measurable difference: f1_macro is 0.9000 ")


@pytest.mark.parametrize(("ours", "control", "outcome"), [(2.0, 1.0, "hurt"), (1.0, 2.0, "helped")])
def test_lower_perplexity_is_better(ours: float, control: float, outcome: str) -> None:
    tokens = np.random.default_rng(1).integers(5, 20, 100)

    def losses(rate: float) -> Outcomes:
        return Outcomes([{}] * 100, {"loss": rate * tokens, "tokens": tokens}, (PERPLEXITY,), gold=("tokens",))

    against = Control(("lora", "r_drop", "ema"), losses(control).matrix, {})
    found = judge({"lora": {}}, LANGUAGE, "validation", losses(ours), against, seed=1)
    assert found.outcome == outcome
    assert found.sentence.startswith("lora, r_drop and ema h")
    assert "perplexity (lower is better) is" in found.sentence


def test_without_a_control_the_sentence_says_how_to_get_one() -> None:
    found = judge({"lora": {}, "full": {}}, CLASSIFICATION, "test", model(3), None, seed=1)
    assert (found.outcome, found.methods, found.measured) == ("not_measured", ("lora",), ())
    assert "`control: true`" in found.sentence
    nothing = judge({"full": {}}, CLASSIFICATION, "test", model(3), None, seed=1)
    assert nothing.sentence == "The job names no method of adaptation, so that there is nothing to compare."
    unseen = judge(DANN, CLASSIFICATION, None, None, None, seed=1)
    assert unseen.sentence.endswith("the job has neither a validation nor a test file.")
    assert {nothing.outcome, unseen.outcome} == {"not_measured"}


def test_a_part_of_the_rows_is_tested_by_itself() -> None:
    ours, control = model(50), Control(("lora",), model(50, first=50).matrix, {})
    first = difference_on(np.arange(100), ours, control, CLASSIFICATION, seed=1)
    assert (first.name, first.a, first.b, first.difference, first.p_value) == ("f1_macro", 0.5, 0.5, 0.0, 1.0)
    worse = difference_on(np.arange(50), ours, control, CLASSIFICATION, seed=1)
    assert (worse.a, worse.b) == (1.0, 0.0)


def test_p_values_are_adjusted_step_by_step() -> None:
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.5), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert holm([]) == []
