"""A job's `preprocessing` done to its records, and what of it goes with the model.

`apply` is what every reader of a model's input calls, training and evaluation alike; `of_artifact` says with what.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from stopwordsiso import stopwords

from app.catalog.preprocessing import Preprocessing, misfit
from app.catalog.task_spec import TaskSpec, Variant
from app.model_files.tailor_made import CLEANER, FORMAT, SETTINGS, UnreadableSettingsError
from app.model_files.tailor_made import preprocessing as preprocessing_of
from worker.protocol import Log
from worker.python_files import PYTHON_FILES
from worker.training.data import Records
from worker.training.failures import UserError
from worker.training.leakage import LISTED
from worker.training.selection import select
from worker.training.text_preprocessing import Clean, cleaner

SPLIT_ROWS = "split.csv"


def of_artifact(directory: Path) -> Preprocessing:
    """How the model in `directory` reads texts. Raises UserError (param `model`) where its settings are damaged."""
    try:
        return preprocessing_of(directory)
    except UnreadableSettingsError as error:
        raise UserError("base_model_unreadable", f"The model cannot be used: {error}", "model") from None


def apply(preprocessing: Preprocessing, records: Records, spec: TaskSpec, variant: Variant) -> Records:
    """The records with every text that a model reads cleaned; none is added or removed.

    Words are cleaned one by one, so that their tags stay beside them. Raises UserError for what does not fit `variant`.
    """
    problem = misfit(spec.name, variant, preprocessing)
    if problem is not None:
        raise UserError("preprocessing_does_not_fit_task", problem.message, problem.param, {"allowed": problem.allowed})
    cleaning = _with_stop_words(preprocessing).cleaning
    if not cleaning:
        return records
    clean = cleaner(cleaning)
    table = records.table
    for name in (field.name for field in variant.texts):
        place = table.schema.get_field_index(name)
        values = [_cleaned(value, clean) for value in records.column(name)]
        table = table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
    return replace(records, table=table)


def _with_stop_words(preprocessing: Preprocessing) -> Preprocessing:
    """With the list of words where a language was named."""
    if not isinstance(preprocessing.stop_words, str):
        return preprocessing
    return preprocessing.model_copy(update={"stop_words": sorted(stopwords(preprocessing.stop_words))})


def _cleaned(value: Any, clean: Clean) -> Any:
    if isinstance(value, list):
        return [clean(word) for word in value]
    return None if value is None else clean(value)


@dataclass(frozen=True)
class Preprocessed:
    """The splits to train on and what to tell of them. `parts` says where each row of the training file went, as CSV.

    It is None where all of them are trained on.
    """

    preprocessing: Preprocessing
    splits: dict[str, Records]
    logs: list[Log]
    parts: str | None

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change between the parts of a run; nothing where nothing was asked for."""
        if self.preprocessing == Preprocessing():
            return {}
        return {"preprocessing": self.preprocessing.model_dump(mode="json"), "parts_sha256": self._parts_sha256}

    @property
    def _parts_sha256(self) -> str | None:
        return None if self.parts is None else hashlib.sha256(self.parts.encode()).hexdigest()

    def card(self) -> str:
        """What the model card says; empty where records were read as they are."""
        asked = self.preprocessing
        lines: list[str] = []
        if asked.cleaning:
            lines.append(
                f"Texts were cleaned before the model read them ({', '.join(asked.cleaning)}). Clean yours in the same "
                "way, each word by itself where the model takes words:\n\n```python\nimport sys\n\n"
                'sys.path.append("path/to/this/directory")\nfrom preprocessing import load\n\n'
                'clean = load("path/to/this/directory")\nclean("A text.")\n```\n'
            )
        if self.parts is not None:
            lines.append(f"`{SPLIT_ROWS}` says of each row of the training file which part it went to.\n")
        if not lines:
            return ""
        return f"## Preprocessing\n\n{chr(10).join(lines)}\nSettings: `{SETTINGS}`.\n\n"

    def write(self, directory: Path) -> None:
        """Leave in a model's directory, a checkpoint's too, what others need to read texts in the same way."""
        asked = self.preprocessing
        if asked == Preprocessing():
            return
        described = {
            "format": FORMAT,
            "cleaning": _with_stop_words(asked).cleaning,
            "stop_words_language": asked.stop_words if isinstance(asked.stop_words, str) else None,
            "deduplicate": asked.deduplicate,
            "split": None if asked.split is None else asked.split.model_dump(),
            "rows": {name: records.table.num_rows for name, records in self.splits.items()},
            "parts_sha256": self._parts_sha256,
        }
        (directory / SETTINGS).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", "utf-8")
        if asked.cleaning:
            shutil.copyfile(PYTHON_FILES[CLEANER], directory / CLEANER)

    def write_parts(self, directory: Path) -> None:
        """Leave `split.csv` in a finished model's directory: it may be large, and checkpoints are many."""
        if self.parts is not None:
            (directory / SPLIT_ROWS).write_text(self.parts, "utf-8", newline="")


