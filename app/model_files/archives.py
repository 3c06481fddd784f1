"""Archives read member by member: tar (plain or gzip) as a stream, zip by its directory. Nothing is written here."""

import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from app.datasets.errors import UnreadableFileError
from app.datasets.problems import Problem
from app.datasets.source import BLOCK_BYTES, Source, decompression_bomb
from app.model_files.members import Kind

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
OTHER_FORMATS = {
    b"\xfd7zXZ\x00": "an xz file",
    b"BZh": "a bzip2 file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
}
ENCRYPTED = 0x1 | 0x40
REPACK = "pack the model's directory again: `tar -C DIRECTORY -czf model.tar.gz .`"


@dataclass(frozen=True)
class Entry:
    """A member as the archive has it. `open` reads it, before the next entry is asked for."""

    name: str
    kind: Kind
    size: int
    packed_size: int
    open: Callable[[], IO[bytes]]


def read_archive(source: Source) -> Iterator[Entry]:
    """The members of a tar or zip. Raises UnreadableFileError for what is neither, is encrypted, damaged or cut off."""
    head = source.head(tarfile.BLOCKSIZE)
    if source.compression is None and head.startswith(ZIP_MAGIC):
        return _read_zip(source)
    other = next((name for magic, name in OTHER_FORMATS.items() if head.startswith(magic)), None)
    if other is None and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < source.path.stat().st_size:
        other = "a single safetensors file"
    if other is not None:
        inside = "holds" if source.compression else "is"
        raise UnreadableFileError(
            Problem("not_an_archive", f"it {inside} {other}, and a model comes as tar, tar.gz or zip", REPACK)
        )
    return _read_tar(source)


def read_directory(directory: Path) -> Iterator[Entry]:
    """The files of a directory, as if it had been packed."""
    for path in sorted(directory.rglob("*")):
        kind: Kind = (
            "link" if path.is_symlink() else "folder" if path.is_dir() else "file" if path.is_file() else "other"
        )
        size = path.lstat().st_size
        yield Entry(path.relative_to(directory).as_posix(), kind, size, size, lambda path=path: path.open("rb"))


def damaged(error: Exception) -> UnreadableFileError:
    """The archive breaks its own format."""
    reason = str(error) or type(error).__name__
    return UnreadableFileError(Problem("damaged_archive", f"the archive is damaged or cut off: {reason}", REPACK))


class _CutOffError(tarfile.ReadError):
    """A tar ends without its end, or something else stands where a header should."""


class _Header(tarfile.TarInfo):
    """Headers without tarfile's leniency: it takes a damaged one for the end, and drops what follows in silence."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The header in a block. Only a block of zeros ends an archive."""
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return super().frombuf(buf, encoding, errors)
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            reason = "the end-of-archive block is missing" if not buf else str(error)
            raise _CutOffError(reason) from None


def _read_tar(source: Source) -> Iterator[Entry]:
    with source.open() as stream:
        try:
            tar = tarfile.open(  # noqa: SIM115 (closed below; what opening raises is told apart)
                fileobj=stream,
                mode="r|",
                bufsize=BLOCK_BYTES,
                tarinfo=_Header,
                encoding="utf-8",
                errors="surrogateescape",
            )
        except tarfile.ReadError as error:
            what = "it decompresses to no tar archive" if source.compression else "it is no tar or zip archive"
            raise UnreadableFileError(Problem("not_an_archive", f"{what} ({error})", REPACK)) from None
        with tar:
            for member in tar:
                yield Entry(
                    member.name, _tar_kind(member), member.size, member.size, lambda member=member: _open(tar, member)
                )
        while stream.read(BLOCK_BYTES):  # gzip's checksum stands at the end
            pass


def _open(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(member)
    assert stream is not None
    return stream


def _tar_kind(member: tarfile.TarInfo) -> Kind:
    if member.isdir():
        return "folder"
    if member.issym() or member.islnk():
        return "link"
    return "file" if member.isreg() and not member.issparse() else "other"


def _read_zip(source: Source) -> Iterator[Entry]:
    with source.open() as stream, zipfile.ZipFile(stream) as archive:
        infos = archive.infolist()
        encrypted = next((info for info in infos if info.flag_bits & ENCRYPTED), None)
        if encrypted is not None:
            problem = Problem("encrypted_archive", f"{encrypted.filename!r} is encrypted", "pack it without a password")
            raise UnreadableFileError(problem)
        foreign = next(
            (info for info in infos if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)), None
        )
        if foreign is not None:
            what = f"{foreign.filename!r} is compressed by method {foreign.compress_type}, and only deflate is read"
            raise UnreadableFileError(Problem("unknown_compression", what, "pack it with plain `zip -r`"))
        declared, limit = sum(info.file_size for info in infos), source.limits.max_decompressed_bytes
        if declared > limit:
            raise UnreadableFileError(decompression_bomb(limit, declared, source.path.stat().st_size))
        for info in infos:
            yield Entry(
                info.filename, _zip_kind(info), info.file_size, info.compress_size, lambda info=info: archive.open(info)
            )


def _zip_kind(info: zipfile.ZipInfo) -> Kind:
    """By the Unix mode where there is one (Info-ZIP and macOS write it), else by the name."""
    mode = stat.S_IFMT(info.external_attr >> 16)
    if mode == stat.S_IFLNK:
        return "link"
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "other"
    return "folder" if info.is_dir() else "file"
