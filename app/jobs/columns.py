"""Which column of a file feeds which field of a task, as far as it can be checked before the file is read."""

import difflib
from collections.abc import Mapping

from app.catalog.tasks import TASKS
from app.errors import AppError


def check(task: str, columns: Mapping[str, str]) -> None:
    """Raises AppError 400 for a name that is no field of the task."""
    fields = [field.name for field in TASKS[task].fields]
    for name in columns:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its fields are {', '.join(fields)}."
            message = f"columns names {name!r}, which is no field of {task}; {hint} Write it as {{field: column}}."
            raise AppError(400, "unknown_field", message, f"columns.{name}", {"allowed": fields})
