"""What is not restored, and that nothing of it stays."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from app.backup import BackupError
from app.backup.archive import ArchiveReader
from app.backup.saving import save
from app.storage.blobs import CHUNK_BYTES, put
from tests.backup.conftest import is_empty, restored, with_manifest


@pytest.fixture
def backup(api_key: str, blobs, backed_up: Callable[..., Path]) -> Path:
    """A backup with a key and a blob of three chunks."""
    put(blobs, [b"A" * (2 * CHUNK_BYTES) + b"B" * 100])
    return backed_up()


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99, -1])
def test_one_that_is_cut_off_is_refused(backup: Path, new_database, kept: float) -> None:
    size = backup.stat().st_size
    os.truncate(backup, int(size * kept) if 0 < kept < 1 else int(kept) % size)
    target = new_database()
    with pytest.raises(BackupError, match=r"is not a whole backup of Tailor.*fetch the file again"):
        restored(backup, target)
    assert is_empty(target)


def test_a_bit_that_changed_anywhere_is_noticed_or_changes_nothing(api_key: str, backed_up, tmp_path: Path) -> None:
    original = backed_up()
    good = ArchiveReader(original)
    manifest, content = good.manifest, original.read_bytes()
    good.close()
    altered = tmp_path / "altered.zip"
    refused = 0
    for position in range(0, len(content), 5):
        altered.write_bytes(content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :])
        try:
            archive = ArchiveReader(altered)
        except BackupError:
            refused += 1
            continue
        try:
            archive.verify()
            assert archive.manifest == manifest
        except BackupError:
            refused += 1
        finally:
            archive.close()
    assert refused > len(content) / 5 / 2  # the rest are dates and flags that nobody reads


@pytest.mark.parametrize("where", [b"PGCOPY", b"AAAA", b"BBBB"])
def test_altered_rows_are_refused_and_leave_nothing(backup: Path, new_database, where: bytes) -> None:
    content = bytearray(backup.read_bytes())
    position = content.index(where)
    content[position] ^= 1
    backup.write_bytes(content)
    target = new_database()
    with pytest.raises(BackupError, match=r"blob_chunks.*Nothing was restored"):
        restored(backup, target)
    assert is_empty(target)


def test_rows_that_do_not_belong_together_are_refused_by_the_database(backup: Path, new_database) -> None:
    def without_blobs(manifest: dict) -> None:
        manifest["tables"]["blobs"] |= {
            "bytes": 0,
            "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        }

    target = new_database()
    with pytest.raises(BackupError, match="blobs"):
        restored(with_manifest(backup, without_blobs), target)
    assert is_empty(target)


def test_a_newer_schema_is_refused_with_both_versions_and_what_to_do(backup: Path, new_database) -> None:
    newer = with_manifest(backup, lambda manifest: manifest.update(database_schema="9999", tailor="9.1"))
    target = new_database()
    with pytest.raises(BackupError, match=r"schema is 9999, and this release knows .*made by Tailor 9\.1: install"):
        restored(newer, target)
    assert is_empty(target)


def test_a_newer_format_is_refused_whatever_it_holds(backup: Path) -> None:
    def change(manifest: dict) -> None:
        del manifest["tables"]
        manifest.update(format=2, tailor="9.1")

    with pytest.raises(
        BackupError, match=r"has format 2, and this release reads 1 at most\. It was made by Tailor 9\.1"
    ):
        ArchiveReader(with_manifest(backup, change))


@pytest.mark.parametrize("name", ["pg_authid", "../../etc/passwd"])
def test_tables_that_are_not_ours_are_not_written(backup: Path, new_database, name: str) -> None:
    def change(manifest: dict) -> None:
        manifest["tables"][name] = manifest["tables"]["projects"]

    with pytest.raises(BackupError, match="differ in these tables"):
        restored(with_manifest(backup, change), new_database())


def test_a_database_with_tables_is_not_touched(backup: Path, new_database) -> None:
    target = new_database()
    with target.begin() as connection:
        connection.execute(text("CREATE TABLE mine AS SELECT 1 AS x"))
    with pytest.raises(BackupError, match="has tables already"):
        restored(backup, target)
    with target.connect() as connection:
        assert inspect(connection).get_table_names() == ["mine"]


def test_a_database_of_something_else_is_not_backed_up(new_database, tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as output, pytest.raises(BackupError, match="no tables of Tailor"):
        save(new_database(), output, tmp_path / "api_key", lambda _total: lambda _moved: None)


@pytest.mark.parametrize("content", ["", "hello", '{"format": 1}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other"
    path.write_text(content)
    with pytest.raises(BackupError, match="not a whole backup"):
        ArchiveReader(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", content)
    with pytest.raises(BackupError, match="not a whole backup"):
        ArchiveReader(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"nothing cannot be read: No such file"):
        ArchiveReader(tmp_path / "nothing")
    with pytest.raises(BackupError, match="cannot be read: Is a directory"):
        ArchiveReader(tmp_path)
