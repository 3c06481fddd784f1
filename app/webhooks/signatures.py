"""Standard Webhooks signatures: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.

Source: the Standard Webhooks specification, https://www.standardwebhooks.com.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
SECRET_BYTES = 30  # the specification wants 24 to 64; a multiple of 3 needs no padding


def new_secret() -> str:
    """A random signing secret in its written form."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def hint(secret: str) -> str:
    """Enough of a secret to tell it from another, and useless for signing."""
    return f"{PREFIX}…{secret[-4:]}"


def headers(message_id: str, moment: datetime, body: str, signing_secrets: Sequence[str]) -> dict[str, str]:
    """The three headers. Several secrets give several signatures, of which a receiver needs to know one."""
    timestamp = str(int(moment.timestamp()))
    signed = f"{message_id}.{timestamp}.{body}".encode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_sign(secret, signed) for secret in signing_secrets),
    }


def _sign(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
