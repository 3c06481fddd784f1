"""Whether the API or this machine's worker works, asked from the machine itself."""

import socket
import urllib.request

from sqlalchemy.exc import SQLAlchemyError

from app.db import make_engine, session_factory, transaction
from app.jobs.workers import SILENT_AFTER, last_seen
from app.settings import Settings

KINDS = {"worker": "training", "control": "control"}
TIMEOUT_S = 5.0
# Without the environment's proxies: these calls stay on this machine.
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def problem_of(settings: Settings, process: str) -> str | None:
    """What is wrong with `api`, `worker` or `control` on this machine; None for nothing."""
    if process == "api":
        url = base_url(settings.host, settings.port) + "/healthz"
        return None if answers(url) else f"{url} does not answer with 200"
    host = socket.gethostname()
    engine = make_engine(settings.require("database_url"))
    try:
        with transaction(session_factory(engine)) as session:
            seen_at = last_seen(session, KINDS[process], host)
    except SQLAlchemyError as error:
        return f"the database cannot be asked: {error}"
    finally:
        engine.dispose()
    silent_s = SILENT_AFTER.total_seconds()
    return None if seen_at is not None else f"no {process} on {host} was heard of in the last {silent_s:.0f} s"


def answers(url: str) -> bool:
    """Whether a GET of `url` gets a 200."""
    try:
        with LOCAL.open(url, timeout=TIMEOUT_S) as response:
            return response.status == 200
    except OSError:  # urllib's own errors are of this kind
        return False


def base_url(host: str, port: int) -> str:
    """How a program on this machine reaches an API that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
