"""The secret of an aria2: a wrong one is told once and clearly, and a right one goes to that aria2 only."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.daemon.aria2_world import World, world
from tests.daemon.instance import Instance, until
from tests.webserver import WebServer, pattern


class Ear:
    """Stands before an aria2, hands everything on, and counts the requests."""

    def __init__(self, behind: int) -> None:
        self.heard = b""
        ear = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                near: socket.socket = self.request
                with socket.create_connection(("127.0.0.1", behind)) as far:
                    back = threading.Thread(target=ear._hand_on, args=(far, near, False))
                    back.start()
                    ear._hand_on(near, far, True)
                    back.join()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self.port: int = self._server.server_address[1]

    @property
    def requests(self) -> int:
        return self.heard.count(b"POST /jsonrpc")

    def _hand_on(self, source: socket.socket, target: socket.socket, listen: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if listen:
                    self.heard += piece
                target.sendall(piece)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def listened_to(w: World) -> Iterator[Ear]:
    with Ear(w.aria2.port) as ear:
        text = w.daemon.config.read_text()
        w.daemon.config.write_text(text.replace(f":{w.aria2.port}/", f":{ear.port}/"))
        with w.daemon:  # it hangs up first
            yield ear


@pytest.mark.parametrize("secret", ["wr0ng", ""])
def test_a_wrong_secret(tmp_path: Path, secret: str) -> None:
    with world(tmp_path, section='poll = "100ms"\n') as w, listened_to(w) as ear:
        config = w.daemon.config.read_text()
        line = f'secret = "{w.aria2.secret}"\n'
        w.daemon.config.write_text(config.replace(line, f'secret = "{secret}"\n' if secret else ""))
        w.daemon.start()
        ids = [w.daemon.add(w.server.put("first.bin", pattern(1000)))]
        until(lambda: w.why(ids[0])["reason"] == "downloader_unavailable", "it waits")
        for number in range(20):
            ids.append(w.daemon.add(w.server.put(f"{number}.bin", pattern(1000 + number))))
        for number in ids:
            until(lambda n=number: w.why(n)["reason"] == "downloader_unavailable", "it waits")  # type: ignore[misc]
        clear = "refuses our secret" if secret else "wants a secret"
        shown = w.daemon.cli("downloader", "ls")
        assert shown.stdout.count(clear) == 1 and "\tdown\t" in shown.stdout
        why = w.daemon.cli("why", str(ids[-1]))
        assert clear in why.stdout and "box" in why.stdout
        # Many tasks and some poll intervals later.
        assert ear.requests <= 2, "no hammering: one by the look-out, one for the first task if both were at once"
        assert w.daemon.call("downloaders.get", name="box")["breaker"] == {"state": "open", "until": None}
        told = [line for line in w.daemon.log_lines() if "box" in line and clear in line]
        assert len(told) == 1
        assert not w.server.requests
        w.daemon.config.write_text(config)
        assert w.daemon.cli("config", "reload").returncode == 0
        for number in ids:
            done = w.daemon.finished(number)
            assert (done["status"], done["retries"]) == ("completed", 0)
        for known in filter(None, (secret, w.aria2.secret)):
            assert known not in w.daemon.log.read_text()
            assert known not in shown.stdout + why.stdout + why.stderr


def test_the_secret_is_changed_while_it_runs(tmp_path: Path) -> None:
    """aria2 comes back with another secret: its downloads wait, and go on when the configuration knows it."""
    body = pattern(100_000)
    with world(tmp_path) as w:
        w.daemon.start()
        assert w.daemon.finished(w.daemon.add(w.server.put("one.bin", body)))["status"] == "completed"
        w.aria2.stop()
        former, w.aria2.secret = w.aria2.secret, "an0ther"
        w.aria2.start()
        number = w.daemon.add(w.server.put("two.bin", body))
        until(lambda: "refuses our secret" in w.why(number)["message"], "why says it")
        w.daemon.config.write_text(w.daemon.config.read_text().replace(former, w.aria2.secret))
        assert w.daemon.cli("config", "reload").returncode == 0
        assert w.daemon.finished(number)["status"] == "completed"


def test_a_proxy_of_the_environment_never_hears_of_it(tmp_path: Path) -> None:
    body = pattern(100_000)
    with WebServer() as proxy, world(tmp_path) as w:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "ws_proxy"):
            w.daemon.environ[name] = f"http://127.0.0.1:{proxy.port}"
        w.daemon.environ.pop("no_proxy", None)
        w.daemon.start()
        done = w.daemon.finished(w.daemon.add(w.server.put("file.bin", body)))
        assert (done["status"], done["download"]["downloader"]) == ("completed", "box")
        assert proxy.connections == 0


def test_a_proxy_is_for_what_the_managed_one_fetches(tmp_path: Path) -> None:
    body = pattern(100_000)
    with WebServer() as proxy, Instance(tmp_path, '[downloaders.aria2]\nkind = "aria2"\ndht = false\n') as daemon:
        proxy.put("file.bin", body)
        daemon.environ["http_proxy"] = f"http://127.0.0.1:{proxy.port}"
        daemon.environ.pop("no_proxy", None)
        daemon.start()
        done = daemon.finished(daemon.add("http://host.invalid/file.bin"))
        assert done["status"] == "completed", done["error"]
        assert {asked.method for asked in proxy.requests} == {"GET"}
        conf = (tmp_path / "state" / "dlqueue" / "downloaders" / "aria2" / "aria2.conf").read_text()
        (secret,) = (line.partition("=")[2] for line in conf.splitlines() if line.startswith("rpc-secret="))
        assert all(secret not in str(asked) for asked in proxy.requests)


def test_config_check_and_show_keep_it(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.daemon.start()
        for command in (("config", "show"), ("config", "check"), ("downloader", "show", "box"), ("downloader", "ls")):
            result = w.daemon.cli(*command, "--json")
            assert w.aria2.secret not in result.stdout + result.stderr
        assert w.aria2.secret not in w.daemon.log.read_text()
