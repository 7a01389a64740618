"""What the daemon says, by one subscription: the rows of the list, one task closely, the downloaders."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from dlqueue.cli.top.rows import VIEWS, Row, row_of
from dlqueue.client import AsyncClient, DaemonUnreachable, RpcError
from dlqueue.protocol.errors import NotFound, Stopping

PERIOD = 0.25
"""Seconds between two refreshes at least: many events make one."""
MOST = 20_000
"""Tasks that are held; of more, the newest."""
MINUTES = 5
_PAGE = 1000
_ASKED = 50
"""Tasks that are asked for singly in a period. If many more have changed, all are listed anew."""
_LIST_SECONDS = 3.0
_LIST_AGAIN = 30.0
"""Events are hints, and of a task that is removed there is none."""
_LOOK_SECONDS = 1.0


class Feed:
    """:param changed: is called after each refresh, in the event loop."""

    def __init__(self, socket: Path, changed: Callable[[], None]) -> None:
        self._socket = socket
        self._changed = changed
        self._client: AsyncClient | None = None
        self._stale: dict[int, None] = {}
        self._list_wanted = True
        self._listed = 0.0
        self._listing = False
        self._news = True
        self._acting: Counter[int] = Counter()
        """Tasks with which something is being done: what is asked of them may not know of it yet."""
        self.rows: dict[int, Row] = {}
        self.view = "unfinished"
        self.more = False
        """There are more tasks than are held."""
        self.complete = False
        """The list has been read to its end once."""
        self.lost: str | None = "connecting"
        """Why nothing is live now."""
        self.closely: int | None = None
        """The task that ``details`` are wanted of."""
        self.details: tuple[dict[str, Any], dict[str, Any]] | None = None
        """That task, and why it is where it is."""
        self.downloaders: list[dict[str, Any]] = []
        # Two, since the graph draws a single value as a full bar.
        self.speeds: deque[int] = deque([0, 0], maxlen=round(MINUTES * 60 / _LOOK_SECONDS))
        """Bytes per second over all downloaders, one value a second."""

    async def run(self) -> None:
        """Until it is cancelled; a daemon that leaves is waited for."""
        while True:
            try:
                async with AsyncClient(self._socket) as client:
                    await self._follow(client)
            except* (DaemonUnreachable, Stopping) as lost:
                self.lost = str(lost.exceptions[0]).partition("; ")[0]
            self._client = None
            self._changed()
            await anyio.sleep(PERIOD)

    async def act(self, verb: str, ids: Iterable[int], **params: Any) -> list[str]:
        """The same with several tasks; answers the refusals."""
        refused: list[str] = []
        for number in ids:
            if self._client is None:
                return [*refused, "there is no daemon just now"]
            self._acting[number] += 1
            try:
                await self._client.call(f"tasks.{verb}", {"id": number, **params})
            except (RpcError, DaemonUnreachable) as error:
                refused.append(str(getattr(error, "message", error)))
            finally:
                self._acting[number] -= 1
                self._stale[number] = None
        return refused

    def show(self, view: str) -> None:
        """Another part of the tasks."""
        self.view = view
        self.rows = {number: row for number, row in self.rows.items() if row["status"] in VIEWS[view]}
        self._list_wanted, self._listed, self.complete = True, 0.0, False

    def look_closely(self, number: int | None) -> None:
        """Whose details are wanted; they come with the next refresh."""
        if number != self.closely:
            self.closely, self.details, self._news = number, None, True

    async def _follow(self, client: AsyncClient) -> None:
        # Subscribed before anything is listed: nothing falls between the two.
        async with client.events(topics=["task", "progress"]) as events, anyio.create_task_group() as group:
            await client.daemon.info()
            self._client, self.lost, self._list_wanted, self._listed = client, None, True, 0.0
            group.start_soon(self._refresh, client)
            group.start_soon(self._look_at_downloaders, client)
            async for event in events:
                self._take(event)

    def _take(self, event: Any) -> None:
        number, data = event.get("task_id"), event["data"]
        if event["topic"] == "missed" or number is None:
            self._list_wanted = True
        elif event["topic"] == "progress":
            if (row := self.rows.get(number)) is not None:
                row["progress"], self._news = data["progress"], True
        elif data["status"] in VIEWS[self.view]:
            if (row := self.rows.get(number)) is not None:
                row["status"], self._news = data["status"], True
            self._stale[number] = None
        else:
            self._news = self.rows.pop(number, None) is not None or number == self.closely or self._news
            if self._listing:
                self._stale[number] = None  # a page that was read before may still have it

    async def _refresh(self, client: AsyncClient) -> None:
        while True:
            age = anyio.current_time() - self._listed
            if len(self._stale) > 10 * _ASKED or age > _LIST_AGAIN:
                self._list_wanted = True
            if self._list_wanted and age > _LIST_SECONDS:
                await self._list(client)
            await self._ask(client)
            if self._news:
                self._news = False
                await self._ask_closely(client)
                self._changed()
            await anyio.sleep(PERIOD)

    async def _list(self, client: AsyncClient) -> None:
        view, found, cursor = self.view, dict[int, Row](), None
        self._list_wanted, self._listing = False, True
        self._stale.clear()  # what changes from here on is heard of
        while len(found) < MOST:
            page: Any = await client.tasks.list(
                status=list(VIEWS[view]), order="-id", limit=_PAGE, **({"cursor": cursor} if cursor else {})
            )
            if view != self.view:
                return
            found |= {task["id"]: row_of(task) for task in page["items"]}
            cursor = page["next_cursor"]
            if not self.complete:  # the newest are on the screen before the oldest are read
                self.rows |= found
                self._changed()
            if cursor is None:
                break
        self.rows, self.more, self.complete, self._news = found, cursor is not None, True, True
        self._listing = False
        self._listed = anyio.current_time()

    async def _ask(self, client: AsyncClient) -> None:
        asked = list(self._stale)[:_ASKED]
        for number in asked:
            del self._stale[number]

        async def ask(number: int) -> None:
            acting = self._acting[number]
            try:
                row = row_of(await client.tasks.get(id=number))
            except NotFound:
                self.rows.pop(number, None)
                return
            if (acting or self._acting[number]) and (former := self.rows.get(number)) is not None:
                row["priority"] = former["priority"]  # as it will be
            if row["status"] in VIEWS[self.view]:
                self.rows[number] = row
            else:
                self.rows.pop(number, None)

        async with anyio.create_task_group() as group:
            for number in asked:
                group.start_soon(ask, number)
        self._news = self._news or bool(asked)

    async def _ask_closely(self, client: AsyncClient) -> None:
        if (number := self.closely) is None:
            return
        found = None
        with suppress(NotFound):
            found = dict(await client.tasks.get(id=number)), dict(await client.tasks.why(id=number))
        if number == self.closely:
            self.details = found

    async def _look_at_downloaders(self, client: AsyncClient) -> None:
        while True:
            self.downloaders = [dict(one) for one in (await client.downloaders.list())["items"]]
            self.speeds.append(sum(one["download_speed"] for one in self.downloaders))
            self._news = True
            await anyio.sleep(_LOOK_SECONDS)
