"""The errors that cross the socket: one class per code of the contract."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, ClassVar, Self


class Code(IntEnum):
    """JSON-RPC error codes; those above -32100 are dlqueue's own."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    NO_METHOD = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    UNAUTHENTICATED = -32001
    FORBIDDEN = -32002
    NOT_FOUND = -32003
    CONFLICT = -32004
    LIMIT = -32005
    POLICY = -32006
    STORAGE = -32007
    DOWNLOADER = -32008
    STOPPING = -32009
    TIMED_OUT = -32010


class RpcError(Exception):
    """An answer that says no: ``code``, a message for people, and ``kind`` (with details) for programs.

    ``retry_after`` is in seconds.
    """

    default_code: ClassVar[int] = Code.INTERNAL
    default_kind: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        kind: str | None = None,
        field: str | None = None,
        task_id: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = int(self.default_code if code is None else code)
        self.kind = self.default_kind if kind is None else kind
        self.field = field
        self.task_id = task_id
        self.retry_after = retry_after

    def within(self, place: str) -> Self:
        """The same, said of what is at this place of the params."""
        begins_with_field = self.field is not None and self.message.startswith(f"{self.field}:")
        self.message = f"{place}{'.' if begins_with_field else ': '}{self.message}"
        self.field = place if self.field is None else f"{place}.{self.field}"
        self.args = (self.message,)
        return self

    @property
    def data(self) -> dict[str, Any]:
        """``error.data``: the kind, and what else is known."""
        details = {"field": self.field, "task_id": self.task_id, "retry_after": self.retry_after}
        return {"kind": self.kind, **{key: value for key, value in details.items() if value is not None}}

    def error(self) -> dict[str, Any]:
        """The ``error`` member of an answer."""
        return {"code": self.code, "message": self.message, "data": self.data}


class ParseError(RpcError):
    """The line is not JSON as this protocol accepts it."""

    default_code = Code.PARSE
    default_kind = "parse"


class InvalidRequest(RpcError):
    """JSON, but not a JSON-RPC 2.0 request."""

    default_code = Code.INVALID_REQUEST
    default_kind = "invalid_request"


class MethodNotFound(RpcError):
    default_code = Code.NO_METHOD
    default_kind = "no_method"


class InvalidParams(RpcError):
    """A param that can never be right; ``field`` names it, and so does the message."""

    default_code = Code.INVALID_PARAMS
    default_kind = "invalid_params"

    def __init__(self, field: str | None, message: str, *, kind: str | None = None) -> None:
        named = f"{field}: {message}" if field is not None else message
        super().__init__(named, kind=kind, field=field)


class Internal(RpcError):
    """A defect of ours, never the answer to bad input."""


class Unauthenticated(RpcError):
    default_code = Code.UNAUTHENTICATED
    default_kind = "unauthenticated"


class Forbidden(RpcError):
    default_code = Code.FORBIDDEN
    default_kind = "forbidden"


class NotFound(RpcError):
    """No such thing, or not the caller's to see."""

    default_code = Code.NOT_FOUND
    default_kind = "not_found"


class Conflict(RpcError):
    """An illegal transition, or a name or key that is taken."""

    default_code = Code.CONFLICT
    default_kind = "conflict"


class LimitExceeded(RpcError):
    """Size, capacity, quota or rate."""

    default_code = Code.LIMIT
    default_kind = "limit"


class PolicyRefused(RpcError):
    """Scheme, address or destination that is not allowed."""

    default_code = Code.POLICY
    default_kind = "policy"


class StorageError(RpcError):
    default_code = Code.STORAGE
    default_kind = "storage"


class DownloaderFailed(RpcError):
    default_code = Code.DOWNLOADER
    default_kind = "downloader"


class Stopping(RpcError):
    default_code = Code.STOPPING
    default_kind = "stopping"


class TimedOut(RpcError):
    default_code = Code.TIMED_OUT
    default_kind = "timed_out"


def from_error(error: dict[str, Any]) -> RpcError:
    """The exception for the ``error`` member of an answer; unknown codes become a plain :class:`RpcError`."""
    details = error.get("data")
    if not isinstance(details, dict):
        details = {}
    code = error.get("code")
    code = code if isinstance(code, int) else int(Code.INTERNAL)
    raised = _BY_CODE.get(code, RpcError)
    made = raised.__new__(raised)
    RpcError.__init__(
        made,
        str(error.get("message", "")),
        code=code,
        kind=details.get("kind"),
        field=details.get("field"),
        task_id=details.get("task_id"),
        retry_after=details.get("retry_after"),
    )
    return made


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The valid name that ``name`` was probably meant to be, or ``None`` if nothing is close."""
    import difflib  # costs a millisecond that only mistakes should pay

    found = difflib.get_close_matches(name[:100], list(candidates), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``; did you mean "…"?``, or nothing: the end of a message about an unknown name."""
    found = nearest(name, candidates)
    return f'; did you mean "{found}"?' if found else ""


_BY_CODE: dict[int, type[RpcError]] = {int(raised.default_code): raised for raised in RpcError.__subclasses__()}
