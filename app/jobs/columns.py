"""Which column of a file feeds which field of a task, as far as it can be checked before the file is read."""

import difflib
from collections.abc import Mapping

from app.catalog.tasks import TASKS
from app.errors import AppError


def check(task: str | None, columns: Mapping[str, str], param: str = "columns") -> None:
    """Raises AppError 400 for a name that is no field of the task, or of any task where it is left open.

    `param` is where the client wrote them.
    """
    specs = list(TASKS.values()) if task is None else [TASKS[task]]
    names = (field.name for spec in specs for variant in spec.variants for field in variant.fields)
    fields = list(dict.fromkeys(names))
    for name in columns:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its fields are {', '.join(fields)}."
            of = task or "any task"
            message = f"{param} names {name!r}, which is no field of {of}; {hint} Write it as {{field: column}}."
            raise AppError(400, "unknown_field", message, f"{param}.{name}", {"allowed": fields})
