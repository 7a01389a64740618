"""What doctor finds about notices: hooks, signatures, and letters that do not arrive."""

from __future__ import annotations

import importlib.util
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from dlqueue.daemon.doctor import files
from dlqueue.daemon.doctor.finding import Finding
from dlqueue.daemon.doctor.notices import notices
from dlqueue.daemon.reading import Reader
from dlqueue.notify import targets
from dlqueue.queue import Completed, Context, Outcome, Queue, Task, TaskRecord
from dlqueue.queue.outbox import Notice, Settled
from dlqueue.queue.sql import SqlStore
from dlqueue.queue.sql.inspection import Inspection
from tests.health.test_doctor_files import read as read
from tests.health.test_doctor_files import write

pytestmark = pytest.mark.anyio

RULE = '[[notify.rules]]\nwebhook = "https://host.invalid/in"\n'


class Quick(Task):
    type = "quick"

    async def run(self, ctx: Context) -> Outcome:
        return Completed()


def found(read: Reader, text: str, inspection: Inspection | None = None) -> list[Finding]:
    write(read, text)
    return notices(read(), inspection)


def test_none_at_all_is_fine(read: Reader) -> None:
    assert [one.severity for one in found(read, "")] == ["ok"]


def test_webhooks_without_a_signature(read: Reader) -> None:
    (one,) = found(read, RULE)
    assert one.severity == "warning" and "whsec_" in (one.cure or "")
    secret = "whsec_" + "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
    assert [one.severity for one in found(read, f'[notify]\nwebhook_secret = "{secret}"\n{RULE}')] == ["ok"]


def test_hooks_that_cannot_run(read: Reader, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    text = f'[hooks.a]\ncommand = ["sh", "-c", "true"]\n[hooks.b]\ncommand = ["{script}"]\n'
    text += '[hooks.c]\ncommand = ["no-such-program"]\n[hooks.d]\ncommand = ["/no/such/program"]\n'
    assert [(one.severity, one.explanation.partition(":")[2].strip()) for one in found(read, text)] == [
        ("error", f"{script} is not executable for the daemon"),
        ("error", "there is no no-such-program"),
        ("error", "there is no /no/such/program"),
    ]
    script.chmod(0o755)
    assert len(found(read, text)) == 2


def test_what_is_told_here_is_not_told_twice(read: Reader) -> None:
    write(read, f'[hooks.c]\ncommand = ["no-such-program"]\n{RULE}')
    assert len(read().warnings) == 2
    _, told = files.configuration(read, None)
    assert [one for one in told if one.check == "config" and one.severity == "warning"] == []


@pytest.mark.parametrize(("module", "severity"), [("apprise", "error"), ("textual", "info")])
def test_missing_extras(read: Reader, monkeypatch: pytest.MonkeyPatch, module: str, severity: str) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else there(name))
    write(read, '[notify.targets.me]\nurl = "json://host.invalid"\n')
    _, told = files.configuration(read, None)
    (one,) = [one for one in told if module in one.explanation]
    assert (one.check, one.severity) == ("extras", severity)
    assert "pip install 'dlqueue[" in (one.cure or "")


async def test_notices_that_do_not_arrive(read: Reader, tmp_path: Path) -> None:
    def everybody(record: TaskRecord, event: str, at: float) -> list[Notice]:
        if event != "completed":
            return []
        return [
            Notice(one, targets.lane(one), "{}") for one in ("webhook:https://user:pw@host.invalid/token", "hook:mine")
        ]

    file = tmp_path / "queue.db"
    async with Queue([Quick], SqlStore(f"sqlite:///{file}")) as queue:
        queue.outbox.address(everybody)
        await queue.wait((await queue.submit("quick")).id)
        letters = await queue.outbox.letters(10)
        await queue.outbox.settle([Settled(one.id, time.time() + 60, "answered 500") for one in letters[:1]])
        inspection = Inspection(file)
        assert [one.explanation.partition(":")[0] for one in found(read, "", inspection)] == [
            "webhooks are sent without a signature"
        ]
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE outbox SET at = at - 7200")
        _, late = found(read, "", inspection)
    assert late.severity == "warning"
    assert late.explanation.startswith("2 notices have not arrived, the oldest for 2h: hook mine, webhook https://host")
    assert late.explanation.endswith("the last attempt: answered 500")
    assert "token" not in late.explanation and "pw" not in late.explanation


def test_a_database_that_knows_no_outbox_yet(read: Reader, tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE task (id INTEGER)")
    assert [one.severity for one in found(read, "", Inspection(file))] == ["ok"]
