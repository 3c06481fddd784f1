"""Uploads in parts, by the unmodified SDK and by plain HTTP: parallel, broken off, resumed, raced."""

import asyncio
import hashlib
import itertools
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import Upload as SdkUpload
from sqlalchemy import func, update

from app.db import SessionFactory, transaction
from app.files import completion, uploads
from app.files.uploads import MAX_PART_BYTES, expire_uploads
from app.settings import Settings, environment
from app.storage.database import DatabaseBlobStore, collect_orphans
from app.tables import Blob, BlobChunk, BlobSegment, File, Job, Upload, UploadPart
from tests.api.conftest import MAX_FILE_BYTES, headers_of
from tests.api.scenery import ROWS, Scenery
from tests.api.test_access import error_of
from tests.api.test_memory import SERVER, answers
from tests.api.test_uploads import END, FORM, part, raw_request, wait_until

UPLOADS = "/v1/uploads"
KEY = "idempotency-key"
RETRY = "x-stainless-retry-count"
CONTENT = random.Random(13).randbytes(2_500_000)
CUTS = [0, 1, 1_048_577, 1_048_580, 2_097_152, 2_500_000]  # pieces of 1 byte, of 3, and across the store's chunks


def pieces(content: bytes = CONTENT, cuts: list[int] = CUTS) -> list[bytes]:
    return [content[start:stop] for start, stop in itertools.pairwise(cuts)]


