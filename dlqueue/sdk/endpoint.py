"""The address of a program beside us, as a configuration gives it."""

from __future__ import annotations

from urllib.parse import urlsplit


def check_endpoint(url: str, like: str, credentials: str) -> None:
    """For the ``__post_init__`` of a plug-in's configuration.

    :param like: an example of a right one.
    :param credentials: where user name and password belong.
    :raises ValueError: it is no http(s) address, or holds more than one.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable or not url.isprintable() or " " in url:
        raise ValueError(f"url must be like {like}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"url must not hold a user name or password; {credentials}")
    if parts.query or parts.fragment:
        raise ValueError("url must not have a query or fragment")
