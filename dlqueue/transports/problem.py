"""Refusals over HTTP: problem documents (RFC 9457), and which status stands for which code."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from dlqueue.protocol import envelope
from dlqueue.protocol.errors import Code, RpcError

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[int, int] = {
    Code.PARSE: 400,
    Code.INVALID_REQUEST: 400,
    Code.NO_METHOD: 404,
    Code.INVALID_PARAMS: 400,
    Code.INTERNAL: 500,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.CONFLICT: 409,
    Code.LIMIT: 429,
    Code.POLICY: 422,
    Code.STORAGE: 503,
    Code.DOWNLOADER: 502,
    Code.STOPPING: 503,
    Code.TIMED_OUT: 504,
}
TOO_LARGE = frozenset({"message_size", "batch_size", "size"})
"""Kinds of −32005 that are about the request itself: 413 instead of 429."""


class HttpRefusal(Exception):
    """A refusal that only HTTP knows: ``status`` is not the one of the error's code."""

    def __init__(self, error: RpcError, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status
        self.headers = headers


def status_of(error: RpcError) -> int:
    """The HTTP status of a refusal."""
    if error.code == Code.LIMIT and error.kind in TOO_LARGE:
        return 413
    return STATUS.get(error.code, 500)


def body_of(error: RpcError, status: int) -> dict[str, Any]:
    """The members of the problem document."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "code": error.code,
        **error.data,
    }


def problem(error: RpcError, status: int | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that is refused."""
    status = status_of(error) if status is None else status
    more = dict(headers or {})
    if error.retry_after is not None:
        more["Retry-After"] = str(max(1, round(error.retry_after)))
    if status == HTTPStatus.UNAUTHORIZED:
        more["WWW-Authenticate"] = 'Bearer realm="dlqueue"'
    return Response(envelope.encode(body_of(error, status)), status, more, MEDIA_TYPE)
