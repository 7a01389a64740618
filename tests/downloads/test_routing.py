"""Who may fetch what, in which order, and who takes it now."""

from __future__ import annotations

from typing import Any

import pytest

from dlqueue.downloads.request import DownloadParams
from dlqueue.downloads.routing import Choice, Condition, Rule, choose, facts_of, find_route
from tests.downloads.puppet import Puppet

GIB = 1 << 30
UP, FULL, DOWN, PAUSED = (
    Condition(False, False, 1),
    Condition(False, False, 0),
    Condition(True, False, 5),
    Condition(False, True, 5),
)


class Web(Puppet):
    kind = "http"


class Ftp(Puppet):
    kind = "ftp"
    schemes = frozenset({"ftp"})


class Torrents(Puppet):
    kind = "torrents"
    schemes = frozenset({"magnet", "torrent"})


EVERY: dict[str, type[Puppet]] = {"aria": Puppet, "tor": Torrents, "web": Web, "box": Puppet, "net": Web}


def download(*urls: str, **more: Any) -> DownloadParams:
    return DownloadParams(urls=urls, directory="/", root="/", **more)


def matches(rule: Rule, params: DownloadParams, owner: str = "", **labels: list[str]) -> bool:
    return rule.matches(facts_of(params, owner, labels))


# -- the default order ------------------------------------------------------------------------------------------------


def order(urls: tuple[str, ...], configured: dict[str, type[Puppet]], wanted: str | None = None) -> tuple[str, ...]:
    return find_route(facts_of(download(*urls, downloader=wanted)), (), configured).names


def test_the_default_order() -> None:
    assert order(("http://a/", "https://b/"), EVERY) == ("web", "net", "aria", "box")
    assert order(("HTTP://a/",), EVERY) == ("web", "net", "aria", "box")
    assert order(("magnet:?x",), EVERY) == ("tor",)
    assert order(("http://a/",), EVERY, "box") == ("box",)
    assert order(("http://a/",), EVERY, "tor") == ()
    assert order(("http://a/",), EVERY, "none") == ()
    assert order(("ftp://a/",), EVERY) == ()


@pytest.mark.parametrize("url", ["http://a/x.torrent", "https://a/x.TORRENT?key=1", "http://a/x.torrent#f"])
def test_the_url_of_a_torrent(url: str) -> None:
    """It is a file like others, unless somebody wants what it describes, or nobody fetches files."""
    assert order((url,), EVERY) == ("web", "net", "aria", "box")
    assert order((url,), EVERY, "tor") == ("tor",)
    assert order((url,), {"tor": Torrents, "net": Ftp}) == ("tor",)
    found = find_route(facts_of(download(url)), [Rule(("tor", "box"), url=("*.torrent*",))], EVERY)
    assert found.names == ("tor", "box")
    for other in ("http://a/x.torrents", "http://a/?x.torrent", "ftp://a/x.torrent"):
        assert order((other,), EVERY, "tor") == ()
    assert order((url, "http://a/x.iso"), EVERY, "tor") == ()


def test_all_mirrors_must_be_possible() -> None:
    every: dict[str, type[Puppet]] = {"web": Web, "ftp": Ftp}
    assert order(("http://a/", "ftp://a/"), every) == ()
    assert order(("ftp://a/",), every) == ("ftp",)


