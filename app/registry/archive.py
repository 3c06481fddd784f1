"""A model's directory as a tar whose every byte is known beforehand: its length, its ETag, and any range of it."""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.storage.blobs import BlobStore
from app.tables import StoredFile

LAYOUT = 1  # of what `segments` makes: another one changes every ETag


@dataclass(frozen=True)
class Segment:
    """A stretch of the archive: given bytes, or those of a stored file."""

    size: int
    data: bytes | None
    file: StoredFile | None


def segments(files: Sequence[StoredFile], modified_at: int) -> list[Segment]:
    """Headers, contents and padding in their order: an uncompressed POSIX tar with the files at its root.

    Nothing in it depends on when or where it is made: time is the model's, owner is 0, mode is 0644.
    """
    found: list[Segment] = []
    for file in files:
        info = tarfile.TarInfo(file.path)
        info.size, info.mtime, info.mode = file.bytes, modified_at, 0o644
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        found += [Segment(len(header), header, None), Segment(file.bytes, None, file), _zeros(-file.bytes % 512)]
    end = 2 * tarfile.BLOCKSIZE
    total = sum(segment.size for segment in found) + end
    found.append(_zeros(end + -total % tarfile.RECORDSIZE))
    return [segment for segment in found if segment.size]


def _zeros(count: int) -> Segment:
    return Segment(count, bytes(count), None)


def fingerprint(files: Sequence[StoredFile], modified_at: int) -> str:
    """Changes with any byte of the archive; needs no byte of the files."""
    facts = [LAYOUT, modified_at, [[file.path, file.bytes, file.sha256] for file in files]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def read(parts: Sequence[Segment], blobs: BlobStore, start: int, stop: int) -> Iterator[bytes]:
    """Bytes `start` to `stop` (exclusive) of the archive."""
    offset = 0
    for part in parts:
        first, last = max(start - offset, 0), min(stop - offset, part.size)
        if first < last:
            if part.file is not None:
                yield from blobs.read(part.file.blob_id, first, last)
            elif part.data is not None:
                yield part.data[first:last]
        offset += part.size
