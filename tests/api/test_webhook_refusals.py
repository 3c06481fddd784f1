"""Webhook endpoints that may not be: URLs that lead inside or nowhere, and fields that are wrong."""

import socket
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.db import SessionFactory, transaction
from app.tables import WebhookEndpoint
from app.webhooks import destinations
from tests.api.test_access import error_of
from tests.api.test_webhooks import ENDPOINTS, FAILED, PUBLIC, SUCCEEDED, create, new


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://93.184.215.14/", "invalid_url"),
        ("ftp://93.184.215.14/", "invalid_url"),
        ("file:///etc/passwd", "invalid_url"),
        ("93.184.215.14/hooks", "invalid_url"),
        ("https://", "invalid_url"),
        ("https://93.184.215.14:0/", "invalid_url"),
        ("https://93.184.215.14:70000/", "invalid_url"),
        ("https://user:password@93.184.215.14/", "invalid_url"),
        ("https://93.184.215.14/#part", "invalid_url"),
        ("https://93.184.215.14/a b", "invalid_url"),
        ("https://93.184.215.14\\@127.0.0.1/", "invalid_url"),
        ("https://93.184.215.14/\r\nhost: x", "invalid_url"),
        ("https://" + "a" * 2100, "invalid_value"),
        ("https://a..b/", "host_not_found"),
        ("https://localhost/", "private_address"),
        ("https://127.0.0.1/", "private_address"),
        ("https://127.1/", "private_address"),
        ("https://2130706433/", "private_address"),
        ("https://0x7f000001/", "private_address"),
        ("https://0177.0.0.1/", "private_address"),
        ("https://①②⑦.0.0.1/", "private_address"),
        ("https://0.0.0.0/", "private_address"),
        ("https://10.1.2.3/", "private_address"),
        ("https://172.16.0.1/", "private_address"),
        ("https://192.168.1.1/", "private_address"),
        ("https://169.254.169.254/latest/meta-data/", "private_address"),
        ("https://100.64.0.1/", "private_address"),
        ("https://168.63.129.16/", "private_address"),
        ("https://224.0.0.1/", "private_address"),
        ("https://240.0.0.1/", "private_address"),
        ("https://255.255.255.255/", "private_address"),
        ("https://[::1]/", "private_address"),
        ("https://[::]/", "private_address"),
        ("https://[fe80::1]/", "private_address"),
        ("https://[fc00::1]/", "private_address"),
        ("https://[fec0::1]/", "private_address"),
        ("https://[ff02::1]/", "private_address"),
        ("https://[::ffff:127.0.0.1]/", "private_address"),
        ("https://[::ffff:93.184.215.14]/", "private_address"),
        ("https://[::127.0.0.1]/", "private_address"),
        ("https://[64:ff9b::7f00:1]/", "private_address"),
        ("https://[2002:7f00:1::]/", "private_address"),
        ("https://[2001:db8::1]/", "private_address"),
    ],
)
def test_a_url_that_leads_inside_or_nowhere_is_refused_and_nothing_is_written(
    client: TestClient, sessions: SessionFactory, url: str, code: str
) -> None:
    endpoint = create(client)

    for response in (
        client.post(ENDPOINTS, json=new(url=url)),
        client.post(f"{ENDPOINTS}/{endpoint['id']}", json={"url": url, "name": "New"}),
    ):
        assert response.status_code == 400, response.text
        error = error_of(response)
        assert (error["code"], error["param"]) == (code, "url")
        assert "password" not in error["message"].replace("a password in it", "")
    with transaction(sessions) as session:
        assert [(row.name, row.url) for row in session.query(WebhookEndpoint)] == [("Deployment", PUBLIC)]


@pytest.mark.parametrize("url", [PUBLIC, "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:8443/x"])
def test_public_addresses_are_taken(client: TestClient, url: str) -> None:
    assert create(client, url=url)["url"] == url


@pytest.mark.parametrize("private", ["10.0.0.7", "::1", "64:ff9b::a00:7"])
def test_a_name_is_refused_when_one_of_its_addresses_is_private(client: TestClient, monkeypatch, private: str) -> None:
    def resolved(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in ("93.184.215.14", private)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)

    response = client.post(ENDPOINTS, json=new(url="https://hooks.example.com/"))

    assert error_of(response)["code"] == "private_address"
    assert private not in response.text  # what names of the inside stand for is nobody's business
    assert "TAILOR_WEBHOOK_PRIVATE_ADDRESSES" in error_of(response)["message"]


def test_a_host_that_nobody_knows_is_refused_with_the_reason(client: TestClient, monkeypatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    error = error_of(client.post(ENDPOINTS, json=new(url="https://hoks.example.com/")))

    assert (error["code"], error["param"]) == ("host_not_found", "url")
    assert "hoks.example.com" in error["message"]
    assert "Name or service not known" in error["message"]


def test_a_resolver_that_does_not_answer_is_not_waited_for(client: TestClient, monkeypatch, request) -> None:
    released = threading.Event()
    request.addfinalizer(released.set)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(60))
    monkeypatch.setattr(destinations, "RESOLVE_TIMEOUT_S", 0.1)

    response = client.post(ENDPOINTS, json=new(url="https://hooks.example.com/"))

    assert error_of(response)["code"] == "host_not_found"


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"event_types": ["fine_tuning.job.done"]}, "event_types[0]", "fine_tuning.job.cancelled"),
        ({"event_types": []}, "event_types", "fine_tuning.job.cancelled"),
        ({"event_types": SUCCEEDED}, "event_types", "a list"),
        ({"name": ""}, "name", "1 to 256"),
        ({"name": "x" * 257}, "name", "1 to 256"),
        ({"url": None}, "url", "a string"),
        ({"secret": "whsec_mine"}, "secret", "Unknown field"),
    ],
)
def test_a_bad_field_is_told_what_is_allowed(client: TestClient, fields: dict, param: str, said: str) -> None:
    response = client.post(ENDPOINTS, json=new(**fields))

    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert said in error_of(response)["message"]


def test_an_event_type_given_twice_counts_once(client: TestClient) -> None:
    assert create(client, event_types=[FAILED, SUCCEEDED, FAILED])["event_types"] == [FAILED, SUCCEEDED]
