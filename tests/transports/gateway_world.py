"""A gateway in front of a real house, on a thread of its own, and a client that sends whatever a test likes."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dlqueue.address import parse_address
from dlqueue.protocol.caller import ROLES, Caller, Role
from dlqueue.protocol.tokens import CreateToken
from dlqueue.queue import Filter
from dlqueue.transports.dispatch import Dispatcher
from dlqueue.transports.http import Gateway
from tests.downloads.house import House, puppet_config

T = TypeVar("T")
PATIENCE = 20.0
ADMIN = Caller(uid=os.geteuid(), gid=os.getegid(), name="ada")
"""May do everything, as far as the role of the token lets it."""
USER = Caller(uid=4001, gid=4001, name="me")
JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.data)

    @property
    def kind(self) -> str:
        """Of a problem document, which it must be."""
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.body["status"] == self.status
        assert {"type", "title", "detail", "code", "kind"} <= set(self.body)
        kind: str = self.body["kind"]
        return kind


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self.path))


class World:
    """``tokens`` has one for each role, of the daemon's own user."""

    def __init__(self, folder: Path, listen: str = "127.0.0.1:0", **options: Any) -> None:
        self.folder = folder
        self.tokens: dict[str, str] = {}
        self.house: House
        self.gateway: Gateway
        self._listen = listen
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._ended: asyncio.Event
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> World:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except BaseException as error:
            self._failure = error
            self._ready.set()

    async def _main(self) -> None:
        self._ended = asyncio.Event()
        self.folder.mkdir(exist_ok=True)
        self.house = House(self.folder, {"box": puppet_config("box")})
        await self.house.start()
        try:
            self.gateway = Gateway(
                Dispatcher(self.house.service),
                self.house.tokens,
                parse_address(self._listen),
                ready=lambda: self.house.queue.find(Filter(), limit=1),
                **self._options,
            )
            for role in ROLES:
                self.tokens[role] = await self.token(role, role)
            await self.gateway.start()
            self._ready.set()
            await self._ended.wait()
            await self.gateway.stop(2.0)
        finally:
            self.house.puppet().free()
            await self.house.stop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def token(self, name: str, role: Role, caller: Caller = ADMIN) -> str:
        return (await self.house.tokens.create(caller, CreateToken(name=name, role=role)))["token"]

    # -- asking -------------------------------------------------------------------------------------------------------

    def connection(self) -> http.client.HTTPConnection:
        if self.gateway.address.path is not None:
            return UnixConnection(self.gateway.address.path)
        return http.client.HTTPConnection("127.0.0.1", self.gateway.address.port, timeout=PATIENCE)

    def raw(self) -> socket.socket:
        """A bare connection."""
        connection = self.connection()
        connection.connect()
        return connection.sock

    def ask(
        self,
        verb: str,
        path: str,
        token: str | None = "admin",
        *,
        json_body: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """:param token: of which role, or the token itself; ``None`` = none."""
        sent = {} if token is None else {"Authorization": f"Bearer {self.tokens.get(token, token)}"}
        if json_body is not None:
            data = json.dumps(json_body).encode()
        if data is not None:
            sent["Content-Type"] = JSON
        connection = self.connection()
        try:
            connection.request(verb, path, data, sent | dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def api(self, verb: str, path: str, token: str | None = "admin", **more: Any) -> Answer:
        return self.ask(verb, f"/api/v1{path}", token, **more)

    def rpc(self, method: str, token: str | None = "admin", **params: Any) -> Answer:
        envelope = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self.ask("POST", "/rpc", token, json_body=envelope)

    def events(self, query: str = "", token: str = "admin", headers: Mapping[str, str] | None = None) -> Stream:
        return Stream(self, query, token, headers or {})


class Stream:
    """Server-sent events, as they come."""

    def __init__(self, world: World, query: str, token: str, headers: Mapping[str, str]) -> None:
        self._connection = world.connection()
        sent = {"Authorization": f"Bearer {world.tokens.get(token, token)}", **headers}
        self._connection.request("GET", f"/events{query}", headers=sent)
        self.response = self._connection.getresponse()
        assert self.response.status == 200, self.response.read()
        assert self.line() == ": dlqueue"  # from here on nothing is missed
        assert self.line() == ""

    def line(self) -> str | None:
        """The next line; ``None`` = the stream has ended."""
        line = self.response.readline()
        return line.decode().rstrip("\n") if line else None

    def next(self) -> dict[str, Any] | None:
        """The next event as its fields, ``data`` decoded; ``None`` = the stream has ended."""
        fields: dict[str, Any] = {}
        end = time.monotonic() + PATIENCE
        while (line := self.line()) is not None:
            assert time.monotonic() < end, "only comments came"
            if line == "" and fields:
                return fields | {"data": json.loads(fields["data"])}
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
        return None

    def close(self) -> None:
        self.response.close()
        self._connection.close()


@contextmanager
def world(folder: Path, listen: str = "127.0.0.1:0", **options: Any) -> Iterator[World]:
    made = World(folder, listen, **options).start()
    try:
        yield made
    finally:
        made.stop()
