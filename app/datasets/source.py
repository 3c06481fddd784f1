"""The file as it was uploaded: opened any number of times, decompressed on the way, within the limits."""

import io
import shlex
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

from app.catalog.plan import PreparationLimits
from app.datasets.errors import UnreadableFileError
from app.datasets.limits import Deadline
from app.datasets.problems import Problem

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"

Compression = Literal["gzip"]


@dataclass(frozen=True)
class Source:
    """An untrusted file. `filename` is the client's name for it: shown, used for its extension, never opened."""

    path: Path
    filename: str
    compression: Compression | None
    limits: PreparationLimits
    deadline: Deadline

    def open(self) -> io.BufferedReader:
        """The decompressed bytes from the beginning."""
        if self.compression == "gzip":
            return io.BufferedReader(GzipStream(self), BLOCK_BYTES)
        return io.BufferedReader(PlainStream(self), BLOCK_BYTES)

    def head(self, size: int) -> bytes:
        """The first `size` decompressed bytes, or all there are."""
        with self.open() as stream:
            return stream.read(size)

    def command(self, rewrite: str, extension: str | None = None) -> str:
        """A shell line that sends the file through `rewrite` into a new, uncompressed file, ready to be pasted."""
        name = PurePath(PurePath(self.filename).name.removesuffix(".gz"))
        new = f"{name.stem}.fixed{extension or name.suffix}"
        read = "gzip -dc" if self.compression else "cat"
        return f"`{read} {shlex.quote(self.filename)} | {rewrite} > {shlex.quote(new)}`"


def open_source(path: Path, filename: str, limits: PreparationLimits, deadline: Deadline) -> Source:
    """The file at `path`; whether it is compressed is told from its first bytes."""
    with path.open("rb") as file:
        compression = "gzip" if file.read(len(GZIP_MAGIC)) == GZIP_MAGIC else None
    return Source(path, filename, compression, limits, deadline)


def decompression_bomb(limit: int, decompressed: int, compressed: int) -> Problem:
    """What is wrong with a file of which so many bytes have become more than `limit`."""
    return Problem(
        "decompression_bomb",
        f"it decompresses to more than {limit:,} bytes, the limit TAILOR_MAX_DECOMPRESSED_BYTES "
        f"({decompressed / max(1, compressed):,.0f} times the {compressed:,} compressed bytes read so far)",
        "upload less at once, or raise the setting if the file is meant to be this large",
    )


class PlainStream(io.FileIO):
    """An uncompressed file that is no longer read once the time is over."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.path, "rb")
        self._deadline = source.deadline

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill `buffer`; 0 at the end."""
        self._deadline.check()
        return super().readinto(buffer) or 0


class GzipStream(io.RawIOBase):
    """The decompressed bytes of a gzip file (RFC 1952), of all its members one after the other.

    Raises UnreadableFileError for a damaged, cut off or too large file; the CRC of each member is checked by zlib.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._file = source.path.open("rb", buffering=0)
        self._input = b""
        self._compressed = 0
        self._decompressed = 0
        self._members = 0
        self._decoder = zlib.decompressobj(wbits=31)
        self._inside = False

    def readable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Close the file beneath as well."""
        self._file.close()
        super().close()

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill `buffer` in part; 0 at the end."""
        view = memoryview(buffer)
        while self._fill():
            if not self._inside and not self._next_member():
                continue
            try:
                data = self._decoder.decompress(self._input, len(view))
            except zlib.error as error:
                raise self._unreadable(
                    "corrupt_gzip", f"the gzip data is damaged after {self._decompressed:,} bytes ({error})"
                ) from None
            self._inside = not self._decoder.eof
            self._input = self._decoder.unconsumed_tail if self._inside else self._decoder.unused_data
            if data:
                self._count(len(data))
                view[: len(data)] = data
                return len(data)
        if self._inside:
            raise self._unreadable(
                "truncated_gzip", f"the gzip data is cut off after {self._decompressed:,} decompressed bytes"
            )
        return 0

    def _fill(self) -> bool:
        if not self._input:
            self._input = self._file.read(BLOCK_BYTES // 16) or b""
            self._compressed += len(self._input)
        return bool(self._input)

    def _next_member(self) -> bool:
        """Start on the next member; False if there was only the zero padding that tape tools leave between members."""
        self._source.deadline.check()
        if self._members:
            self._input = self._input.lstrip(b"\0")
            if not self._input:
                return False
        if len(self._input) < len(GZIP_MAGIC):
            more = self._file.read(BLOCK_BYTES // 16) or b""
            self._compressed += len(more)
            self._input += more
        if not self._input.startswith(GZIP_MAGIC):
            raise self._unreadable(
                "trailing_garbage",
                f"after {self._decompressed:,} decompressed bytes the gzip data ends and something else follows",
            )
        self._decoder = zlib.decompressobj(wbits=31)
        self._members += 1
        self._inside = True
        return True

    def _count(self, size: int) -> None:
        self._source.deadline.check()
        self._decompressed += size
        limit = self._source.limits.max_decompressed_bytes
        if self._decompressed > limit:
            compressed = self._compressed - len(self._input)
            raise UnreadableFileError(decompression_bomb(limit, self._decompressed, compressed))

    def _unreadable(self, code: str, message: str) -> UnreadableFileError:
        fix = "compress it again with `gzip`, check it with `gzip -t`, and upload it again"
        return UnreadableFileError(Problem(code, message, fix))
