"""`watch`, and `ls --watch`: tasks as they go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from dlqueue.cli.follow import FINAL, Task, follow
from dlqueue.cli.ids import task_ids
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import colours, is_terminal, put_json, put_line
from dlqueue.cli.taskrow import RIGHT, TITLES, cells_for_people, cells_for_programs
from dlqueue.protocol.status import UNFINISHED

_PERIOD = 1.0


@click.command("watch")
@click.argument("which", metavar="[ID...]", nargs=-1)
@everywhere
@pass_session
def watch_command(session: Session, /, which: tuple[str, ...]) -> None:
    """Live progress: of these tasks until they are over, or of all that are unfinished until Ctrl-C."""
    if not which:
        from dlqueue.cli.show import tasks

        watch_list(session, lambda: tasks(session, {"status": list(UNFINISHED)}, 1000)[0])
        return
    _show(session, _until_over(session, task_ids(session, which)))


def watch_list(session: Session, look: Callable[[], list[Task]]) -> None:
    """Show what ``look`` finds, again and again, until Ctrl-C."""
    _show(session, _again(look))


def _until_over(session: Session, ids: list[int]) -> Iterator[list[Task]]:
    latest: dict[int, Task] = {}
    for changed in follow(session, ids):
        latest.update(changed)
        if changed:
            yield [latest[number] for number in ids]
        if all(task["status"] in FINAL for task in latest.values()):
            return


def _again(look: Callable[[], list[Task]]) -> Iterator[list[Task]]:
    while True:
        yield look()
        time.sleep(_PERIOD)


def _show(session: Session, lists: Iterator[list[Task]]) -> None:
    if is_terminal() and not session.json:
        _show_live(lists)
        return
    known: dict[int, Task] = {}
    for tasks in lists:
        for task in tasks:
            if known.get(task["id"]) == task:
                continue
            known[task["id"]] = task
            if session.json:
                put_json(task, stream=True)
            else:
                put_line(*cells_for_programs(task))


def _show_live(lists: Iterator[list[Task]]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    def table(tasks: list[Task]) -> Table:
        made = Table(box=None, pad_edge=False)
        for title in TITLES:
            last = title == TITLES[-1]
            made.add_column(
                title,
                justify="right" if title in RIGHT else "left",
                no_wrap=True,
                overflow="ellipsis",
                ratio=1 if last else None,
                min_width=None if last else len(title),
            )
        for task in tasks:
            made.add_row(*(_text(cell) for cell in cells_for_people(task)))
        return made

    with Live(table([]), console=Console(no_color=not colours()), auto_refresh=False) as live:
        for tasks in lists:
            live.update(table(tasks), refresh=True)


def _text(cell: str) -> Any:
    from rich.text import Text

    return Text(cell)  # a name may look like markup
