"""Models, their files and archives over HTTP: ranges, conditions, hashes, and that an archive is what it says."""

import base64
import hashlib
import io
import tarfile

import pytest

from app.db import transaction
from app.storage.blobs import CHUNK_BYTES
from app.tables import BlobChunk, Checkpoint, StoredFile
from tests.api.scenery import Scenery
from tests.api.test_access import error_of

WEIGHTS = hashlib.shake_256(b"weights").digest(2 * CHUNK_BYTES + 777)
CONTENTS = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": WEIGHTS,
    "empty.txt": b"",
    "a/" + "long" * 40 + "/ü.txt": b"x" * 512,
}
ETAG = f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
SIZE = len(WEIGHTS)


@pytest.fixture
def model(scenery: Scenery) -> str:
    """A fine-tuned model with the files above."""
    model_id = scenery.succeeded_job(CONTENTS).fine_tuned_model
    assert model_id is not None
    return model_id


@pytest.fixture
def weights(model: str) -> str:
    return f"/v1/models/{model}/files/model.safetensors"


def test_a_file_comes_whole_with_its_hash(scenery: Scenery, weights: str) -> None:
    response = scenery.client.get(weights)

    assert response.status_code == 200
    assert response.content == WEIGHTS
    assert response.headers["content-length"] == str(SIZE)
    assert response.headers["etag"] == ETAG
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["x-content-sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    digest = base64.b64encode(hashlib.sha256(WEIGHTS).digest()).decode()
    assert response.headers["repr-digest"] == f"sha-256=:{digest}:"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        (f"bytes={CHUNK_BYTES - 1}-{CHUNK_BYTES}", CHUNK_BYTES - 1, CHUNK_BYTES + 1),
        (f"bytes={CHUNK_BYTES}-{2 * CHUNK_BYTES}", CHUNK_BYTES, 2 * CHUNK_BYTES + 1),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-999999999999", 0, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes=10-{SIZE + 100}", 10, SIZE),
        ("Bytes=5-9", 5, 10),
    ],
)
def test_a_range_is_what_was_asked_for(scenery: Scenery, weights: str, asked: str, start: int, stop: int) -> None:
    response = scenery.client.get(weights, headers={"range": asked})

    assert response.status_code == 206
    assert response.content == WEIGHTS[start:stop]
    assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert response.headers["content-length"] == str(stop - start)
    assert response.headers["etag"] == ETAG


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=-0", "bytes=9-5", f"bytes={10**30}-"])
def test_a_range_outside_is_not_satisfiable(scenery: Scenery, weights: str, asked: str) -> None:
    response = scenery.client.get(weights, headers={"range": asked})

    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{SIZE}"
    assert error_of(response)["code"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=a-b", "bytes", "bytes=1", "bytes=0-" + "9" * 5000]
)
def test_a_range_that_is_not_understood_is_answered_whole(scenery: Scenery, weights: str, asked: str) -> None:
    response = scenery.client.get(weights, headers={"range": asked})

    assert response.status_code == 200
    assert len(response.content) == SIZE


def test_conditions_compare_the_etag(scenery: Scenery, weights: str) -> None:
    def get(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return scenery.client.get(weights, headers=named).status_code

    assert get(if_none_match=ETAG) == 304
    assert get(if_none_match=f'"other", W/{ETAG}') == 304
    assert get(if_none_match="*") == 304
    assert get(if_none_match='"other"') == 200
    assert get(if_none_match=ETAG, range="bytes=0-1") == 304
    assert get(if_range=ETAG, range="bytes=0-1") == 206
    assert get(if_range='"other"', range="bytes=0-1") == 200
    assert get(if_range=f"W/{ETAG}", range="bytes=0-1") == 200
    assert get(if_range="Wed, 21 Oct 2015 07:28:00 GMT", range="bytes=0-1") == 200


def test_a_304_has_the_etag_and_no_body(scenery: Scenery, weights: str) -> None:
    response = scenery.client.get(weights, headers={"if-none-match": ETAG})

    assert (response.content, response.headers["etag"]) == (b"", ETAG)


def test_head_tells_the_length_without_the_bytes(scenery: Scenery, model: str, weights: str) -> None:
    for path in (weights, f"/v1/models/{model}/archive"):
        head, whole = scenery.client.head(path), scenery.client.get(path)
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == str(len(whole.content))
        assert head.headers["etag"] == whole.headers["etag"]


def test_an_empty_file_comes_as_nothing(scenery: Scenery, model: str) -> None:
    response = scenery.client.get(f"/v1/models/{model}/files/empty.txt")
    ranged = scenery.client.get(f"/v1/models/{model}/files/empty.txt", headers={"range": "bytes=0-"})

    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "0")
    assert ranged.status_code == 416


def test_the_files_of_a_model_are_listed_with_size_and_hash(scenery: Scenery, model: str) -> None:
    listed = scenery.client.get(f"/v1/models/{model}/files").json()["data"]

    assert listed == [
        {
            "object": "model.file",
            "path": path,
            "bytes": len(CONTENTS[path]),
            "sha256": hashlib.sha256(CONTENTS[path]).hexdigest(),
        }
        for path in sorted(CONTENTS)
    ]
    for file in listed:
        assert scenery.client.get(f"/v1/models/{model}/files/{file['path']}").content == CONTENTS[file["path"]]


