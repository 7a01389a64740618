"""`watch`, and `ls --watch`: tasks as they go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import click

from dlqueue.cli import exits
from dlqueue.cli.complete import complete_ids
from dlqueue.cli.follow import FINAL, Task, follow
from dlqueue.cli.ids import task_ids
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import is_terminal, put_json, put_line
from dlqueue.cli.taskrow import cells_for_programs
from dlqueue.protocol.status import UNFINISHED

_PERIOD = 1.0


@click.command("watch")
@click.argument("which", metavar="[ID...]", nargs=-1, shell_complete=complete_ids)
@everywhere
@pass_session
def watch_command(session: Session, /, which: tuple[str, ...]) -> None:
    """Live progress.

    Of these tasks until they are over, or of all that are unfinished until Ctrl-C.
    """
    if not which:
        from dlqueue.cli.show import tasks

        watch_list(session, lambda: tasks(session, {"status": list(UNFINISHED)}, 1000)[0])
        return
    _show(session, _until_over(session, task_ids(session, which).existing(session)))


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
    found = look()
    if not found and is_terminal():
        exits.say("nothing to watch yet; add something: dlqueue add URL (Ctrl-C ends this)")
    while True:
        yield found
        time.sleep(_PERIOD)
        found = look()


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
    from dlqueue.cli.screen import Screen

    screen = Screen(stderr=False)
    try:
        for tasks in lists:
            screen.show(tasks)
    finally:
        screen.close()
