"""A tiny random encoder, and runs of the engine in this process."""

import os
import tempfile

from worker.child import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # before torch and Transformers are imported
# Where Transformers copies the modelling file of an artifact before it runs it.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="tailor-tests-modules-")

from pathlib import Path

import pytest
import torch

from tests.contract.tiny import write_tiny_decoder, write_tiny_encoder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Transformers directory: two layers of width 32, windows of 48 tokens."""
    return write_tiny_encoder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def tiny_bases(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Base models by the names that probes have for them."""
    return {"encoder": tiny_encoder, "decoder": write_tiny_decoder(tmp_path_factory.mktemp("decoder"))}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """More threads only get in one another's way at this size."""
    torch.set_num_threads(1)
