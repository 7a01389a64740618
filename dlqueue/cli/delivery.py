"""Waiting until what was added is delivered, and telling what happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from dlqueue.cli import exits
from dlqueue.cli.follow import FINAL, Task, failure, follow, is_delivered
from dlqueue.cli.ids import as_ranges
from dlqueue.cli.progress import Display, Troubles
from dlqueue.cli.session import Session

_WHY_TICKS = 3
"""Looks without a change after which the reason is asked for."""
_WHY_MOST = 200
"""Tasks that are asked for theirs."""


def say_delivered(shown: Display, task: Task) -> None:
    location = (task.get("download") or {}).get("location")
    shown.say(f"{task['id']} delivered{f': {location}' if location else ''}")


def until_delivered(
    session: Session,
    added: list[Task],
    shown: Display,
    delivered: Callable[[Task], None],
    revive: Callable[[], None] | None = None,
) -> tuple[list[Task], int]:
    """Wait for all; answers their last state and the exit code. ``delivered`` hears of each in its turn."""
    latest = {task["id"]: task for task in added}
    order = list(latest)
    waiting = list(latest)
    troubles = Troubles(shown)
    code = exits.OK
    still = 0
    for changed in follow(session, order, revive):
        latest.update(changed)
        shown.update(changed.values())
        for task in changed.values():
            troubles.look(task)
        still = 0 if changed else still + 1
        if still == _WHY_TICKS:
            troubles.why(dict(session.client.tasks.why(id=number)) for number in waiting[:_WHY_MOST])
        for number in list(waiting):
            task = latest[number]
            if is_delivered(task):
                delivered(task)
            elif task["status"] in FINAL:
                code = code or exits.TASK_FAILED
                error = failure(task)
                shown.say(f"dlqueue: {error}")
                shown.say(f"  {error.hint}")
            else:
                continue
            waiting.remove(number)
        if not waiting:
            break
    return [latest[number] for number in order], code


def goes_on(ids: list[int]) -> list[str]:
    words = as_ranges(ids)
    what = f"task {words}" if len(ids) == 1 else f"tasks {words}"
    return [
        f"dlqueue: the download goes on as {what}",
        f"  watch: dlqueue watch {words}; pause: dlqueue pause {words}; cancel: dlqueue cancel {words}",
    ]
