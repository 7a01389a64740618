"""Every command with ``--json`` against a real daemon: what it prints is as `docs/schemas/commands.json` says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest

from dlqueue.cli.main import program
from tests.cli.published import COMMANDS, FILE, text
from tests.daemon.instance import Instance, fake_section

URL = "http://host.invalid/file.bin"
STAYS = f"{URL}?manual=1"
NOTHING_TO_PRINT = frozenset({"daemon", "completions", "top"})
"""Commands that print no data of their own."""

CALLS: list[str] = [
    "version", "config check", "config show", "config path", "config reload",
    f"add {URL}", f"add {URL} -o a --on-exists skip --wait", f"add {STAYS} -o b", f"add {URL} --dry-run",
    f"add {STAYS} {URL} --paused", f"get {URL} -o c", "ls", "ls --status queued", "show 1", "why 1", "why 1,2",
    "watch 1", "events", "wait 1", "wait 1-2", f"add {STAYS} -o p", "files 1", "stats", "edit 3 --priority 4",
    "pause 3", "pause 3,4", "resume 3", "resume --all", "cancel 3", "cancel 3-4", "retry 3", "retry --failed",
    "cancel --all", "rm 3", "task submit remote_download --params {\"url\":\"http://host.invalid/z\"}",
    "rpc daemon.info", "queue ls", "queue show downloads", "queue create extra --concurrency 2",
    "queue set extra --rate 5/s",
    "queue pause extra", "queue pause extra downloads", "queue resume extra downloads",
    f"schedule create often --every 1h --url {URL}", "schedule ls", "schedule show often",
    "schedule set often --every 2h",
    "schedule run often", "schedule show often", "schedule pause often", "schedule resume often", "schedule rm often",
    "downloader ls", "downloader show fake", "downloader test fake", "downloader pause fake", "downloader resume fake",
    "downloader kinds", "token new one --role read", "token new two --role admin", "token ls", "token revoke one",
    "notify test http://127.0.0.1:1/", "doctor", "db version", "db backup copy.db", "db upgrade",
    "setup --user --root root --yes",
]  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    folder = tmp_path_factory.mktemp("published")
    with Instance(folder, fake_section(folder)) as daemon:
        yield daemon.start()


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        elif not command.hidden and any("--json" in option.opts for option in command.params):
            yield f"{before}{name}"


def test_every_command_has_a_schema_and_is_run() -> None:
    there = set(commands(program)) - NOTHING_TO_PRINT
    assert there - COMMANDS.keys() == set(), "add them to tests/cli/published.py, and run that"
    assert COMMANDS.keys() - there == set()
    run = {name for call in CALLS for name in COMMANDS if f"{call} ".startswith(f"{name} ")}
    assert there - run == set(), "add calls of them to this test"


def test_what_is_published_is_up_to_date() -> None:
    assert FILE.read_text() == text(), "run: python -m tests.cli.published"


def test_what_is_printed_is_as_published(daemon: Instance, tmp_path: Path) -> None:
    published = json.loads(FILE.read_text())
    wrong: list[str] = []
    for call in CALLS:
        name = max((name for name in COMMANDS if f"{call} ".startswith(f"{name} ")), key=len)
        done = daemon.cli(*call.split(), "--json")
        if not done.stdout.strip():
            wrong.append(f"{call}: prints nothing (exit {done.returncode}): {done.stderr}")
            continue
        streams = name in ("watch", "events")
        values: list[Any] = [json.loads(one) for one in (done.stdout.splitlines() if streams else [done.stdout])]
        schema = {"components": published["components"], **published["commands"][name]}
        for value in values:
            problem = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(value)), None)
            if problem is not None:
                wrong.append(f"{call}: {problem.json_path}: {problem.message[:300]}")
    assert wrong == []


def test_a_schema_can_be_broken(daemon: Instance) -> None:
    """It says more than "anything"."""
    published = json.loads(FILE.read_text())
    schema = {"components": published["components"], **published["commands"]["show"]}
    task = json.loads(daemon.cli("show", str(daemon.add(STAYS, name="broken")), "--json").stdout)
    jsonschema.validate(task, schema)
    for change in ({"id": "1"}, {"status": "odd"}, {"history": {"items": 1}}, {"why": None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**task, **change}, schema)
