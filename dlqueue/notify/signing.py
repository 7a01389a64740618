"""How a receiver knows that a webhook is ours: Standard Webhooks (standardwebhooks.com) 1.0, scheme v1."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

PREFIX = "whsec_"


def read_secret(text: str) -> bytes:
    """The key in ``whsec_…``. :raises ValueError: it is none."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(PREFIX) or not key:
        raise ValueError(f"must be {PREFIX} and then base64 of 24 to 64 random bytes")
    return key


def signature(secret: bytes, key: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``."""
    signed = f"{key}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
