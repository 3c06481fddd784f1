"""POST /v1/files: the form as it may come, every way it may be wrong, and that nothing is left behind."""

import concurrent.futures
import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from app.db import transaction
from app.files.service import remove_expired
from app.tables import Blob, BlobChunk, File, Job
from tests.api.conftest import MAX_FILE_BYTES
from tests.api.scenery import ROWS, Scenery
from tests.api.test_access import error_of

BOUNDARY = "b0undary"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + value + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
PURPOSE = part("purpose", b"fine-tune")
FILE = part("file", ROWS, "train.jsonl")


def assert_nothing_is_left(scenery: Scenery) -> None:
    with transaction(scenery.sessions) as session:
        assert [session.query(table).count() for table in (File, Blob, BlobChunk, Job)] == [0, 0, 0, 0]


def test_an_upload_is_answered_with_what_was_received(scenery: Scenery) -> None:
    content = bytes(range(256)) * 9_000

    file = scenery.upload(content, "Über uns.jsonl")

    assert file["object"] == "file"
    assert (file["bytes"], file["filename"]) == (len(content), "Über uns.jsonl")
    assert (file["purpose"], file["status"], file["status_details"]) == ("fine-tune", "uploaded", None)
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert scenery.client.get(f"/v1/files/{file['id']}/content").content == content


@pytest.mark.parametrize("body", [PURPOSE + FILE + END, FILE + PURPOSE + END, b"\r\n" + FILE + PURPOSE + END])
def test_fields_may_come_before_or_after_the_file(scenery: Scenery, body: bytes) -> None:
    response = scenery.client.post("/v1/files", content=body, headers=FORM)

    assert response.status_code == 200, response.text
    assert response.json()["sha256"] == hashlib.sha256(ROWS).hexdigest()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_form_that_arrives_in_crumbs_is_the_same_form(scenery: Scenery, size: int) -> None:
    tricky = b"\r\n--b0undar" + b"\r\n--b0undaryx\r\r\n-" + ROWS
    body = PURPOSE + part("file", tricky, "a") + END

    def crumbs() -> Iterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    response = scenery.client.post("/v1/files", content=crumbs(), headers=FORM)

    assert response.status_code == 200, response.text
    assert response.json()["sha256"] == hashlib.sha256(tricky).hexdigest()


def test_only_a_file_to_fine_tune_on_is_prepared(scenery: Scenery) -> None:
    statuses = {purpose: scenery.upload(purpose=purpose)["status"] for purpose in ("batch", "user_data", "evals")}

    assert set(statuses.values()) == {"processed"}
    assert scenery.count(Job) == 0
    assert scenery.upload()["status"] == "uploaded"
    assert scenery.count(Job) == 1


@pytest.mark.parametrize(
    "form", [{"columns": '{"text": "review", "label": "y"}'}, {"columns[text]": "review", "columns[label]": "y"}]
)
def test_columns_come_as_json_or_as_the_sdk_writes_nested_values(scenery: Scenery, form: dict[str, str]) -> None:
    file = scenery.upload(task="text-classification", **form)

    assert file["task"] == "text-classification"
    assert file["columns"] == {"text": "review", "label": "y"}


def test_a_file_expires_when_asked_to(scenery: Scenery) -> None:
    file = scenery.upload(**{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})

    assert file["expires_at"] == file["created_at"] + 3600
    with transaction(scenery.sessions) as session:
        assert remove_expired(session) == []
        session.get(File, file["id"]).expires_at = session.get(File, file["id"]).created_at
        session.flush()
    with transaction(scenery.sessions) as session:
        assert remove_expired(session) == [file["id"]]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\train.csv", "train.csv"),
        ("a\x01b\x7f.csv", "ab.csv"),
        ("..", "upload"),
        ("", "upload"),
        ("x" * 300 + ".jsonl.gz", "x" * 252 + ".gz"),
        ("数据.jsonl", "数据.jsonl"),
    ],
)
def test_a_file_name_names_a_file_and_never_a_path(scenery: Scenery, given: str, kept: str) -> None:
    response = scenery.client.post("/v1/files", content=PURPOSE + part("file", ROWS, given) + END, headers=FORM)

    assert response.status_code == 200, response.text
    assert response.json()["filename"] == kept


