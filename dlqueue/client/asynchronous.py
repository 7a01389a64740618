"""The client that is awaited. anyio is loaded when the first one connects, so that plain programs do not pay for it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dlqueue.client import verbs
from dlqueue.client.client import ANSWER_SECONDS
from dlqueue.client.connection import DaemonUnreachable, candidates, unreachable
from dlqueue.protocol import envelope
from dlqueue.protocol.errors import from_error
from dlqueue.protocol.framing import LineSplitter

if TYPE_CHECKING:
    import anyio
    from anyio.abc import SocketStream

    from dlqueue.protocol.events import Event

_CHUNK = 256 * 1024
_MAX_WAITING = 1000
_NO_LIMIT = 1 << 62


class _Pending:
    """A call that waits for its answer."""

    def __init__(self, done: anyio.Event) -> None:
        self.done = done
        self.message: dict[str, Any] | None = None


class _Inbox:
    """Events of one subscription that wait for their reader; bounded: what does not fit is told as ``missed``."""

    def __init__(self, arrived: anyio.Event) -> None:
        self.arrived = arrived
        self.events: deque[dict[str, Any]] = deque()
        self.missed = 0

    def put(self, event: dict[str, Any]) -> None:
        if self.missed or len(self.events) >= _MAX_WAITING:
            self.missed += 1
        else:
            self.events.append(event)
        self.arrived.set()


class AsyncClient:
    """``async with AsyncClient() as client: await client.tasks.get(id=7)``. Any number of calls at once."""

    def __init__(self, socket: str | Path | None = None, *, timeout: float | None = ANSWER_SECONDS) -> None:
        """``socket`` and ``timeout`` as for `Client`; the connection is made on entering the block."""
        self._named = socket
        self._timeout = timeout
        self._next_id = 0
        self._pending: dict[int, _Pending] = {}
        self._inboxes: dict[str, _Inbox] = {}
        self._gone: Exception | None = None
        self.path: Path | None = None
        self.daemon = verbs.AsyncDaemon("daemon", self._call)
        self.tasks = verbs.AsyncTasks("tasks", self._call)
        self.downloads = verbs.AsyncDownloads("downloads", self._call)
        self.downloaders = verbs.AsyncDownloaders("downloaders", self._call)
        self.queues = verbs.AsyncQueues("queues", self._call)
        self.schedules = verbs.AsyncSchedules("schedules", self._call)
        self.tokens = verbs.AsyncTokens("tokens", self._call)
        self.notify = verbs.AsyncNotify("notify", self._call)

    async def __aenter__(self) -> Self:
        """Connect. Raises :class:`DaemonUnreachable`."""
        import anyio

        self._stream = await self._connect()
        self._sending = anyio.Lock()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._stream)
            self._group = await stack.enter_async_context(anyio.create_task_group())
            self._group.start_soon(self._receive)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._group.cancel_scope.cancel()
        # The group does not see the caller's exception: it would come out wrapped in a group of one.
        await self._stack.__aexit__(None, None, None)

    async def _connect(self) -> SocketStream:
        import anyio

        tried: list[tuple[Path, OSError]] = []
        for path in candidates(self._named):
            try:
                stream = await anyio.connect_unix(str(path))
            except OSError as error:
                tried.append((path, error))
                continue
            self.path = path
            return stream
        raise unreachable(tried)

    async def _receive(self) -> None:
        import anyio

        splitter = LineSplitter(limit=_NO_LIMIT)
        try:
            while True:
                lines, _ = splitter.feed(await self._stream.receive(_CHUNK))
                for line in lines:
                    self._take(json.loads(line))
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            self._end(DaemonUnreachable(f"the daemon on {self.path} ended the connection; is it stopping?"))

    def _take(self, message: dict[str, Any]) -> None:
        if "method" in message:
            event = message["params"]
            # An event may come before its subscriber has seen the answer that names the subscription.
            self._inbox(event["subscription"]).put(event)
        elif message.get("id") is None and "error" in message:
            self._end(from_error(message["error"]))  # about the connection, not about one call
        elif waiting := self._pending.pop(message["id"], None):
            waiting.message = message
            waiting.done.set()

    def _inbox(self, subscription: str) -> _Inbox:
        import anyio

        return self._inboxes.setdefault(subscription, _Inbox(anyio.Event()))

    def _end(self, error: Exception) -> None:
        if self._gone is None:
            self._gone = error
        for waiting in self._pending.values():
            waiting.done.set()
        for inbox in self._inboxes.values():
            inbox.arrived.set()

    def _reason(self) -> Exception:
        return self._gone or DaemonUnreachable(f"the connection to {self.path} is closed")

    async def _call(self, method: str, /, **params: Any) -> Any:
        return await self.call(method, verbs.given(params))

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Any method by its name. Raises :class:`RpcError` and :class:`DaemonUnreachable`."""
        import anyio

        if self._gone is not None:
            raise self._gone
        self._next_id += 1
        identity = self._next_id
        waiting = self._pending[identity] = _Pending(anyio.Event())
        limit = verbs.patience(method, params or {}, self._timeout)
        try:
            with anyio.fail_after(limit):
                async with self._sending:
                    await self._stream.send(envelope.request(identity, method, params or {}))
                await waiting.done.wait()
        except TimeoutError:
            raise DaemonUnreachable(f"the daemon on {self.path} did not answer within {limit:g} s") from None
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise self._reason() from None
        finally:
            self._pending.pop(identity, None)
        if waiting.message is None:
            raise self._reason()
        if "error" in waiting.message:
            raise from_error(waiting.message["error"])
        return waiting.message["result"]

    @asynccontextmanager
    async def events(
        self, *, topics: list[str] | None = None, task_ids: list[int] | None = None, since: int | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Subscribe: ``async with client.events() as events: async for event in events: …``. An event of topic
        ``missed`` tells of a gap: then look again at what matters."""
        params = verbs.given({"topics": topics, "task_ids": task_ids, "since": since})
        subscription: str = (await self.call(envelope.SUBSCRIBE, params))["subscription"]
        try:
            yield self._events(subscription)
        finally:
            if self._gone is None:
                await self.call(envelope.UNSUBSCRIBE, {"subscription": subscription})
            self._inboxes.pop(subscription, None)

    async def _events(self, subscription: str) -> AsyncIterator[Any]:
        import anyio

        inbox = self._inbox(subscription)
        while True:
            while inbox.events:
                yield inbox.events.popleft()
            if inbox.missed:
                missed, inbox.missed = inbox.missed, 0
                yield {"subscription": subscription, "sequence": None, "topic": "missed", "data": {"count": missed}}
            if self._gone is not None:
                raise self._gone
            inbox.arrived = anyio.Event()
            await inbox.arrived.wait()
