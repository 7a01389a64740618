"""`ls`, `show`, `why`: looking at tasks."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click

from dlqueue.cli import exits
from dlqueue.cli.complete import complete_ids, complete_queues
from dlqueue.cli.ids import task_id, task_ids
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import as_json, is_terminal, put_field, put_json, put_line, put_section
from dlqueue.cli.taskrow import WORDS, counter, name_of, put_tasks, shown_state, speed_of, state_of
from dlqueue.client import RpcError
from dlqueue.protocol.status import FINAL
from dlqueue.units import format_duration, format_size

_PAGE = 1000
STATUSES = ["queued", "blocked", "processing", "suspending", "paused", "completed", "error", "canceled"]
_SHOWN = [*STATUSES, *WORDS]


def _complete_status(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{word}" for word in _SHOWN if word.startswith(last)]


def _statuses(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """`--status error,paused` or several `--status`; also the words that `ls` shows in place of a status."""
    from dlqueue.protocol.errors import did_you_mean

    found = [part for value in values for part in value.split(",") if part]
    for part in found:
        if part not in _SHOWN:
            message = f'"{part}" is none of {", ".join(_SHOWN)}{did_you_mean(part, _SHOWN)}'
            raise click.BadParameter(message, ctx, param)
    return found


@click.command("ls")
@click.option(
    "--status",
    "status",
    multiple=True,
    callback=_statuses,
    shell_complete=_complete_status,
    metavar="S",
    help="Such as error or downloading; may be repeated.",
)
@click.option("--queue", metavar="Q", shell_complete=complete_queues, help="In this queue.")
@click.option("--tag", metavar="T", help="With this tag.")
@click.option("--owner", metavar="O", help="Submitted by this user.")
@click.option("--text", metavar="T", help="With this text in name or URL.")
@click.option("--limit", type=click.IntRange(min=1), default=100, metavar="N", help="At most so many (default 100).")
@click.option("--watch", "live", is_flag=True, help="Go on and show changes.")
@everywhere
@pass_session
def ls_command(session: Session, /, limit: int, live: bool, tag: str | None, **options: Any) -> None:
    """List tasks, the newest first."""
    filters = {name: value for name, value in options.items() if value}
    if tag is not None:
        filters["label"] = {"tag": tag}
    if live:
        from dlqueue.cli.live import watch_list

        watch_list(session, lambda: tasks(session, filters, limit)[0])
        return
    found, more = tasks(session, filters, limit)
    if session.json:
        put_json(found)
        return
    put_tasks(found)
    if not found and is_terminal():
        exits.say("no task is like that" if filters else "no tasks yet; add one: dlqueue add URL")
    if more:
        exits.say(f"there are more than these {limit}; see them with --limit, or narrow the list with --status")


def tasks(session: Session, filters: dict[str, Any], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """The tasks that match, at most ``limit``, and whether there are (or may be) more. Where ``status`` has a word of
    ours, the daemon is asked for all that may be shown so, and those that are not are left out here."""
    wanted = list(filters.get("status") or ())
    words = [word for word in wanted if word in WORDS]
    if words:
        asked = {status for status in wanted if status in STATUSES} | {"processing", "suspending"}
        filters = {**filters, "status": sorted(asked)}
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        most = _PAGE if words else min(limit - len(found), _PAGE)
        page = session.client.tasks.list(**filters, limit=most, cursor=cursor)
        found += [
            dict(task) for task in page["items"] if not words or task["status"] in wanted or state_of(task) in words
        ]
        cursor = page["next_cursor"]
        if cursor is None or len(found) >= limit:
            return found[:limit], cursor is not None or len(found) > limit


@click.command("why")
@click.argument("which", metavar="ID...", nargs=-1, required=True, shell_complete=complete_ids)
@everywhere
@pass_session
def why_command(session: Session, /, which: tuple[str, ...]) -> int:
    """The exact reason that a task is not moving."""
    ids, answers, code = task_ids(session, which), [], exits.OK
    for number, answer in ids.each(lambda number: dict(session.client.tasks.why(id=number))):
        if isinstance(answer, Exception):
            code = code or exits.report(answer)
            continue
        answers.append(answer)
        if session.json:
            continue
        status = shown_state(dict(session.client.tasks.get(id=number))) if is_terminal() else answer["status"]
        put_line(answer["id"], status, answer["reason"], answer["message"])
        exits.say(f"since {answer['since']}")
        # While bytes come in, the next look at them is nothing to wait for.
        if answer["next_check_at"] and answer["reason"] not in ("between_steps", "seeding", "metadata", "running"):
            exits.say(f"next check at {answer['next_check_at']}")
    if session.json and answers:
        put_json(answers[0] if ids.single() else answers)
    return code


@click.command("show")
@click.argument("which", metavar="ID", shell_complete=complete_ids)
@click.option("--history", "everything", is_flag=True, help="All of its history, not only the newest.")
@everywhere
@pass_session
def show_command(session: Session, /, which: str, everything: bool) -> None:
    """Everything about one task: attempts, events, files, summary."""
    client, number = session.client, task_id(session, which)
    task: dict[str, Any] = {**client.tasks.get(id=number)}
    history: dict[str, Any] = {**client.tasks.history(id=number)}
    why: dict[str, Any] = {**client.tasks.why(id=number)}
    if session.json:
        put_json({**task, "history": history, "why": why})
        return
    for name, value in _summary(task, why):
        if value not in (None, "", [], {}):
            put_field(name, value, 13)
    _print_files(_files(session, task), number)
    _print_attempts((task.get("download") or {}).get("attempts") or history.get("attempts") or [], task)
    _print_notices(history.get("notices") or [])
    _print_history(history.get("items") or [], number, everything)


def _files(session: Session, task: dict[str, Any]) -> list[dict[str, Any]]:
    """As `files` tells them. What the answer about the task has are the top ones of what was delivered."""
    if not task.get("download"):
        return []
    found: list[dict[str, Any]] = []
    with suppress(RpcError):
        found = [dict(file) for file in session.client.downloads.files(id=task["id"])["items"]]
    return found or task["download"].get("files") or []


def _summary(task: dict[str, Any], why: dict[str, Any]) -> list[tuple[str, Any]]:
    download = task.get("download") or {}
    error = task["error"] or {}
    done, total = counter(task, "downloaded"), counter(task, "total")
    amount = " of ".join(format_size(size) for size in (done, total) if size is not None)
    speed, over = speed_of(task), task["status"] in FINAL
    wanted = f" (to {task['want']})" if task["want"] != "run" else ""
    return [
        ("task", f"{task['id']}  {name_of(task)}"),
        ("status", f"{state_of(task)}{wanted}"),
        ("why", why["message"] if task["status"] not in ("completed", "error", "canceled") else None),
        ("error", f"{error['kind']}: {error['message']}  ({error['at']})" if error else None),
        ("url", download.get("url")),
        ("mirrors", " ".join((task["params"].get("urls") or [])[1:]) if download else None),
        (
            "downloader",
            " ".join(
                part
                for part in (
                    download.get("downloader"),
                    *(() if over else (download.get("phase"), download.get("state"))),
                )
                if part
            ),
        ),
        ("progress", amount + (f" at {format_size(speed)}/s" if speed else "")),
        ("destination", download.get("destination")),
        ("location", download.get("location")),
        ("delivered", download.get("delivered_at")),
        ("result", as_json(task["result"]) if not download else None),
        ("params", as_json(task["params"]) if not download else None),
        ("type", task["type"] if not download else None),
        ("queue", f"{task['queue']}, priority {task['priority']}"),
        ("owner", task["owner"]),
        ("labels", ", ".join(f"{key}={value}" for key, values in task["labels"].items() for value in values)),
        ("unique key", task["unique_key"]),
        ("correlation", task["correlation_id"]),
        ("parent", task["parent_id"]),
        ("depends on", ", ".join(str(other) for other in task["depends_on"])),
        ("retries", f"{task['retries']} (at most {task['max_retry']} in a row)" if task["retries"] else None),
        ("crashes", task["crashes"] or None),
        ("created", task["created_at"]),
        ("started", task["started_at"]),
        ("next step", task["resume_at"]),
        ("finished", task["finished_at"]),
        ("worked", format_duration(task["executed_seconds"]) if task["executed_seconds"] else None),
    ]


def _print_files(files: list[dict[str, Any]], number: int) -> None:
    wide = (3, 10) if is_terminal() else (0, 0)
    put_section(
        "files",
        [
            (
                f"{file['index']:>{wide[0]}}",
                f"{'-' if file.get('size') is None else format_size(file['size']):>{wide[1]}}",
                file["path"],
                "" if file["selected"] else "(not selected)",
            )
            for file in files[:_FILES]
        ],
    )
    if len(files) > _FILES:
        exits.say(f"  ... and {len(files) - _FILES} more: dlqueue files {number}")


_FILES = 10
_HISTORY = 8


def _print_attempts(attempts: list[dict[str, Any]], task: dict[str, Any]) -> None:
    rows = []
    for attempt in attempts:
        kind = f"{attempt['error_class']}: " if attempt.get("error_class") else ""
        said = f"{kind}{attempt['message']}" if attempt.get("message") else ""
        then = f"→ {attempt['next']}" if attempt.get("next") else ""
        size = attempt["bytes"]
        if attempt is attempts[-1] and attempt["ended_at"] is None and not said:
            size = size or counter(task, "downloaded") or 0  # it was cut off, or goes on
            said = "canceled" if task["status"] == "canceled" else ""
        rows.append((attempt["started_at"], attempt["downloader"], format_size(size), said, then))
    put_section("attempts", rows)


def _print_notices(notices: list[dict[str, Any]]) -> None:
    rows = []
    for notice in notices:
        tried = f"tried {notice['attempts']}×, next {notice['next_at']}" if notice["attempts"] else "on its way"
        said = f": {notice['error']}" if notice.get("error") else ""
        rows.append((notice["event"], notice["target"], tried + said))
    put_section("notices that have not arrived", rows)


def _print_history(items: list[dict[str, Any]], number: int, everything: bool) -> None:
    rows = []
    left = 0 if everything else max(len(items) - _HISTORY, 0)
    for item in items[left:]:
        edge = " → ".join(part for part in (item.get("from"), item.get("to")) if part)
        error = item.get("error")
        said = item.get("message") or (f"{error['kind']}: {error['message']}" if isinstance(error, dict) else error)
        rows.append((item["at"], item["kind"], edge, str(said or "")))
    put_section("history", rows)
    if left:
        exits.say(f"  ... and {left} earlier: dlqueue show {number} --history")