# -- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        ({"scheme": ("http",)}, download("HTTP://a/"), download("ftp://a/")),
        ({"host": ("a.example",)}, download("http://u:p@A.example:80/x"), download("http://b.example/a.example")),
        ({"host": ("*.example",)}, download("http://a.b.example/"), download("http://example/")),
        ({"host": ("b",)}, download("http://a/", "http://b/"), download("magnet:?b")),
        ({"url": ("*.iso",)}, download("http://a/X.ISO?token=1"), download("http://a/x.img")),
        ({"url": ("*token=1",)}, download("http://a/x?token=1"), download("http://a/x")),
        ({"url": ("*.torrent",)}, download(torrent="f", title="Name"), download(metalink="f", title="Name")),
        ({"type": ("torrent",)}, download("magnet:?x"), download("http://a/x.iso")),
        ({"type": ("torrent",)}, download("http://a/x.torrent"), download("http://a/torrent")),
        ({"type": ("torrent",)}, download(torrent="f"), download(metalink="f")),
        ({"type": ("iso", "img")}, download("http://a/x.img"), download("http://a/x.zip")),
        ({"type": ("iso",)}, download("http://a/get?id=1", name="x.iso"), download("http://a/get?id=1")),
        ({"type": ("video/*",)}, download("http://a/x.mp4"), download("http://a/x.mp3")),
        ({"type": ("audio",)}, download("http://a/x.mp3"), download("http://a/x.mp4")),
        ({"size": ((GIB, None),)}, download(torrent="f", size=GIB), download(torrent="f", size=GIB - 1)),
        ({"size": ((0, 9), (50, 60))}, download(torrent="f", size=55), download(torrent="f", size=10)),
        ({"size": ((0, None),)}, download(torrent="f", size=0), download("http://a/x")),
    ],
)  # fmt: skip
def test_one_condition(rule: dict[str, Any], yes: DownloadParams, no: DownloadParams) -> None:
    assert matches(Rule((), **rule), yes)
    assert not matches(Rule((), **rule), no)


def test_tags_and_owners() -> None:
    params = download("http://a/")
    assert matches(Rule((), tag=("linux", "bsd")), params, tag=["bsd", "x"])
    assert not matches(Rule((), tag=("linux",)), params, tag=["Linux"], other=["linux"])
    assert matches(Rule((), owner=("alice", "bob")), params, "bob")
    assert not matches(Rule((), owner=("alice",)), params, "bob")


def test_any_condition_is_enough_or_all_must_hold() -> None:
    torrents = Rule((), scheme=("magnet",), url=("*.torrent",))
    assert matches(torrents, download("magnet:?x"))
    assert matches(torrents, download("http://a/x.torrent"))
    assert not matches(torrents, download("http://a/x"))
    both = Rule((), host=("a",), owner=("bob",), all=True)
    assert matches(both, download("http://a/"), "bob")
    assert not matches(both, download("http://b/"), "bob")
    assert not matches(both, download("http://a/"), "alice")


def test_a_rule_without_conditions_is_for_everything() -> None:
    for every in (False, True):
        assert matches(Rule((), all=every), download("magnet:?x"))


# -- routes -----------------------------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_decides() -> None:
    rules = [Rule(("box", "aria", "gone", "box"), host=("a",)), Rule(("web",))]
    route = find_route(facts_of(download("http://a/")), rules, EVERY)
    assert (route.names, route.rule, route.title, route.shares) == (("box", "aria"), 1, "route 1", True)
    assert route.left_out == dict.fromkeys(("tor", "web", "net"), "not in route 1 (use = box, aria, gone, box)")
    route = find_route(facts_of(download("http://b/")), rules, EVERY)
    assert (route.names, route.rule) == (("web",), 2)


def test_a_rule_whose_downloaders_cannot_do_it_leaves_nobody() -> None:
    route = find_route(facts_of(download("http://a/")), [Rule(("tor",)), Rule(("web",))], EVERY)
    assert (route.names, route.rule) == ((), 1)
    assert route.left_out["tor"] == "cannot fetch http"


def test_who_was_named_is_beyond_all_rules() -> None:
    route = find_route(facts_of(download("http://a/", downloader="box")), [Rule(("web",))], EVERY)
    assert (route.names, route.rule, route.shares) == (("box",), None, False)
    assert route.left_out["web"] == "box was asked for by name"


# -- now --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [False, True])
def test_the_first_that_is_up_and_not_paused(shares: bool) -> None:
    now = {"a": DOWN, "b": PAUSED, "c": UP, "d": UP}
    assert choose("abcd", now, shares) == Choice("c")
    assert choose("d", now, shares) == Choice("d")
    assert choose("", now, shares) == Choice(None, "route")
    assert choose("b", now, shares) == Choice(None, "paused", ("b",))
    assert choose("ba", now, shares) == Choice(None, "downloader", ("a",))


def test_a_full_one_is_passed_over_in_a_route_only() -> None:
    now = {"a": FULL, "b": UP, "c": FULL, "d": DOWN}
    assert choose("dab", now, True) == Choice("b")
    assert choose("dab", now, False) == Choice(None, "slot", ("a",))
    assert choose("dac", now, True) == Choice(None, "slot", ("a", "c"))
