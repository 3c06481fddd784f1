"""Label Studio's JSON export: a task with its `data` and the `annotations` that people made of it."""

from collections.abc import Sequence
from typing import Any

from app.datasets.formats.reader import RecordReader
from app.datasets.layouts.layout import Columns, LaidOut, Layout, Options, Sample
from app.datasets.layouts.spans import TASK, SpanRecords
from app.datasets.problems import Problem, Problems, listed, shown
from app.datasets.values import InvalidValueError, text

SPAN_TYPES = ("labels", "hypertextlabels")
EXPORT = "export the project as JSON again"


def _recognise(columns: Sequence[str], asked: Columns, sample: Sample, told: bool) -> bool:
    if not {"data", "annotations"} <= set(columns):
        return False
    _, annotations = sample(("data", "annotations"))
    results = [item.get("result") for value in annotations for item in _items(value) if isinstance(item, dict)]
    items = [item for result in results for item in _items(result) if isinstance(item, dict)]
    return told or any(map(_is_span, items)) or not any(item.get("type") for item in items)


def _open(
    reader: RecordReader, asked: Columns, options: Options, sample: Sample, problems: Problems, warnings: Problems
) -> LaidOut:
    told = asked.get("tokens")

    def look(values: tuple[Any, ...]) -> tuple[str, list[Any]]:
        data, annotations = values
        made = [item for item in _items(annotations) if isinstance(item, dict) and not item.get("was_cancelled")]
        if not made:
            raise InvalidValueError(
                "not_annotated",
                "the task has no annotation",
                "export annotated tasks only; for a text without entities submit an empty annotation",
            )
        if len(made) > 1:
            message = f"a task has {len(made)} annotations; the first was taken"
            warnings.add(Problem("several_annotations", message, "keep one annotation of every task"))
        result = made[0].get("result")
        if not isinstance(result, list):
            message = f"`result` of the annotation is {shown(result)}, no list"
            raise InvalidValueError("malformed_task", message, EXPORT)
        spans = [item["value"] for item in result if _is_span(item)]
        others = sorted({str(item.get("type")) for item in result if isinstance(item, dict) and not _is_span(item)})
        if others:
            message = f"results that are no spans of text were left alone: {listed(others)}"
            warnings.add(Problem("other_results", message, "nothing is to be done if they are not meant to be learned"))
        return _text_of(data, told, spans), spans

    return SpanRecords(reader, ("data", "annotations"), look, problems, warnings)


def _text_of(data: Any, told: str | None, spans: list[dict[str, Any]]) -> str:
    """The text that was annotated: the one asked for, the one called `text`, else the only one there is."""
    if not isinstance(data, dict):
        raise InvalidValueError("malformed_task", f"`data` is {shown(data)}, no object with the text", EXPORT)
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    key = told or ("text" if "text" in texts else next(iter(texts), None) if len(texts) == 1 else None)
    if key is None:
        raise InvalidValueError(
            "text_in_doubt",
            f"`data` has several texts, {listed(list(texts))}",
            f'say which was annotated: pass `columns`, for example {{"tokens": "{next(iter(texts), "text")}"}}',
        )
    if key not in texts:
        raise InvalidValueError(
            "missing_field", f"`data` has no text {shown(key)}; it has {listed(list(data))}", EXPORT
        )
    return text(texts[key])


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_span(item: object) -> bool:
    return (
        isinstance(item, dict)
        and item.get("type") in SPAN_TYPES
        and isinstance(item.get("value"), dict)
        and "start" in item["value"]
    )


LABEL_STUDIO = Layout("label_studio", TASK, _recognise, _open)
