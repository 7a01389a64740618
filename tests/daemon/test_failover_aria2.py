"""Two aria2 and one of them dead: delivered by the other, the ledger says why, and the dead one is left clean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.aria2_world import Valve, command, delivered_files, staging_left
from tests.daemon.instance import Instance, as_json, counted, until
from tests.plugins.aria2.live import Aria2
from tests.webserver import WebServer, pattern

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Pair:
    daemon: Instance
    one: Aria2
    two: Aria2
    server: WebServer

    def attempts(self, number: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.daemon.task(number)["download"]["attempts"]
        return found

    def ledger(self, number: int) -> list[tuple[str, str | None, str | None]]:
        return [(one["downloader"], one["error_class"], one["next"]) for one in self.attempts(number)]

    def handle(self, number: int) -> str:
        def gid() -> str:
            return str((self.daemon.task(number)["download"]["handle"] or {}).get("id") or "")

        until(gid, f"task {number} has a transfer")
        return gid()

    def delivered_once(self, number: int, body: bytes) -> None:
        done = self.daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert done["download"]["downloader"] == "two"
        assert list(delivered_files(self.daemon).values()) == [body]

    def left_clean(self, body: bytes) -> None:
        """The first is back: nothing of ours is in it, nothing revives it, and there is one file."""
        until(lambda: not self.one.gids(), "nothing is left in the first")
        until(lambda: not staging_left(self.daemon), "nothing is left in staging")
        self.one.restart()
        assert self.one.gids() == set()
        assert list(delivered_files(self.daemon).values()) == [body]
        assert self.two.gids() == set()


@contextlib.contextmanager
def pair(folder: Path, section: str = "", routes: str = "") -> Iterator[Pair]:
    """Neither aria2 nor the daemon is started yet.

    :param section: more lines of the first.
    """
    one, two = (Aria2(command("system"), folder / name) for name in ("one", "two"))
    config = "".join(
        f'[downloaders.{name}]\nkind = "aria2"\nurl = "{aria2.url}"\nsecret = "{aria2.secret}"\npoll = "100ms"\n{more}'
        for name, aria2, more in (("one", one, section), ("two", two, ""))
    )
    with WebServer() as server, Instance(folder, config + routes) as daemon:
        try:
            yield Pair(daemon, one, two, server)
        finally:
            one.stop()
            two.stop()


def test_the_first_was_never_started(tmp_path: Path) -> None:
    body = pattern(300_000)
    with pair(tmp_path) as p:
        p.two.start()
        p.daemon.start()
        number = p.daemon.add(p.server.put("file.bin", body))
        p.delivered_once(number, body)
        assert p.ledger(number) == [("one", "unavailable", "next downloader"), ("two", None, None)]
        assert "one does not answer" in p.attempts(number)[0]["message"]
        assert p.server.served("file.bin") == len(body)
        said = p.daemon.cli("show", str(number)).stdout
        assert "one does not answer" in said
        p.one.start()
        until(lambda: any("one is back" in line for line in p.daemon.log_lines()), "the first is back")
        p.left_clean(body)


def test_the_first_is_killed_in_the_middle_and_comes_back_with_its_session(tmp_path: Path) -> None:
    body = pattern(4 * MIB)
    with pair(tmp_path, 'failover_after = "1s"\n') as p:
        p.one.start()
        p.two.start()
        page = Valve(p.server, "slow.bin", body)
        p.daemon.start()
        number = p.daemon.add(page.url)
        gid = p.handle(number)
        page.let(2 * MIB)
        session = p.one.home / "session"
        until(lambda: gid in session.read_text(), "the first remembers it")
        p.one.stop()
        until(lambda: len(p.attempts(number)) == 2, "it goes on in the second")
        page.open()
        p.delivered_once(number, body)
        assert p.ledger(number) == [("one", "unavailable", "next downloader"), ("two", None, None)]
        assert "one does not answer for 1s" in p.attempts(number)[0]["message"]
        assert gid in session.read_text()
        p.one.start()
        p.left_clean(body)


def test_the_first_comes_back_while_the_second_is_at_work(tmp_path: Path) -> None:
    body = pattern(4 * MIB)
    with pair(tmp_path, 'failover_after = "1s"\n') as p:
        p.one.start()
        p.two.start()
        page = Valve(p.server, "slow.bin", body)
        p.daemon.start()
        number = p.daemon.add(page.url)
        gid = p.handle(number)
        page.let(1 * MIB)
        until(lambda: gid in (p.one.home / "session").read_text(), "the first remembers it")
        p.one.stop()
        until(lambda: len(p.attempts(number)) == 2, "it goes on in the second")
        p.one.start()
        until(lambda: not p.one.gids(), "it is removed from the first at once")
        page.open()
        p.delivered_once(number, body)
        p.left_clean(body)


@pytest.mark.parametrize("back", [False, True])
def test_the_daemon_dies_between_giving_up_and_choosing_the_next(tmp_path: Path, back: bool) -> None:
    body = pattern(2 * MIB)
    with pair(tmp_path, 'failover_after = "500ms"\n') as p:
        p.one.start()
        p.two.start()
        page = Valve(p.server, "slow.bin", body)
        p.daemon.start(failpoint="abandoned")
        number = p.daemon.add(page.url)
        gid = p.handle(number)
        page.let(1 * MIB)
        until(lambda: gid in (p.one.home / "session").read_text(), "the first remembers it")
        p.one.stop()
        p.daemon.wait_killed()
        if back:
            p.one.start()
        page.open()
        p.daemon.start()
        done = p.daemon.finished(number)
        assert (done["status"], done["retries"]) == ("completed", 0), done["error"]
        assert list(delivered_files(p.daemon).values()) == [body]
        assert p.attempts(number)[0]["error_class"] == "unavailable"
        assert len(p.daemon.call("tasks.list")["items"]) == 1
        if not back:
            p.one.start()
        p.left_clean(body)


def test_no_byte_comes(tmp_path: Path) -> None:
    """The server is silent to the first only: its first answer stops half-way, the next one does not."""
    body = pattern(2 * MIB)
    with pair(tmp_path) as p:
        p.one.start()
        p.two.start()
        page = Valve(p.server, "slow.bin", body)
        p.daemon.start()
        number = p.daemon.add(page.url)
        page.let(1 * MIB)
        until(lambda: counted(p.daemon, number) > 0, "bytes came")
        # Not before: on a slow machine the first byte may take longer than that.
        text = p.daemon.config.read_text()
        p.daemon.config.write_text(text.replace('"100ms"\n', '"100ms"\nstall = "1s"\n', 1))
        p.daemon.call("daemon.reload")
        until(lambda: len(p.attempts(number)) == 2, "it goes on in the second")
        page.open()
        p.delivered_once(number, body)
        assert p.ledger(number) == [("one", "stalled", "next downloader"), ("two", None, None)]
        assert p.attempts(number)[0]["bytes"] > 0
        p.left_clean(body)


def test_routes_from_the_file_to_the_dry_run_and_back_by_a_reload(tmp_path: Path) -> None:
    routes = '[[routes]]\nmatch = { scheme = ["magnet"], url = "*.iso" }\nuse = ["two", "one"]\n'
    with pair(tmp_path, routes=routes) as p:
        p.one.start()
        p.two.start()
        p.daemon.start()
        until(lambda: all(one["version"] for one in p.daemon.call("downloaders.list")["items"]), "both are up")

        def chosen(url: str) -> dict[str, Any]:
            answer: dict[str, Any] = as_json(p.daemon.cli("add", "--dry-run", "--json", url))
            return answer

        iso = chosen("http://127.0.0.1/x.iso")
        assert iso["downloader"] == "two"
        assert [(one["downloader"], one["chosen"]) for one in iso["route"]] == [("two", True), ("one", False)]
        assert iso["route"][0]["reason"] == "the first of route 1 that can fetch it"
        assert iso["route"][1]["reason"] == "number 2 in route 1"
        assert chosen("magnet:?xt=urn:btih:" + "a" * 40)["downloader"] == "two"
        assert chosen("http://127.0.0.1/x.img")["downloader"] == "one"
        text = p.daemon.config.read_text()
        p.daemon.config.write_text(text.replace('["two", "one"]', '["too"]'))
        refused = p.daemon.cli("config", "reload")
        assert refused.returncode != 0
        assert 'routes[0].use: unknown downloader "too"; did you mean "two"?' in refused.stderr
        p.daemon.config.write_text(
            text.replace('["two", "one"]', '["one"]').replace('"100ms"\n', '"100ms"\nstall = "5m"\n')
        )
        assert p.daemon.cli("config", "reload").returncode == 0
        iso = chosen("http://127.0.0.1/x.iso")
        assert iso["downloader"] == "one"
        assert iso["route"][1]["reason"] == "not in route 1 (use = one)"
        shown = as_json(p.daemon.cli("config", "show", "--json"))
        assert shown["routes"][0]["use"] == ["one"]
        assert shown["downloaders"]["two"]["stall"] == 300
