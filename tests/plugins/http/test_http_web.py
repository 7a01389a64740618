"""Redirects, policy, credentials, names, mirrors, kept connections, segments: what goes over the wire."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dlqueue.sdk import Handle, TransferState
from dlqueue_http import fetch
from tests.plugins.http.conftest import KEY, Bench
from tests.webserver import WebServer, pattern

CONTENT = pattern(100_000)


def test_follows_redirects_and_asks_the_policy_at_every_hop(bench: Bench, server: WebServer) -> None:
    last = server.put("last.bin", CONTENT)
    middle = server.put("middle", redirect="/last.bin")
    first = server.put("first", redirect=middle)
    status = bench.fetch(first)
    assert bench.content(status) == CONTENT
    assert status.name == "last.bin"
    assert bench.asked_urls == [first, middle, last]
    assert set(bench.asked_addresses) == {"127.0.0.1"}


def test_the_policy_can_refuse_the_second_hop(bench: Bench, server: WebServer) -> None:
    hidden = server.put("hidden", CONTENT)
    bench.refused_urls.add(hidden)
    error = bench.error(server.put("first", redirect=hidden))
    assert (error.kind, error.final) == ("policy", "request")
    assert server.asked("hidden") == []


def test_the_policy_can_refuse_the_address(bench: Bench, server: WebServer) -> None:
    bench.refused_addresses.add("127.0.0.1")
    url = server.put("f", CONTENT).replace("127.0.0.1", "localhost")
    bench.refused_addresses.add("::1")
    error = bench.error(url)
    assert (error.kind, error.final) == ("policy", "request")
    assert server.connections == 0


def test_gives_up_in_a_circle(bench: Bench, server: WebServer) -> None:
    error = bench.error(server.put("loop", redirect="/loop"))
    assert (error.kind, error.final) == ("redirects", "request")
    assert len(server.asked("loop")) == 21


def test_credentials_do_not_go_to_another_origin(bench: Bench, server: WebServer) -> None:
    secrets = {"Authorization": "Bearer s", "Cookie": "s=s", "X-Api-Key": "s"}
    with WebServer() as stranger:
        there = stranger.put("there", redirect=server.put("back", CONTENT))
        here = server.put("here", redirect=there)
        status = bench.fetch(here, headers=secrets | {"Accept-Language": "de"})
        assert bench.content(status) == CONTENT
        (asked,) = stranger.requests
        assert not set(secrets) & set(asked.headers.keys())
        assert asked.headers["Accept-Language"] == "de"
        for own in server.requests:
            assert {name: own.headers[name] for name in secrets} == secrets


def test_user_and_password_in_the_url(bench: Bench, server: WebServer) -> None:
    expected = "Basic " + base64.b64encode(b"us@er:p:w").decode()
    url = server.put("f", CONTENT, need={"Authorization": expected})
    assert bench.error(url).kind == "http_401"
    assert bench.engine is not None
    bench.engine.remove(Handle(KEY), delete_data=True)
    assert bench.content(bench.fetch(url.replace("http://", "http://us%40er:p%3Aw@"))) == CONTENT


def test_user_and_password_do_not_follow_a_redirect(bench: Bench, server: WebServer) -> None:
    with WebServer() as stranger:
        url = server.put("f", redirect=stranger.put("g", CONTENT)).replace("http://", "http://user:secret@")
        assert bench.content(bench.fetch(url)) == CONTENT
        assert stranger.requests[0].headers["Authorization"] is None


def test_asks_for_content_as_it_is(bench: Bench, server: WebServer) -> None:
    bench.fetch(server.put("f", CONTENT))
    headers = server.requests[0].headers
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("dlqueue/")


@pytest.mark.parametrize("how", [{"options": {"user-agent": "mine"}}, {"headers": {"user-agent": "mine"}}])
def test_the_user_agent_can_be_chosen(bench: Bench, server: WebServer, how: dict[str, dict[str, str]]) -> None:
    bench.fetch(server.put("f", CONTENT), **how)
    assert server.requests[0].headers.get_all("User-Agent") == ["mine"]


@pytest.mark.parametrize(
    "how", [{"chunked": True}, {"endless": True}, {"gzip": True}, {"gzip": True, "chunked": True}, {"ranges": False}]
)
def test_other_ways_to_send_a_body(bench: Bench, server: WebServer, how: dict[str, bool]) -> None:
    status = bench.fetch(server.put("f", CONTENT, **how))
    assert bench.content(status) == CONTENT
    assert status.total == status.downloaded == len(CONTENT)


def test_an_archive_labelled_as_packed_stays_packed(bench: Bench, server: WebServer) -> None:
    status = bench.fetch(server.put("f.tar.gz", CONTENT, gzip=True))
    assert bench.content(status)[:2] == b"\x1f\x8b"


def test_an_empty_file(bench: Bench, server: WebServer) -> None:
    status = bench.fetch(server.put("f", b""))
    assert bench.content(status) == b""
    assert (status.total, status.downloaded) == (0, 0)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="report.pdf"', "report.pdf"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename*=UTF-8''%e2%82%ac%20rates.txt", "€ rates.txt"),
        ('attachment; filename=".."', "url-name.bin"),
        ("inline", "url-name.bin"),
    ],
)
def test_the_name_from_the_server(bench: Bench, server: WebServer, disposition: str, name: str) -> None:
    url = server.put("a/url-name.bin", CONTENT, headers={"Content-Disposition": disposition})
    status = bench.fetch(url + "?name=query.txt")
    assert status.name == name
    assert [path.name for path in (bench.folder / "transfer").iterdir()] == [name]


def test_the_name_that_the_user_asked_for(bench: Bench, server: WebServer) -> None:
    url = server.put("f", CONTENT, headers={"Content-Disposition": 'attachment; filename="theirs"'})
    assert bench.fetch(url, name="mine").content == (str(bench.folder / "transfer" / "mine"),)


def test_the_next_mirror_when_one_fails(bench: Bench, server: WebServer) -> None:
    with WebServer() as other:
        status = bench.fetch(server.url("missing"), other.put("f", status=503), server.put("f", CONTENT))
        assert bench.content(status) == CONTENT


def test_mirrors_fail_with_the_error_that_leaves_hope(bench: Bench, server: WebServer) -> None:
    error = bench.error(server.url("missing"), server.put("f", status=503), server.put("g", status=410))
    assert (error.kind, error.final) == ("http_503", None)


def test_mirrors_fail_for_good_when_all_do(bench: Bench, server: WebServer) -> None:
    assert bench.error(server.url("missing"), server.put("g", status=410)).final == "request"


def test_many_small_files_share_few_connections(bench: Bench, server: WebServer) -> None:
    engine = bench.open()
    waiting: dict[Handle, Path] = {}
    todo = [f"{number:016x}" for number in range(200)]
    for key in todo:
        server.put(key, key.encode() * 100)
    while todo or waiting:
        while todo and len(waiting) < 4:
            key = todo.pop()
            request = bench.request(server.url(key))
            waiting[engine.create(request, key)] = request.directory / key
        for handle, status in engine.poll(list(waiting)).items():
            assert status.state is not TransferState.ERROR, status.error
            if status.state is TransferState.COMPLETED:
                assert waiting.pop(handle).read_bytes() == handle.id.encode() * 100
    assert len(server.requests) == 200
    assert server.connections <= 8


def test_a_kept_connection_that_the_server_gave_up_is_replaced(bench: Bench, server: WebServer) -> None:
    bench.fetch(server.put("f", CONTENT))
    url = server.put("g", CONTENT, once=True)
    assert bench.engine is not None
    bench.engine.remove(Handle(KEY), delete_data=True)
    assert bench.content(bench.fetch(url)) == CONTENT
    assert server.connections == 2
    assert len(server.asked("g")) == 2


def test_several_connections_for_a_large_file(bench: Bench, server: WebServer) -> None:
    content = pattern(12 * 1024 * 1024 + 12345)
    url = server.put("f", content, rate=4_000_000)
    status = bench.fetch(url, config={"split_after": 0.0, "min_segment": 1024 * 1024})
    assert bench.content(status) == content
    asked = server.asked("f")
    assert server.connections >= 3
    assert asked[0].headers["Range"] is None
    assert all(each.headers["If-Range"] and each.headers["Range"] for each in asked[1:])


@pytest.mark.parametrize("how", [{"accept_ranges": False}, {"etag": None, "modified": False}, {"ranges": False}])
def test_one_connection_where_parts_are_not_proven(bench: Bench, server: WebServer, how: dict[str, object]) -> None:
    content = pattern(4 * 1024 * 1024)
    url = server.put("f", content, rate=4_000_000, **how)
    status = bench.fetch(url, config={"split_after": 0.0, "min_segment": 1024 * 1024})
    assert bench.content(status) == content
    assert len(server.asked("f")) == 1


def test_a_server_that_promises_parts_and_does_not_send_them(bench: Bench, server: WebServer) -> None:
    content = pattern(4 * 1024 * 1024)
    url = server.put("f", content, rate=3_000_000, ranges=False, headers={"Accept-Ranges": "bytes"})
    status = bench.fetch(url, config={"split_after": 0.0, "min_segment": 1024 * 1024})
    assert bench.content(status) == content
    # The first connection went on through what nobody else could fetch.
    assert [each.headers["Range"] for each in server.asked("f")].count(None) == 1


@pytest.fixture
def helped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[[], fetch.Run]:
    """A transfer has one connection, however long that takes, until this is called: then its next piece calls help."""
    monkeypatch.setattr(fetch, "SAVE_AFTER", 3600.0)

    def begin() -> fetch.Run:
        assert bench.engine is not None
        run = bench.engine.transfers[KEY]._run
        assert run is not None
        run._next_save = 0.0
        return run

    return begin


def test_a_server_that_allows_one_connection(bench: Bench, server: WebServer, helped: Callable[[], fetch.Run]) -> None:
    content = pattern(4 * 1024 * 1024)
    gate = threading.Event()
    url = server.put("f", content, gate=gate, gate_at=500_000, rate=4_000_000)
    engine = bench.open(split_after=0.0, min_segment=1024 * 1024)
    engine.create(bench.request(url), KEY)
    bench.until(lambda status: status.downloaded == 500_000)
    page = server.pages["f"]
    page.status, page.rate = 403, 200_000  # the first is still on its way when the second is refused
    run = helped()
    gate.set()
    bench.until(lambda _: len(server.asked("f")) > 1 and run._active == 1)
    page.rate = None
    assert bench.content(bench.end()) == content


def test_a_failure_among_several_connections_is_tried_again_with_one(
    bench: Bench, server: WebServer, helped: Callable[[], fetch.Run]
) -> None:
    content = pattern(4 * 1024 * 1024)
    gate = threading.Event()
    url = server.put("f", content, gate=gate, gate_at=500_000)
    engine = bench.open(split_after=0.0, min_segment=1024 * 1024, connections=2)
    engine.create(bench.request(url), KEY)
    bench.until(lambda status: status.downloaded == 500_000)
    page = server.pages["f"]
    page.status, page.failures, page.cut, page.cuts, page.rate = 403, 1, 2_000_000, 1, 4_000_000
    helped()
    gate.set()
    assert bench.content(bench.end()) == content
    assert page.failures == page.cuts == 0


def test_the_number_of_connections_can_be_chosen(bench: Bench, server: WebServer) -> None:
    content = pattern(4 * 1024 * 1024)
    url = server.put("f", content, rate=4_000_000)
    config = {"split_after": 0.0, "min_segment": 1024 * 1024}
    assert bench.content(bench.fetch(url, config=config, options={"connections": "1"})) == content
    assert len(server.asked("f")) == 1


def test_speed_and_progress_are_shown(bench: Bench, server: WebServer) -> None:
    engine = bench.open()
    gate = threading.Event()
    handle = engine.create(bench.request(server.put("f", pattern(1_000_000), gate=gate, gate_at=500_000)), KEY)
    status = bench.until(lambda status: status.download_speed > 0)
    assert (status.total, status.name) == (1_000_000, "f")
    (file,) = engine.files(handle)
    assert 0 <= file.progress < 100
    gate.set()
    assert bench.end().download_speed == 0
