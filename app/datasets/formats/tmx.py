"""TMX, the exchange format of translation memories (LISA OSCAR, TMX 1.4b): units of one text in several languages.

Read as a stream by expat, which is told nothing of the world outside: entities that a file declares are refused, and a
DTD that it names is not fetched. A record's position is the line its unit begins in.
"""

import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any
from xml.parsers import expat

from app.datasets.errors import UnreadableFileError
from app.datasets.formats.reader import Batch, in_batches
from app.datasets.formats.structured import StructuredFormat
from app.datasets.problems import Problem, Problems, Unit, shown
from app.datasets.source import Source

TASK = "translation"
BEGINNING = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*(?:<!DOCTYPE\s+tmx\b|<tmx[\s>])", re.DOTALL)
BLOCK_BYTES = 1 << 16
MARKUP = frozenset({"bpt", "ept", "ph", "it", "ut"})  # what they hold is code of the original document
LANGUAGE = ("xml:lang", "lang")  # the second is that of TMX 1.1
FORM = '<tu><tuv xml:lang="en"><seg>…</seg></tuv><tuv xml:lang="de"><seg>…</seg></tuv></tu>'

Record = tuple[int, int, dict[str, str]]


class TmxUnits:
    """Units of a TMX file, read in one pass; their one column, `translation`, has texts by language."""

    unit: Unit = "line"
    columns: tuple[str, ...] = ("translation",)

    def __init__(self, source: Source, problems: Problems) -> None:
        self.blank_lines = 0
        self._source = source
        self._problems = problems
        self._records = self._read()

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """See RecordReader."""
        for positions, units in in_batches(self._records):
            yield Batch(positions, [units for _ in wanted])

    def close(self) -> None:
        """See RecordReader."""
        self._records.close()

    def _read(self) -> Generator[Record]:
        events = _Events(self._problems)
        limit = self._source.limits.max_row_bytes
        with self._source.open() as stream:
            block = b"begin"
            while block:
                block = stream.read(BLOCK_BYTES)
                events.parse(block)
                yield from events.take()
                if events.failed:
                    raise UnreadableFileError(events.failed)
                if events.unread > limit + BLOCK_BYTES:
                    raise UnreadableFileError(_endless(events.begin, limit))


class _Events:
    """Puts units together from what the parser meets."""

    def __init__(self, problems: Problems) -> None:
        self.failed: Problem | None = None
        self.unread = 0  # bytes since the last unit
        self.begin = 1
        self._problems = problems
        self._ready: list[Record] = []
        self._source_language = ""
        self._texts: dict[str, str] = {}
        self._language: str | None = None
        self._text: list[str] | None = None
        self._inside_markup = 0
        self._size = 0
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._entity
        parser.SkippedEntityHandler = self._skipped

    def parse(self, block: bytes) -> None:
        """Take the next bytes; nothing ends the file."""
        self.unread += len(block)
        try:
            self._parser.Parse(block, not block)
        except expat.ExpatError as error:
            self.failed = self.failed or _broken(error)
        except LookupError as error:  # an encoding that nobody knows
            self.failed = Problem("unknown_encoding", f"its encoding is not known: {error}", "write the file as UTF-8")

    def take(self) -> list[Record]:
        """The units that are complete."""
        ready, self._ready = self._ready, []
        return ready

    def _start(self, name: str, attributes: dict[str, Any]) -> None:
        match name:
            case "header":
                self._source_language = attributes.get("srclang", "")
            case "tu":
                self.begin, self._texts, self._size = self._parser.CurrentLineNumber, {}, 0
                self.unread = 0
            case "tuv":
                self._language = next((attributes[key] for key in LANGUAGE if key in attributes), None)
                if self._language is None:
                    self._add("unit_without_language", "a text names no language (xml:lang)")
            case "seg":
                self._text = []
            case _ if name in MARKUP:
                self._inside_markup += 1
            case _:
                pass

    def _end(self, name: str) -> None:
        match name:
            case "seg" if self._text is not None:
                text = "".join(self._text)
                self._text = None
                if self._language in self._texts:
                    self._add("several_texts_of_a_language", f"a unit has two texts in {shown(self._language)}")
                elif self._language is not None:
                    self._texts[self._language] = text
                    self._size += len(text)
            case "tu":
                source = self._source_language
                if source in self._texts:  # what the file says is the original stands first
                    self._texts = {source: self._texts[source]} | self._texts
                if self._texts:
                    self._ready.append((self.begin, self._size, self._texts))
                else:
                    self._add("empty_unit", "a unit has no text")
                self.unread = 0
            case _ if name in MARKUP:
                self._inside_markup -= 1
            case _:
                pass

    def _characters(self, text: str) -> None:
        if self._text is not None and not self._inside_markup:
            self._text.append(text)

    def _entity(self, name: str, *_: object) -> None:
        self._refuse(name, "declares")

    def _skipped(self, name: str, _: bool) -> None:
        self._refuse(name, "needs")

    def _refuse(self, name: str, does: str) -> None:
        self.failed = Problem(
            "xml_entity",
            f"the file {does} the entity {shown(name)}; entities can make a small file endless, or name other files",
            "write the characters themselves",
            line=self._parser.CurrentLineNumber,
            column=self._parser.CurrentColumnNumber + 1,
        )
        raise expat.ExpatError("entity")

    def _add(self, code: str, message: str) -> None:
        self._problems.add(Problem(code, message, f"write a unit as {FORM}", line=self._parser.CurrentLineNumber))


def looks_like_tmx(head: bytes, extension: str, told: bool) -> bool:
    """Whether it begins as TMX does."""
    return BEGINNING.match(head) is not None


def _broken(error: expat.ExpatError) -> Problem:
    message = expat.errors.messages.get(error.code, str(error))
    cut = error.code in (expat.errors.codes[name] for name in (expat.errors.XML_ERROR_NO_ELEMENTS, UNCLOSED))
    return Problem(
        "truncated_xml" if cut else "invalid_xml",
        f"not well-formed XML: {message}",
        "upload the whole file" if cut else "mend it there, or export it again; `xmllint --noout FILE` checks a file",
        line=error.lineno,
        column=error.offset + 1,
    )


UNCLOSED = expat.errors.XML_ERROR_UNCLOSED_TOKEN


def _endless(begin: int, limit: int) -> Problem:
    return Problem(
        "row_too_long",
        f"more than {limit:,} bytes, the limit TAILOR_MAX_ROW_BYTES, stand between here and the end of a unit",
        "split the text over several units, or raise the setting",
        line=begin,
    )


TMX = StructuredFormat("tmx", TASK, looks_like_tmx, TmxUnits)
