"""Uploads in parts, by the unmodified SDK and by plain HTTP: parallel, broken off, resumed, unanswered."""

import asyncio
import hashlib
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import Upload as SdkUpload

from app.db import SessionFactory
from app.settings import Settings, environment
from app.storage.database import DatabaseBlobStore
from app.tables import Blob, BlobChunk, Upload, UploadPart
from tests.api.conftest import headers_of
from tests.api.scenery import ROWS, Scenery
from tests.api.test_memory import SERVER, answers
from tests.api.test_uploads import part, raw_request, wait_until
from tests.api.uploader import CONTENT, RETRY, UPLOADS, Uploader, collect, md5_of, pieces


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


def test_parts_of_any_size_arrive_in_parallel_and_in_any_order(remote_uploader: Uploader) -> None:
    upload = remote_uploader.create(len(CONTENT), purpose="batch")
    shuffled = list(enumerate(pieces()))
    random.Random(7).shuffle(shuffled)

    with ThreadPoolExecutor(5) as threads:
        ids = dict(threads.map(lambda item: (item[0], remote_uploader.part(upload, item[1])), shuffled))
    answer = remote_uploader.complete(upload, [ids[index] for index in sorted(ids)], md5=md5_of(CONTENT))

    assert answer.status_code == 200, answer.text
    file = answer.json()["file"]
    assert file["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert remote_uploader.content(file) == CONTENT
    for start, stop in [(0, 0), (0, 1), (1, 1_048_579), (1_048_576, 1_048_577), (2_000_000, 2_499_999)]:
        assert remote_uploader.content(file, range=f"bytes={start}-{stop}") == CONTENT[start : stop + 1]
    assert remote_uploader.scenery.count(UploadPart) == 0


def test_a_connection_that_breaks_in_mid_part_leaves_nothing(remote_uploader: Uploader) -> None:
    upload = remote_uploader.create(2_500_000)
    head = part("data", b"", "blob").removesuffix(b"\r\n")

    with raw_request(remote_uploader.http, f"{UPLOADS}/{upload['id']}/parts", 2_500_300) as connection:
        connection.sendall(head + b"x" * 2_000_000)
        wait_until(lambda: remote_uploader.scenery.count(Blob) == 1)
    wait_until(lambda: remote_uploader.scenery.count(Blob) == 0)

    assert remote_uploader.scenery.count(BlobChunk) == 0
    assert remote_uploader.parts(upload) == []
    assert remote_uploader.get(upload)["status"] == "pending"


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
        before = Uploader(Scenery(http, sessions, blobs))
        upload = before.create(len(CONTENT), purpose="batch")
        before.part(upload, third)
        before.part(upload, first)
        with raw_request(http, f"{UPLOADS}/{upload['id']}/parts", len(second) + 1000) as connection:
            connection.sendall(part("data", b"", "blob").removesuffix(b"\r\n") + second[:900_000])
            wait_until(lambda: before.scenery.count(Blob) == 3)
            server.kill()

    with api_process(settings, api_key, unused_port) as (http, _):
        after = Uploader(Scenery(http, sessions, blobs))
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


def test_answers_that_are_lost_cost_the_unmodified_sdk_nothing(
    remote_uploader: Uploader, server: str, api_key: str
) -> None:
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
    assert [file["id"] for file in remote_uploader.http.get("/v1/files").json()["data"]] == [upload.file.id]
    assert remote_uploader.scenery.count(Upload) == 1
    assert remote_uploader.content({"id": upload.file.id}) == CONTENT


def test_the_file_is_prepared_as_if_it_had_come_whole(uploader: Uploader) -> None:
    upload, ids = uploader.in_two_parts(task="text-classification")

    file = uploader.complete(upload, ids).json()["file"]
    assert file["status"] == "uploaded"
    uploader.scenery.prepare()

    assert uploader.get(upload)["file"]["status"] == "processed"
    assert uploader.scenery.create_job(training_file=file["id"])["status"] in ("validating_files", "queued")
