"""Records that name their languages: `{"translation": {"en": …, "de": …}}`, units of TMX, columns `en` and `de`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.datasets.formats.reader import Batch, RecordReader
from app.datasets.languages import CODE, TWO_LETTERS, matching, primary
from app.datasets.layouts.layout import Columns, LaidOut, Layout, Options, Sample
from app.datasets.problems import Problem, Problems, Unit, listed, shown
from app.datasets.sequences import as_object
from app.datasets.values import InvalidValueError

TASK = "translation"
UNITS = "translation"  # the column of objects, by language
FIELDS = ("source", "target")
LANGUAGES: tuple[str, str] = ("source_language", "target_language")


class LanguageRecords:
    """Records of another reader; `pair` are the languages that are read and written."""

    columns: tuple[str, ...] = FIELDS

    def __init__(self, reader: RecordReader, wanted: Sequence[str], pair: tuple[str, str], problems: Problems) -> None:
        self.source_columns = tuple(wanted)
        self.told: dict[str, str] = dict(zip(LANGUAGES, pair, strict=True))
        self._reader = reader
        self._pair = pair
        self._problems = problems

    @property
    def unit(self) -> Unit:
        """See RecordReader."""
        return self._reader.unit

    @property
    def blank_lines(self) -> int:
        """See RecordReader."""
        return self._reader.blank_lines

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """See RecordReader."""
        for batch in self._reader.batches(self.source_columns):
            positions: list[int] = []
            columns: dict[str, list[str]] = {field: [] for field in FIELDS}
            for position, values in zip(batch.positions, zip(*batch.columns, strict=True), strict=True):
                try:
                    texts = self._texts(values)
                except InvalidValueError as error:
                    self._problems.add(Problem(error.code, error.message, error.fix, line=position))
                    continue
                positions.append(position)
                for field, text in zip(FIELDS, texts, strict=True):
                    columns[field].append(text)
            yield Batch(positions, [columns[field] for field in wanted])

    def close(self) -> None:
        """See RecordReader."""
        self._reader.close()

    def _texts(self, values: tuple[Any, ...]) -> list[Any]:
        unit = (
            as_object(values[0])
            if self.source_columns == (UNITS,)
            else dict(zip(self.source_columns, values, strict=True))
        )
        if unit is None:
            raise InvalidValueError(
                "translation_not_object",
                f"{shown(UNITS)} is {shown(values[0])}",
                'write an object of texts by language: {"translation": {"en": "…", "de": "…"}}',
            )
        return [unit[_only(language, unit)] for language in self._pair]


def _only(language: str, unit: Mapping[str, Any]) -> str:
    """The key of a unit that names the language."""
    found = matching(language, [key for key, value in unit.items() if value is not None])
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidValueError(
            "several_texts_of_a_language",
            f"several texts are in {shown(language)}: {listed(found)}",
            "name the one that is meant with source_language and target_language, or keep one of them",
        )
    raise InvalidValueError(
        "language_missing",
        f"there is no text in {shown(language)}; there are {listed(list(unit))}",
        "add it, or leave the record out",
    )


def _recognise(columns: Sequence[str], asked: Columns, sample: Sample, told: bool) -> bool:
    if UNITS in columns and not (set(asked.values()) & set(columns)):
        known = [unit for value in sample((UNITS,))[0] if (unit := as_object(value)) is not None]
        fine = all(CODE.fullmatch(key) for unit in known[:10] for key in unit)
        return fine and (told or bool(known) or set(columns) <= {UNITS, "id"})
    named = _language_columns(columns)
    return not asked and len(named) == 2 and (told or len(columns) == 2)


def _language_columns(columns: Sequence[str]) -> list[str]:
    """Columns that are named after languages; none where others say what is read and written."""
    folded = {column.strip().casefold() for column in columns}
    named = [column for column in columns if _is_language(column)]
    if len(named) > 2:
        named = [column for column in named if column != "id"]  # Indonesian, or a record's name
    return [] if folded & {*FIELDS, UNITS} else named


def _is_language(column: str) -> bool:
    return CODE.fullmatch(column) is not None and primary(column) in TWO_LETTERS


def _open(
    reader: RecordReader, asked: Columns, options: Options, sample: Sample, problems: Problems, warnings: Problems
) -> LaidOut:
    wanted = (UNITS,) if UNITS in reader.columns else tuple(_language_columns(reader.columns))
    named = [asked.get(field) or options.get(name) for field, name in zip(FIELDS, LANGUAGES, strict=True)]
    there = _languages(wanted, sample)
    rest = [language for language in there if not any(name and matching(name, [language]) for name in named)]
    missing = named.count(None)
    if there and (missing > len(rest) or (missing and len(there) != 2)):
        example = [*there, "en", "de"]
        problems.add(
            Problem(
                "languages_in_doubt",
                f"the records have texts in {listed(there)}",
                "say which is read and which is written with the task's options source_language and target_language, "
                "or at the upload with `columns`, for example "
                f'{{"source": "{example[0]}", "target": "{example[1]}"}}',
                param="task",
            )
        )
    pair = [name or (rest.pop(0) if rest else "") for name in named]
    if missing == 2 and not problems.total:
        message = f"the languages were read in the order of the first record: from {pair[0]} to {pair[1]}"
        fix = "for the other direction give the task's options source_language and target_language"
        warnings.add(Problem("direction_told", message, fix))
    return LanguageRecords(reader, wanted, (pair[0], pair[1]), problems)


def _languages(wanted: tuple[str, ...], sample: Sample) -> list[str]:
    """The languages of the first records, in their order; regions of one language count once."""
    if wanted != (UNITS,):
        return list(wanted)
    found: dict[str, str] = {}
    for value in sample(wanted)[0]:
        for key in as_object(value) or {}:
            found.setdefault(primary(key), key)
    return list(found.values())


LANGUAGE_RECORDS = Layout("languages", TASK, _recognise, _open)