def md5_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class Client:
    """Uploads over HTTP, each step on its own."""

    def __init__(self, scenery: Scenery) -> None:
        self.scenery = scenery
        self.http = scenery.client

    def create(self, size: int, **fields: Any) -> dict[str, Any]:
        body = {"bytes": size, "filename": "train.jsonl", "purpose": "fine-tune"} | fields
        response = self.http.post(UPLOADS, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def send(self, upload: dict[str, Any], data: bytes, **headers: str) -> httpx.Response:
        return self.http.post(f"{UPLOADS}/{upload['id']}/parts", files={"data": ("part", data)}, headers=headers)

    def part(self, upload: dict[str, Any], data: bytes) -> str:
        response = self.send(upload, data)
        assert response.status_code == 200, response.text
        return response.json()["id"]

    def complete(self, upload: dict[str, Any], part_ids: list[str], **fields: Any) -> httpx.Response:
        return self.http.post(f"{UPLOADS}/{upload['id']}/complete", json={"part_ids": part_ids} | fields)

    def cancel(self, upload: dict[str, Any]) -> httpx.Response:
        return self.http.post(f"{UPLOADS}/{upload['id']}/cancel")

    def get(self, upload: dict[str, Any]) -> dict[str, Any]:
        return self.http.get(f"{UPLOADS}/{upload['id']}").json()

    def parts(self, upload: dict[str, Any]) -> list[dict[str, Any]]:
        return self.http.get(f"{UPLOADS}/{upload['id']}/parts").json()["data"]

    def content(self, file: dict[str, Any], **headers: str) -> bytes:
        return self.http.get(f"/v1/files/{file['id']}/content", headers=headers).content

    def whole(self, content: bytes = ROWS, **fields: Any) -> tuple[dict[str, Any], list[str]]:
        """An upload and its two parts, not completed."""
        upload = self.create(len(content), **fields)
        return upload, [self.part(upload, content[:20]), self.part(upload, content[20:])]


@pytest.fixture
def client_side(scenery: Scenery) -> Client:
    """In process, for what needs no socket."""
    return Client(scenery)


@pytest.fixture
def remote(over_http: Scenery) -> Client:
    """Through a real server."""
    return Client(over_http)


def collect(sessions: SessionFactory) -> None:
    """What the control worker does, long after: a joined blob is collected a round before what it was joined of."""
    for _ in range(2):
        with transaction(sessions) as session:
            collect_orphans(session, timedelta(0))


def test_a_file_is_uploaded_in_chunks_by_the_unmodified_sdk(sdk: OpenAI, over_http: Scenery, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(CONTENT)

    for md5 in (openai.omit, md5_of(CONTENT)):
        upload = sdk.uploads.upload_file_chunked(
            file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=1_000_000, md5=md5
        )

        assert (upload.object, upload.status, upload.bytes) == ("upload", "completed", len(CONTENT))
        assert upload.file is not None
        assert (upload.file.object, upload.file.filename, upload.file.bytes) == ("file", "train.jsonl", len(CONTENT))
        assert upload.file.status == "uploaded"
        assert sdk.files.content(upload.file.id).read() == CONTENT
        assert sdk.files.retrieve(upload.file.id) == upload.file


def test_bytes_are_uploaded_in_chunks_by_the_unmodified_sdk(sdk: OpenAI) -> None:
    for md5 in (openai.omit, md5_of(ROWS).upper()):
        upload = sdk.uploads.upload_file_chunked(
            file=ROWS, filename="rows.jsonl", bytes=len(ROWS), mime_type="text/jsonl", purpose="batch", md5=md5
        )

        assert upload.file is not None
        assert upload.file.status == "processed"
        assert sdk.files.content(upload.file.id).read() == ROWS


def test_the_asynchronous_sdk_uploads_in_chunks_too(server: str, api_key: str, tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(CONTENT)

    async def upload() -> SdkUpload:
        async with AsyncOpenAI(base_url=f"{server}/v1", api_key=api_key) as client:
            return await client.uploads.upload_file_chunked(
                file=path, mime_type="text/plain", purpose="user_data", part_size=2_000_000
            )

    done = asyncio.run(upload())

    assert done.file is not None
    assert done.file.model_extra is not None
    assert done.file.model_extra["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_every_step_of_the_sdk(sdk: OpenAI) -> None:
    upload = sdk.uploads.create(
        bytes=len(ROWS),
        filename="folder/train.jsonl",
        mime_type="text/jsonl",
        purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": 7200},
        extra_body={"task": "text-classification", "columns": {"text": "review"}},
    )
    assert (upload.object, upload.status, upload.filename, upload.file) == ("upload", "pending", "train.jsonl", None)
    assert upload.id.startswith("upload-")
    assert upload.expires_at == upload.created_at + 3600

    parts = [sdk.uploads.parts.create(upload.id, data=data) for data in (ROWS[:30], ("x.bin", ROWS[30:]))]
    assert {part.object for part in parts} == {"upload.part"}
    assert {part.upload_id for part in parts} == {upload.id}
    assert all(part.id.startswith("part-") for part in parts)

    done = sdk.uploads.complete(upload.id, part_ids=[part.id for part in parts], md5=md5_of(ROWS))
    assert done.file is not None
    assert done.file.expires_at == done.file.created_at + 7200
    assert done.file.model_extra is not None
    assert (done.file.model_extra["task"], done.file.model_extra["columns"]) == (
        "text-classification",
        {"text": "review"},
    )
    assert sdk.get(f"/uploads/{upload.id}", cast_to=SdkUpload) == done

    other = sdk.uploads.create(bytes=1, filename="a", mime_type="", purpose="batch")
    assert sdk.uploads.cancel(other.id).status == "cancelled"
    with pytest.raises(openai.ConflictError) as conflict:
        sdk.uploads.parts.create(other.id, data=b"x")
    assert conflict.value.code == "upload_cancelled"


def test_parts_of_any_size_arrive_in_parallel_and_in_any_order(remote: Client) -> None:
    upload = remote.create(len(CONTENT), purpose="batch")
    shuffled = list(enumerate(pieces()))
    random.Random(7).shuffle(shuffled)

    with ThreadPoolExecutor(5) as threads:
        ids = dict(threads.map(lambda item: (item[0], remote.part(upload, item[1])), shuffled))
    answer = remote.complete(upload, [ids[index] for index in sorted(ids)], md5=md5_of(CONTENT))

    assert answer.status_code == 200, answer.text
    file = answer.json()["file"]
    assert file["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert remote.content(file) == CONTENT
    for start, stop in [(0, 0), (0, 1), (1, 1_048_579), (1_048_576, 1_048_577), (2_000_000, 2_499_999)]:
        assert remote.content(file, range=f"bytes={start}-{stop}") == CONTENT[start : stop + 1]
    assert remote.scenery.count(UploadPart) == 0


def test_a_connection_that_breaks_in_mid_part_leaves_nothing(remote: Client) -> None:
    upload = remote.create(2_500_000)
    head = part("data", b"", "blob").removesuffix(b"\r\n")

    with raw_request(remote.http, f"{UPLOADS}/{upload['id']}/parts", 2_500_300) as connection:
        connection.sendall(head + b"x" * 2_000_000)
        wait_until(lambda: remote.scenery.count(Blob) == 1)
    wait_until(lambda: remote.scenery.count(Blob) == 0)

    assert remote.scenery.count(BlobChunk) == 0
    assert remote.parts(upload) == []
    assert remote.get(upload)["status"] == "pending"


@contextmanager
def api_process(settings: Settings, key: str, port: int) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """The API as a process that can be killed."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], env=environment(settings))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers_of(key), timeout=60) as client:
            wait_until(lambda: answers(client), 120)
            yield client, server
    finally:
        server.kill()
        server.wait()


def test_an_upload_goes_on_after_the_api_was_killed(
    settings: Settings, sessions: SessionFactory, blobs: DatabaseBlobStore, api_key: str, unused_port: int
) -> None:
    first, second, third = pieces(CONTENT, [0, 1_100_000, 2_200_000, 2_500_000])
    with api_process(settings, api_key, unused_port) as (http, server):
        before = Client(Scenery(http, sessions, blobs))
        upload = before.create(len(CONTENT), purpose="batch")
        before.part(upload, third)
        before.part(upload, first)
        with raw_request(http, f"{UPLOADS}/{upload['id']}/parts", len(second) + 1000) as connection:
            connection.sendall(part("data", b"", "blob").removesuffix(b"\r\n") + second[:900_000])
            wait_until(lambda: before.scenery.count(Blob) == 3)
            server.kill()

    with api_process(settings, api_key, unused_port) as (http, _):
        after = Client(Scenery(http, sessions, blobs))
        there = {found["sha256"]: found["id"] for found in after.parts(upload)}
        ids = []
        sent = 0
        for piece in (first, second, third):
            known = there.get(hashlib.sha256(piece).hexdigest())
            sent += known is None
            ids.append(known or after.part(upload, piece))
        answer = after.complete(upload, ids, md5=md5_of(CONTENT))

        assert (answer.status_code, sent) == (200, 1), answer.text
        assert answer.json()["file"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
        assert after.content(answer.json()["file"]) == CONTENT
    collect(sessions)
    assert after.scenery.count(Blob) == 4  # three parts and the file; what was broken off is gone


def test_parts_are_listed_with_what_tells_them_apart_in_pages(client_side: Client) -> None:
    upload = client_side.create(100)
    made = [client_side.part(upload, bytes([number]) * 10) for number in range(5)]
    path = f"{UPLOADS}/{upload['id']}/parts"

    whole = client_side.http.get(path).json()
    ids: list[str] = []
    while True:
        page = client_side.http.get(path, params={"limit": 2} | ({"after": ids[-1]} if ids else {})).json()
        ids += [found["id"] for found in page["data"]]
        if not page["has_more"]:
            break

    assert ids == made
    assert [found["sha256"] for found in whole["data"]] == [
        hashlib.sha256(bytes([number]) * 10).hexdigest() for number in range(5)
    ]
    assert (whole["object"], whole["has_more"]) == ("list", False)
    assert (whole["first_id"], whole["last_id"]) == (made[0], made[-1])
    assert set(whole["data"][0]) == {"id", "object", "created_at", "upload_id", "bytes", "sha256"}
    unknown = client_side.http.get(path, params={"after": "part-00"})
    assert (unknown.status_code, error_of(unknown)["param"]) == (404, "after")


CREATE: dict[str, Any] = {"bytes": 10, "filename": "a.jsonl", "purpose": "fine-tune"}


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"bytes": 0}, 400, "invalid_value", "bytes"),
        ({"bytes": -1}, 400, "invalid_value", "bytes"),
        ({"bytes": "10"}, 400, "invalid_value", "bytes"),
        ({"bytes": 1.5}, 400, "invalid_value", "bytes"),
        ({"bytes": MAX_FILE_BYTES + 1}, 413, "file_too_large", "bytes"),
        ({"bytes": 10**30}, 413, "file_too_large", "bytes"),
        ({"filename": ""}, 400, "invalid_value", "filename"),
        ({"purpose": "assistants"}, 400, "invalid_value", "purpose"),
        ({"task": "ner"}, 400, "invalid_value", "task"),
        ({"columns": {"txt": "a"}}, 400, "unknown_field", "columns.txt"),
        ({"expires_after": {"anchor": "created_at", "seconds": 5}}, 400, "invalid_value", "expires_after.seconds"),
        ({"size": 10}, 400, "unknown_field", "size"),
    ],
)
def test_an_upload_that_cannot_become_a_file_is_refused_at_once(
    client_side: Client, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    response = client_side.http.post(UPLOADS, json=CREATE | fields)

    assert response.status_code == status, response.text
    assert (error_of(response)["code"], error_of(response)["param"]) == (code, param)
    assert client_side.scenery.count(Upload) == 0


def test_too_large_an_upload_is_told_both_numbers(client_side: Client) -> None:
    response = client_side.http.post(UPLOADS, json=CREATE | {"bytes": 5_000_000})

    assert "5,000,000" in error_of(response)["message"]
    assert f"{MAX_FILE_BYTES:,}" in error_of(response)["message"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (END, 400, "missing_field", "data"),
        (part("data", b"plain text") + END, 400, "invalid_value", "data"),
        (part("data", b"", "a") + END, 400, "empty_part", "data"),
        (part("file", b"x", "a") + END, 400, "unknown_field", "file"),
        (part("data", b"x", "a") + part("purpose", b"batch") + END, 400, "unknown_field", "purpose"),
        (part("data", b"x", "a") * 2 + END, 400, "duplicate_field", "data"),
        (part("data", b"x" * 11, "a") + END, 413, "part_too_large", "data"),
        (part("data", b"x", "a"), 422, "truncated_upload", None),
        (b"rubbish", 422, "malformed_multipart", None),
    ],
    ids=range(9),
)
def test_a_part_that_is_refused_leaves_nothing_behind(
    client_side: Client, body: bytes, status: int, code: str, param: str | None
) -> None:
    upload = client_side.create(10)

    response = client_side.http.post(f"{UPLOADS}/{upload['id']}/parts", content=body, headers=FORM)

    assert response.status_code == status, response.text
    assert (error_of(response)["code"], error_of(response)["param"]) == (code, param)
    assert client_side.scenery.count(Blob) == client_side.scenery.count(UploadPart) == 0
    assert client_side.get(upload)["status"] == "pending"


def test_a_part_announced_as_too_large_is_refused_before_it_is_sent(remote: Client, sessions: SessionFactory) -> None:
    upload = remote.create(MAX_FILE_BYTES)
    for size in (MAX_FILE_BYTES, 10**9):  # the limits: the upload's own bytes, and those of any part
        with transaction(sessions) as session:
            session.execute(update(Upload).values(bytes=size))
        with raw_request(remote.http, f"{UPLOADS}/{upload['id']}/parts", 10**12) as connection:
            answer = connection.recv(65536)

        assert b" 413 " in answer.splitlines()[0]
        assert f"{min(size, MAX_PART_BYTES):,} bytes".encode() in answer
    assert remote.scenery.count(Blob) == 0


def test_parts_may_come_twice_but_not_without_end(client_side: Client) -> None:
    upload = client_side.create(10)
    damaged = [client_side.part(upload, b"0123x"), client_side.part(upload, b"56789")]
    right = [client_side.part(upload, b"01234"), client_side.part(upload, b"56789")]

    refused = client_side.send(upload, b"0")

    assert (refused.status_code, error_of(refused)["code"]) == (413, "upload_full")
    assert "have 20 bytes" in error_of(refused)["message"]
    assert len(client_side.parts(upload)) == len({*damaged, *right}) == 4
    file = client_side.complete(upload, right).json()["file"]
    assert client_side.content(file) == b"0123456789"


def test_there_is_a_most_to_the_number_of_parts(client_side: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_PARTS", 2)
    upload, ids = client_side.whole()

    refused = client_side.send(upload, b"x")

    assert (refused.status_code, error_of(refused)["code"]) == (409, "too_many_parts")
    assert error_of(refused)["allowed"] == ["complete", "cancel"]
    assert client_side.complete(upload, ids).status_code == 200


def test_parts_that_do_not_make_the_file_are_refused_and_may_be_mended(client_side: Client) -> None:
    upload, (first, second) = client_side.whole()
    other, (foreign, _) = client_side.whole()

    def refusal(part_ids: Any, **fields: Any) -> tuple[int, str, str | None]:
        response = client_side.complete(upload, part_ids, **fields)
        error = error_of(response)
        return response.status_code, error["code"], error["param"]

    assert refusal([]) == (400, "invalid_value", "part_ids")
    assert refusal([first, first]) == (400, "duplicate_part", "part_ids[1]")
    assert refusal([first, "part-00"]) == (400, "part_not_found", "part_ids[1]")
    assert refusal([foreign, second]) == (400, "part_not_found", "part_ids[0]")
    assert refusal(["file-00"]) == (400, "invalid_value", "part_ids[0]")
    assert refusal("part-00") == (400, "invalid_value", "part_ids")
    assert refusal([first, second], md5="abc") == (400, "invalid_value", "md5")
    assert refusal([first, second], sha256="abc") == (400, "unknown_field", "sha256")
    assert refusal([first]) == (400, "bytes_mismatch", "part_ids")
    error = error_of(client_side.complete(upload, [first]))
    assert "have 20 bytes" in error["message"]
    assert f"created with {len(ROWS)}" in error["message"]
    assert second in error["message"]
    assert (error["declared_bytes"], error["named_bytes"]) == (len(ROWS), 20)

    assert client_side.scenery.count(File) == 0
    assert client_side.get(upload)["status"] == client_side.get(other)["status"] == "pending"
    assert client_side.complete(upload, [first, second]).json()["file"]["bytes"] == len(ROWS)


def test_more_parts_than_were_declared_do_not_make_the_file(client_side: Client) -> None:
    upload = client_side.create(10)
    ids = [client_side.part(upload, b"123456") for _ in range(2)]

    error = error_of(client_side.complete(upload, ids))

    assert error["code"] == "bytes_mismatch"
    assert "2 parts named have 12 bytes" in error["message"]
    assert "created with 10" in error["message"]


def test_another_md5_leaves_the_upload_pending_until_the_damaged_part_is_sent_again(client_side: Client) -> None:
    upload = client_side.create(len(ROWS))
    damaged, second = client_side.part(upload, b"x" * 20), client_side.part(upload, ROWS[20:])

    refused = client_side.complete(upload, [damaged, second], md5=md5_of(ROWS))

    assert (refused.status_code, error_of(refused)["code"]) == (400, "md5_mismatch")
    assert md5_of(ROWS) in error_of(refused)["message"]
    assert error_of(refused)["md5"] == md5_of(b"x" * 20 + ROWS[20:])
    assert client_side.get(upload)["status"] == "pending"
    assert client_side.scenery.count(File) == 0
    mended = client_side.complete(upload, [client_side.part(upload, ROWS[:20]), second], md5=md5_of(ROWS))
    assert client_side.content(mended.json()["file"]) == ROWS


@pytest.mark.parametrize("how", ["completed", "cancelled", "expired"])
def test_an_upload_that_has_ended_takes_nothing_more(client_side: Client, sessions: SessionFactory, how: str) -> None:
    upload, ids = client_side.whole()
    if how == "completed":
        client_side.complete(upload, ids)
    elif how == "cancelled":
        client_side.cancel(upload)
    else:
        with transaction(sessions) as session:
            session.execute(update(Upload).values(expires_at=func.now()))
    assert client_side.get(upload)["status"] == how

    requests = [client_side.send(upload, b"x"), client_side.complete(upload, ids[::-1])]
    requests += [] if how == "cancelled" else [client_side.cancel(upload)]

    for response in requests:
        assert (response.status_code, error_of(response)["code"]) == (409, f"upload_{how}")
        assert error_of(response)["allowed"] == []
        assert response.headers["x-should-retry"] == "false"
    assert client_side.scenery.count(Blob) == (3 if how == "completed" else 2)


def test_an_upload_of_another_project_is_not_found(client_side: Client, other_key: str) -> None:
    upload, ids = client_side.whole()
    path, theirs = f"{UPLOADS}/{upload['id']}", headers_of(other_key)
    http = client_side.http

    for response in (
        http.get(path, headers=theirs),
        http.get(f"{path}/parts", headers=theirs),
        client_side.send(upload, b"x", **theirs),
        http.post(f"{path}/complete", json={"part_ids": ids}, headers=theirs),
        http.post(f"{path}/cancel", headers=theirs),
        http.get(f"{UPLOADS}/upload-00"),
    ):
        assert (response.status_code, error_of(response)["code"]) == (404, "upload_not_found")
    assert client_side.complete(upload, ids).status_code == 200


def test_cancelling_twice_is_cancelling_once_and_lets_go_of_the_bytes(
    client_side: Client, sessions: SessionFactory
) -> None:
    upload, _ = client_side.whole()

    first, second = client_side.cancel(upload), client_side.cancel(upload)

    assert first.json() == second.json()
    assert first.json()["status"] == "cancelled"
    assert client_side.parts(upload) == []
    collect(sessions)
    assert client_side.scenery.count(Blob) == 0


def test_completing_twice_is_completing_once(client_side: Client) -> None:
    upload, ids = client_side.whole()

    first = client_side.complete(upload, ids, md5=md5_of(ROWS))
    again = [client_side.complete(upload, ids), client_side.complete(upload, ids, md5=md5_of(ROWS))]

    assert [answer.json() for answer in again] == [first.json()] * 2
    assert client_side.scenery.count(File) == client_side.scenery.count(Job) == 1
    for other in (client_side.complete(upload, ids[::-1]), client_side.complete(upload, ids, md5="0" * 32)):
        assert (other.status_code, error_of(other)["code"]) == (409, "upload_completed")


def test_a_completed_upload_whose_file_was_deleted_says_so(client_side: Client, sessions: SessionFactory) -> None:
    upload, ids = client_side.whole(purpose="batch")
    file = client_side.complete(upload, ids).json()["file"]

    client_side.http.delete(f"/v1/files/{file['id']}")

    assert (client_side.get(upload)["status"], client_side.get(upload)["file"]) == ("completed", None)
    collect(sessions)
    assert [client_side.scenery.count(table) for table in (Blob, BlobChunk, BlobSegment)] == [0, 0, 0]


def test_twins_that_complete_at_the_same_moment_make_one_file(remote: Client) -> None:
    upload = remote.create(len(CONTENT))
    ids = [remote.part(upload, piece) for piece in pieces()]

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: remote.complete(upload, ids, md5=md5_of(CONTENT)), range(6)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["file"]["id"] for answer in answers}) == 1
    assert remote.scenery.count(File) == remote.scenery.count(Job) == 1
    assert remote.content(answers[0].json()["file"]) == CONTENT


class Gate:
    """Holds whoever reads a part to complete an upload, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self._opened, self.reads = threading.Event(), threading.Event(), 0
        read = DatabaseBlobStore.read

        def held(store: DatabaseBlobStore, *args: Any) -> Iterator[bytes]:
            self.reads += 1
            self.reached.set()
            assert self._opened.wait(60)
            return read(store, *args)

        monkeypatch.setattr(DatabaseBlobStore, "read", held)

    @contextmanager
    def while_completing(
        self, client: Client, upload: dict[str, Any], ids: list[str]
    ) -> Iterator[list[httpx.Response]]:
        """Runs the block in the middle of `complete`, whose answer is in the list after it."""
        answered: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answered.append(client.complete(upload, ids)))
        thread.start()
        try:
            assert self.reached.wait(60)
            yield answered
        finally:
            self._opened.set()
            thread.join()


@pytest.mark.parametrize("collected", [False, True])
def test_a_cancel_wins_over_a_completion_that_is_under_way(
    remote: Client, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch, *, collected: bool
) -> None:
    upload, ids = remote.whole()

    with Gate(monkeypatch).while_completing(remote, upload, ids) as answered:
        assert remote.cancel(upload).json()["status"] == "cancelled"
        if collected:
            collect(sessions)

    assert (answered[0].status_code, error_of(answered[0])["code"]) == (409, "upload_cancelled")
    assert remote.scenery.count(File) == 0
    collect(sessions)
    assert remote.scenery.count(Blob) == 0


def test_a_completion_stops_reading_once_the_upload_has_ended(remote: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "HOLD_EVERY_S", 0)
    upload, ids = remote.whole()
    gate = Gate(monkeypatch)

    with gate.while_completing(remote, upload, ids) as answered:
        remote.cancel(upload)

    assert error_of(answered[0])["code"] == "upload_cancelled"
    assert gate.reads == 1


def test_a_part_that_arrives_while_the_upload_is_completed_changes_nothing(
    remote: Client, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, ids = remote.whole()

    with Gate(monkeypatch).while_completing(remote, upload, ids) as answered:
        late = remote.send(upload, b"late")

    assert late.status_code == 200
    assert answered[0].status_code == 200
    assert remote.content(answered[0].json()["file"]) == ROWS
    assert remote.parts(upload) == []
    collect(sessions)
    assert remote.scenery.count(Blob) == 3  # the two parts named, and what they were joined to


def test_a_part_whose_upload_ends_while_it_comes_is_refused(remote: Client, sessions: SessionFactory) -> None:
    upload = remote.create(2_000_000)
    body = part("data", b"x" * 2_000_000, "blob") + END

    with raw_request(remote.http, f"{UPLOADS}/{upload['id']}/parts", len(body)) as connection:
        connection.sendall(body[:1_500_000])
        wait_until(lambda: remote.scenery.count(Blob) == 1)
        remote.cancel(upload)
        connection.sendall(body[1_500_000:])
        answer = connection.recv(65536)

    assert b" 409 " in answer.splitlines()[0]
    assert b"upload_cancelled" in answer
    collect(sessions)
    assert remote.scenery.count(Blob) == 0


def test_lost_bytes_of_a_part_are_an_error_of_the_server_and_told_in_its_log(
    client_side: Client, sessions: SessionFactory, caplog: pytest.LogCaptureFixture
) -> None:
    upload, ids = client_side.whole()
    with transaction(sessions) as session:
        session.query(BlobChunk).delete()

    answer = client_side.complete(upload, ids)

    assert (answer.status_code, error_of(answer)["code"]) == (500, "internal_error")
    assert "was deleted while it was read" in caplog.text
    assert client_side.get(upload)["status"] == "pending"


def test_an_upload_expires_and_its_parts_are_collected(client_side: Client, sessions: SessionFactory) -> None:
    expiring, _ = client_side.whole()
    pending, ids = client_side.whole()
    with transaction(sessions) as session:
        assert expire_uploads(session) == []
        session.execute(update(Upload).where(Upload.id == expiring["id"]).values(expires_at=func.now()))

    with transaction(sessions) as session:
        assert expire_uploads(session) == [expiring["id"]]
    collect(sessions)

    assert client_side.get(expiring)["status"] == "expired"
    assert client_side.parts(expiring) == []
    assert client_side.scenery.count(Blob) == 2
    file = client_side.complete(pending, ids).json()["file"]
    collect(sessions)
    assert client_side.content(file) == ROWS


def test_an_upload_does_not_expire_while_it_is_completed(
    remote: Client, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, ids = remote.whole()

    def expire_in(moment: Any) -> None:
        with transaction(sessions) as session:
            session.execute(update(Upload).values(expires_at=moment))

    expire_in(func.now() + timedelta(seconds=30))
    with Gate(monkeypatch).while_completing(remote, upload, ids) as answered:
        expire_in(Upload.expires_at - timedelta(seconds=60))  # as if a minute had passed
        with transaction(sessions) as session:
            assert expire_uploads(session) == []
        collect(sessions)

    assert answered[0].status_code == 200, answered[0].text
    assert remote.content(answered[0].json()["file"]) == ROWS


def test_uploads_that_ended_long_ago_are_forgotten(client_side: Client, sessions: SessionFactory) -> None:
    old, ids = client_side.whole()
    client_side.complete(old, ids)
    recent, _ = client_side.whole()
    client_side.cancel(recent)
    with transaction(sessions) as session:
        past = func.now() - timedelta(days=31)
        session.execute(update(Upload).where(Upload.id == old["id"]).values(ended_at=past))
        expire_uploads(session)

    assert client_side.http.get(f"{UPLOADS}/{old['id']}").status_code == 404
    assert client_side.get(recent)["status"] == "cancelled"
    assert client_side.scenery.count(File) == 1


def test_answers_that_are_lost_cost_the_unmodified_sdk_nothing(remote: Client, server: str, api_key: str) -> None:
    """The server answers; the network loses the first answer of each request; the SDK silently sends it again."""
    lost: list[str] = []

    class Lossy(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            response = super().handle_request(request)
            if request.headers[RETRY] == "0":
                lost.append(request.url.path.rpartition("/")[2])
                response.close()
                raise httpx2.ReadError("connection reset")
            return response

    with OpenAI(base_url=f"{server}/v1", api_key=api_key, http_client=httpx2.Client(transport=Lossy())) as client:
        client._sleep_for_retry = lambda **_: None
        upload = client.uploads.upload_file_chunked(
            file=CONTENT,
            filename="a.jsonl",
            bytes=len(CONTENT),
            mime_type="text/jsonl",
            purpose="fine-tune",
            part_size=1_500_000,
            md5=md5_of(CONTENT),
        )

    assert lost == ["uploads", "parts", "parts", "complete"]
    assert upload.file is not None
    assert [file["id"] for file in remote.http.get("/v1/files").json()["data"]] == [upload.file.id]
    assert remote.scenery.count(Upload) == 1
    assert remote.content({"id": upload.file.id}) == CONTENT


def test_equal_parts_are_parts_of_their_own_unless_a_key_says_otherwise(client_side: Client) -> None:
    upload = client_side.create(30)

    # The second try of an equal part whose first try never arrived is not a repetition of the part before it.
    plain = {client_side.send(upload, b"0" * 10, **{RETRY: count}).json()["id"] for count in ("0", "1")}
    keyed = {client_side.send(upload, b"0" * 10, **{KEY: "third"}).json()["id"] for _ in range(2)}
    other = client_side.send(upload, b"1" * 10, **{KEY: "third"})

    assert (len(plain), len(keyed)) == (2, 1)
    assert (other.status_code, error_of(other)["code"]) == (409, "idempotency_key_reuse")
    file = client_side.complete(upload, [*plain, *keyed]).json()["file"]
    assert client_side.content(file) == b"0" * 30


def test_the_file_is_prepared_as_if_it_had_come_whole(client_side: Client) -> None:
    upload, ids = client_side.whole(task="text-classification")

    file = client_side.complete(upload, ids).json()["file"]
    assert file["status"] == "uploaded"
    client_side.scenery.prepare()

    assert client_side.get(upload)["file"]["status"] == "processed"
    assert client_side.scenery.create_job(training_file=file["id"])["status"] in ("validating_files", "queued")
