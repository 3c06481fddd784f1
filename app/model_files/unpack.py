"""From an archive to the files of one model, under names of our own until all of it has been read."""

import errno
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.datasets.errors import DataError, UnreadableFileError
from app.datasets.limits import Deadline
from app.datasets.problems import Problem, listed
from app.datasets.source import BLOCK_BYTES, decompression_bomb
from app.model_files import members
from app.model_files.archives import Entry, damaged
from app.model_files.members import Refusal
from app.model_files.tailor_made import PYTHON_FILES

MAX_MEMBERS = 10_000  # the largest models have some 200 shards; a copy of a repository with its history has thousands
MAX_SMALL_FILE_BYTES = 128 * 1024 * 1024  # the largest tokenizer.json known to us has 35 MB
SHOWN_LEFT_OUT = 100
SHOWN_NAMES = 10
# What the standard library's readers raise for archives that are not what they say.
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    ValueError,
)
TOO_LARGE = Refusal(
    "file_too_large",
    f"larger than {MAX_SMALL_FILE_BYTES:,} bytes, and only *.safetensors files may be",
    "leave it out, or save the model with save_pretrained",
)


@dataclass
class Refusals:
    """Every member that may not be there, by the reason; the first ten of each are named."""

    _by_code: dict[str, tuple[Refusal, list[str]]] = field(default_factory=dict[str, tuple[Refusal, list[str]]])

    def __bool__(self) -> bool:
        return bool(self._by_code)

    def add(self, refusal: Refusal, name: str) -> None:
        """Refuse a member."""
        self._by_code.setdefault(refusal.code, (refusal, []))[1].append(name)

    def error(self, filename: str) -> DataError:
        """All of them in one message; the code is the first one's."""
        sentences: list[str] = []
        summaries: list[dict[str, Any]] = []
        for refusal, names in self._by_code.values():
            verb = "is" if len(names) == 1 else "are each"
            message = f"{listed(names, SHOWN_NAMES)} {verb} {refusal.what}"
            sentences.append(f"{message}. Fix: {refusal.fix}.")
            summaries.append({"code": refusal.code, "count": len(names), "message": message, "fix": refusal.fix})
        return DataError(next(iter(self._by_code)), f"{filename}: {' '.join(sentences)}", data={"problems": summaries})


@dataclass
class Unpacking:
    """One archive on its way into `directory`, a new one, where all its files take `max_bytes` at most.

    `python_files` are those that Tailor writes beside its own models; they are not written to `directory`.
    """

    filename: str
    directory: Path
    max_bytes: int
    deadline: Deadline
    python_files: list[str] = field(default_factory=list[str])
    _written: int = 0
    _packed: int = 0
    _refusals: Refusals = field(default_factory=Refusals)
    _found: dict[tuple[str, ...], Path | None] = field(default_factory=dict[tuple[str, ...], Path | None])

    def run(self, entries: Iterable[Entry]) -> list[str]:
        """Write the model's files to `directory` and return what was left out: files by name, folders with a slash.

        Files are the model's if they lie where config.json lies: at the root, or in the one folder that all else is in.
        Raises DataError that names every member which may not be there, UnreadableFileError for a broken archive.
        """
        self.directory.mkdir()
        try:
            for count, entry in enumerate(entries, 1):
                self.deadline.check()
                if count > MAX_MEMBERS:
                    what = f"it has more than {MAX_MEMBERS:,} members"
                    raise UnreadableFileError(Problem("too_many_members", what, "pack the files of one model only"))
                self._take(entry)
        except DAMAGED as error:
            raise damaged(error) from None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise damaged(error) from None  # a zip that names a place before its beginning
        if self._refusals:
            raise self._refusals.error(self.filename)
        return self._settle()

    def _take(self, entry: Entry) -> None:
        parts = members.parts_of(entry.name)
        if isinstance(parts, Refusal):
            self._refusals.add(parts, entry.name)
            return
        refusal = members.refusal_of_kind(entry.kind)
        if refusal is None and entry.kind == "file":
            refusal = self._refuse_file(parts, entry.size)
        if refusal is not None:
            self._refusals.add(refusal, entry.name)
        elif entry.kind == "file" and not members.is_junk(parts):
            wanted = members.is_kept(parts[-1]) and not members.is_hidden(parts) and not self._refusals
            self._found[parts] = self._write(entry) if wanted else None

    def _refuse_file(self, parts: tuple[str, ...], size: int) -> Refusal | None:
        if not parts:
            return members.UNUSUAL
        if members.is_junk(parts):
            return None
        refusal = members.refusal_of_name(parts[-1])
        if refusal is None and parts in self._found:
            return members.DUPLICATE
        if refusal is None and size > MAX_SMALL_FILE_BYTES and members.is_kept(parts[-1]):
            return None if parts[-1].endswith(".safetensors") else TOO_LARGE
        return refusal

    def _write(self, entry: Entry) -> Path:
        path = self.directory / f".{len(self._found)}"
        self._packed += entry.packed_size
        with entry.open() as stream, path.open("xb") as file:
            while block := stream.read(BLOCK_BYTES):
                self.deadline.check()
                self._written += len(block)
                if self._written > self.max_bytes:
                    raise UnreadableFileError(decompression_bomb(self.max_bytes, self._written, self._packed))
                file.write(block)
        return path

    def _settle(self) -> list[str]:
        """Give the model's files their names, and remove the others."""
        visible = [parts for parts in self._found if not members.is_hidden(parts)]
        if not visible:
            raise DataError("no_files", f"{self.filename}: the archive holds no files. Fix: pack a model's directory.")
        root = _common_folder(visible)
        if (*root, "config.json") not in self._found:
            self._refuse_nested(visible)
        left_out: set[str] = set()
        for parts, path in self._found.items():
            inside = parts[len(root) :] if parts[: len(root)] == root else parts
            if path is not None and len(inside) == 1:
                path.rename(self.directory / inside[0])
            elif inside[-1] in PYTHON_FILES and not members.is_hidden(parts):
                self._take_python_file(inside)
            else:
                left_out.add(inside[0] if len(inside) == 1 else f"{inside[0]}/")
                if path is not None:
                    path.unlink()
        if self._refusals:
            raise self._refusals.error(self.filename)
        return sorted(left_out)[:SHOWN_LEFT_OUT]

    def _take_python_file(self, inside: tuple[str, ...]) -> None:
        """Beside config.json it may be Tailor's own, which whoever knows the configuration decides."""
        if len(inside) == 1:
            self.python_files.append(inside[0])
        else:
            self._refusals.add(members.PROGRAM, "/".join(inside))

    def _refuse_nested(self, visible: Sequence[tuple[str, ...]]) -> None:
        folders = ["/".join(parts[:-1]) + "/" for parts in visible if parts[-1] == "config.json"]
        if folders:
            raise DataError(
                "no_config",
                f"{self.filename}: config.json lies in {listed(folders, SHOWN_NAMES)} and not at the root. Fix: pack "
                "the directory of one model, with config.json at its root.",
            )


def _common_folder(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    folder = paths[0][:-1]
    for parts in paths[1:]:
        same = 0
        while same < min(len(folder), len(parts) - 1) and folder[same] == parts[same]:
            same += 1
        folder = folder[:same]
    return folder