def preprocess(
    preprocessing: Preprocessing,
    splits: Mapping[str, Records],
    spec: TaskSpec,
    variant: Variant,
    *,
    base: Path,
    seed: int,
) -> Preprocessed:
    """Clean every split, take validation and test out of `train` where asked, and remove copies from `train`.

    The same file, preprocessing and seed give the same records in every attempt. Tells when the model in `base` was
    trained on texts that were cleaned otherwise. Raises UserError for operations that
    do not fit the task, a split that leaves a part empty, and records without a group.
    """
    asked = preprocessing.with_seed(seed)
    cleaned = {name: apply(asked, records, spec, variant) for name, records in splits.items()}
    logs = _tell_cleaned(asked, splits, cleaned, variant) if asked.cleaning else []
    before = of_artifact(base)
    if before.cleaning and before.cleaning != _with_stop_words(asked).cleaning:
        logs.append(_tell_base(before, asked))
    selected, parts, more = select(asked, cleaned, variant)
    return Preprocessed(asked, selected, logs + more, parts)


def _tell_base(before: Preprocessing, asked: Preprocessing) -> Log:
    now = ", ".join(asked.cleaning) or "none"
    return Log(
        f"The base model was trained on texts cleaned by {', '.join(before.cleaning)}, as its {SETTINGS} says; this "
        f"job asks for {now}. Ask for the same, unless the texts are others.",
        level="warn",
        data={"code": "base_cleaned_otherwise", "base": list(before.cleaning), "job": list(asked.cleaning)},
    )


def _tell_cleaned(
    asked: Preprocessing, before: Mapping[str, Records], after: Mapping[str, Records], variant: Variant
) -> list[Log]:
    columns = [field.name for field in variant.texts]
    changed: dict[str, int] = {}
    logs: list[Log] = []
    for name, records in after.items():
        old, new = _values(before[name], columns), _values(records, columns)
        changed[name] = sum(one != other for one, other in zip(old, new, strict=True))
        rows = records.column("row")
        emptied = [row for row, values in zip(rows, new, strict=True) if not any(map(_is_there, values))]
        if emptied:
            more = f" and {len(emptied) - LISTED} more" if len(emptied) > LISTED else ""
            logs.append(
                Log(
                    f"Cleaning left nothing of {len(emptied)} {name} texts, which stay as empty ones: rows "
                    f"{', '.join(map(str, emptied[:LISTED]))}{more}.",
                    level="warn",
                    data={"code": "emptied", "split": name, "count": len(emptied), "rows": emptied[:LISTED]},
                )
            )
    counts = ", ".join(f"{count} of {after[name].table.num_rows} {name}" for name, count in changed.items())
    told = Log(
        f"Texts cleaned ({', '.join(asked.cleaning)}): {counts} records changed.",
        data={"code": "cleaned", "operations": list(asked.cleaning), "changed": changed},
    )
    return [told, *logs]


def _values(records: Records, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*map(records.column, columns), strict=True))


def _is_there(value: Any) -> bool:
    return any(word.strip() for word in (value if isinstance(value, list) else [value or ""]))
