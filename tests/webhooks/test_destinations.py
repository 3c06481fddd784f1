"""Where deliveries may go, checked again when they are sent."""

import socket
import ssl

import pytest
import trustme

from tests.webhooks.conftest import Desk, sender_with
from tests.webhooks.receiver import Receiver, receiving
from worker.webhooks import WebhookSender


def test_a_private_address_is_refused_again_when_it_is_sent(desk: Desk, receiver: Receiver, context):
    desk.endpoint(receiver.url.replace("http:", "https:"))  # as if registered while the setting allowed it
    desk.end_job()
    with sender_with(context, webhook_private_addresses="off"):
        attempt = desk.wait_for_attempt(1)

    assert attempt.status_code is None
    assert "is not a public address" in attempt.error
    assert receiver.received == []


def test_a_name_that_turns_to_a_private_address_after_its_registration_is_refused(desk, receiver, context, monkeypatch):
    port = int(receiver.url.rpartition(":")[2])
    desk.endpoint(f"https://hooks.example.com:{port}/")
    _resolve(monkeypatch, "127.0.0.1")
    desk.end_job()
    with sender_with(context, webhook_private_addresses="off"):
        attempt = desk.wait_for_attempt(1)

    assert "is not a public address" in attempt.error
    assert receiver.received == []


def test_the_connection_goes_to_the_address_that_was_checked(desk: Desk, receiver: Receiver, sender, monkeypatch):
    port = int(receiver.url.rpartition(":")[2])
    asked = _resolve(monkeypatch, "127.0.0.1", then="192.0.2.1")
    desk.endpoint(f"http://hooks.example.com:{port}/x")
    desk.end_job()
    sender.wake()
    desk.wait_for("succeeded")

    assert asked == ["hooks.example.com"]
    assert receiver.received[0].headers["host"] == f"hooks.example.com:{port}"


def test_the_next_address_is_tried_when_the_first_takes_no_connection(desk, receiver, sender, monkeypatch):
    port = int(receiver.url.rpartition(":")[2])
    _resolve(monkeypatch, "127.0.0.2", "127.0.0.1")  # the receiver listens on the second only
    desk.endpoint(f"http://hooks.example.com:{port}/")
    desk.end_job()
    sender.wake()

    assert desk.wait_for("succeeded").attempt == 1


def _resolve(monkeypatch, *addresses: str, then: str | None = None) -> list[str]:
    """Make hooks.example.com these addresses, and `then` another once it was asked for; returns what was asked."""
    real, asked = socket.getaddrinfo, []

    def resolve(host, port, *arguments, **named):
        if host != "hooks.example.com":
            return real(host, port, *arguments, **named)
        asked.append(host)
        answer = addresses if len(asked) == 1 or then is None else (then,)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_proxies_of_the_environment_are_not_used(desk: Desk, receiver: Receiver, context, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    desk.endpoint(receiver.url)
    desk.end_job()
    with WebhookSender(context):
        desk.wait_for("succeeded")


@pytest.mark.parametrize(
    ("name", "trusted", "said"),
    [
        ("hooks.example.com", True, None),
        ("hooks.example.com", False, "certificate verify failed"),
        ("other.example.com", True, "hostname mismatch"),
    ],
)
def test_certificates_are_verified_for_the_name_in_the_url(
    desk: Desk, context, monkeypatch, tmp_path, name: str, trusted: bool, said: str | None
):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(tls)
    asked_for: list[str | None] = []
    tls.sni_callback = lambda _, server_name, __: asked_for.append(server_name)
    _resolve(monkeypatch, "127.0.0.1")
    with receiving(tls=tls) as receiver, WebhookSender(context) as sender:
        desk.endpoint(f"https://hooks.example.com:{receiver.url.rpartition(':')[2]}/")
        desk.end_job()
        sender.wake()
        attempt = desk.wait_for_attempt(1)

    assert asked_for == ["hooks.example.com"]
    if said is None:
        assert (attempt.status_code, attempt.error) == (200, None)
    else:
        assert attempt.status_code is None
        assert said in attempt.error.lower()
        assert receiver.received == []
