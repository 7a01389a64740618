"""`dlqueue token`."""

from __future__ import annotations

import json

from tests.cli.conftest import Run
from tests.transports.stub_service import StubDaemon


def test_new_shows_the_token_once_as_the_last_word(daemon: StubDaemon, dlqueue: Run) -> None:
    code, out, err = dlqueue("token", "new", "phone", "--role", "operate")
    assert (code, out) == (0, "phone (operate): dlq_secret\n")
    assert "not shown again" in err
    assert "http.listen" in err
    daemon.service.url = "http://127.0.0.1:8787"
    assert dlqueue("token", "new", "a", "--role", "read", "-q") == (0, "dlq_secret\n", "")
    assert "http://127.0.0.1:8787" in dlqueue("token", "new", "b", "--role", "read")[2]
    assert json.loads(dlqueue("token", "new", "c", "--role", "read", "--json")[1])["token"] == "dlq_secret"


def test_ls_and_revoke(daemon: StubDaemon, dlqueue: Run) -> None:
    dlqueue("token", "new", "phone", "--role", "read", "-q")
    assert dlqueue("token", "ls")[1].split("\t")[:2] == ["phone", "read"]
    assert json.loads(dlqueue("token", "ls", "--json")[1])[0]["name"] == "phone"
    code, out, err = dlqueue("token", "revoke", "nobody", "phone")
    assert (code, out) == (4, "phone\trevoked\n")
    assert "nobody" in err
    assert "dlqueue token ls" in err
    assert dlqueue("token", "ls")[:2] == (0, "")


def test_mistakes(daemon: StubDaemon, dlqueue: Run) -> None:
    assert dlqueue("token", "new", "phone")[0] == 2
    assert dlqueue("token", "new", "phone", "--role", "root")[0] == 2
    assert dlqueue("token", "mak")[0] == 2
