"""One verb for several things that have names: queues, schedules, downloaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dlqueue.cli import exits
from dlqueue.cli.session import Session
from dlqueue.cli.table import put_json, put_line
from dlqueue.client import RpcError


def put_each_named(
    session: Session,
    names: tuple[str, ...],
    act: Callable[[str], Mapping[str, Any]],
    told: Callable[[dict[str, Any]], str],
) -> int:
    """Do it to one after the other, and print what came of each; a refusal does not stop the others.

    :param told: what to print behind the name.
    """
    code = exits.OK
    done: list[dict[str, Any]] = []
    for name in names:
        try:
            item = dict(act(name))
        except RpcError as error:
            refused = exits.report(error)
            code = code or refused
            continue
        done.append(item)
        if not session.json:
            put_line(item["name"], told(item))
    if session.json and done:
        put_json(done[0] if len(names) == 1 else done)
    return code


def paused_or_resumed(item: Mapping[str, Any]) -> str:
    """What `put_each_named` prints of what can be paused."""
    return "paused" if item["paused"] else "resumed"
