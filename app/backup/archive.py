"""The file of a backup: a zip with one part for each table and a manifest with their hashes.

It is written as a stream, so that it may go to a pipe. The manifest comes last, since only then the hashes are known.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

FORMAT = 1
MANIFEST = "manifest.json"
API_KEY = "api_key"
READ_BYTES = 1024 * 1024
MAX_MANIFEST_BYTES = 16 * 1024 * 1024


class BackupError(Exception):
    """A backup cannot be made or restored; the message says why and what to do."""


class Part(BaseModel):
    """A file inside the backup."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    sha256: str


class TablePart(Part):
    """The rows of a table, as PostgreSQL's COPY writes them."""

    columns: tuple[str, ...]
    format: Literal["text", "binary"]


class Header(BaseModel):
    """What every format of the manifest says: which one it is, and who wrote it."""

    model_config = ConfigDict(frozen=True)

    format: int
    tailor: str


class Manifest(Header):
    """What a backup holds. `tables` stand in an order in which every row comes after those it refers to."""

    database_schema: str
    created_at: AwareDatetime
    tables: dict[str, TablePart]
    sequences: dict[str, int]
    api_key: Part | None

    @property
    def bytes(self) -> int:
        """The size of all parts, uncompressed."""
        return sum(part.bytes for part in self.tables.values())


def advice(header: Header) -> str:
    """What to do about a backup that this release is too old for."""
    return f"It was made by Tailor {header.tailor}: install that release or a later one. Nothing was restored."


def table_path(table: str) -> str:
    """Where a table's rows lie in the zip."""
    return f"tables/{table}.copy"


class ArchiveWriter:
    """Writes a backup, one part after the other."""

    def __init__(self, output: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(output, "w")

    def add(self, path: str, pieces: Iterable[bytes], *, compressed: bool) -> Part:
        """Append a part; its size and hash."""
        entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o600 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        digest, size = hashlib.sha256(), 0
        with self._zip.open(entry, "w", force_zip64=True) as part:
            for piece in pieces:
                part.write(piece)
                digest.update(piece)
                size += len(piece)
        return Part(bytes=size, sha256=digest.hexdigest())

    def finish(self, manifest: Manifest) -> None:
        """Append the manifest and the directory. Without them the file is no backup."""
        self.add(MANIFEST, [manifest.model_dump_json(indent=2).encode()], compressed=True)
        self._zip.close()


class ArchiveReader:
    """A backup that was opened. Raises BackupError for a file that is none, is incomplete or was altered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise BackupError(f"{path} cannot be read: {error.strerror}.") from None
        try:
            self._zip = zipfile.ZipFile(self._file)
            self.manifest = self._read_manifest()
        except ALTERED as error:
            self.close()
            raise self._damaged(f"it is cut off, or another kind of file: {error}") from None
        except BaseException:
            self.close()
            raise

    def _read_manifest(self) -> Manifest:
        with self._zip.open(MANIFEST) as file:
            found = json.loads(file.read(MAX_MANIFEST_BYTES))
        try:
            header = Header.model_validate(found)
            if header.format > FORMAT:
                raise BackupError(
                    f"The backup has format {header.format}, and this release reads {FORMAT} at most. {advice(header)}"
                )
            return Manifest.model_validate(found)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(name) for name in problem["loc"])
            raise self._damaged(f"its manifest is not one that this release reads: {where}: {problem['msg']}") from None

    def read(self, path: str, expected: Part) -> Iterator[bytes]:
        """The bytes of a part. Raises BackupError, at its end at the latest, where they are not those of the backup."""
        digest, size = hashlib.sha256(), 0
        try:
            with self._zip.open(path) as part:
                while piece := part.read(READ_BYTES):
                    digest.update(piece)
                    size += len(piece)
                    yield piece
        except ALTERED as error:
            raise self._damaged(f"its part {path} cannot be read: {error}") from None
        if (size, digest.hexdigest()) != (expected.bytes, expected.sha256):
            raise self._damaged(f"its part {path} is not what the manifest says")

    def read_api_key(self) -> bytes | None:
        """The content of the key file, where the backup has one."""
        part = self.manifest.api_key
        return b"".join(self.read(API_KEY, part)) if part is not None else None

    def verify(self) -> None:
        """Read every part. Raises BackupError if one was altered."""
        for table, part in self.manifest.tables.items():
            for _ in self.read(table_path(table), part):
                pass
        self.read_api_key()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _damaged(self, how: str) -> BackupError:
        return BackupError(
            f"{self._path} is not a whole backup of Tailor ({how}): fetch the file again, or take another backup. "
            "Nothing was restored."
        )


# What the standard library says of a zip with bytes that are not those that were written.
ALTERED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError)
