"""`task submit`: any type of task, not only downloads."""

from __future__ import annotations

from typing import Any

import click

from dlqueue.cli import exits
from dlqueue.cli.complete import complete_ids
from dlqueue.cli.delivery import say_delivered, until_delivered
from dlqueue.cli.groups import Commands
from dlqueue.cli.ids import task_id
from dlqueue.cli.options import dependencies, duration, estimate, submission, submission_options, task_params
from dlqueue.cli.progress import display
from dlqueue.cli.session import Session, everywhere, pass_session
from dlqueue.cli.table import put_json, put_line
from dlqueue.cli.taskrow import joined, name_of, shown_state

_PLAIN = ("retry_delay", "timeout", "max_execution", "on_dependency_failure", "correlation_id", "estimate")
"""Options that are params."""


@click.group("task", cls=Commands)
@everywhere
def task_command() -> None:
    """Tasks of any type."""


@task_command.command("submit")
@click.argument("type", metavar="TYPE")
@click.option("--params", default="{}", metavar="JSON", help="An object; - reads it from standard input.")
@submission_options
@click.option("--label", "labels", metavar="K=V", multiple=True, help="A label; may be repeated.")
@click.option("--retry-delay", callback=duration, metavar="DUR", help="Before the first retry; it grows from there.")
@click.option("--timeout", callback=duration, metavar="DUR", help="How long one step may take.")
@click.option("--max-execution", callback=duration, metavar="DUR", help="How long all of it may take.")
@click.option("--on-dependency-failure", type=click.Choice(["cancel", "run"]), help="If what it waits for fails.")
@click.option("--parent", metavar="ID", shell_complete=complete_ids, help="The task that it belongs to.")
@click.option("--correlation-id", metavar="ID", help="A name of yours for it, to find it by.")
@click.option("--wait", is_flag=True, help="Return when it is over.")
@click.option(
    "--estimate",
    callback=estimate,
    metavar="memory=2GiB,cpu=1",
    help="What a step needs (memory, cpu, temp, seconds): it begins only when that is free.",
)
@everywhere
@pass_session
def submit(session: Session, /, type: str, params: str, wait: bool, quiet: bool, **options: Any) -> int:
    """Submit a task of any type."""
    asked: dict[str, Any] = {"type": type, "params": task_params(params, type), **submission(options)}
    asked |= {name: options[name] for name in _PLAIN if options[name] is not None}
    for label in options["labels"]:
        key, equals, value = label.partition("=")
        if not key or not equals:
            raise click.UsageError(f'a --label is written as KEY=VALUE, not "{label}"')
        asked.setdefault("labels", {}).setdefault(key, []).append(value)
    if options["parent"] is not None:
        asked["parent_id"] = task_id(session, options["parent"])
    asked |= dependencies(session, options["after"])
    task = dict(session.client.call("tasks.submit", asked))
    if not task["created"]:
        exits.say(joined(task))
    if not session.json:
        put_line(task["id"], *(() if quiet else (shown_state(task), name_of(task))))
    code = exits.OK
    if wait:
        shown = display(quiet=quiet or session.json)
        try:
            (task,), code = until_delivered(session, [task], shown, lambda done: say_delivered(shown, done))
        finally:
            shown.close()
    if session.json:
        put_json(task)
    return code
