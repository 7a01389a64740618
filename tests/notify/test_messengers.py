"""Messages through apprise, to a receiver on this machine."""

from __future__ import annotations

import builtins
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from dlqueue.notify import messengers, targets
from dlqueue.notify.failure import Failed
from tests.notify.receiver import Receiver, Reply

pytest.importorskip("apprise")

TASK = {
    "id": 7, "type": "remote_download", "owner": "alice", "error": None,
    "download": {"name": "big.iso", "location": "/srv/big.iso"},
}  # fmt: skip


def test_a_message_arrives() -> None:
    with Receiver() as receiver:
        messengers.send(f"json://127.0.0.1:{receiver.port}/x?cto=30&rto=30", *messengers.text("delivered", TASK))
        (got,) = receiver.got
    said = json.loads(got.body)
    assert said["title"] == "Downloaded: big.iso"
    assert said["message"] == "Where: /srv/big.iso\nTask 7, owner alice"


def test_what_it_says_of_a_failure() -> None:
    task = {**TASK, "download": {"name": "a"}, "error": {"kind": "http_404", "message": "HTTP 404", "at": ""}}
    assert messengers.text("error", task) == ("Failed: a", "Why: HTTP 404\nTask 7, owner alice")
    assert messengers.text("completed", {"id": 3, "type": "probe"}) == ("Completed: probe 3", "Task 3")


class Log(logging.Handler):
    """What reaches the log of the program."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()


@pytest.fixture
def log() -> Iterator[Log]:
    handler = Log()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_a_receiver_that_refuses(log: Log) -> None:
    with Receiver(lambda got: Reply(500)) as receiver:
        with pytest.raises(Failed, match="apprise could not send it") as raised:
            messengers.send(f"json://user:hunter22@127.0.0.1:{receiver.port}/tokentoken", "title", "body")
    assert not raised.value.final
    for secret in ("hunter22", "tokentoken"):
        assert secret not in raised.value.message + log.text


def test_a_url_that_is_none(log: Log) -> None:
    with pytest.raises(Failed, match="apprise cannot use this URL") as raised:
        messengers.send("nonsense://tokentoken/x", "title", "body")
    assert "tokentoken" not in raised.value.message + log.text


def test_without_apprise(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name == "apprise":
            raise ModuleNotFoundError("No module named 'apprise'")
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Failed, match=r"install dlqueue\[notify\]"):
        messengers.send("json://127.0.0.1/", "title", "body")


@pytest.mark.parametrize(
    ("target", "lane", "shown"),
    [
        ("webhook:https://me:pw@Host:8443/tok?a=b", "webhook:https://host:8443", "webhook https://host:8443/***"),
        ("hook:unpack", "hook:unpack", "hook unpack"),
        ("to:phone", "to:phone", "target phone"),
        ("url:tgram://token/chat", "url:tgram://token", "tgram://***"),
        ("webhook:http://[", "webhook:http", "webhook http/***"),
    ],
)
def test_targets_are_shown_without_secrets(target: str, lane: str, shown: str) -> None:
    assert (targets.lane(target), targets.shown(target)) == (lane, shown)
