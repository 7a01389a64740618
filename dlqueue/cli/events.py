"""`events`: what happened, one JSON value per line; and what happens."""

from __future__ import annotations

from typing import Any

import click

from dlqueue.cli.complete import complete_ids
from dlqueue.cli.follow import reconnect
from dlqueue.cli.ids import task_ids
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import put_json
from dlqueue.client import DaemonUnreachable
from dlqueue.protocol.errors import Stopping

_PAGE = 1000
TOPICS = ["task", "progress", "downloader", "queue", "schedule"]


@click.command("events")
@click.argument("which", metavar="[ID...]", nargs=-1, shell_complete=complete_ids)
@click.option("--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option(
    "--topic", "topics", type=click.Choice(TOPICS), multiple=True, help="Only these (default task; progress)."
)
@click.option("--since", type=click.IntRange(min=0), metavar="SEQUENCE", help="Only what came after this event.")
@everywhere
@pass_session
def events_command(
    session: Session, /, which: tuple[str, ...], follow: bool, topics: tuple[str, ...], since: int | None
) -> None:
    """What happened and happens, one JSON value per line.

    The events that are kept; with --follow, those that come; --follow --since 0 prints both.
    """
    ids = task_ids(session, which).existing(session) if which else None
    for number in ids or ():
        session.client.tasks.progress(id=number)  # one that was named has to exist
    if follow:
        _follow(session, ids, list(topics) or ["task", "progress"], since)
        return
    if set(topics) - {"task"}:
        raise click.UsageError(f"only events of tasks are kept; to see {topics[0]} as it comes: --follow")
    cursor: str | None = None
    while True:
        asked = {"task_ids": ids, "since": since, "limit": _PAGE, "cursor": cursor}
        page = session.client.call("events.list", {name: value for name, value in asked.items() if value is not None})
        for event in page["items"]:
            put_json(event, stream=True)
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _follow(session: Session, ids: list[int] | None, topics: list[str], since: int | None) -> None:
    while True:
        try:
            with session.client.events(topics=topics, task_ids=ids, since=since) as events:
                for event in events:
                    if event["sequence"] is not None:
                        since = event["sequence"]
                    put_json(_without_subscription(event), stream=True)
        except (DaemonUnreachable, Stopping) as lost:
            reconnect(session, lost)


def _without_subscription(event: Any) -> dict[str, Any]:
    # The number of the conversation means nothing outside of it.
    return {name: value for name, value in event.items() if name != "subscription"}
