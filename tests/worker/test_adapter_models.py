"""Adapters as models of a project: scored, gone on from, and never left without their base. Real children."""

import pytest

from app.db import transaction
from app.errors import AppError
from app.jobs import service
from app.registry import adapters, models
from tests.worker.conftest import Bench
from tests.worker.test_evaluations import evaluated, trained

ADAPTER = {"lora": {"r": 2, "artifact": "adapter"}}


def delete(bench: Bench, model: str | None) -> None:
    assert model is not None
    with transaction(bench.context.sessions) as session:
        service.delete_model(session, bench.caller, model)


def test_an_adapter_is_scored_and_gone_on_from_and_keeps_its_base(bench: Bench, prepared: str):
    base = trained(bench, prepared).fine_tuned_model
    assert base is not None
    job = trained(bench, prepared, model=base, adaptation=ADAPTER)
    adapter = job.fine_tuned_model
    assert adapter is not None
    with transaction(bench.context.sessions) as session:
        paths = {file.path for file in models.files(session, adapter)}
        assert "adapter_model.safetensors" in paths
        assert "model.safetensors" not in paths
        assert adapter in adapters.on(session, base)

    assert job.metrics is not None
    found = evaluated(bench, adapter, prepared)
    assert (found.status, found.error) == ("succeeded", None)
    assert found.metrics is not None
    # Merging rounds.
    assert found.metrics["metrics"]["loss"] == pytest.approx(job.metrics["test"]["loss"], rel=1e-3)

    further = trained(bench, prepared, model=adapter).fine_tuned_model
    with transaction(bench.context.sessions) as session:
        assert "model.safetensors" in {file.path for file in models.files(session, further)}
        assert adapters.on(session, adapter) == []

    with pytest.raises(AppError, match="what these adapters belong on") as caught:
        delete(bench, base)
    assert (caught.value.status, caught.value.code) == (409, "model_in_use")
    assert adapter in caught.value.message
    with transaction(bench.context.sessions) as session:
        needing = adapters.on(session, base)
    for model in needing:  # the adapter, and its checkpoints
        delete(bench, model)
    delete(bench, base)
