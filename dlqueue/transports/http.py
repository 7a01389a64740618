"""The HTTP gateway: a server inside the daemon's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from dlqueue.address import Address
from dlqueue.protocol import envelope
from dlqueue.protocol.errors import Internal, MethodNotFound, NotFound, RpcError, StorageError
from dlqueue.protocol.routes import API
from dlqueue.service.tokens import Tokens
from dlqueue.transports import openapi, rest
from dlqueue.transports.calls import Calls
from dlqueue.transports.dispatch import Dispatcher
from dlqueue.transports.guard import Guard, Names
from dlqueue.transports.problem import HttpRefusal, problem
from dlqueue.transports.protocol import BoundedProtocol
from dlqueue.transports.rest import Endpoint
from dlqueue.transports.rpc import Rpc
from dlqueue.transports.socketfile import SocketError, make_way, socket_file
from dlqueue.transports.sse import Events

_log = logging.getLogger(__name__)

DASHBOARD = Path(__file__).parent / "dashboard"
READY_SECONDS = 2.0


class Metrics(Protocol):
    """What `/metrics` shows."""

    def render(self) -> bytes | Awaitable[bytes]:
        """In the text format of Prometheus, version 0.0.4."""
        ...


class Gateway:
    """
    :param hosts, origins: see `Names`.
    :param ready: returns when the store answers; raises otherwise.
    :param mode, group: of the socket file, if the address is one.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        tokens: Tokens,
        address: Address,
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        ready: Callable[[], Awaitable[object]],
        metrics: Metrics | None = None,
        mode: int = 0o600,
        group: str | None = None,
    ) -> None:
        self.address = address
        self._tokens = tokens
        self._hosts = tuple(hosts)
        self._origins = tuple(origins)
        self._ready = ready
        self._metrics = metrics
        self._mode = mode
        self._group = group
        self._calls = Calls(dispatcher)
        self._document: bytes | None = None
        self._server: uvicorn.Server | None = None
        self._socket: socket.socket | None = None

    @property
    def connections(self) -> int:
        """Clients connected now."""
        return 0 if self._server is None else len(self._server.server_state.connections)

    async def start(self) -> None:
        """Listen. Raises `SocketError`."""
        self._socket = self._open()
        if self.address.path is None:
            self.address = Address(self.address.host, self._socket.getsockname()[1])
        config = uvicorn.Config(
            self._app(),
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        # Not `serve`: it would take the signals away from the daemon, and look ten times a second whether to end.
        await self._server.startup(sockets=[self._socket])
        self._tokens.url = str(self.address)
        self._tokens.on_revoked = self._calls.end_token
        self._calls.knows = self._tokens.knows
        _log.info("http gateway: %s", self.address)

    def interrupt(self) -> None:
        """Begin to stop: waits are answered −32009, event streams end."""
        self._calls.dispatcher.stopping = True
        self._calls.interrupt()

    async def stop(self, grace: float = 5.0) -> None:
        """Stop listening, answer what is in flight within ``grace`` seconds, close every connection."""
        self.interrupt()
        if self._server is None:
            return
        self._tokens.url = None
        self._server.config.timeout_graceful_shutdown = max(1, round(grace))
        state = self._server.server_state
        await self._server.shutdown(sockets=[self._socket] if self._socket is not None else None)
        for connection in list(state.connections):
            connection.transport.abort()
        if self.address.path is not None:
            with contextlib.suppress(OSError):
                self.address.path.unlink()
        with contextlib.suppress(RpcError):  # only when the tokens were used last would be lost
            await self._tokens.close()

    # ------------------------------------------------------------------------------------------------------- opening

    def _open(self) -> socket.socket:
        path = self.address.path
        try:
            if path is not None:
                return socket_file(path, self._mode, make_way(path, self._group))
            found = socket.getaddrinfo(
                self.address.host, self.address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, where = found[0]
            listening = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(where)
                listening.setblocking(False)
            except BaseException:
                listening.close()
                raise
        except OSError as error:
            cure = "choose another http.listen, or end what uses it"
            raise SocketError(f"cannot listen on {self.address}: {error.strerror or error}; {cure}") from error
        return listening

    def _app(self) -> Guard:
        files = Files(DASHBOARD)
        app = Starlette(
            routes=self._routes(files),
            exception_handlers={
                RpcError: _refused,
                HttpRefusal: _refused,
                HTTPException: _refused,
                Exception: _defect,
            },
        )
        app.router.redirect_slashes = False
        public = {"/healthz", "/readyz", *files.paths}
        return Guard(app, Names(self.address, self._hosts, self._origins), self._tokens.caller, public)

    def _routes(self, files: Files) -> list[Route]:
        events = Events(self._calls)
        own: dict[str, dict[str, Endpoint]] = {
            "/rpc": {"POST": Rpc(self._calls)},
            "/events": {"GET": events},
            f"{API}/events": {"GET": events},
            "/metrics": {"GET": self._show_metrics},
            "/openapi.json": {"GET": self._show_openapi},
            # Some monitors ask for the head alone.
            "/healthz": {"GET": _healthz, "HEAD": _healthz},
            "/readyz": {"GET": self._readyz, "HEAD": self._readyz},
        }
        pages: dict[str, dict[str, Endpoint]] = {path: {"GET": files, "HEAD": files} for path in files.paths}
        return [_route(path, verbs) for path, verbs in {**own, **rest.endpoints(self._calls), **pages}.items()]

    # --------------------------------------------------------------------------------------------------- small answers

    async def _readyz(self, request: Request) -> Response:
        """Whether tasks can be taken and run."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready()
        except Exception as error:
            _log.warning("not ready: %s", error)
            raise StorageError("the store does not answer", retry_after=5) from error
        return JSONResponse({"status": "ready"})

    async def _show_metrics(self, request: Request) -> Response:
        if self._metrics is None:
            raise NotFound("there are no metrics", kind="path")
        figures = self._metrics.render()
        if not isinstance(figures, bytes):
            figures = await figures
        return Response(figures, media_type="text/plain; version=0.0.4")

    async def _show_openapi(self, request: Request) -> Response:
        if self._document is None:
            self._document = envelope.encode(openapi.document())
        return Response(self._document, media_type="application/json")


class Files:
    """The dashboard's files, as they were when this was made.

    :ivar paths: where they are found.
    """

    def __init__(self, folder: Path) -> None:
        self._static = StaticFiles(directory=folder)
        found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
        self.paths = ("/", *(f"/{path}" for path in found))

    async def __call__(self, request: Request) -> Response:
        return await self._static.get_response(request.scope["path"].lstrip("/") or "index.html", request.scope)


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _route(path: str, verbs: dict[str, Endpoint]) -> Route:
    """One path with all its verbs; any other verb is 405 and says which there are."""

    async def answer(request: Request) -> Response:
        endpoint = verbs.get(request.method)
        if endpoint is None:
            told = f"{path} knows {', '.join(verbs)}, not {request.method[:20]}"
            raise HttpRefusal(MethodNotFound(told, kind="verb"), 405, {"Allow": ", ".join(verbs)})
        return await endpoint(request)

    route = Route(path, answer)
    route.methods = None
    return route


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, RpcError):
        return problem(error)
    if isinstance(error, HttpRefusal):
        return problem(error.error, error.status, error.headers)
    assert isinstance(error, HTTPException)
    return problem(NotFound(f"there is nothing at {request.scope['path'][:200]}", kind="path"))


async def _defect(request: Request, error: Exception) -> Response:
    """The traceback is in the log: the server writes it."""
    return problem(Internal("this failed because of a defect in dlqueue; the daemon's log has the details"))
