"""Every way an upload and its parts may be wrong, and how they are mended."""

import hashlib
from typing import Any

import pytest
from sqlalchemy import update

from app.db import SessionFactory, transaction
from app.files import uploads
from app.files.uploads import MAX_PART_BYTES
from app.tables import Blob, BlobChunk, File, Upload, UploadPart
from tests.api.conftest import MAX_FILE_BYTES, headers_of
from tests.api.scenery import ROWS
from tests.api.test_access import error_of
from tests.api.test_uploads import END, FORM, part, raw_request
from tests.api.uploader import KEY, RETRY, UPLOADS, Uploader, md5_of


def test_parts_are_listed_with_what_tells_them_apart_in_pages(uploader: Uploader) -> None:
    upload = uploader.create(100)
    made = [uploader.part(upload, bytes([number]) * 10) for number in range(5)]
    path = f"{UPLOADS}/{upload['id']}/parts"

    whole = uploader.http.get(path).json()
    ids: list[str] = []
    while True:
        page = uploader.http.get(path, params={"limit": 2} | ({"after": ids[-1]} if ids else {})).json()
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
    unknown = uploader.http.get(path, params={"after": "part-00"})
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
    uploader: Uploader, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    response = uploader.http.post(UPLOADS, json=CREATE | fields)

    assert response.status_code == status, response.text
    assert (error_of(response)["code"], error_of(response)["param"]) == (code, param)
    assert uploader.scenery.count(Upload) == 0


def test_too_large_an_upload_is_told_both_numbers(uploader: Uploader) -> None:
    response = uploader.http.post(UPLOADS, json=CREATE | {"bytes": 5_000_000})

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
    uploader: Uploader, body: bytes, status: int, code: str, param: str | None
) -> None:
    upload = uploader.create(10)

    response = uploader.http.post(f"{UPLOADS}/{upload['id']}/parts", content=body, headers=FORM)

    assert response.status_code == status, response.text
    assert (error_of(response)["code"], error_of(response)["param"]) == (code, param)
    assert uploader.scenery.count(Blob) == uploader.scenery.count(UploadPart) == 0
    assert uploader.get(upload)["status"] == "pending"


def test_a_part_announced_as_too_large_is_refused_before_it_is_sent(
    remote_uploader: Uploader, sessions: SessionFactory
) -> None:
    upload = remote_uploader.create(MAX_FILE_BYTES)
    for size in (MAX_FILE_BYTES, 10**9):  # the limits: the upload's own bytes, and those of any part
        with transaction(sessions) as session:
            session.execute(update(Upload).values(bytes=size))
        with raw_request(remote_uploader.http, f"{UPLOADS}/{upload['id']}/parts", 10**12) as connection:
            answer = connection.recv(65536)

        assert b" 413 " in answer.splitlines()[0]
        assert f"{min(size, MAX_PART_BYTES):,} bytes".encode() in answer
    assert remote_uploader.scenery.count(Blob) == 0


def test_parts_may_come_twice_but_not_without_end(uploader: Uploader) -> None:
    upload = uploader.create(10)
    damaged = [uploader.part(upload, b"0123x"), uploader.part(upload, b"56789")]
    right = [uploader.part(upload, b"01234"), uploader.part(upload, b"56789")]

    refused = uploader.send(upload, b"0")

    assert (refused.status_code, error_of(refused)["code"]) == (413, "upload_full")
    assert "have 20 bytes" in error_of(refused)["message"]
    assert len(uploader.parts(upload)) == len({*damaged, *right}) == 4
    file = uploader.complete(upload, right).json()["file"]
    assert uploader.content(file) == b"0123456789"


