"""The blob store's interface: bytes of any length go in as a stream and come out as a stream, in constant memory."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

CHUNK_BYTES = 1024 * 1024  # measured: 1 MiB rows beat 256 KiB and 4 MiB


@dataclass(frozen=True)
class BlobRef:
    """A complete blob."""

    id: uuid.UUID
    bytes: int
    sha256: str


class BlobWriter(Protocol):
    """A blob being written. As a context manager it leaves nothing behind unless `finish` was reached."""

    def write(self, data: bytes) -> None:
        """Append bytes."""
        ...

    def finish(self) -> BlobRef:
        """Make the blob complete."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class BlobStore(Protocol):
    """A place for blobs. Who stores a `BlobRef` in a row keeps the blob; one that no row names is collected."""

    def writer(self) -> BlobWriter:
        """A new blob."""
        ...

    def read(self, blob_id: uuid.UUID, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `stop` (exclusive) in pieces of at most CHUNK_BYTES. Raises LookupError if it is gone."""
        ...

    def join(self, sources: Sequence[BlobRef], sha256: str) -> BlobRef:
        """One blob with the bytes of others in their order, which stay; `sha256` is the hash of the whole.

        It takes the time of a few rows and not of the bytes. Raises LookupError if one of them is gone.
        """
        ...

    def find(self, sha256: str, size: int) -> BlobRef | None:
        """A complete blob with these bytes, protected from collection for an hour; None if there is none."""
        ...


def put(store: BlobStore, pieces: Iterable[bytes]) -> BlobRef:
    """Store a stream of bytes."""
    with store.writer() as writer:
        for piece in pieces:
            writer.write(piece)
        return writer.finish()


def put_file(store: BlobStore, path: Path) -> BlobRef:
    """Store a file, or find it if its bytes are there already: a final model is mostly its best checkpoint again."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if found := store.find(sha256, path.stat().st_size):
            return found
        file.seek(0)
        return put(store, iter(lambda: file.read(CHUNK_BYTES), b""))


def get_file(store: BlobStore, blob_id: uuid.UUID, path: Path) -> None:
    """Write a blob to a file, whose folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for piece in store.read(blob_id):
            file.write(piece)
