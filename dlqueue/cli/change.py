"""`edit` and `files`: changing what a task is to do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from dlqueue.cli import exits
from dlqueue.cli.complete import complete_ids
from dlqueue.cli.follow import Task
from dlqueue.cli.ids import task_id, task_ids
from dlqueue.cli.options import duration, indexes, moment
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.steer import put_each
from dlqueue.cli.table import is_terminal, plain, put_json, put_table
from dlqueue.protocol.errors import Conflict
from dlqueue.protocol.times import instant_text
from dlqueue.units import format_size

_TRIES = 5
"""A task that runs may change between our look and our edit."""


@click.command("edit")
@click.argument("which", metavar="ID...", nargs=-1, required=True, shell_complete=complete_ids)
@click.option("--priority", type=int, metavar="N", help="Higher goes first.")
@click.option("--url", metavar="URL", help="Another place of the same file, when the one it had is no good any more.")
@click.option("--tag", "tags", metavar="T", multiple=True, help="Tags, in place of those it has; '' for none.")
@click.option("--at", "run_at", callback=moment, metavar="TIME", help="Begin at this time, or now.")
@click.option("--delay", callback=duration, metavar="DUR", help="Begin after this time.")
@everywhere
@pass_session
def edit_command(
    session: Session,
    /,
    which: tuple[str, ...],
    priority: int | None,
    url: str | None,
    tags: tuple[str, ...],
    run_at: str | None,
    delay: float | None,
) -> int:
    """Change tasks: priority, tags, URL, when they begin.

    \b
    dlqueue edit 7 --priority 5 --tag work
    dlqueue edit 2,4-6 --at now
    dlqueue edit @last --url https://mirror.example.org/file.iso
    """
    if run_at is not None and delay is not None:
        raise click.UsageError("give either --at or --delay, not both")
    if delay is not None:
        run_at = instant_text(time.time() + delay)
    if priority is None and url is None and not tags and run_at is None:
        raise click.UsageError("nothing to change: give --priority, --url, --tag, --at or --delay")
    ids = task_ids(session, which)
    if url is not None and len(ids) > 1:
        raise click.UsageError("--url is about one download; give one task with it")

    def edit(number: int) -> Task:
        task: Task = {}
        if url is not None:
            task = dict(session.client.downloads.refresh_url(id=number, url=url))
        if priority is not None or tags or run_at is not None:
            task = _update(session, number, priority, run_at, [tag for tag in tags if tag] if tags else None)
        return task

    return put_each(session, ids, edit)


def _update(session: Session, number: int, priority: int | None, run_at: str | None, tags: list[str] | None) -> Task:
    if tags is None:
        return dict(session.client.tasks.update(id=number, priority=priority, run_at=run_at))
    tries = _TRIES
    while True:
        # Labels are replaced as a whole: the other keys are sent back as they are.
        task = session.client.tasks.get(id=number)
        labels = {key: values for key, values in task["labels"].items() if key != "tag"} | (
            {"tag": tags} if tags else {}
        )
        try:
            return dict(
                session.client.tasks.update(
                    id=number, priority=priority, run_at=run_at, labels=labels, if_revision=task["revision"]
                )
            )
        except Conflict:
            tries -= 1
            if not tries or session.client.tasks.get(id=number)["revision"] == task["revision"]:
                raise


@click.command("files")
@click.argument("which", metavar="ID", shell_complete=complete_ids)
@click.option("--select", callback=indexes, metavar="1,3-5", help="Fetch only these.")
@click.option("--match", metavar="GLOB", help="Fetch only those whose path matches, such as '*.mkv'.")
@everywhere
@pass_session
def files_command(session: Session, /, which: str, select: list[int] | None, match: str | None) -> None:
    """The files of a download; choose which to fetch.

    \b
    dlqueue files 7
    dlqueue files 7 --select 1,3-5
    dlqueue files 7 --match '*.mkv'
    """
    if select is not None and match is not None:
        raise click.UsageError("give either --select or --match, not both")
    number = task_id(session, which)
    if select is None and match is None:
        answer = session.client.downloads.files(id=number)
    else:
        answer = session.client.downloads.select(id=number, indexes=select, match=match)
    items = answer["items"]
    if session.json:
        put_json(items)
        return
    put_table(("FILE", "GET", "%", "SIZE", "PATH"), [_row(file) for file in items], frozenset({"FILE", "%", "SIZE"}))
    if not items:
        then = "" if match is None else f"; those that match {match} are fetched when they are"
        exits.say(f"the files of task {number} are not known yet{then}")


def _row(file: Mapping[str, Any]) -> list[object]:
    progress, size = file["progress"], file["size"]
    if not is_terminal():
        rounded = None if progress is None else round(progress, 1)
        return [file["index"], "yes" if file["selected"] else "no", rounded, size, file["path"]]
    return [
        file["index"],
        "yes" if file["selected"] else "no",
        "-" if progress is None else f"{progress:.0f}",
        "-" if size is None else format_size(size),
        plain(file["path"]),
    ]