def test_there_is_a_most_to_the_number_of_parts(uploader: Uploader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_PARTS", 2)
    upload, ids = uploader.in_two_parts()

    refused = uploader.send(upload, b"x")

    assert (refused.status_code, error_of(refused)["code"]) == (409, "too_many_parts")
    assert error_of(refused)["allowed"] == ["complete", "cancel"]
    assert uploader.complete(upload, ids).status_code == 200


def test_parts_that_do_not_make_the_file_are_refused_and_may_be_mended(uploader: Uploader) -> None:
    upload, (first, second) = uploader.in_two_parts()
    other, (foreign, _) = uploader.in_two_parts()

    def refusal(part_ids: Any, **fields: Any) -> tuple[int, str, str | None]:
        response = uploader.complete(upload, part_ids, **fields)
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
    error = error_of(uploader.complete(upload, [first]))
    assert "have 20 bytes" in error["message"]
    assert f"created with {len(ROWS)}" in error["message"]
    assert second in error["message"]
    assert (error["declared_bytes"], error["named_bytes"]) == (len(ROWS), 20)

    assert uploader.scenery.count(File) == 0
    assert uploader.get(upload)["status"] == uploader.get(other)["status"] == "pending"
    assert uploader.complete(upload, [first, second]).json()["file"]["bytes"] == len(ROWS)


def test_more_parts_than_were_declared_do_not_make_the_file(uploader: Uploader) -> None:
    upload = uploader.create(10)
    ids = [uploader.part(upload, b"123456") for _ in range(2)]

    error = error_of(uploader.complete(upload, ids))

    assert error["code"] == "bytes_mismatch"
    assert "named parts have 12 bytes" in error["message"]
    assert "created with 10" in error["message"]


def test_another_md5_leaves_the_upload_pending_until_the_damaged_part_is_sent_again(uploader: Uploader) -> None:
    upload = uploader.create(len(ROWS))
    damaged, second = uploader.part(upload, b"x" * 20), uploader.part(upload, ROWS[20:])

    refused = uploader.complete(upload, [damaged, second], md5=md5_of(ROWS))

    assert (refused.status_code, error_of(refused)["code"]) == (400, "md5_mismatch")
    assert md5_of(ROWS) in error_of(refused)["message"]
    assert error_of(refused)["md5"] == md5_of(b"x" * 20 + ROWS[20:])
    assert uploader.get(upload)["status"] == "pending"
    assert uploader.scenery.count(File) == 0
    mended = uploader.complete(upload, [uploader.part(upload, ROWS[:20]), second], md5=md5_of(ROWS))
    assert uploader.content(mended.json()["file"]) == ROWS


def test_an_upload_of_another_project_is_not_found(uploader: Uploader, other_key: str) -> None:
    upload, ids = uploader.in_two_parts()
    path, theirs = f"{UPLOADS}/{upload['id']}", headers_of(other_key)
    http = uploader.http

    for response in (
        http.get(path, headers=theirs),
        http.get(f"{path}/parts", headers=theirs),
        uploader.send(upload, b"x", **theirs),
        http.post(f"{path}/complete", json={"part_ids": ids}, headers=theirs),
        http.post(f"{path}/cancel", headers=theirs),
        http.get(f"{UPLOADS}/upload-00"),
    ):
        assert (response.status_code, error_of(response)["code"]) == (404, "upload_not_found")
    assert uploader.complete(upload, ids).status_code == 200


def test_lost_bytes_of_a_part_are_an_error_of_the_server_and_told_in_its_log(
    uploader: Uploader, sessions: SessionFactory, caplog: pytest.LogCaptureFixture
) -> None:
    upload, ids = uploader.in_two_parts()
    with transaction(sessions) as session:
        session.query(BlobChunk).delete()

    answer = uploader.complete(upload, ids)

    assert (answer.status_code, error_of(answer)["code"]) == (500, "internal_error")
    assert "was deleted while it was read" in caplog.text
    assert uploader.get(upload)["status"] == "pending"


def test_equal_parts_are_parts_of_their_own_unless_a_key_says_otherwise(uploader: Uploader) -> None:
    upload = uploader.create(30)

    # The second try of an equal part whose first try never arrived is not a repetition of the part before it.
    plain = {uploader.send(upload, b"0" * 10, **{RETRY: count}).json()["id"] for count in ("0", "1")}
    keyed = {uploader.send(upload, b"0" * 10, **{KEY: "third"}).json()["id"] for _ in range(2)}
    other = uploader.send(upload, b"1" * 10, **{KEY: "third"})

    assert (len(plain), len(keyed)) == (2, 1)
    assert (other.status_code, error_of(other)["code"]) == (409, "idempotency_key_reuse")
    file = uploader.complete(upload, [*plain, *keyed]).json()["file"]
    assert uploader.content(file) == b"0" * 30
