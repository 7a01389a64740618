"""One POST: what is in it, what its answers mean, and where it does not go."""

from __future__ import annotations

import base64
import email.utils
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from dlqueue.downloads.policy import PolicyRefused
from dlqueue.notify import webhooks
from dlqueue.notify.failure import Failed
from dlqueue.notify.plan import WebhookPolicy
from dlqueue.notify.signing import read_secret
from dlqueue.queue import InvalidTask
from tests.notify.receiver import Got, Receiver, Reply
from tests.serving import nobody

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ANYWHERE, OUTSIDE = WebhookPolicy(allow_private=True), WebhookPolicy(allow_private=False)


def send(url: str, body: bytes = b"{}", policy: WebhookPolicy = ANYWHERE, secret: str | None = SECRET) -> None:
    key = None if secret is None else read_secret(secret)
    webhooks.send(url, "msg_1", body, key, policy, time.time())


def refused(url: str, policy: WebhookPolicy = ANYWHERE) -> Failed:
    with pytest.raises(Failed) as raised:
        send(url, policy=policy)
    return raised.value


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def test_the_public_library_verifies_it(receiver: Receiver) -> None:
    body = '{"type":"task.completed","data":{"name":"größe"}}'.encode()
    send(receiver.url("a/b?c=d"), body)
    (got,) = receiver.got
    assert (got.path, got.body) == ("/a/b?c=d", body)
    assert got.headers["webhook-id"] == "msg_1"
    assert got.headers["content-type"] == "application/json"
    Webhook(SECRET).verify(got.body, got.headers)
    with pytest.raises(Exception, match="signature"):
        Webhook(SECRET).verify(got.body + b" ", got.headers)


def test_without_a_secret_it_is_not_signed(receiver: Receiver) -> None:
    send(receiver.url(), secret=None)
    assert "webhook-signature" not in receiver.got[0].headers


@pytest.mark.parametrize("text", ["", "whsec_", "abc", "whsec_!!!", base64.b64encode(b"x" * 32).decode()])
def test_what_is_no_secret(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        read_secret(text)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_arrived(status: int) -> None:
    with Receiver(lambda got: Reply(status)) as receiver:
        send(receiver.url())


@pytest.mark.parametrize(("status", "final"), [(400, False), (404, False), (410, True), (429, False), (500, False)])
def test_not_arrived(status: int, final: bool) -> None:
    with Receiver(lambda got: Reply(status)) as receiver:
        failure = refused(receiver.url("path-token"))
    assert (failure.final, failure.retry_after) == (final, None)
    assert f"HTTP {status}" in failure.message and "path-token" not in failure.message


def test_retry_after() -> None:
    later = email.utils.formatdate(time.time() + 90, usegmt=True)
    for given, low, high in (("120", 120.0, 120.0), (later, 80.0, 91.0)):

        def busy(got: Got, given: str = given) -> Reply:
            return Reply(503, {"Retry-After": given})

        with Receiver(busy) as receiver:
            after = refused(receiver.url()).retry_after
        assert after is not None and low <= after <= high
    with Receiver(lambda got: Reply(503, {"Retry-After": "soon"})) as receiver:
        assert refused(receiver.url()).retry_after is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    with Receiver(lambda got: Reply(status, {"Location": receiver.url()})) as first:
        failure = refused(first.url())
    assert "redirects are not followed" in failure.message and not failure.final
    assert receiver.got == []


PRIVATE = [
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "localhost", "10.0.0.1", "192.168.1.1", "169.254.169.254",
    "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fd00::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_refused_at_the_submit(host: str) -> None:
    with pytest.raises(PolicyRefused, match="allow_private") as raised:
        OUTSIDE.check_webhook(f"http://{host}/x", "notify.webhook")
    assert (raised.value.field, raised.value.kind) == ("notify.webhook", "address")
    ANYWHERE.check_webhook(f"http://{host}/x", "notify.webhook")


@pytest.mark.parametrize("url", ["ftp://h/x", "file:///etc/passwd", "json://h", "http://h/x y", "http:///x", "h/x"])
def test_what_is_no_webhook(url: str) -> None:
    with pytest.raises(InvalidTask):
        ANYWHERE.check_webhook(url, "notify.webhook")


def test_a_name_that_leads_inside_is_refused_when_connecting(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(answers: list[str]) -> Callable[..., list[Any]]:
        family = socket.AF_INET
        return lambda *given, **more: [(family, socket.SOCK_STREAM, 6, "", (one, receiver.port)) for one in answers]

    url = f"http://outside.example:{receiver.port}/x"
    OUTSIDE.check_webhook(url, "webhook")
    monkeypatch.setattr(socket, "getaddrinfo", resolve(["127.0.0.1"]))
    assert "127.0.0.1 is not public (notify.allow_private is false)" in refused(url, OUTSIDE).message
    assert receiver.got == []
    send(url)
    assert len(receiver.got) == 1, "allowed, it is the same way"


def test_nobody_there() -> None:
    with nobody() as address:
        assert "connection refused" in refused(f"http://{address}/x").message


def test_a_receiver_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never silent, and never comes to an end."""
    monkeypatch.setattr(webhooks, "SECONDS_MAX", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                    while True:
                        connection.sendall(b"x: y\r\n")
                        connection.recv(1 << 16)
                        threading.Event().wait(0.02)
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        failure = refused(f"http://127.0.0.1:{server.getsockname()[1]}/")
    assert not failure.final


def test_a_certificate_is_verified(tmp_path: Any) -> None:
    """A plain server is none that TLS can be spoken to."""
    with Receiver() as receiver:
        assert not refused(f"https://127.0.0.1:{receiver.port}/x").final
        assert receiver.got == []
