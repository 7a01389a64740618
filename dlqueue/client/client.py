"""The client that blocks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dlqueue.client import verbs
from dlqueue.client.connection import Connection
from dlqueue.protocol import envelope

if TYPE_CHECKING:
    from dlqueue.protocol.events import Event

ANSWER_SECONDS = 60.0


class Client:
    """A connection to a daemon. May be shared by threads; their calls take turns."""

    def __init__(self, socket: str | Path | None = None, *, timeout: float | None = ANSWER_SECONDS) -> None:
        """Connect to ``socket``, else to ``DLQUEUE_SOCKET``, else to the user's daemon, else to the system's.

        ``timeout`` in seconds bounds every call but `tasks.wait` and submits that wait for room.
        Raises :class:`DaemonUnreachable`.
        """
        self._connection = Connection(socket)
        self._timeout = timeout
        self._turn = threading.Lock()
        self.daemon = verbs.Daemon("daemon", self._call)
        self.tasks = verbs.Tasks("tasks", self._call)
        self.downloads = verbs.Downloads("downloads", self._call)
        self.downloaders = verbs.Downloaders("downloaders", self._call)
        self.queues = verbs.Queues("queues", self._call)
        self.schedules = verbs.Schedules("schedules", self._call)
        self.tokens = verbs.Tokens("tokens", self._call)
        self.notify = verbs.Notify("notify", self._call)

    @property
    def path(self) -> Path:
        """The socket that answered."""
        return self._connection.path

    def _call(self, method: str, /, **params: Any) -> Any:
        return self.call(method, verbs.given(params))

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Any method by its name. Raises :class:`RpcError` and :class:`DaemonUnreachable`."""
        asked = params or {}
        with self._turn:
            return self._connection.call(method, asked, verbs.patience(method, asked, self._timeout))

    def events(
        self, *, topics: list[str] | None = None, task_ids: list[int] | None = None, since: int | None = None
    ) -> Events:
        """Subscribe, on a connection of its own. Iterate over the result; an event of topic ``missed`` tells of a gap:
        then look again at what matters."""
        params = verbs.given({"topics": topics, "task_ids": task_ids, "since": since})
        return Events(Connection(self.path), params, self._timeout)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Events:
    """An endless iterator over events. Raises :class:`DaemonUnreachable` when the daemon leaves."""

    def __init__(self, connection: Connection, params: dict[str, Any], timeout: float | None) -> None:
        self._connection = connection
        self.subscription: str = connection.call(envelope.SUBSCRIBE, params, timeout)["subscription"]

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event, or ``None`` if none came within ``timeout`` seconds."""
        return self._connection.notification(timeout)  # type: ignore[return-value]  # as the contract says

    def __iter__(self) -> Iterator[Event]:
        while True:
            event = self.next()
            if event is not None:
                yield event

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
