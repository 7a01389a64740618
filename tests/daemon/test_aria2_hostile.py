"""Names that want to be elsewhere: from a URL, a server, a torrent or an option. Nothing lands outside."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import bencode2
import pytest

from dlqueue.client import RpcError
from tests.daemon.aria2_world import World, delivered_files, is_empty, web_seeded, world
from tests.daemon.instance import everything, until
from tests.webserver import WebServer, pattern

BODY = pattern(5000)


def outside(w: World) -> set[str]:
    """Everything but the destination and what the two programs keep for themselves."""
    own = ("state/", "run/", "daemon.log", "aria2/session", "home/downloads/")
    found = {str(path.relative_to(w.daemon.folder)) for path in everything(w.daemon.folder) if not path.is_dir()}
    return {name for name in found if not name.startswith(own)}


def place(w: World, number: int) -> Path:
    """A destination for one download."""
    return w.daemon.destination / str(number)


def fetched(w: World, number: int, folder: Path) -> None:
    """One file, right in its folder, with a name that can be shown."""
    done = w.daemon.finished(number)
    assert done["status"] == "completed", done["error"]
    (path,) = folder.iterdir()
    assert path.read_bytes() == BODY and path.name.isprintable()
    assert done["download"]["location"] == str(path)


def serve_everything(server: WebServer) -> None:
    """Whatever is asked for is the same page."""
    server.put("x", BODY)
    server.pages = _Everything(server.pages["x"])


class _Everything(dict[str, Any]):
    def __init__(self, page: Any) -> None:
        super().__init__(x=page)

    def get(self, name: str, default: Any = None) -> Any:
        return self["x"]


def test_urls(tmp_path: Path) -> None:
    paths = [
        "%2F..%2F..%2Fescaped.bin",
        "a%2F..%2F..%2F..%2Fescaped.bin",
        "..%2Fescaped.bin",
        "%2Ftmp%2Fescaped.bin",
        "..%5Cescaped.bin",
        "escaped%0A.bin",
        "%2Eprofile",
        "%ff%fe.bin",
        "-rf",
        "",
    ]
    with world(tmp_path) as w:
        serve_everything(w.server)
        w.daemon.start()
        before = outside(w)
        for number, path in enumerate(paths):
            url, folder = f"http://127.0.0.1:{w.server.port}/{path}", place(w, number)
            fetched(w, w.daemon.add(url, directory=str(folder)), folder)
        assert outside(w) == before


def test_urls_without_a_usable_name(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        serve_everything(w.server)
        w.daemon.start()
        before = outside(w)
        for number, path in enumerate(("%2e%2e", "a" * 300)):
            url, folder = f"http://127.0.0.1:{w.server.port}/{path}", place(w, number)
            done = w.daemon.finished(w.daemon.add(url, directory=str(folder)))
            assert (done["status"], done["error"]["kind"], done["retries"]) == ("error", "file", 0)
            # With a name it can be fetched.
            fetched(w, w.daemon.add(url, directory=str(folder / "named"), name="a.bin"), folder / "named")
        assert outside(w) == before


def test_content_disposition(tmp_path: Path) -> None:
    headers = [
        'attachment; filename="../../escaped.bin"',
        'attachment; filename="/tmp/escaped.bin"',
        "attachment; filename*=UTF-8''..%2F..%2Fescaped.bin",
        'attachment; filename=".."',
        'attachment; filename="..\\..\\escaped.bin"',
    ]
    with world(tmp_path) as w:
        w.daemon.start()
        before = outside(w)
        for number, header in enumerate(headers):
            url = w.server.put(f"{number}.bin", BODY, headers={"Content-Disposition": header})
            fetched(w, w.daemon.add(url, directory=str(place(w, number))), place(w, number))
        assert outside(w) == before


def test_out(tmp_path: Path) -> None:
    """A name that is chosen by the user is refused, not bent."""
    with world(tmp_path) as w:
        w.daemon.start()
        url = w.server.put("file.bin", BODY)
        for name in ("../escaped.bin", "/tmp/escaped.bin", "..", "a/b", "a\nb", ""):
            with pytest.raises(RpcError) as caught:
                w.daemon.add(url, name=name)
            assert caught.value.code == -32602
        for options in (
            {"out": "../x"},
            {"dir": str(tmp_path)},
            {"log": str(tmp_path / "x")},
            {"on-download-stop": "x"},
        ):
            done = w.daemon.finished(w.daemon.add(url, options=options))
            assert (done["status"], done["error"]["kind"]) == ("error", "bad_option")
        assert w.server.requests == []
        until(lambda: is_empty(w.daemon), "no folder is left")
        assert w.transfers() == set()


def test_torrents(tmp_path: Path) -> None:
    infos: list[dict[str, Any]] = [
        {"name": "..", "length": 5000},
        {"name": "../escaped", "length": 5000},
        {"name": "/tmp/escaped", "length": 5000},
        {"name": "album", "files": [{"path": ["..", "..", "escaped"], "length": 5000}]},
        {"name": "album", "files": [{"path": ["../../escaped"], "length": 5000}]},
        {"name": "album", "files": [{"path": ["/tmp/escaped"], "length": 5000}]},
        {"name": "..", "files": [{"path": ["escaped"], "length": 5000}]},
    ]
    with world(tmp_path) as w:
        serve_everything(w.server)
        w.daemon.start()
        before = outside(w)
        for info in infos:
            info |= {"piece length": 16384, "pieces": hashlib.sha1(BODY).digest()}
            content = bencode2.bencode({"info": info, "url-list": [w.server.url("seed/")]})
            try:
                task = w.daemon.call("downloads.add", torrent=base64.b64encode(content).decode(), seed=0)
            except RpcError as error:
                assert error.code == -32602, error
                continue
            done = w.daemon.finished(task["id"])
            if done["status"] == "completed":
                assert Path(done["download"]["location"]).parent == w.daemon.destination
            else:
                assert done["error"]["kind"] not in ("plugin", "internal")
        assert outside(w) == before


def test_a_symlink_in_staging_is_not_followed(tmp_path: Path) -> None:
    """Somebody who may write into the destination cannot make us write elsewhere."""
    victim = tmp_path / "victim"
    victim.mkdir()
    with world(tmp_path) as w:
        (w.daemon.destination / ".dlqueue").symlink_to(victim)
        w.daemon.start()
        done = w.daemon.finished(w.daemon.add(w.server.put("file.bin", BODY), max_retry=0))
        assert done["status"] == "error"
        assert list(victim.iterdir()) == []
        assert w.server.requests == []


def test_a_torrent_of_many_names(tmp_path: Path) -> None:
    files = {"-rf": b"1" * 100, "$(id)": b"2" * 100, "a b": b"3" * 100, "ü/ñ.bin": b"4" * 100}
    with world(tmp_path) as w:
        w.daemon.start()
        number = w.add(web_seeded(w.server, "album", files), seed=0)
        done = w.daemon.finished(number)
        assert done["status"] == "completed", done["error"]
        assert delivered_files(w.daemon) == {f"album/{name}": body for name, body in files.items()}
