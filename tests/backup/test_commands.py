"""`tailor backup` and `tailor restore` on a database of one's own: TAILOR_DATABASE_URL."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.cli import main
from app.db import session_factory, transaction
from app.projects import authenticate
from app.storage.blobs import put
from app.storage.database import DatabaseBlobStore
from tests.backup.conftest import is_empty


def url_of(engine: Engine) -> str:
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def test_a_database_moves_to_a_data_directory_and_from_there_to_another_database(
    database_url: str, api_key: str, blobs, new_database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    blob = put(blobs, [b"weights"])
    monkeypatch.setenv("TAILOR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TAILOR_DATABASE_URL", database_url)
    assert main(["backup", str(tmp_path / "one.zip")]) == 0
    assert not (tmp_path / "data").exists()

    monkeypatch.delenv("TAILOR_DATABASE_URL")
    assert main(["restore", str(tmp_path / "one.zip")]) == 0
    assert "has no API key file: `tailor up` makes a new key, and the old ones stay valid" in capsys.readouterr().err
    assert main(["backup", str(tmp_path / "two.zip")]) == 0

    target = new_database()
    monkeypatch.setenv("TAILOR_DATABASE_URL", url_of(target))
    assert main(["restore", str(tmp_path / "two.zip")]) == 0
    assert "TAILOR_DATABASE_URL is filled" in capsys.readouterr().err
    with transaction(session_factory(target)) as session:
        assert authenticate(session, api_key).project == "default"
    assert b"".join(DatabaseBlobStore(session_factory(target)).read(blob.id)) == b"weights"

    assert main(["restore", str(tmp_path / "two.zip")]) == 1
    assert "has tables already" in capsys.readouterr().err


def test_a_damaged_backup_leaves_the_database_empty(
    database_url: str, blobs, new_database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    put(blobs, [b"weights"])
    file = tmp_path / "one.zip"
    monkeypatch.setenv("TAILOR_DATABASE_URL", database_url)
    assert main(["backup", str(file)]) == 0
    content = bytearray(file.read_bytes())
    content[content.index(b"weights")] ^= 1
    file.write_bytes(content)
    target = new_database()
    monkeypatch.setenv("TAILOR_DATABASE_URL", url_of(target))
    assert main(["restore", str(file)]) == 1
    assert "is not a whole backup of Tailor" in capsys.readouterr().err
    assert is_empty(target)


def test_a_database_that_is_away_is_one_sentence_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("TAILOR_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/tailor")
    assert main(["backup", str(tmp_path / "b.zip")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tailor: The backup failed and left nothing behind: ")
    assert error.count("\n") == 1
    assert "secret" not in error
    assert list(tmp_path.iterdir()) == []
