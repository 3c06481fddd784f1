"""The texts that are compared: what the model reads of the training file, and the unlabelled target texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.catalog.records import RecordField, extra
from app.datasets.field_types import as_texts
from worker.domain_report.words import spaced
from worker.evaluation.slices import NO_VALUE
from worker.training.data import Records

SOURCE, TARGET = "training texts", "target texts"


@dataclass(frozen=True)
class Corpus:
    """Texts of one origin; `target` says on which side of the comparison they are."""

    name: str
    texts: list[str]
    target: bool = False

    def sample(self, texts: int, characters: int, seed: int) -> list[str]:
        """So many texts at random, fewer where they are long: they hold about so many characters at most."""
        chosen: list[str] = []
        left = characters
        for index in np.random.default_rng((seed, 3)).permutation(len(self.texts)):
            if len(chosen) == texts or left <= 0:
                break
            chosen.append(self.texts[index][:left])
            left -= len(chosen[-1])
        return chosen


@dataclass(frozen=True)
class Corpora:
    """Training texts and target texts, and their parts by domain or file."""

    source: Corpus
    target: Corpus | None
    parts: list[Corpus]


MOST_PARTS = 10  # domains and files that are shown by themselves, the largest


def gather(train: Records, fields: Sequence[RecordField], target: Sequence[Records], domain_column: str) -> Corpora:
    """The corpora of a job. Where the task takes texts split into words, target texts are split in the same way."""
    texts = texts_of(train, fields)
    words = any(field.type == "words" for field in fields)
    files = [(records.file.filename, _target_texts(records, words=words)) for records in target]
    parts = [Corpus(f"training: {name}", found) for name, found in _by_domain(domains_of(train, domain_column), texts)]
    if len(files) > 1:
        parts += [Corpus(f"target: {name}", found, target=True) for name, found in files]
    whole = Corpus(TARGET, [text for _, found in files for text in found], target=True) if files else None
    parts.sort(key=lambda part: (part.target, -len(part.texts)))
    return Corpora(Corpus(SOURCE, texts), whole, parts[:MOST_PARTS])


def domains_of(records: Records, column: str) -> list[str | None] | None:
    """The domain of every record by a column of the file; None where there is none that was kept."""
    name = extra(column).name
    return records.column(name) if name in records.table.column_names else None


def texts_of(records: Records, fields: Sequence[RecordField]) -> list[str]:
    """All that a model reads of each record, one text."""
    columns = [as_texts(field, records.column(field.name)) for field in fields if field.is_read]
    return ["\n".join(filter(None, parts)) for parts in zip(*columns, strict=True)]


def _target_texts(records: Records, *, words: bool) -> list[str]:
    texts: list[str] = records.column("text")
    return [spaced(text) for text in texts] if words else texts


def _by_domain(domains: Sequence[str | None] | None, texts: Sequence[str]) -> list[tuple[str, list[str]]]:
    if domains is None:
        return []
    found: dict[str, list[str]] = {}
    for domain, text in zip(domains, texts, strict=True):
        found.setdefault(NO_VALUE if domain is None else domain, []).append(text)
    return list(found.items()) if len(found) > 1 else []
