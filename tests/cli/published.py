"""What each command prints with ``--json``, as types: the source of `docs/schemas/commands.json`.

After a change: ``python -m tests.cli.published``
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypedDict

from dlqueue.protocol import doctor, downloaders, events, messages, notify, queues, schedules, statistics, tokens
from dlqueue.transports import shapes

FILE = Path(__file__).parents[2] / "docs" / "schemas" / "commands.json"

Tasks = messages.Task | list[messages.Task]
"""One where one was named, else a list."""


class ShownTask(messages.Task):
    """`show`."""

    history: messages.History
    why: messages.Why


class ShownSchedule(schedules.Schedule):
    """`schedule show`."""

    stats: schedules.ScheduleStats


class NamedTest(downloaders.DownloaderTest):
    """`downloader test` of several."""

    name: str


class Version(TypedDict):
    """`version`."""

    version: str
    daemon: messages.DaemonInfo | None
    socket: str | None


class ConfigProblem(TypedDict):
    """A mistake in the configuration, and where."""

    file: str | None
    line: int | None
    key: str | None
    message: str


class ConfigCheck(TypedDict):
    """`config check`."""

    ok: bool
    problems: list[ConfigProblem]
    warnings: list[ConfigProblem]
    files: list[str]


class ConfigFile(TypedDict):
    """A file that is read."""

    path: str
    exists: bool


class ConfigPath(TypedDict):
    """`config path`."""

    instance: Literal["user", "system"]
    files: list[ConfigFile]
    socket: str
    database: str | None
    downloads: str | None
    staging: str | None


class Backup(TypedDict):
    """`db backup`."""

    database: str
    backup: str
    size: int


# What `db upgrade` prints; one of its members cannot be written as the name of a class's attribute.
Upgrade = TypedDict("Upgrade", {"database": str, "from": str | None, "to": str, "kept": str | None})


class Schema(TypedDict):
    """`db version`."""

    database: str
    schema: str | None
    program: str
    state: Literal["current", "older", "newer", "none"]


class Doctor(TypedDict):
    """`doctor`: whether a daemon was asked, and what was found."""

    daemon: bool
    findings: list[doctor.Finding]


class SetupStep(TypedDict):
    """What `setup` has done, or would do."""

    what: str
    changed: bool


class Setup(TypedDict):
    """`setup`."""

    instance: Literal["user", "system"]
    ok: bool
    running: bool
    steps: list[SetupStep]


COMMANDS: dict[str, Any] = {
    "add": Tasks | messages.DryRun | list[messages.Task | messages.DryRun],
    "get": Tasks | messages.DryRun | list[messages.Task | messages.DryRun],
    "ls": list[messages.Task],
    "show": ShownTask,
    "why": messages.Why | list[messages.Why],
    "watch": messages.Task,
    "events": events.PastEvent,
    "wait": Tasks,
    "pause": Tasks | messages.Count,
    "resume": Tasks | messages.Count,
    "cancel": Tasks | messages.Count,
    "retry": Tasks | messages.Count,
    "rm": Tasks | messages.Count,
    "edit": messages.Task,
    "files": list[messages.DownloadFile],
    "stats": statistics.Statistics,
    "task submit": messages.Task,
    "queue ls": list[queues.Queue],
    "queue show": queues.Queue,
    "queue create": queues.Queue,
    "queue set": queues.Queue,
    "queue pause": queues.Queue | list[queues.Queue],
    "queue resume": queues.Queue | list[queues.Queue],
    "schedule ls": list[schedules.Schedule],
    "schedule show": ShownSchedule,
    "schedule create": schedules.Schedule,
    "schedule set": schedules.Schedule,
    "schedule pause": schedules.Schedule | list[schedules.Schedule],
    "schedule resume": schedules.Schedule | list[schedules.Schedule],
    "schedule run": schedules.Schedule | list[schedules.Schedule],
    "schedule rm": schedules.Schedule | list[schedules.Schedule],
    "downloader ls": list[downloaders.Downloader],
    "downloader show": downloaders.Downloader,
    "downloader test": downloaders.DownloaderTest | list[NamedTest],
    "downloader pause": downloaders.Downloader | list[downloaders.Downloader],
    "downloader resume": downloaders.Downloader | list[downloaders.Downloader],
    "downloader kinds": list[downloaders.Kind],
    "config check": ConfigCheck,
    "config show": dict[str, Any],
    "config path": ConfigPath,
    "config reload": messages.Reloaded,
    "version": Version,
    "db backup": Backup,
    "db upgrade": Upgrade,
    "db version": Schema,
    "doctor": Doctor,
    "notify test": notify.NotifyTest,
    "setup": Setup,
    "token new": tokens.NewToken,
    "token ls": list[tokens.Token],
    "token revoke": tokens.Token | list[tokens.Token],
    "rpc": Any,
}
"""Of a stream (``watch``, ``events``): each line."""


def document() -> dict[str, Any]:
    """The schemas of all commands, in one JSON Schema document."""
    shared: dict[str, Any] = {}
    commands: dict[str, Any] = {}
    for name, type in sorted(COMMANDS.items()):
        commands[name] = schema = shapes.schema(type)
        shared.update(schema.pop("$defs", {}))
    made: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What the commands of dlqueue print with --json",
        "commands": commands,
        "components": {"schemas": shared},
    }
    return made


def text() -> str:
    return json.dumps(document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