@pytest.mark.parametrize("path", ["nothing.bin", "../config.json", "/etc/passwd", "a/../config.json", ""])
def test_a_file_that_a_model_does_not_have_is_not_found(scenery: Scenery, model: str, path: str) -> None:
    response = scenery.client.get(f"/v1/models/{model}/files/{path.replace('..', '%2e%2e')}")

    assert response.status_code == 404


def test_an_archive_holds_the_files_and_is_the_same_each_time(scenery: Scenery, model: str) -> None:
    first, second = (scenery.client.get(f"/v1/models/{model}/archive") for _ in range(2))

    assert first.content == second.content
    assert first.headers["etag"] == second.headers["etag"]
    assert first.headers["content-length"] == str(len(first.content))
    assert len(first.content) % tarfile.RECORDSIZE == 0
    assert first.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(first.content), mode="r:") as archive:
        held = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        assert {name: file.read() for name, file in held.items() if file} == CONTENTS
        assert {(member.mode, member.uid, member.uname) for member in archive.getmembers()} == {(0o644, 0, "")}


def test_any_range_of_an_archive_is_the_same_bytes(scenery: Scenery, model: str) -> None:
    path = f"/v1/models/{model}/archive"
    whole = scenery.client.get(path)
    size = len(whole.content)
    for start, stop in [(0, 1), (500, 600), (511, 1025), (1000, size - 1000), (size - 1, size), (0, size)]:
        part = scenery.client.get(
            path, headers={"range": f"bytes={start}-{stop - 1}", "if-range": whole.headers["etag"]}
        )
        assert part.status_code == 206
        assert part.content == whole.content[start:stop]


def test_model_ids_with_slashes_may_be_escaped_or_not(scenery: Scenery, model: str) -> None:
    for path in (model, model.replace("/", "%2F"), model.replace(":", "%3A").replace("/", "%2F")):
        for rest in ("", "/files", "/files/config.json", "/archive"):
            assert scenery.client.get(f"/v1/models/{path}{rest}").status_code == 200


def test_models_are_listed_with_their_lineage(scenery: Scenery, model: str) -> None:
    base, tuned = scenery.client.get("/v1/models").json()["data"]

    assert (base["id"], base["kind"], base["owned_by"], base["parent"]) == ("starter/minilm-l6", "base", "tailor", None)
    assert (tuned["id"], tuned["kind"], tuned["parent"]) == (model, "fine_tuned", "starter/minilm-l6")
    assert tuned["labels"] == ["negative", "positive"]
    assert tuned["job"].startswith("ftjob-")
    assert tuned["object"] == "model"
    assert isinstance(tuned["created"], int)
    checkpoint = scenery.client.get(f"/v1/models/{model}:ckpt-step-1").json()
    assert checkpoint["kind"] == "checkpoint"


def test_a_base_model_has_no_files_here_and_cannot_be_deleted(scenery: Scenery) -> None:
    path = "/v1/models/starter/minilm-l6"
    deleted, archive = scenery.client.delete(path), scenery.client.get(f"{path}/archive")

    assert scenery.client.get(f"{path}/files").json()["data"] == []
    assert (archive.status_code, error_of(archive)["code"]) == (404, "model_has_no_files")
    assert (deleted.status_code, error_of(deleted)["code"]) == (403, "base_model")


def test_a_deleted_model_is_gone_with_its_files(scenery: Scenery, model: str) -> None:
    answer = scenery.client.delete(f"/v1/models/{model}")

    assert answer.json() == {"id": model, "object": "model", "deleted": True}
    for rest in ("", "/files", "/files/config.json", "/archive"):
        response = scenery.client.get(f"/v1/models/{model}{rest}")
        assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")
    assert scenery.client.delete(f"/v1/models/{model}").status_code == 404
    with transaction(scenery.sessions) as session:
        assert session.query(StoredFile).filter(StoredFile.owner_id == model).count() == 0


def test_a_deleted_checkpoint_is_not_listed_any_more(scenery: Scenery, model: str) -> None:
    assert scenery.client.delete(f"/v1/models/{model}:ckpt-step-1").status_code == 200

    with transaction(scenery.sessions) as session:
        assert [checkpoint.step for checkpoint in session.query(Checkpoint)] == [2]


def test_a_model_in_use_cannot_be_deleted_until_the_job_has_ended(scenery: Scenery, model: str) -> None:
    job = scenery.create_job(model=model)

    refused = scenery.client.delete(f"/v1/models/{model}")

    assert (refused.status_code, error_of(refused)["code"]) == (409, "model_in_use")
    assert job["id"] in error_of(refused)["message"]
    scenery.client.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    assert scenery.client.delete(f"/v1/models/{model}").status_code == 200


def test_a_download_whose_bytes_are_deleted_meanwhile_is_not_found(scenery: Scenery, model: str) -> None:
    with transaction(scenery.sessions) as session:
        session.query(BlobChunk).filter(BlobChunk.index == 0).delete()

    response = scenery.client.get(f"/v1/models/{model}/files/model.safetensors")

    assert (response.status_code, error_of(response)["code"]) == (404, "content_deleted")
