""".torrent files that are fetched for downloaders that want the file."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlqueue.downloads import fetch
from dlqueue.downloads.fetch import fetch_torrent
from dlqueue.downloads.policy import Policy
from dlqueue.sdk import Rejected
from tests.plugins.aria2.swarm import make_torrent
from tests.serving import nobody
from tests.webserver import WebServer

TORRENT = make_torrent("file.bin", b"content").content
PATIENCE = 20.0
OPEN = Policy(frozenset({"http", "https", "magnet"}), True, ())


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as made:
        yield made


def refused(*urls: str, policy: Policy = OPEN, headers: dict[str, str] | None = None) -> Rejected:
    with pytest.raises(Rejected) as caught:
        fetch_torrent(urls, headers or {}, policy)
    assert "secret" not in caught.value.message and "\n" not in caught.value.message
    return caught.value


def test_it_is_fetched(server: WebServer) -> None:
    url = server.put("a.torrent", TORRENT, need={"X-Key": "secret"})
    assert fetch_torrent((url,), {"X-Key": "secret"}, OPEN) == TORRENT
    assert refused(url).kind == "http_403"


def test_user_and_password_of_the_url(server: WebServer) -> None:
    url = server.put("a.torrent", TORRENT, need={"Authorization": "Basic bWU6c2VjcmV0"})
    assert fetch_torrent((url.replace("//", "//me:secret@"),), {}, OPEN) == TORRENT


@pytest.mark.parametrize(
    ("status", "final"),
    [(404, "request"), (410, "request"), (401, "request"), (503, None), (429, None), (500, None)],
)
def test_an_answer_that_is_none(server: WebServer, status: int, final: str | None) -> None:
    error = refused(server.put("a.torrent", TORRENT, status=status, headers={"Retry-After": "7"}))
    assert (error.final, error.kind) == (final, f"http_{status}") and str(status) in error.message
    assert error.retry_after == (7.0 if status in (429, 503) else None)


@pytest.mark.parametrize("body", [b"", b"<html>not here</html>", b"d4:infod6:lengthi1eee", TORRENT[:-5]])
def test_what_is_no_torrent(server: WebServer, body: bytes) -> None:
    error = refused(server.put("a.torrent", body))
    assert (error.final, error.kind) == ("request", "bad_torrent") and "not a .torrent file" in error.message


def test_too_large(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SIZE_MAX", 1 << 20)
    error = refused(server.put("a.torrent", b"x" * (1 << 20) + b"x", chunked=True))
    assert (error.final, error.kind) == ("request", "bad_torrent") and "larger than 1 MiB" in error.message


def test_one_that_drips_is_given_up(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SECONDS_MAX", 0.2)
    began = time.monotonic()
    error = refused(server.put("a.torrent", TORRENT * 1000, rate=2_000))
    assert (error.final, error.kind) == (None, "timeout")
    assert time.monotonic() - began < 20


def test_one_that_drips_its_head_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never silent, and never says anything."""
    monkeypatch.setattr(fetch, "SECONDS_MAX", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            reached.set()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                for _ in range(2000):
                    connection.sendall(b"x")
                    time.sleep(0.01)

        reached = threading.Event()
        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        error = refused(f"http://127.0.0.1:{listener.getsockname()[1]}/a.torrent")
        assert (error.final, error.kind) == (None, "timeout") and "within 1.5 s" in error.message
        if reached.is_set():  # else the time was up before it was asked, on a machine that is so slow
            dripping.join(PATIENCE)
            assert not dripping.is_alive(), "it was cut off"


def test_one_that_hangs_is_given_up(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE_MAX", 0.2)
    assert (refused(server.put("a.torrent", TORRENT, hang=True)).kind) == "timeout"


def test_a_name_that_is_not_resolved_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver hangs for as long as it likes: nobody waits for it."""
    monkeypatch.setattr(fetch, "SECONDS_MAX", 0.2)
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answered.wait(PATIENCE) and [])
    try:
        error = refused("http://slow.example/a.torrent")
    finally:
        answered.set()
    assert (error.final, error.kind) == (None, "dns") and "slow.example was not resolved in time" in error.message


def test_a_name_with_many_addresses_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SECONDS_MAX", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        place = full.getsockname()
        # Nobody accepts: when the backlog is full a further connect hangs.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(place)
        try:
            many = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place)] * 1000
            monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: many)
            error = refused("http://many.example/a.torrent")
        finally:
            for one in waiting:
                one.close()
    assert (error.final, error.kind) == (None, "timeout") and "within 0.5 s" in error.message


def test_a_cut_answer_is_passing(server: WebServer) -> None:
    assert refused(server.put("a.torrent", TORRENT, cut=10)).final is None


def test_nobody_there() -> None:
    with nobody() as address:
        url = f"http://{address}/a.torrent"
        assert (refused(url).final, refused(url).kind) == (None, "connection")


def test_mirrors(server: WebServer) -> None:
    gone = server.put("gone.torrent", b"", status=404)
    away = server.put("away.torrent", b"", status=503)
    good = server.put("good.torrent", TORRENT)
    assert fetch_torrent((gone, away, good), {}, OPEN) == TORRENT
    assert refused(gone, away).kind == "http_503", "one of them may come back"


def test_headers_go_to_nobody_else(server: WebServer) -> None:
    with WebServer() as other:
        target = other.put("b.torrent", TORRENT)
        url = server.put("a.torrent", b"", redirect=target)
        assert fetch_torrent((url,), {"X-Key": "secret", "Accept-Language": "de"}, OPEN) == TORRENT
        (asked,) = other.requests
        assert "X-Key" not in asked.headers and asked.headers["Accept-Language"] == "de"


def test_redirects_are_checked_and_come_to_an_end(server: WebServer) -> None:
    loop = server.put("loop.torrent", b"", redirect=server.url("loop.torrent"))
    assert refused(loop).kind == "redirects"
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/a.torrent"):
        away = server.put("away.torrent", b"", redirect=target)
        assert refused(away).kind == "bad_redirect"
    only = Policy(frozenset({"https", "magnet"}), True, ())
    assert refused(server.put("a.torrent", TORRENT), policy=only).kind == "policy"


def test_addresses_are_checked(server: WebServer, tmp_path: Path) -> None:
    public = Policy(frozenset({"http", "https", "magnet"}), False, (tmp_path,))
    url = server.put("a.torrent", TORRENT)
    asked = len(server.requests)
    assert (refused(url, policy=public).kind, refused(url, policy=public).final) == ("policy", "request")
    # By a name that resolves to it, too: here the check of the URL itself sees nothing.
    resolves = pytest.MonkeyPatch()
    try:
        resolves.setattr(socket, "getaddrinfo", lambda *a, **k: [(2, 1, 6, "", ("127.0.0.1", server.port))])
        assert refused(url.replace("127.0.0.1", "host.example"), policy=public).kind == "policy"
    finally:
        resolves.undo()
    assert len(server.requests) == asked, "nothing was connected to"
