"""The API key of an installation's own project, in a file that only its user reads."""

import os
import tempfile
from pathlib import Path

from app.db import SessionFactory, transaction
from app.errors import AppError
from app.projects import authenticate, create_key

NAME = "tailor up"


def ensure_key(sessions: SessionFactory, path: Path) -> None:
    """Leaves a key at `path` that works: the one that lies there, or a new one of the project `default`."""
    try:
        with transaction(sessions) as session:
            authenticate(session, path.read_text().strip())
        return
    except (FileNotFoundError, AppError):
        pass
    with transaction(sessions) as session:
        _, plaintext = create_key(session, name=NAME)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(plaintext + "\n")
    Path(unfinished).replace(path)
