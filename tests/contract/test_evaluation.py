"""An evaluation of a job's model gives the very numbers that the job gave, for every task of the catalogue."""

import json
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState

from app.catalog.measures import Statistics
from app.catalog.plan import EvaluationPlan
from app.comparison.paired import System, differences
from tests.contract.probes import PROBES, Probe
from tests.contract.tiny import Outcome, make_plan, train, write_records
from worker.evaluation.run import run
from worker.protocol import Event, Result, Started


class Page(HTMLParser):
    """What a page shows, and the elements that it leaves open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.text = ""

    @classmethod
    def of(cls, path: Path) -> "Page":
        page = cls()
        page.feed(path.read_text("utf-8"))
        return page

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag not in ("script", "link", "img")
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


each_probe = pytest.mark.parametrize("probe", PROBES, ids=str)


def evaluate(trained: Outcome, model: Path, run_dir: Path, probe: Probe, rows: list[dict[str, Any]], **fields: Any):
    """Evaluate a directory as the supervisor would have it done, and return the result."""
    AcceleratorState._reset_state(reset_partial_state=True)  # pyright: ignore[reportPrivateUsage]
    GradientState._reset_state()  # pyright: ignore[reportPrivateUsage]
    (run_dir / "data").mkdir(parents=True)
    (run_dir / "model").symlink_to(model, target_is_directory=True)
    [started] = trained.of(Started)
    known = {name: started.hyperparameters[name] for name in ("max_length", "precision")}
    plan = EvaluationPlan(
        job_id="eval-test",
        attempt=1,
        task=probe.task,
        model="ft:tiny:test",
        directory="model",
        data=write_records(run_dir, "test", rows, probe.variant.fields),
        **({"seed": 5} | known | fields),
    )
    events: list[Event] = []
    run(plan, run_dir, events.append, threading.Event())
    [result] = [event for event in events if isinstance(event, Result)]
    return result


def predictions(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "predictions.jsonl").read_text("utf-8").splitlines()]


@each_probe
def test_a_model_on_its_own_test_file_has_the_metrics_of_its_job(
    probe: Probe, tiny_encoder: Path, tmp_path: Path
) -> None:
    rows = probe.rows + probe.odd_rows
    plan = make_plan(
        tmp_path / "job",
        tiny_encoder,
        rows,
        probe.rows,
        rows,
        task=probe.task,
        n_epochs=3,
        batch_size=4,
        learning_rate=3e-3,
        max_length=24,
    )
    trained = train(plan, tmp_path / "job")
    artifact = tmp_path / "job" / "artifact"

    result = evaluate(trained, artifact, tmp_path / "evaluation", probe, rows)

    theirs, ours = trained.result.metrics["test"], result.metrics["metrics"]
    assert {name: ours[name] for name in theirs} == theirs
    assert ours["rows"] == len(rows)
    assert [row["row"] for row in predictions(tmp_path / "evaluation")] == list(range(1, len(rows) + 1))

    shown = Page.of(tmp_path / "evaluation" / "report.html")
    assert shown.open == []
    assert {"Metrics"} | ({"Calibration"} if "calibration" in ours else set()) <= set(shown.headings)

    # The statistics of rows give the same metrics again.
    meaning = Statistics.model_validate(result.metrics["statistics"])
    system = System(np.load(tmp_path / "evaluation" / "statistics.npy"), meaning)
    measured = differences(system, system, seed=1)
    assert [found.name for found in measured] == [measure.name for measure in meaning.measures]
    for found in measured:
        assert found.a == pytest.approx(theirs[found.name], abs=1e-9)
        assert (found.difference, found.p_value) == (0, 1)
        assert found.interval == pytest.approx((0, 0), abs=1e-9 * max(1, abs(found.a)))

    baseline = result.metrics["baseline"]
    assert baseline is None or set(baseline["values"]) <= set(theirs)
