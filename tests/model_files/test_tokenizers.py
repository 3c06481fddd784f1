"""Which files make a tokenizer, and what window an encoder-decoder of two models has."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.model_files.inspection import inspect, window_of

MARIAN = ("source.spm", "target.spm", "vocab.json")


def directory_of(path: Path, family: str, names: tuple[str, ...]) -> Path:
    save_file({"weight": torch.ones(2)}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"model_type": family}))
    for name in names:
        (path / name).write_bytes(b"{}")
    return path


def test_sentencepiece_files_are_a_tokenizer_for_families_that_have_no_other(tmp_path: Path) -> None:
    assert inspect("local/a", directory_of(tmp_path, "marian", MARIAN)).problem is None


@pytest.mark.parametrize("missing", MARIAN)
def test_a_missing_sentencepiece_file_is_named(missing: str, tmp_path: Path) -> None:
    names = tuple(name for name in MARIAN if name != missing)
    problem = inspect("local/a", directory_of(tmp_path, "marian", names)).problem
    assert problem is not None
    assert f"{missing} missing" in problem


def test_other_families_need_a_fast_tokenizer(tmp_path: Path) -> None:
    problem = inspect("local/a", directory_of(tmp_path, "bert", MARIAN)).problem
    assert problem is not None
    assert "tokenizer.json" in problem


def test_the_window_of_two_models_is_that_of_the_shorter_one() -> None:
    halves = {"encoder": {"max_position_embeddings": 512}, "decoder": {"max_position_embeddings": 128}}
    assert window_of(halves) == 128
    assert window_of({"encoder": {}, "decoder": {}}) is None
