"""Several URLs of one file: the next one helps out, and what does not belong together is never put together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from dlqueue.sdk import TransferState
from tests.plugins.http.conftest import Bench
from tests.webserver import WebServer, pattern

CONTENT = pattern(3_000_000)
OTHER = pattern(3_000_000, seed=1)
"""Of the same size."""
CUT = 1_000_000
CHECKSUM = f"sha-256={hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def second() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


def asked_from(server: WebServer, name: str) -> list[str]:
    return [request.headers["Range"] or "" for request in server.asked(name)]


def test_the_same_strong_etag_and_size_are_continued(bench: Bench, server: WebServer, second: WebServer) -> None:
    status = bench.fetch(server.put("f", CONTENT, cut=CUT), second.put("f", CONTENT))
    assert bench.content(status) == CONTENT
    (asked,) = asked_from(second, "f")
    assert asked.startswith("bytes=") and asked != "bytes=0-"
    assert second.served("f") < len(CONTENT)


@pytest.mark.parametrize(
    "how",
    [{}, {"if_range": False}, {"if_range": False, "etag": None}, {"if_range": False, "etag": '"first"'}],
    ids=["another ETag", "ignores If-Range", "no ETag", "the same ETag for another size"],
)
def test_other_content_is_begun_anew(bench: Bench, server: WebServer, second: WebServer, how: dict[str, Any]) -> None:
    other = OTHER[:-1] if how.get("etag") else OTHER
    status = bench.fetch(server.put("f", CONTENT, etag='"first"', cut=CUT), second.put("f", other, **how))
    assert bench.content(status) == other


def test_a_date_proves_nothing_to_another_mirror(bench: Bench, server: WebServer, second: WebServer) -> None:
    """Both say the same Last-Modified. What the first has sent is continued by the first only; when that brings nothing
    more, the second begins anew."""
    first = server.put("f", CONTENT, etag=None, cut=CUT)
    urls = first, second.put("f", OTHER, etag=None)
    assert bench.fetch(*urls).state is TransferState.ERROR, "it is tried again with the bytes that are there"
    assert second.requests == []
    server.pages["f"].status = 503
    assert bench.content(bench.fetch(*urls)) == OTHER
    assert asked_from(second, "f") == [""]


def test_a_checksum_lets_any_mirror_go_on(bench: Bench, server: WebServer, second: WebServer) -> None:
    urls = server.put("f", CONTENT, etag=None, cut=CUT), second.put("f", CONTENT, etag='"theirs"')
    assert bench.content(bench.fetch(*urls, checksum=CHECKSUM)) == CONTENT
    assert second.served("f") < len(CONTENT)


def test_a_mirror_with_other_content_is_passed_over(bench: Bench, server: WebServer, second: WebServer) -> None:
    urls = server.put("f", OTHER), second.put("f", CONTENT)
    assert bench.content(bench.fetch(*urls, checksum=CHECKSUM)) == CONTENT
    assert (len(server.asked("f")), asked_from(second, "f")) == (1, [""]), "nothing of the wrong one is used"


def test_a_mixture_that_is_wrong_is_fetched_from_one_alone(bench: Bench, server: WebServer, second: WebServer) -> None:
    """The first has sent the wrong beginning. That is no fault of the second."""
    urls = server.put("f", OTHER, cut=CUT), second.put("f", CONTENT)
    assert bench.content(bench.fetch(*urls, checksum=CHECKSUM)) == CONTENT
    assert [asked != "" for asked in asked_from(second, "f")] == [True, False]


def test_when_no_mirror_has_it_that_is_final(bench: Bench, server: WebServer, second: WebServer) -> None:
    urls = server.put("f", OTHER), second.put("f", OTHER)
    error = bench.error(*urls, checksum=CHECKSUM)
    assert (error.kind, error.final) == ("checksum", "request")
    assert "127.0.0.1" in error.message
    server.pages["f"].body = CONTENT
    assert bench.content(bench.fetch(*urls, checksum=CHECKSUM)) == CONTENT, "and nothing of it is used later"


def test_the_checksum_is_known_after_a_restart(bench: Bench, server: WebServer, second: WebServer) -> None:
    urls = server.put("f", OTHER, rate=2_000_000), second.put("f", CONTENT)
    bench.open()
    assert bench.engine is not None
    handle = bench.engine.create(bench.request(*urls, checksum=CHECKSUM), "0123456789abcdef")
    bench.until(lambda status: status.downloaded > 0)
    bench.reopen()
    assert bench.content(bench.end(handle)) == CONTENT


def test_of_a_single_url_the_core_says_so(bench: Bench, server: WebServer) -> None:
    assert bench.content(bench.fetch(server.put("f", OTHER), checksum=CHECKSUM)) == OTHER
