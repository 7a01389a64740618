"""The full-screen view: what is on it, and what its keys do."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Sparkline, Static

from dlqueue.cli.table import cut, plain
from dlqueue.cli.taskrow import name_of, state_of
from dlqueue.cli.top.dialogs import Cancel, Help
from dlqueue.cli.top.feed import MINUTES, MOST, Feed
from dlqueue.cli.top.rows import ORDERS, VIEWS, Row, chosen, summary
from dlqueue.cli.top.tasklist import TaskList
from dlqueue.units import format_size


class Top(App[None]):
    """:param socket: of the daemon."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "dlqueue"
    CSS = """
    Screen { layers: base; }
    #verdict, #downloaders, #detail { height: auto; padding: 0 1; }
    #verdict { text-style: bold; }
    #downloaders { max-height: 3; color: $text-muted; }
    #speed { height: 2; margin: 0 1; }
    #tasks { height: 1fr; scrollbar-size-vertical: 1; }
    #detail { height: 6; border-top: solid $primary; }
    #filter { display: none; height: 3; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "do('pause')", "Pause"),
        Binding("r", "do('resume')", "Resume", tooltip="Resume what is paused"),
        Binding("c", "cancel", "Cancel", tooltip="Cancel, with or without the data; asks first"),
        Binding("t", "do('retry')", "Retry", tooltip="Try again what failed or was canceled"),
        Binding("plus,equals_sign", "priority(1)", "Prio", key_display="+/-", tooltip="Higher priority"),
        Binding("minus", "priority(-1)", "Lower priority", show=False),
        Binding("s", "sort", "Sort", tooltip="Sort by the next column"),
        Binding("S", "backwards", "Sort the other way round", show=False),
        Binding("slash", "filter", "Filter", key_display="/", tooltip="Filter by words"),
        Binding("escape", "clear", "No filter, nothing marked", show=False),
        Binding("v", "view", "View", tooltip="The next view: unfinished, failed, finished, all"),
        Binding("i,enter", "details", "Show or hide the details", show=False),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="These keys"),
        Binding("q,ctrl+c", "quit", "Quit", key_display="q"),
    ]

    def __init__(self, socket: Path) -> None:
        super().__init__()
        self.feed = Feed(socket, self._refresh)
        self._order, self._backwards = "activity", False
        self._words: list[str] = []
        self._wishes: dict[int, int] = {}
        """Priorities that have been asked for and not been answered yet."""

    def compose(self) -> ComposeResult:
        yield Static(id="verdict", markup=False)
        yield Sparkline(list(self.feed.speeds), id="speed")
        yield Static(id="downloaders", markup=False)
        yield TaskList()
        yield Static(id="detail", markup=False)
        yield Input(id="filter", placeholder="words of a name, URL, state, tag, owner, downloader; Enter keeps it")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        # Taken once: while a dialog is open, a query would look for them in it.
        self._tasks = self.query_one(TaskList)
        self._top, self._strip, self._detail = (
            self.query_one(f"#{name}", Static) for name in ("verdict", "downloaders", "detail")
        )
        self._speed = self.query_one(Sparkline)
        self._filter = self.query_one(Input)
        self._tasks.focus()
        self.run_worker(self.feed.run(), name="feed")

    # -- drawing ------------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        if not self.is_running:
            return
        feed = self.feed
        rows = chosen(feed.rows.values(), self._words, self._order, self._backwards)
        self._tasks.show(rows, self._order, self._backwards, feed.lost is None)
        self._top.update(self._verdict(rows))
        self._speed.data = list(feed.speeds)
        self._strip.update(_strip(feed.downloaders, self.size.width - 2))
        self._draw_details()

    def _verdict(self, rows: list[Row]) -> str:
        feed = self.feed
        if feed.lost is not None:
            return cut(plain(f"not live: {feed.lost}; waiting for the daemon"), self.size.width - 2)
        down, up = feed.speeds[-1], sum(one["upload_speed"] for one in feed.downloaders)
        peak = max(feed.speeds)
        parts = [f"↓ {format_size(down)}/s", *([f"↑ {format_size(up)}/s"] if up else [])]
        parts += [f"peak {format_size(peak)}/s in {MINUTES} min"] if peak else []
        parts.append(f"{self.feed.view}: {summary(rows)}" + ("" if feed.complete else " …"))
        if self._words:
            parts.append(f"filter: {' '.join(self._words)} ({len(rows)} of {len(feed.rows)})")
        if self._tasks.marked:
            parts.append(f"{len(self._tasks.marked)} marked")
        if feed.more:
            parts.append(f"the newest {MOST} only")
        return cut(plain("  ".join(parts)), self.size.width - 2)

    def _draw_details(self) -> None:
        shown = self._detail
        row = self._tasks.selected
        if not shown.display:
            return
        if row is None:
            empty = "v: others; add one: dlqueue add URL" if self.feed.complete and not self._words else ""
            shown.update(empty)
            return
        width = self.size.width - 2
        known = self.feed.details if self.feed.closely == row["id"] else None
        shown.update("\n".join(cut(plain(line), width) for line in _details(row, known, width)))

    def on_task_list_selected(self) -> None:
        row = self._tasks.selected
        self.feed.look_closely(row["id"] if row is not None and self._detail.display else None)
        self._draw_details()

    def on_resize(self) -> None:
        self.call_after_refresh(self._refresh)

    # -- looking ------------------------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        names = list(ORDERS)
        self._order, self._backwards = names[(names.index(self._order) + 1) % len(names)], False
        self._refresh()

    def action_backwards(self) -> None:
        self._backwards = not self._backwards
        self._refresh()

    def action_view(self) -> None:
        names = list(VIEWS)
        self.feed.show(names[(names.index(self.feed.view) + 1) % len(names)])
        self._refresh()

    def action_details(self) -> None:
        self._detail.display = not self._detail.display
        self.on_task_list_selected()

    def action_filter(self) -> None:
        self._filter.display = True
        self._filter.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._words = event.value.lower().split()
        self._refresh()

    def on_input_submitted(self) -> None:
        self._leave_filter()

    def action_clear(self) -> None:
        self._tasks.marked.clear()
        self._filter.value = ""
        self._leave_filter()

    def _leave_filter(self) -> None:
        self._filter.display = False
        self._tasks.focus()
        self._refresh()

    def action_help(self) -> None:
        keys = [("↑ ↓ …", "Move; also k, j, page up and down, home, end")]
        keys += [
            ("/".join(_KEYS.get(key, key) for key in binding.key.split(",")), binding.tooltip or binding.description)
            for binding in [*self._tasks.BINDINGS, *self.BINDINGS]
            if isinstance(binding, Binding) and not binding.action.startswith(("move", "page", "edge"))
        ]
        self.push_screen(Help(keys))

    # -- steering -----------------------------------------------------------------------------------------------------

    def _meant(self) -> list[int]:
        """The marked tasks, else the one under the cursor."""
        row = self._tasks.selected
        return sorted(self._tasks.marked) or ([row["id"]] if row is not None else [])

    def action_do(self, verb: str) -> None:
        self._steer(verb, self._meant())

    def action_priority(self, by: int) -> None:
        for number in self._meant():
            if number in self._wishes:
                self._wishes[number] += by  # pressed twice, it goes two up, however long the answers take
            elif (row := self.feed.rows.get(number)) is not None:
                self._wishes[number] = row["priority"] + by
                self._do(self._prioritise(number))

    async def _prioritise(self, number: int) -> list[str]:
        """One request after the other, until it is as wished: two at once may be carried out in any order."""
        told, refused = None, list[str]()
        while not refused and (wish := self._wishes[number]) != told:
            refused, told = await self.feed.act("update", [number], priority=wish), wish
        del self._wishes[number]
        return refused

    def action_cancel(self) -> None:
        meant = self._meant()
        if not meant:
            return
        row = self._tasks.selected
        alone = len(meant) == 1 and row is not None and row["id"] == meant[0]
        what = f"task {meant[0]}, {cut(plain(name_of(row)), 40)}" if alone and row else f"{len(meant)} tasks"

        def answered(answer: str | None) -> None:
            if answer is not None:
                more = {"delete_data": True} if answer == "delete" else {}
                self._steer("cancel", meant, **more)

        self.push_screen(Cancel(what), answered)

    def _steer(self, verb: str, ids: list[int], **params: Any) -> None:
        if ids:
            self._do(self.feed.act(verb, ids, **params))

    def _do(self, work: Awaitable[list[str]]) -> None:
        """:param work: answers what was refused."""
        self._tasks.marked.clear()

        async def do() -> None:
            refused = await work
            for message in refused[:3]:
                self.notify(plain(message), severity="error", markup=False)
            if len(refused) > 3:
                self.notify(f"and {len(refused) - 3} more were refused", severity="error")

        self.run_worker(do(), group="steer")


_KEYS = {"plus": "+", "equals_sign": "=", "minus": "-", "slash": "/", "question_mark": "?", "ctrl+c": "^c"}


def _strip(downloaders: list[dict[str, Any]], width: int) -> str:
    """``http up 2/5 1.2 MiB/s   box down: it does not answer``."""
    parts = []
    for one in downloaders:
        state = "paused" if one["paused"] else one["health"]
        rate = f" {format_size(one['download_speed'])}/s" if one["download_speed"] else ""
        error = f": {one['last_error']}" if one["health"] == "down" and one["last_error"] else ""
        parts.append(cut(plain(f"{one['name']} {state} {one['active']}/{one['max_active']}{rate}{error}"), width))
    return "   ".join(parts)


def _details(row: Row, known: tuple[dict[str, Any], dict[str, Any]] | None, width: int) -> Iterator[str]:
    """What a person wants to know of one task, the most important first."""
    yield f"{row['id']}  {name_of(row)}"
    if known is None:
        yield f"{state_of(row)}  …"
        return
    task, why = known
    download = task.get("download") or {}
    attempts = download.get("attempts") or []
    yield f"{state_of(task)}: {why['message']}"
    added = datetime.fromisoformat(task["created_at"]).astimezone()
    tags = ", ".join((task.get("labels") or {}).get("tag", ()))
    parts = [
        f"priority {task['priority']}, queue {task['queue']}, of {task['owner']}, added {added:%Y-%m-%d %H:%M}",
        f"tags {tags}" if tags else "",
        f"{len(attempts)} attempts" if len(attempts) > 1 else "",
    ]
    yield ", ".join(part for part in parts if part)
    source, place = str(download.get("url") or task["type"]), download.get("location") or download.get("destination")
    half = width // 2 - 2
    yield f"{cut(source, half)} → {cut(place, half)}" if place else source
    error = task.get("error")
    last = next((attempt for attempt in reversed(attempts) if attempt.get("message")), None)
    if error:
        yield f"{error['kind']}: {error['message']}"
    elif last:
        yield f"{last['downloader']}: {last['message']}"
