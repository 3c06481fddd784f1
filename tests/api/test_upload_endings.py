"""How uploads end: completed, cancelled or expired, once, whatever else goes on at that moment."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, update

from app.db import SessionFactory, transaction
from app.files import completion
from app.files.uploads import expire_uploads
from app.storage.database import DatabaseBlobStore
from app.tables import Blob, BlobChunk, BlobSegment, File, Job, Upload
from tests.api.scenery import ROWS
from tests.api.test_access import error_of
from tests.api.test_uploads import END, part, raw_request, wait_until
from tests.api.uploader import CONTENT, UPLOADS, Uploader, collect, md5_of, pieces


@pytest.mark.parametrize("how", ["completed", "cancelled", "expired"])
def test_an_upload_that_has_ended_takes_nothing_more(uploader: Uploader, sessions: SessionFactory, how: str) -> None:
    upload, ids = uploader.in_two_parts()
    if how == "completed":
        uploader.complete(upload, ids)
    elif how == "cancelled":
        uploader.cancel(upload)
    else:
        with transaction(sessions) as session:
            session.execute(update(Upload).values(expires_at=func.now()))
    assert uploader.get(upload)["status"] == how

    requests = [uploader.send(upload, b"x"), uploader.complete(upload, ids[::-1])]
    requests += [] if how == "cancelled" else [uploader.cancel(upload)]

    for response in requests:
        assert (response.status_code, error_of(response)["code"]) == (409, f"upload_{how}")
        assert error_of(response)["allowed"] == []
        assert response.headers["x-should-retry"] == "false"
    assert uploader.scenery.count(Blob) == (3 if how == "completed" else 2)


def test_cancelling_twice_is_cancelling_once_and_lets_go_of_the_bytes(
    uploader: Uploader, sessions: SessionFactory
) -> None:
    upload, _ = uploader.in_two_parts()

    first, second = uploader.cancel(upload), uploader.cancel(upload)

    assert first.json() == second.json()
    assert first.json()["status"] == "cancelled"
    assert uploader.parts(upload) == []
    collect(sessions)
    assert uploader.scenery.count(Blob) == 0


def test_completing_twice_is_completing_once(uploader: Uploader) -> None:
    upload, ids = uploader.in_two_parts()

    first = uploader.complete(upload, ids, md5=md5_of(ROWS))
    again = [uploader.complete(upload, ids), uploader.complete(upload, ids, md5=md5_of(ROWS))]

    assert [answer.json() for answer in again] == [first.json()] * 2
    assert uploader.scenery.count(File) == uploader.scenery.count(Job) == 1
    for other in (uploader.complete(upload, ids[::-1]), uploader.complete(upload, ids, md5="0" * 32)):
        assert (other.status_code, error_of(other)["code"]) == (409, "upload_completed")


def test_a_completed_upload_whose_file_was_deleted_says_so(uploader: Uploader, sessions: SessionFactory) -> None:
    upload, ids = uploader.in_two_parts(purpose="batch")
    file = uploader.complete(upload, ids).json()["file"]

    uploader.http.delete(f"/v1/files/{file['id']}")

    assert (uploader.get(upload)["status"], uploader.get(upload)["file"]) == ("completed", None)
    collect(sessions)
    assert [uploader.scenery.count(table) for table in (Blob, BlobChunk, BlobSegment)] == [0, 0, 0]


def test_twins_that_complete_at_the_same_moment_make_one_file(remote_uploader: Uploader) -> None:
    upload = remote_uploader.create(len(CONTENT))
    ids = [remote_uploader.part(upload, piece) for piece in pieces()]

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: remote_uploader.complete(upload, ids, md5=md5_of(CONTENT)), range(6)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["file"]["id"] for answer in answers}) == 1
    assert remote_uploader.scenery.count(File) == remote_uploader.scenery.count(Job) == 1
    assert remote_uploader.content(answers[0].json()["file"]) == CONTENT


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
        self, client: Uploader, upload: dict[str, Any], ids: list[str]
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
    remote_uploader: Uploader, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch, *, collected: bool
) -> None:
    upload, ids = remote_uploader.in_two_parts()

    with Gate(monkeypatch).while_completing(remote_uploader, upload, ids) as answered:
        assert remote_uploader.cancel(upload).json()["status"] == "cancelled"
        if collected:
            collect(sessions)

    assert (answered[0].status_code, error_of(answered[0])["code"]) == (409, "upload_cancelled")
    assert remote_uploader.scenery.count(File) == 0
    collect(sessions)
    assert remote_uploader.scenery.count(Blob) == 0


def test_a_completion_stops_reading_once_the_upload_has_ended(
    remote_uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "HOLD_EVERY_S", 0)
    upload, ids = remote_uploader.in_two_parts()
    gate = Gate(monkeypatch)

    with gate.while_completing(remote_uploader, upload, ids) as answered:
        remote_uploader.cancel(upload)

    assert error_of(answered[0])["code"] == "upload_cancelled"
    assert gate.reads == 1


def test_a_part_that_arrives_while_the_upload_is_completed_changes_nothing(
    remote_uploader: Uploader, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, ids = remote_uploader.in_two_parts()

    with Gate(monkeypatch).while_completing(remote_uploader, upload, ids) as answered:
        late = remote_uploader.send(upload, b"late")

    assert late.status_code == 200
    assert answered[0].status_code == 200
    assert remote_uploader.content(answered[0].json()["file"]) == ROWS
    assert remote_uploader.parts(upload) == []
    collect(sessions)
    assert remote_uploader.scenery.count(Blob) == 3  # the two parts named, and what they were joined to


def test_a_part_whose_upload_ends_while_it_comes_is_refused(
    remote_uploader: Uploader, sessions: SessionFactory
) -> None:
    upload = remote_uploader.create(2_000_000)
    body = part("data", b"x" * 2_000_000, "blob") + END

    with raw_request(remote_uploader.http, f"{UPLOADS}/{upload['id']}/parts", len(body)) as connection:
        connection.sendall(body[:1_500_000])
        wait_until(lambda: remote_uploader.scenery.count(Blob) == 1)
        remote_uploader.cancel(upload)
        connection.sendall(body[1_500_000:])
        answer = connection.recv(65536)

    assert b" 409 " in answer.splitlines()[0]
    assert b"upload_cancelled" in answer
    collect(sessions)
    assert remote_uploader.scenery.count(Blob) == 0


def test_an_upload_expires_and_its_parts_are_collected(uploader: Uploader, sessions: SessionFactory) -> None:
    expiring, _ = uploader.in_two_parts()
    pending, ids = uploader.in_two_parts()
    with transaction(sessions) as session:
        assert expire_uploads(session) == []
        session.execute(update(Upload).where(Upload.id == expiring["id"]).values(expires_at=func.now()))

    with transaction(sessions) as session:
        assert expire_uploads(session) == [expiring["id"]]
    collect(sessions)

    assert uploader.get(expiring)["status"] == "expired"
    assert uploader.parts(expiring) == []
    assert uploader.scenery.count(Blob) == 2
    file = uploader.complete(pending, ids).json()["file"]
    collect(sessions)
    assert uploader.content(file) == ROWS


def test_an_upload_does_not_expire_while_it_is_completed(
    remote_uploader: Uploader, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, ids = remote_uploader.in_two_parts()

    def expire_in(moment: Any) -> None:
        with transaction(sessions) as session:
            session.execute(update(Upload).values(expires_at=moment))

    expire_in(func.now() + timedelta(seconds=30))
    with Gate(monkeypatch).while_completing(remote_uploader, upload, ids) as answered:
        expire_in(Upload.expires_at - timedelta(seconds=60))  # as if a minute had passed
        with transaction(sessions) as session:
            assert expire_uploads(session) == []
        collect(sessions)

    assert answered[0].status_code == 200, answered[0].text
    assert remote_uploader.content(answered[0].json()["file"]) == ROWS


def test_uploads_that_ended_long_ago_are_forgotten(uploader: Uploader, sessions: SessionFactory) -> None:
    old, ids = uploader.in_two_parts()
    uploader.complete(old, ids)
    recent, _ = uploader.in_two_parts()
    uploader.cancel(recent)
    with transaction(sessions) as session:
        past = func.now() - timedelta(days=31)
        session.execute(update(Upload).where(Upload.id == old["id"]).values(ended_at=past))
        expire_uploads(session)

    assert uploader.http.get(f"{UPLOADS}/{old['id']}").status_code == 404
    assert uploader.get(recent)["status"] == "cancelled"
    assert uploader.scenery.count(File) == 1
