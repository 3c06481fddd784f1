"""Every family that Transformers has for a task trains, and its artifact is a plain model that predicts the same."""

from pathlib import Path
from typing import Any

import pytest

from tests.contract.families import FAMILIES, WINDOW, Family
from tests.contract.probes import PROBES, Probe
from tests.contract.tiny import Row, make_plan, train
from worker.protocol import Log, Started

# One form of each kind of head; the others differ in the loss alone.
FORMS = ("single_label_classification", "crf", "linear", "question-answering")
CASES = [
    pytest.param(family, probe, id=f"{family.name}, {probe}")
    for family in FAMILIES
    for probe in PROBES
    if family.name in probe.spec.model_types and str(probe).split(" ")[-1] in FORMS
]


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base model of every family."""
    directory = tmp_path_factory.mktemp("families")
    return {family.name: family.write(directory / family.name) for family in FAMILIES}


def longer(row: Row) -> Row:
    """The row with its inputs repeated until they fill more than a window, to its last position."""
    return row | {
        name: value * 30 if name in ("text", "tokens", "tags") else f"{value} {value * 30}"
        for name, value in row.items()
        if name in ("text", "tokens", "tags", "context")
    }


# Transformers warns that it guesses words' ends for these tokenizers; of words that are given, the guess is right.
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize(("family", "probe"), CASES)
def test_it_trains_and_plain_transformers_predicts_the_same(
    family: Family, probe: Probe, bases: dict[str, Path], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"n_epochs": 2, "batch_size": 4, "learning_rate": 1e-3}
    rows = probe.rows
    plan = make_plan(tmp_path, bases[family.name], [*rows, longer(rows[0])], None, rows, task=probe.task, **settings)
    outcome = train(plan, tmp_path)
    (started,) = outcome.of(Started)
    assert started.hyperparameters["max_length"] == WINDOW
    assert any("overlapping windows" in log.message for log in outcome.of(Log))
    probe.check_artifact(tmp_path / "artifact", rows, outcome.result.metrics["test"])
