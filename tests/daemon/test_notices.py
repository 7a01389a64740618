"""Notices of a real daemon: over kill -9, a stop, a reload; with the command line as a person uses it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from dlqueue.client import RpcError
from dlqueue.protocol.errors import Code
from tests.daemon.instance import Instance, fake_section, until
from tests.notify.receiver import Receiver

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
URL = "http://host.invalid/file.bin"


def runs(process: int) -> bool:
    """Is there such a process that has not ended? Nobody may have asked yet how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def section(folder: Path, more: str = "") -> str:
    return f'{fake_section(folder)}[notify]\nallow_private = true\nwebhook_secret = "{SECRET}"\n{more}'


@pytest.mark.parametrize("point", ["notify", "notified"])
def test_killed_between_the_commit_and_the_delivery(tmp_path: Path, point: str) -> None:
    with Receiver() as receiver, Instance(tmp_path, section(tmp_path)) as daemon:
        daemon.start(failpoint=point)
        number = daemon.add(URL, notify={"webhook": receiver.url()})
        daemon.wait_killed()
        before = len(receiver.got)
        assert before == (1 if point == "notified" else 0)
        daemon.start()
        got = receiver.wait(before + 1)
        until(lambda: daemon.call("tasks.history", id=number)["notices"] == [], "it has arrived")
        assert len(receiver.got) == before + 1
    assert len({one.headers["webhook-id"] for one in got}) == 1
    for one in got:
        message = Webhook(SECRET).verify(one.body, one.headers)
        assert message["type"] == "task.delivered"
        assert message["data"]["id"] == number and message["data"]["status"] == "completed"
        assert message["data"]["download"]["location"] == str(daemon.destination / "file.bin")


def test_a_hook_that_a_stop_interrupts_runs_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = tmp_path / "hook"
    script.write_text(f"#!/bin/sh\ncat > {out}.json\necho $$ >> {out}\n[ -e {tmp_path}/quick ] || exec sleep 300\n")
    script.chmod(0o755)
    config = f'{fake_section(tmp_path)}[hooks.mine]\ncommand = ["{script}"]\n'
    with Instance(tmp_path, config) as daemon:
        daemon.start()
        added = daemon.cli("add", "-q", URL, "--on-done", "mine")
        number = int(added.stdout)
        until(lambda: out.exists() and out.read_text(), "the hook runs")
        assert daemon.stop() == 0
        pid = int(out.read_text())
        until(lambda: not runs(pid), "what was killed has ended")
        (tmp_path / "quick").touch()
        daemon.start()
        until(lambda: daemon.call("tasks.history", id=number)["notices"] == [], "it has run")
        assert len(out.read_text().split()) == 2
        given = json.loads(Path(f"{out}.json").read_text())
        assert (given["id"], given["status"]) == (number, "completed")


def test_a_reload_brings_hooks_and_lets_webhooks_go_inside(tmp_path: Path) -> None:
    with Receiver() as receiver, Instance(tmp_path, fake_section(tmp_path)) as daemon:
        daemon.start()
        with pytest.raises(RpcError) as raised:
            daemon.add(URL, notify={"webhook": receiver.url()})
        assert (raised.value.code, raised.value.field) == (Code.POLICY, "notify.webhook")
        refused = daemon.cli("add", URL, "--webhook", receiver.url())
        assert refused.returncode == 7 and "allow_private" in refused.stderr
        assert daemon.cli("notify", "test", "mine").returncode == 4
        more = '[notify]\nallow_private = true\n[hooks.mine]\ncommand = ["true"]\n'
        daemon.config.write_text(daemon.config.read_text() + more)
        assert daemon.cli("config", "reload").returncode == 0
        assert daemon.cli("notify", "test", "mine").returncode == 0
        added = daemon.cli("get", URL, "--webhook", receiver.url())
        assert added.returncode == 0, added.stderr
        assert json.loads(receiver.wait(1)[0].body)["type"] == "task.delivered"
        assert daemon.cli("notify", "test", receiver.url()).stdout.split("\t")[1] == "ok"
        assert daemon.cli("notify", "test", "http://127.0.0.1:1/tokentoken").returncode == 1


def test_no_secret_in_the_log(tmp_path: Path) -> None:
    more = '[notify.targets.phone]\nurl = "json://user:hunter22@127.0.0.1:1/tokentoken"\n'
    with Instance(tmp_path, section(tmp_path, more)) as daemon:
        daemon.start()
        number = daemon.add(URL, notify={"to": ["phone"], "webhook": "http://127.0.0.1:1/othertoken"})
        daemon.finished(number)

        def tried() -> bool:
            notices = daemon.call("tasks.history", id=number)["notices"]
            return len(notices) == 2 and all(notice["attempts"] for notice in notices)

        until(tried, "both have been tried")
        shown = daemon.cli("show", str(number)).stdout
        assert "notices that have not arrived" in shown
        assert daemon.stop() == 0
        told = shown + daemon.log.read_text() + str(daemon.log_lines())
    for secret in ("hunter22", "tokentoken", "othertoken", SECRET):
        assert secret not in told
