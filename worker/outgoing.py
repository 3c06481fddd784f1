"""One POST to an address that was checked: no redirects, no proxies, TLS verified, bounded in time and size."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import httpcore2

from app.webhooks.destinations import Destination

CONNECT_TIMEOUT_S = 3.0  # to each address of a host: a dead first one must leave time for the second
BODY_BYTES = 4096
SHOWN_CHARACTERS = 1000


class NoAnswer(Exception):  # noqa: N818 (it reads as what happened)
    """No HTTP answer came; the message says why."""


@dataclass(frozen=True)
class Answer:
    """A status, its reason phrase, and the beginning of the body as text that PostgreSQL can hold."""

    status_code: int
    reason: str
    text: str


@dataclass(frozen=True)
class PinnedAddresses(httpcore2.AsyncNetworkBackend):
    """Connects to the addresses that were checked, whatever the name stands for by now.

    The connection above it keeps the host's name for TLS (SNI and the certificate) and for the `Host` header.
    """

    addresses: tuple[str, ...]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to the first address that takes one. Raises what the last one raised."""
        network = cast(httpcore2.AsyncNetworkBackend, httpcore2.AnyIOBackend())
        for address in self.addresses[:-1]:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await network.connect_tcp(address, port, CONNECT_TIMEOUT_S, local_address, socket_options)
        return await network.connect_tcp(self.addresses[-1], port, CONNECT_TIMEOUT_S, local_address, socket_options)


async def post(
    destination: Destination, headers: Mapping[str, str], body: str, tls: ssl.SSLContext, *, deadline: float
) -> Answer:
    """POST and read the answer, until `deadline` in the event loop's time. Raises NoAnswer.

    The status is the answer: a body that is too long or does not end in time is cut off.
    """
    url = httpcore2.URL(
        scheme=destination.scheme, host=destination.host, port=destination.port, target=destination.target
    )
    named = [("host", destination.authority), ("connection", "close"), *headers.items()]
    response: httpcore2.Response | None = None
    received = bytearray()
    try:
        async with (
            asyncio.timeout_at(deadline),
            httpcore2.AsyncConnectionPool(
                ssl_context=tls, network_backend=PinnedAddresses(destination.addresses)
            ) as connections,
            connections.stream("POST", url, headers=named, content=body.encode()) as response,
        ):
            async for chunk in cast(AsyncIterable[bytes], response.stream):
                received += chunk
                if len(received) >= BODY_BYTES:
                    break
    except httpcore2.ConnectTimeout:
        raise NoAnswer(f"No connection within {CONNECT_TIMEOUT_S:g} s.") from None
    except (OSError, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        if response is None:
            raise NoAnswer(_reason(error)) from None
    reason = response.extensions.get("reason_phrase", b"").decode("latin-1")
    text = received[:BODY_BYTES].decode(errors="replace").replace("\0", "\ufffd")
    return Answer(response.status, reason, text[:SHOWN_CHARACTERS])


def _reason(error: BaseException) -> str:
    """What the innermost cause says: the layers above it only say that connecting or reading failed."""
    if isinstance(error, TimeoutError):
        return "No answer in time (TAILOR_WEBHOOK_TIMEOUT_S)."
    while error.__cause__ is not None:
        error = error.__cause__
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".") + "."
