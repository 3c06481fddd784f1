import json
import struct
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import transaction
from app.registry import base_models
from app.registry.base_models import STARTER, inspect, register, scan
from app.tables import Model
from tests.contract.tiny import write_tiny_encoder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_encoder(tmp_path / "models" / "tiny")


def test_a_saved_directory_is_a_base_model(tiny: Path):
    model = inspect("local/tiny", tiny)
    assert (model.problem, model.family, model.max_length) == (None, "bert", 48)
    assert model.bytes > 10_000


def test_the_starter_model_is_the_published_one():
    (starter,) = [model for model in scan(None) if model.id == STARTER]
    assert (starter.problem, starter.family, starter.max_length) == (None, "bert", 512)


def test_a_starter_model_with_other_weights_is_refused(tiny: Path):
    assert "SHA-256" in base_models._checked_starter(tiny).problem


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda d: (d / "config.json").unlink(), "no config.json"),
        (lambda d: write(d / "config.json", b"{"), "cannot be read"),
        (lambda d: write(d / "config.json", b"{}"), "model_type"),
        (lambda d: write(d / "config.json", b'{"model_type": "bert", "auto_map": {}}'), "auto_map"),
        (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), "pickles run code"),
        (lambda d: write(d / "model.safetensors", b""), "not a safetensors file or is cut off"),
        (lambda d: write(d / "model.safetensors", b"\x80\x02}q\x00."), "not a safetensors file or is cut off"),
        (lambda d: write(d / "model.safetensors", struct.pack("<Q", 4) + b"oops"), "header is not JSON"),
        (lambda d: write(d / "model.safetensors", (d / "model.safetensors").read_bytes()[:-100]), "is cut off"),
    ],
)
def test_what_cannot_be_used_says_why(tiny: Path, damage, named: str):
    damage(tiny)
    assert named in inspect("local/tiny", tiny).problem


def test_a_scan_follows_what_is_on_the_disk(sessions, tiny: Path):
    def known() -> dict[str, str | None]:
        with transaction(sessions) as session:
            register(session, scan(tiny.parent))
            rows = session.scalars(select(Model).where(Model.deleted_at.is_(None)))
            return {row.id: row.problem for row in rows}

    assert known() == {STARTER: None, "local/tiny": None}
    (tiny / "model.safetensors").rename(tiny / "weights")
    assert "no safetensors" in known()["local/tiny"]
    (tiny / "weights").rename(tiny / "model.safetensors")
    renamed = tiny.rename(tiny.with_name("small"))
    assert set(known()) == {STARTER, "local/small"}
    renamed.rename(tiny)
    assert known() == {STARTER: None, "local/tiny": None}


def test_hidden_folders_and_plain_files_are_no_models(tmp_path: Path):
    (tmp_path / ".cache").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert [model.id for model in scan(tmp_path)] == [STARTER]


def test_a_base_model_that_needs_no_hub_is_found_by_its_name_alone(tiny: Path):
    assert base_models.locate("local/tiny", tiny.parent) == tiny
    assert base_models.locate("local/../etc", tiny.parent) is None
    assert json.loads((base_models.locate(STARTER, None) / "config.json").read_text())["model_type"] == "bert"
