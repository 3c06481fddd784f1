import http.server
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from app.db import SessionFactory, transaction
from app.health import base_url, problem_of
from app.jobs import workers
from app.settings import Settings


class AlwaysFine(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), AlwaysFine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_an_api_that_answers_is_well_whatever_address_it_listens_on(settings: Settings, port: int) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        assert problem_of(settings.model_copy(update={"host": host, "port": port}), "api") is None


def test_an_api_that_does_not_answer_is_named(settings: Settings) -> None:
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))
        port = unanswered.getsockname()[1]
        problem = problem_of(settings.model_copy(update={"port": port}), "api")
    assert problem == f"http://127.0.0.1:{port}/healthz does not answer with 200"


@pytest.mark.parametrize(("process", "kind"), [("worker", "training"), ("control", "control")])
def test_a_worker_is_well_once_it_was_heard_of_on_this_host(
    settings: Settings, sessions: SessionFactory, process: str, kind: str
) -> None:
    with transaction(sessions) as session:
        workers.report(session, id_="far", kind=kind, host="another host", pid=1)
    problem = problem_of(settings, process)
    assert problem is not None
    assert problem.startswith(f"no {process} on {socket.gethostname()} was heard of")
    with transaction(sessions) as session:
        workers.report(session, id_="near", kind=kind, host=socket.gethostname(), pid=os.getpid())
    assert problem_of(settings, process) is None


def test_a_database_that_is_away_is_a_problem_and_no_crash(settings: Settings) -> None:
    gone = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/tailor"})
    problem = problem_of(gone, "worker")
    assert problem is not None
    assert problem.startswith("the database cannot be asked")


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert base_url("::", 80) == "http://[::1]:80"
