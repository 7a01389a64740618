"""JSON-RPC 2.0, outgoing: the lines of requests, answers and notifications. Quick to import: clients start often."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlqueue.protocol.errors import RpcError

Id = str | int | None

MAX_BATCH = 1000
"""Requests in one batch, and tasks in one `tasks.submit_many`."""

SUBSCRIBE = "events.subscribe"
UNSUBSCRIBE = "events.unsubscribe"
DISCOVER = "rpc.discover"
WAITING = frozenset({"tasks.wait"})
"""Methods that take as long as their caller likes, and end when the caller leaves or the daemon stops."""


def waits(method: str, params: dict[str, Any]) -> bool:
    """Whether this call does: one of these methods, or a submit that waits for room in its queue."""
    tasks = params.get("tasks")
    asked = [params, *(tasks if isinstance(tasks, list) else [])]
    return method in WAITING or any(isinstance(one, dict) and one.get("on_full") == "wait" for one in asked)


def encode(message: Any) -> bytes:
    """One line. Raises ``TypeError`` or ``ValueError`` for what JSON cannot say, which is a defect of the sender."""
    text = _text(message)
    # A file name on disk may hold bytes that are not UTF-8 (lone surrogates here): shown as "?".
    return text.encode("utf-8", "replace") + b"\n"


def _text(message: Any) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def request(identity: Id, method: str, params: dict[str, Any]) -> bytes:
    """The line of a request. Raises ``ValueError`` for text that is not Unicode: a request is never altered."""
    return _text({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}).encode() + b"\n"


def answer(identity: Id, result: Any) -> bytes:
    return encode({"jsonrpc": "2.0", "id": identity, "result": result})


def refusal(identity: Id, error: RpcError) -> bytes:
    return encode({"jsonrpc": "2.0", "id": identity, "error": error.error()})


def notice(method: str, params: Any) -> bytes:
    """A notification: no id, no answer."""
    return encode({"jsonrpc": "2.0", "method": method, "params": params})
