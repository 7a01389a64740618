"""`wait`, `pause`, `resume`, `cancel`, `retry`, `rm`. Each returns when the thing has happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from dlqueue.cli import exits
from dlqueue.cli.complete import complete_ids
from dlqueue.cli.follow import FINAL, Task, failure, follow, is_delivered, reconnect
from dlqueue.cli.ids import TaskIds, task_ids
from dlqueue.cli.options import duration
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.show import tasks
from dlqueue.cli.table import put_json, put_line
from dlqueue.cli.taskrow import name_of, shown_state
from dlqueue.client import DaemonUnreachable
from dlqueue.protocol.errors import Conflict, Stopping
from dlqueue.protocol.status import UNFINISHED

_LOOK_SECONDS = 0.2

_ids = click.argument("which", metavar="ID...", nargs=-1, shell_complete=complete_ids)
_delete_data = click.option("--delete-data", is_flag=True, help="Also delete what was downloaded.")


def _chosen(which: tuple[str, ...], everything: bool, option: str) -> None:
    if bool(which) == everything:
        raise click.UsageError(f"give task ids, or {option}")


def _told(answer: Mapping[str, Any]) -> Task:
    """Say what was to be deleted and was kept."""
    task: Task = dict(answer)
    message = (task.get("progress") or {}).get("message") or ""
    if message.startswith("kept: "):
        exits.say(f"task {task['id']}: {message}")
    return task


def put_each(session: Session, ids: TaskIds, steer: Callable[[int], Task], shown: str | None = None) -> int:
    """Steer one after the other; what is refused does not keep the others from being done. Of a range, those are meant
    with which it can be done."""
    done: list[Task] = []
    passed_over: list[Exception] = []
    code = exits.OK
    for number, answer in ids.each(steer):
        if isinstance(answer, Conflict) and not ids.named(number):
            passed_over.append(answer)
            continue
        if isinstance(answer, Exception):
            refused = exits.report(answer)
            code = code or refused
            continue
        done.append(answer)
        if not session.json:
            put_line(answer["id"], shown or shown_state(answer), name_of(answer))
    if session.json and done:
        put_json(done[0] if ids.single() else done)
    if passed_over and done:
        exits.say(f"{len(done)} done; {len(passed_over)} of the range passed over, where it means nothing")
    elif passed_over:
        code = code or exits.report(passed_over[0])
        if len(passed_over) > 1:
            exits.say(f"  and so it is with {len(passed_over) - 1} more of the range")
    return code


def _each(session: Session, which: tuple[str, ...], steer: Callable[[int], Task], shown: str | None = None) -> int:
    return put_each(session, task_ids(session, which), steer, shown)


def _all(session: Session, answer: dict[str, Any], verb: str) -> int:
    if session.json:
        put_json(answer)
    else:
        exits.say(f"{answer['count']} {verb}")
    return exits.OK


@click.command("pause")
@_ids
@click.option("--all", "everything", is_flag=True, help="All that can be paused.")
@everywhere
@pass_session
def pause_command(session: Session, /, which: tuple[str, ...], everything: bool) -> int:
    """Pause tasks; returns when they are paused."""
    _chosen(which, everything, "--all")
    if not everything:
        return _each(session, which, lambda number: _paused(session, number))
    answer = session.client.tasks.pause(all=True)
    while any(task["want"] == "pause" for task in tasks(session, {"status": ["processing"]}, 1000)[0]):
        time.sleep(_LOOK_SECONDS)
    return _all(session, answer, "paused")


def _paused(session: Session, number: int) -> Task:
    task: Task = session.client.tasks.pause(id=number)
    if task["status"] == "paused":
        return task
    for changed in follow(session, [number]):
        task = changed.get(number, task)
        if task["status"] == "paused":
            return task
        if task["status"] in FINAL or task["want"] != "pause":
            raise exits.Failed(f"task {number} was not paused: it is {task['status']}", exits.REFUSED)
    raise AssertionError("following never ends by itself")


@click.command("resume")
@_ids
@click.option("--all", "everything", is_flag=True, help="All that are paused.")
@everywhere
@pass_session
def resume_command(session: Session, /, which: tuple[str, ...], everything: bool) -> int:
    """Let paused tasks go on."""
    _chosen(which, everything, "--all")
    if everything:
        return _all(session, session.client.tasks.resume(all=True), "resumed")
    return _each(session, which, lambda number: session.client.tasks.resume(id=number))


@click.command("cancel")
@_ids
@click.option("--all", "everything", is_flag=True, help="All that are unfinished.")
@_delete_data
@everywhere
@pass_session
def cancel_command(session: Session, /, which: tuple[str, ...], everything: bool, delete_data: bool) -> int:
    """Cancel tasks.

    \b
    dlqueue cancel 2,4-6 --delete-data
    """
    _chosen(which, everything, "--all")
    if everything:
        return _all(session, session.client.tasks.cancel(all=True, delete_data=delete_data or None), "canceled")
    return _each(
        session, which, lambda number: _told(session.client.tasks.cancel(id=number, delete_data=delete_data or None))
    )


@click.command("retry")
@_ids
@click.option("--failed", is_flag=True, help="All that ended in error.")
@everywhere
@pass_session
def retry_command(session: Session, /, which: tuple[str, ...], failed: bool) -> int:
    """Queue failed or canceled tasks again."""
    _chosen(which, failed, "--failed")
    if failed:
        return _all(session, session.client.tasks.retry(status="error"), "queued again")
    return _each(session, which, lambda number: session.client.tasks.retry(id=number))


@click.command("rm")
@_ids
@click.option("--all", "everything", is_flag=True, help="All there are.")
@_delete_data
@everywhere
@pass_session
def rm_command(session: Session, /, which: tuple[str, ...], everything: bool, delete_data: bool) -> int:
    """Forget tasks; unfinished ones are canceled first."""
    _chosen(which, everything, "--all")
    if everything:
        return _all(session, session.client.tasks.remove(all=True, delete_data=delete_data or None), "removed")

    def remove(number: int) -> Task:
        return _told(session.client.tasks.remove(id=number, delete_data=delete_data or None))

    return _each(session, which, remove, shown="removed")


@click.command("wait")
@_ids
@click.option("--all", "everything", is_flag=True, help="All that are unfinished now.")
@click.option("--timeout", callback=duration, metavar="DUR", help="Give up after this time (exit code 6).")
@click.option(
    "--until", type=click.Choice(["final", "delivered"]), default="final", help="What to wait for (default final)."
)
@everywhere
@pass_session
def wait_command(
    session: Session, /, which: tuple[str, ...], everything: bool, timeout: float | None, until: str
) -> int:
    """Wait until tasks are over; exit code 5 if one failed.

    \b
    dlqueue wait @last --until delivered --timeout 2h
    """
    _chosen(which, everything, "--all")
    deadline = None if timeout is None else time.monotonic() + timeout
    if everything:
        ids = TaskIds(())
        for task in tasks(session, {"status": list(UNFINISHED)}, 1_000_000)[0]:
            ids.name(task["id"])
    else:
        ids = task_ids(session, which)
    done: list[Task] = []
    code = exits.OK
    for _, answer in ids.each(lambda number: _over(session, number, until, deadline)) if len(ids) else ():
        if isinstance(answer, Exception):
            refused = exits.report(answer)
            code = code or refused
            continue
        done.append(answer)
        if not session.json:
            put_line(answer["id"], answer["status"], name_of(answer))
        if not (is_delivered(answer) if until == "delivered" else answer["status"] == "completed"):
            failed = exits.report(failure(answer))
            code = code or failed
    if session.json:
        put_json(done[0] if ids.single() and done and not everything else done)
    return code


def _over(session: Session, number: int, until: str, deadline: float | None) -> Task:
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        try:
            return dict(session.client.tasks.wait(id=number, until=until, timeout=left))
        except (DaemonUnreachable, Stopping) as lost:
            reconnect(session, lost)
