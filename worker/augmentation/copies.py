"""Changed copies of records: which operation makes which, what is kept of them, and what is told."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from app.catalog.adaptation.augmentation import AugmentationOptions
from worker.augmentation.edits import Generator
from worker.augmentation.forms import Form, Row, form_of
from worker.augmentation.operations import Apply, Workshop
from worker.augmentation.passages import Passage
from worker.training.data import Records
from worker.training.materials import Materials
from worker.training.watch import Watch

RECORDS_AT_ONCE = 16_384  # whose words are in memory
EXAMPLES = 10


@dataclass(frozen=True)
class Copies:
    """The copies, in the order of their records, and what is told of them, as JSON."""

    table: pa.Table
    report: dict[str, Any]


@dataclass
class Tally:
    """What became of the copies that operations made. A copy is `made`, `unchanged` or a `duplicate`."""

    outcomes: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])
    examples: dict[int, list[Row]] = field(default_factory=dict[int, list[Row]])

    def add(self, operation: int, outcome: str) -> None:
        """One more of an operation."""
        self.outcomes[operation, outcome] += 1

    def show(self, operation: int, example: Row) -> None:
        """Keep the first examples of each operation."""
        shown = self.examples.setdefault(operation, [])
        if len(shown) < EXAMPLES:
            shown.append(example)

    def report(self, options: AugmentationOptions, records: int) -> dict[str, Any]:
        """Counts by operation and in all, and examples, of all operations in turn."""
        names = ("made", "unchanged", "duplicate")
        operations = [
            {"type": asked.type} | {name: self.outcomes[number, name] for name in names}
            for number, asked in enumerate(options.operations)
        ]
        turns = zip_longest(*(self.examples[number] for number in sorted(self.examples)))
        shown = [example for example in chain.from_iterable(turns) if example is not None]
        totals = {name: sum(self.outcomes[number, name] for number in range(len(operations))) for name in names}
        return {"records": records, **totals, "operations": operations, "examples": shown[:EXAMPLES]}


@dataclass(frozen=True)
class Draft:
    """A copy to be made: of a record (by its number in the file), by an operation."""

    record: int
    copy: int
    operation: int


def make_copies(options: AugmentationOptions, train: Records, materials: Materials) -> Copies:
    """Copies of training records. A function of options, records, models and seed. Raises UserError, StoppedError."""
    form = form_of(train)
    rows = train.table.num_rows
    texts = sum(value is not None for name in _there(form.fields, train) for value in train.column(name))
    watch = Watch("augmenting", texts * options.copies, materials.stop, materials.emit)
    operations = Workshop(options, materials, train, form, watch).operations()
    tally = Tally()
    seen = {form.key(row) for part in _parts(form, train) for row in part}
    sources: list[int] = []
    changed: list[Row] = []
    start = 0
    for number, part in enumerate(_parts(form, train)):
        passages = [form.passages(row, options.language) for row in part]
        drafts = [draft for record in range(len(part)) for draft in _drafts(start + record, options, materials.seed)]
        results = _apply(operations, drafts, passages, start, number, materials.seed)
        for draft, result in zip(drafts, results, strict=True):
            row = part[draft.record - start]
            new = row | form.values(result)
            if new == row or not all(passage.text.strip() for passage in result.values()):
                tally.add(draft.operation, "unchanged")
            elif (key := form.key(new)) in seen:
                tally.add(draft.operation, "duplicate")
            else:
                seen.add(key)
                sources.append(draft.record)
                changed.append(new)
                tally.add(draft.operation, "made")
                before = passages[draft.record - start]
                place = next(name for name in before if before[name] != result[name])
                tally.show(
                    draft.operation,
                    {
                        "row": row["row"],
                        "operation": options.operations[draft.operation].type,
                        "field": place,
                        "before": before[place].text,
                        "after": result[place].text,
                    },
                )
        start += len(part)
    if torch.cuda.is_available():
        del operations
        torch.cuda.empty_cache()
    return Copies(_table(form, train, sources, changed), tally.report(options, rows))


def _drafts(record: int, options: AugmentationOptions, seed: int) -> list[Draft]:
    """The operations take turns, in an order of the record's own."""
    order = _generator(seed, record, 0, 0).permutation(len(options.operations))
    return [Draft(record, copy, int(order[copy % len(order)])) for copy in range(options.copies)]


def _generator(seed: int, record: int, copy: int, text: int) -> Generator:
    """A stream of its own for every text of every copy, by a counter (Salmon et al. 2011); `copy` counts from 1."""
    return np.random.Generator(np.random.Philox(key=(seed, 0), counter=(0, text, copy, record)))


def _apply(
    operations: Sequence[Apply],
    drafts: Sequence[Draft],
    passages: Sequence[dict[str, Passage]],
    start: int,
    part: int,
    seed: int,
) -> list[dict[str, Passage]]:
    """What the operations make of the drafts' passages, by field and in the drafts' order."""
    results: list[dict[str, Passage]] = [{} for _ in drafts]
    for number, operation in enumerate(operations):
        own = [(place, draft) for place, draft in enumerate(drafts) if draft.operation == number]
        work = [
            (place, name, passage, _generator(seed, draft.record, draft.copy + 1, text))
            for place, draft in own
            for text, (name, passage) in enumerate(passages[draft.record - start].items())
        ]
        if not work:
            continue
        found = operation([item[2] for item in work], [item[3] for item in work], part)
        for (place, name, _, _), passage in zip(work, found, strict=True):
            results[place][name] = passage
    return results


def _parts(form: Form, train: Records) -> Iterable[list[Row]]:
    """The fields of records that matter here, part by part."""
    wanted = (*form.fields, *form.kept, *([form.tags] if form.tags else []), "row")
    table = train.table.select(_there(wanted, train))
    for start in range(0, table.num_rows, RECORDS_AT_ONCE):
        yield table.slice(start, RECORDS_AT_ONCE).to_pylist()


def _there(names: Sequence[str], train: Records) -> list[str]:
    return [name for name in names if name in train.table.column_names]


def _table(form: Form, train: Records, sources: Sequence[int], changed: Sequence[Row]) -> pa.Table:
    """The records that were copied, with what changed."""
    table = train.table.take(pa.array(sources, pa.int64()))
    for name in _there((*form.fields, *([form.tags] if form.tags else [])), train):
        place = table.schema.get_field_index(name)
        values = pa.array([row[name] for row in changed], table.schema.field(place).type)
        table = table.set_column(place, table.schema.field(place), values)
    return table
