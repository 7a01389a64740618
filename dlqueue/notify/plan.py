"""What is configured: who may be told, and how. One frozen value; a reload puts another in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.routing import Rule
from dlqueue.queue import InvalidTask


@dataclass(frozen=True, slots=True)
class Hook:
    """``[hooks.NAME]``: a command, as a list of arguments."""

    command: tuple[str, ...]
    timeout: float = 60.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Who is to be told of one task. ``on`` empty: when the result is there, or never will be."""

    on: frozenset[str] = frozenset()
    webhook: str | None = None
    hook: str | None = None
    to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotifyRule:
    """``[[notify.rules]]``: the tasks that match are told of to these."""

    match: Rule
    wish: Wish


@dataclass(frozen=True, slots=True)
class Plan:
    """``[notify]`` and ``[hooks]``."""

    secret: bytes | None = field(default=None, repr=False)
    """Webhooks are signed with it; None = they are not signed."""
    allow_private: bool = False
    targets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """apprise URLs by name."""
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    rules: tuple[NotifyRule, ...] = ()


class WebhookPolicy(Policy):
    """Where webhooks may go: asked at the submit, and again about each address that is connected to."""

    __slots__ = ()

    def __init__(self, allow_private: bool) -> None:
        super().__init__(frozenset({"http", "https"}), allow_private, ())

    def check_scheme(self, url: str, field: str) -> None:
        """:raises PolicyRefused: it is none of the web."""
        scheme, colon, _ = url.partition(":")
        if colon and scheme.lower() not in self.schemes:
            raise PolicyRefused("a webhook begins with https:// or http://", field, "scheme")

    def check_address(self, address: str, field: str = "url") -> None:
        try:
            Policy.check_address(self, address, field)
        except PolicyRefused:
            message = f"address {address} is not public (notify.allow_private is false)"
            raise PolicyRefused(message, field, "address") from None

    def check_webhook(self, url: str, field: str) -> None:
        """:raises InvalidTask: it is no URL; `PolicyRefused`: nothing is sent there."""
        self.check_scheme(url, field)
        if self.check_url(url, field).fragment:
            raise InvalidTask("a webhook has no #fragment", field)
