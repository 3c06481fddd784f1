"""Every answer that is no success has the one error shape, and every answer has its headers."""

import random
import re
import string

import pytest

from tests.api.conftest import MAX_REQUEST_BYTES
from tests.api.test_access import error_of

JOBS = "/v1/fine_tuning/jobs"
JSON = {"content-type": "application/json"}


def test_an_unknown_path_names_the_nearest_known_one(client) -> None:
    response = client.get("/files")

    assert response.status_code == 404
    assert error_of(response)["code"] == "unknown_path"
    assert "/v1/files" in error_of(response)["message"]


def test_a_wrong_method_is_told_the_right_ones(client) -> None:
    response = client.put("/v1/files")

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"
    assert error_of(response)["allowed"] == ["GET", "POST"]


@pytest.mark.parametrize(
    ("body", "status", "code", "place"),
    [
        (b'{"model": "m",\n "training_file": }', 422, "malformed_json", {"line": 2, "column": 19}),
        (b"not json", 422, "malformed_json", {"line": 1, "column": 1}),
        (b'{"seed": NaN}', 422, "malformed_json", {}),
        (b'{"seed": 1' + b"0" * 5000 + b"}", 422, "malformed_json", {}),
        (b'{"model": "\xff"}', 422, "not_utf8", {"position": 11}),
        (b"[" * 100 + b"]" * 100, 422, "too_deep", {}),
        (b"[" * 60_000, 422, "too_deep", {}),
        (b'{"model": "a", "model": "b"}', 422, "duplicate_field", {}),
        (b'{"model": "a\\u0000b"}', 400, "nul_character", {"param": "model"}),
        (b'{"metadata": {"a\\u0000": "b"}}', 400, "nul_character", {}),
        (b'{"metadata": {"a": ["\\ud800"]}}', 400, "lone_surrogate", {"param": "metadata.a[0]"}),
        (b"[]", 400, "invalid_value", {}),
        (b"null", 400, "invalid_value", {}),
        (b"", 400, "missing_field", {}),
        (b" " * (MAX_REQUEST_BYTES + 1), 413, "request_too_large", {}),
    ],
)
def test_a_body_that_cannot_be_read_is_told_where(client, body: bytes, status: int, code: str, place: dict) -> None:
    response = client.post(JOBS, content=body, headers=JSON)

    assert response.status_code == status, response.text
    error = error_of(response)
    assert error["code"] == code
    assert {name: error[name] for name in place} == place


def test_a_byte_order_mark_before_the_body_is_no_error(client) -> None:
    response = client.post(JOBS, content=b"\xef\xbb\xbf{}", headers=JSON)

    assert error_of(response)["code"] == "missing_field"


def test_a_body_announced_as_something_else_is_told_the_header_to_send(client) -> None:
    response = client.post(
        JOBS, content=b'{"model": "m"}', headers={"content-type": "application/x-www-form-urlencoded"}
    )

    assert response.status_code == 422
    assert "application/json" in error_of(response)["message"]


def test_a_body_without_a_length_is_cut_off_at_the_limit(client) -> None:
    response = client.post(JOBS, content=(b" " * 1024 for _ in range(100)), headers=JSON)

    assert response.status_code == 413


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/files/%00", "nul_character"),
        ("/v1/files/%ff", "not_utf8"),
        ("/v1/files?after=%00", "nul_character"),
        ("/v1/files?after=%ff", "not_utf8"),
        ("/v1/models/a%00b/files/x", "nul_character"),
        (f"{JOBS}?metadata[a]=%00", "nul_character"),
    ],
)
def test_an_address_that_postgresql_cannot_hold_is_refused(client, path: str, code: str) -> None:
    response = client.get(path)

    assert response.status_code == 400
    assert error_of(response)["code"] == code


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("limit=ten", "limit"),
        ("order=up", "order"),
        ("purpose=fun", "purpose"),
        ("limits=1", "limits"),
    ],
)
def test_a_query_out_of_range_is_told_what_is_allowed(client, query: str, param: str) -> None:
    response = client.get(f"/v1/files?{query}")

    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert re.search(r"give|did you mean", error_of(response)["message"])


def test_an_unknown_cursor_is_not_found(client) -> None:
    for path in ("/v1/files", JOBS):
        assert client.get(f"{path}?after=nonsense").status_code == 404


@pytest.mark.parametrize("asked", ["abc-1.2_3", "x" * 128])
def test_a_sane_request_id_is_kept(client, asked: str) -> None:
    assert client.get("/healthz", headers={"x-request-id": asked}).headers["x-request-id"] == asked


@pytest.mark.parametrize("asked", ["", "x" * 129, "a b", "a\tb", "é"])
def test_an_odd_request_id_is_replaced(client, asked: str) -> None:
    headers = [(b"x-request-id", asked.encode("latin-1"))]

    response = client.get("/healthz", headers=headers)

    assert re.fullmatch(r"req-[0-9a-f]{24}", response.headers["x-request-id"])


def test_a_bug_of_ours_is_answered_in_the_shape_and_logged_under_the_request_id(client, monkeypatch, caplog) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("app.api.models.models.list_all", fail)

    response = client.get("/v1/models", headers={"x-request-id": "find-me"})

    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    assert "find-me" in error_of(response)["message"]
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == "find-me"
    assert any("find-me" in record.getMessage() and record.exc_info for record in caplog.records)


def test_rubbish_on_every_route_never_shows_fastapis_own_errors(client, app) -> None:
    chance = random.Random(7)
    values = [
        "x",
        "..",
        "a/b",
        "%2e%2e%2f",
        "é",
        "ft:a:b:c:d",
        "file-0",
        "ftjob-0",
        "'\"<>",
        "9" * 300,
        "{}",
        "\\",
        "%",
    ]
    bodies = [b"", b"{", b"[]", b'{"a": 1}', b"\x00\xff", b"null", b'"x"', b"1e400"]
    kinds = ["application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x", ""]
    for path, operations in app.openapi()["paths"].items():
        for method in (*operations, "put", "patch", "options"):
            for _ in range(6):
                address = re.sub(r"\{\w+\}", lambda _: chance.choice(values), path)
                query = "".join(chance.choices(string.printable.strip().replace("#", ""), k=chance.choice([0, 5, 30])))
                response = client.request(
                    method,
                    f"{address}?{query}".replace("%", "%25"),
                    content=chance.choice(bodies),
                    headers={"content-type": chance.choice(kinds)},
                )
                assert '{"detail"' not in response.text
                assert response.status_code < 500, (method, address, query, response.text)
                assert response.headers["x-request-id"]
                assert response.headers["openai-processing-ms"].isdecimal()
                if response.status_code >= 400:
                    error_of(response)
