"""Who is to be told of a task, and `notify.*`, as they cross the socket."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

from dlqueue.protocol.errors import InvalidParams

Told = Literal["delivered", "completed", "error", "canceled"]
MAX_RECEIVERS = 16
MAX_URL = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Notify:
    """``on`` None: when the result is there, or never will be. ``webhook`` is a URL, ``hook`` the name of one that is
    configured, ``to`` names of configured targets (or URLs of apprise, from admins)."""

    on: list[Told] | None = None
    webhook: str | None = None
    hook: str | None = None
    to: list[str] | None = None

    def __post_init__(self) -> None:
        if self.webhook is None and self.hook is None and not self.to:
            raise InvalidParams("webhook", "tells nobody: give webhook, hook or to")
        if self.on is not None and not self.on:
            raise InvalidParams("on", "must name at least one of delivered, completed, error, canceled")
        if len(self.to or ()) > MAX_RECEIVERS:
            raise InvalidParams("to", f"at most {MAX_RECEIVERS} receivers")
        for field, value in (("webhook", self.webhook), ("hook", self.hook), *(("to", one) for one in self.to or ())):
            if value is not None and not 0 < len(value) <= MAX_URL:
                raise InvalidParams(field, f"must have between 1 and {MAX_URL} characters")

    def parts(self) -> dict[str, Any]:
        """What is given."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TestNotify:
    """``name`` of a target or hook, or the URL of a webhook."""

    __test__ = False
    name: str

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_URL:
            raise InvalidParams("name", f"must have between 1 and {MAX_URL} characters")


class NotifyTest(TypedDict):
    """``message`` says why not, if not ``ok``."""

    ok: bool
    target: str
    message: str


class Notice(TypedDict):
    """What somebody is still to be told. ``id`` is the ``webhook-id``; ``error`` what came of the last attempt."""

    id: str
    event: Told
    target: str
    at: str
    attempts: int
    next_at: str
    error: str | None