REFUSALS: list[tuple[bytes, int, str, str | None]] = [
    (PURPOSE + END, 400, "missing_field", "file"),
    (FILE + END, 400, "missing_field", "purpose"),
    (END, 400, "missing_field", "file"),
    (PURPOSE + part("file", b"plain text") + END, 400, "invalid_value", "file"),
    (PURPOSE + FILE + FILE + END, 400, "duplicate_field", "file"),
    (PURPOSE + PURPOSE + FILE + END, 400, "duplicate_field", "purpose"),
    (PURPOSE + part("data", ROWS, "a") + END, 400, "unknown_field", "data"),
    (part("purpose", b"fun") + FILE + END, 400, "invalid_value", "purpose"),
    (part("purpose", b"") + FILE + END, 400, "invalid_value", "purpose"),
    (PURPOSE + part("task", b"ner") + FILE + END, 400, "invalid_value", "task"),
    (PURPOSE + part("columns", b"{text") + FILE + END, 400, "malformed_json", "columns"),
    (PURPOSE + part("columns", b"[1]") + FILE + END, 400, "invalid_value", "columns"),
    (PURPOSE + part("columns", b'{"text": 5}') + FILE + END, 400, "invalid_value", "columns.text"),
    (PURPOSE + part("columns", b'{"text": "\\u0000"}') + FILE + END, 400, "nul_character", "columns.text"),
    (PURPOSE + part("columns", b'{"txt": "a"}') + FILE + END, 400, "unknown_field", "columns.txt"),
    (PURPOSE + part("columns", b"{}") + part("columns[text]", b"a") + FILE + END, 400, "duplicate_field", "columns"),
    (
        PURPOSE + part("expires_after[anchor]", b"created_at") + FILE + END,
        400,
        "missing_field",
        "expires_after.seconds",
    ),
    (
        PURPOSE + part("expires_after[anchor]", b"created_at") + part("expires_after[seconds]", b"5") + FILE + END,
        400,
        "invalid_value",
        "expires_after.seconds",
    ),
    (
        PURPOSE
        + part("expires_after[anchor]", b"created_at")
        + part("expires_after[seconds]", b"9" * 9000)
        + FILE
        + END,
        400,
        "invalid_value",
        "expires_after.seconds",
    ),
    (PURPOSE + part("sheet", b"1") + FILE + END, 400, "unknown_field", "sheet"),
    (PURPOSE + part("task", b"a\x00b") + FILE + END, 400, "nul_character", "task"),
    (PURPOSE + part("task", b"\xff") + FILE + END, 400, "not_utf8", "task"),
    (PURPOSE + part("task", b"x" * 70_000) + FILE + END, 413, "field_too_large", "task"),
    (PURPOSE + part("file", b"", "empty.jsonl") + END, 400, "empty_file", "file"),
    (PURPOSE + part("file", b"x" * (MAX_FILE_BYTES + 1), "big.jsonl") + END, 413, "file_too_large", "file"),
    (PURPOSE + FILE, 422, "truncated_upload", None),
    (PURPOSE + FILE[:-20], 422, "truncated_upload", None),
    (b"", 422, "truncated_upload", None),
    (b"rubbish", 422, "malformed_multipart", None),
    (f"--{BOUNDARY}\r\nX: y\r\n\r\nz\r\n".encode() + END, 422, "malformed_multipart", None),
    (b"".join(part(f"f{n}", b"") for n in range(101)) + FILE + END, 422, "malformed_multipart", None),
]


@pytest.mark.parametrize(("body", "status", "code", "param"), REFUSALS, ids=range(len(REFUSALS)))
def test_an_upload_that_is_refused_leaves_nothing_behind(
    scenery: Scenery, body: bytes, status: int, code: str, param: str | None
) -> None:
    response = scenery.client.post("/v1/files", content=body, headers=FORM)

    assert response.status_code == status, response.text
    assert (error_of(response)["code"], error_of(response)["param"]) == (code, param)
    assert_nothing_is_left(scenery)


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "multipart/form-data", "", "multipart/mixed"]
)
def test_a_body_that_is_no_form_is_told_how_to_send_one(scenery: Scenery, content_type: str) -> None:
    response = scenery.client.post("/v1/files", content=b"{}", headers={"content-type": content_type})

    assert response.status_code == 422
    assert "curl -F" in error_of(response)["message"]


def test_a_file_of_exactly_the_limit_is_taken(scenery: Scenery) -> None:
    assert scenery.upload(b"x" * MAX_FILE_BYTES)["bytes"] == MAX_FILE_BYTES


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def raw_request(http: httpx.Client, path: str, length: int) -> socket.socket:
    """A POST of a form whose head is sent, and whose body is not."""
    address = urlsplit(str(http.base_url))
    assert address.hostname is not None
    connection = socket.create_connection((address.hostname, address.port), timeout=20)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {http.headers['authorization']}\r\n"
        f"Content-Type: {FORM['content-type']}\r\nContent-Length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode())
    return connection


def test_a_client_that_goes_away_leaves_nothing_behind(over_http: Scenery) -> None:
    with raw_request(over_http.client, "/v1/files", 2_500_000) as connection:
        head = part("file", b"", "gone.jsonl").removesuffix(b"\r\n")
        connection.sendall(PURPOSE + head + b"x" * 2_000_000)
        wait_until(lambda: over_http.count(Blob) == 1)
    wait_until(lambda: over_http.count(Blob) == 0)

    assert_nothing_is_left(over_http)


def test_a_file_announced_as_too_large_is_refused_before_it_is_sent(over_http: Scenery) -> None:
    with raw_request(over_http.client, "/v1/files", 10**12) as connection:
        answer = connection.recv(65536)

    assert b" 413 " in answer.splitlines()[0]
    assert b"file_too_large" in answer
    assert_nothing_is_left(over_http)


def test_uploads_at_once_do_not_mix(over_http: Scenery) -> None:
    contents = [bytes([65 + number]) * 1_500_000 for number in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        files = list(threads.map(lambda content: over_http.upload(content), contents))

    assert [file["sha256"] for file in files] == [hashlib.sha256(content).hexdigest() for content in contents]
