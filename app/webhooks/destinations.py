"""Where a webhook goes: its URL checked, its host resolved once, and only addresses that may be spoken to.

Whoever registers a URL chooses what our network talks to. So the addresses that were checked here are the ones to
connect to: resolving the name again would let its owner answer differently the second time (DNS rebinding). The
libraries for this on PyPI either connect before they check or rely on `is_global` alone, which in Python 3.11 takes
multicast, 6to4 and site-local addresses for public ones.
"""

import re
import socket
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from anyio import fail_after, to_thread
from pydantic_core import Url, ValidationError

from app.errors import AppError

MAX_URL_CHARACTERS = 2048
RESOLVE_TIMEOUT_S = 5.0
PRIVATE_SETTING = "TAILOR_WEBHOOK_PRIVATE_ADDRESSES"
DEFAULT_PORTS = {"https": 443, "http": 80}

NAT64 = ip_network("64:ff9b::/96")  # carries an IPv4 address in its last four bytes
IPV6_UNICAST = ip_network("2000::/3")  # all that IANA has given out; mapped, link- and site-local ones lie outside
NEVER_PUBLIC = tuple(
    ip_network(block)
    for block in (
        "192.0.0.0/24",  # protocol assignments; older Pythons take some for public
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's host agent, the one metadata service with an address that looks public
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4: an IPv4 address of any kind inside
        "3fff::/20",  # documentation
    )
)


@dataclass(frozen=True)
class Destination:
    """A URL taken apart, and the addresses its host stands for. `host` has no brackets; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str
    addresses: tuple[str, ...] = ()

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, *, private_allowed: bool) -> Destination:
    """The URL taken apart as a browser would (WHATWG). Raises AppError 400 for one that no webhook may have."""
    if len(url) > MAX_URL_CHARACTERS:
        raise _invalid(f"url has {len(url):,} characters; give at most {MAX_URL_CHARACTERS:,}")
    if re.search(r"[\s\\\x00-\x1f\x7f]", url):
        raise _invalid("url has white space, a control character or a backslash in it; percent-encode it")
    try:
        parts = Url(url)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].partition(", ")[2]
        raise _invalid(f"url is no URL ({reason}); give one like https://example.com/webhooks") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.host:
        raise _invalid(f"url begins with {parts.scheme}:; give one that begins with https://")
    if parts.scheme == "http" and not private_allowed:
        message = "url begins with http://; give one that begins with https://"
        raise _invalid(f"{message} (http:// is for private networks, where {PRIVATE_SETTING}=on)")
    if parts.username or parts.password:
        raise _invalid("url has a user name or a password in it; leave it out, the signature says who calls")
    if parts.fragment is not None:
        raise _invalid("url has a fragment (#), which is never sent; leave it out")
    if not parts.port:
        raise _invalid("url has port 0; give a port from 1 to 65,535")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query is not None else "")
    return Destination(parts.scheme, parts.host.strip("[]"), parts.port, target)


async def resolve(url: str, *, private_allowed: bool) -> Destination:
    """The URL with the addresses of its host. Raises AppError 400 for a URL or an address that is not allowed.

    One private address among several is enough to refuse: no public service has one.
    """
    parsed = parse(url, private_allowed=private_allowed)
    look_up = partial(socket.getaddrinfo, parsed.host, parsed.port, type=socket.SOCK_STREAM)
    try:
        with fail_after(RESOLVE_TIMEOUT_S):
            found = await to_thread.run_sync(look_up, abandon_on_cancel=True)
    except TimeoutError:
        raise _unresolved(parsed.host, f"no answer within {RESOLVE_TIMEOUT_S:g} s") from None
    except (OSError, UnicodeError) as error:
        raise _unresolved(parsed.host, getattr(error, "strerror", None) or str(error)) from None
    addresses = tuple(dict.fromkeys(str(item[4][0]) for item in found))
    if not private_allowed and not all(is_public(address) for address in addresses):
        message = (
            f"url leads to {parsed.host!r}, which is not a public address; give a host on the internet, or set "
            f"{PRIVATE_SETTING}=on if this server may call its own network."
        )
        raise AppError(400, "private_address", message, "url")
    return Destination(parsed.scheme, parsed.host, parsed.port, parsed.target, addresses)


def is_public(address: str) -> bool:
    """Whether an address belongs to the internet, and to nothing private, local, multicast, mapped or reserved."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip in NAT64:
            return is_public(str(IPv4Address(ip.packed[-4:])))
        if ip not in IPV6_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in block for block in NEVER_PUBLIC)


def _invalid(message: str) -> AppError:
    return AppError(400, "invalid_url", f"{message}.", "url")


def _unresolved(host: str, reason: str) -> AppError:
    return AppError(400, "host_not_found", f"url names the host {host!r}, which was not found: {reason}.", "url")
