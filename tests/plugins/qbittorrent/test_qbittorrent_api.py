"""The way to a qBittorrent: logins, proxies, hostile and silent endpoints, what several versions answer; and the keys
of the section."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dlqueue.sdk import AuthFailed, Handle, Request, TransferState, Unavailable
from dlqueue_qbittorrent import QbittorrentConfig, QbittorrentDownloader
from dlqueue_qbittorrent.status import STATES, tell
from dlqueue_qbittorrent.sync import Entry
from tests.plugins.aria2.swarm import make_torrent
from tests.plugins.qbittorrent.live import Qbittorrent, config_of, opened
from tests.serving import nobody

KEY = "00c0ffee00c0ffee"
LOGIN = {"username": "dl", "password": "s3cret"}


class Fake:
    """An endpoint that answers with these bytes, and remembers what it was asked.

    :param answers: by the beginning of the path, the first that fits; one by itself = to everything.
    """

    def __init__(self, answers: bytes | dict[str, bytes]) -> None:
        self._answers = answers if isinstance(answers, dict) else {"": answers}
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def paths(self) -> list[str]:
        return [asked.split(b" ")[1].decode().removeprefix("/api/v2/") for asked in self.asked]

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                asked = _all_of(connection)
                if not asked:
                    continue
                self.asked.append(asked)
                path = self.paths()[-1]
                try:
                    connection.sendall(next(self._answers[name] for name in self._answers if path.startswith(name)))
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def _all_of(connection: socket.socket) -> bytes:
    """A connection that is closed with something unread takes the answer back."""
    found = b""
    while b"\r\n\r\n" not in found and (piece := connection.recv(65536)):
        found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), 0)
    while len(body) < length and (piece := connection.recv(65536)):
        body += piece
    return head + b"\r\n\r\n" + body


@pytest.fixture
def fake() -> Iterator[Callable[[bytes | dict[str, bytes]], Fake]]:
    made: list[Fake] = []

    def make(answers: bytes | dict[str, bytes]) -> Fake:
        made.append(Fake(answers))
        return made[-1]

    yield make
    for one in made:
        one.close()


def http(body: bytes | str | object, status: str = "200 OK", headers: str = "") -> bytes:
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    content = body.encode() if isinstance(body, str) else body
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{headers}Connection: close\r\n\r\n".encode() + content
    )


def calls(downloader: QbittorrentDownloader, folder: Path) -> list[Callable[[], object]]:
    request = Request(urls=(), directory=folder, torrent=make_torrent("x", b"x").content)
    return [downloader.test, lambda: downloader.create(request, KEY), lambda: downloader.poll([Handle(KEY)])]


# -- logins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("login", "clear"),
    [
        ({"username": "dl", "password": "wr0ng"}, "refuses our login"),
        ({}, "wants a login"),
        ({"api_key": "qbt_wr0ngwr0ngwr0ngwr0ngwr0ngwr0ng"}, "refuses our `api_key`"),
    ],
)
def test_a_refused_login_is_one_try(
    qbittorrent: Qbittorrent, tmp_path: Path, login: dict[str, str], clear: str
) -> None:
    downloader = opened(QbittorrentConfig(url=qbittorrent.url, **login), tmp_path / "control")
    _, *others = calls(downloader, tmp_path / KEY)
    for _ in range(5):  # so many wrong logins get an address banned
        for call in others:
            with pytest.raises(AuthFailed) as caught:
                call()
            assert clear in str(caught.value) and qbittorrent.url in str(caught.value)
            assert "wr0ng" not in str(caught.value)
    downloader.close()
    # Not banned: the right one is let in.
    good = opened(config_of(qbittorrent), tmp_path / "control")
    assert good.test().startswith("qBittorrent ")
    good.close()


def test_a_ban_is_told(qbittorrent: Qbittorrent, tmp_path: Path) -> None:
    downloader = opened(QbittorrentConfig(url=qbittorrent.url, username="dl", password="wr0ng"), tmp_path / "control")
    messages = []
    for _ in range(7):  # by a person, with `downloader test`: that asks each time
        with pytest.raises(AuthFailed) as caught:
            downloader.test()
        messages.append(str(caught.value))
    assert "refuses our login" in messages[0]
    assert "has banned this address" in messages[-1]
    downloader.close()


def test_no_login_where_none_is_wanted(tmp_path: Path) -> None:
    with Qbittorrent(tmp_path / "open", web={"LocalHostAuth": "false"}) as running:
        downloader = opened(QbittorrentConfig(url=running.url), tmp_path / "control")
        assert downloader.test().startswith("qBittorrent ")
        assert downloader.poll([Handle(KEY)]) == {}
        downloader.close()


def test_the_library_takes_nothing_from_the_environment(
    qbittorrent: Qbittorrent, tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = fake(http(b"", "502 Bad Gateway"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    downloader = opened(config_of(qbittorrent), tmp_path / "control")
    assert downloader.test().startswith("qBittorrent ")
    downloader.close()
    assert proxy.asked == []
    monkeypatch.setenv("QBITTORRENTAPI_USERNAME", qbittorrent.username)
    monkeypatch.setenv("QBITTORRENTAPI_PASSWORD", qbittorrent.password)
    downloader = opened(QbittorrentConfig(url=qbittorrent.url), tmp_path / "control")
    with pytest.raises(AuthFailed, match="wants a login"):
        downloader.test()
    downloader.close()
    front = fake(http(b"", "403 Forbidden"))
    monkeypatch.setenv("QBITTORRENTAPI_API_KEY", "qbt_0f-somebody-else")
    downloader = opened(QbittorrentConfig(url=front.url, **LOGIN), tmp_path / "control")
    with pytest.raises(AuthFailed):
        downloader.test()
    downloader.close()
    assert not any(b"uthorization" in asked for asked in front.asked)


def test_a_redirect_does_not_get_the_password(tmp_path: Path, fake: Any) -> None:
    elsewhere = fake(http(b"Ok."))
    for status in ("302 Found", "307 Temporary Redirect"):
        redirect = http(b"", status, f"Location: {elsewhere.url}/\r\n")
        front = fake({"auth/login": redirect, "": http(b"Forbidden", "403 Forbidden")})
        downloader = opened(QbittorrentConfig(url=front.url, **LOGIN), tmp_path / "control")
        with pytest.raises(Unavailable, match="redirects"):
            downloader.test()
        downloader.close()
    assert elsewhere.asked == []


def test_an_api_key_takes_the_place_of_a_login(tmp_path: Path, fake: Any) -> None:
    front = fake({"app/version": http("v5.3.0"), "app/webapiVersion": http("2.16.2")})
    downloader = opened(QbittorrentConfig(url=f"{front.url}/", api_key="qbt_k3y"), tmp_path / "control")
    assert downloader.test() == "qBittorrent 5.3.0"
    assert front.paths() == ["app/version", "app/webapiVersion"]
    assert all(b"\r\nAuthorization: Bearer qbt_k3y\r\n" in asked for asked in front.asked)
    downloader.close()


def test_no_secret_is_logged(qbittorrent: Qbittorrent, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        downloader = opened(config_of(qbittorrent), tmp_path / "control")
        downloader.test()
        downloader.poll([Handle(KEY)])
        downloader.close()
    assert qbittorrent.password not in caplog.text


# -- endpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        http(b"<html>"),
        http(b""),
        http(b"[]"),
        http(b"null"),
        http(b"NaN"),
        http(b"[" * 100_000),
        http(b"\xff\xfe"),
        http(b'{"rid": "x"}'),
        http(b'{"rid": 1, "torrents": []}'),
        http(b'{"rid": 1, "torrents": {"x": {"state": 7}}}'),
        http(b'{"rid": 1, "full_update": true}'),
        http(b"x" * 100_000, "500 Internal Server Error"),
        http(b"not here", "404 Not Found"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
    ],
)
def test_what_is_no_qbittorrent(tmp_path: Path, fake: Any, answer: bytes) -> None:
    downloader = opened(QbittorrentConfig(url=fake(answer).url, **LOGIN), tmp_path / "control")
    for call in calls(downloader, tmp_path / KEY):
        with pytest.raises(Unavailable) as caught:
            call()
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    downloader.close()


def test_an_endless_answer_is_cut_off(tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlqueue_qbittorrent import session

    monkeypatch.setattr(session, "MAX_ANSWER", 1 << 20)
    huge = http(b'{"rid": 1, "x": "' + b"x" * (2 << 20) + b'"}')
    downloader = opened(QbittorrentConfig(url=fake(huge).url), tmp_path / "control")
    with pytest.raises(Unavailable, match="larger than 1024 KiB"):
        downloader.poll([Handle(KEY)])
    downloader.close()


def test_silence_ends_at_the_deadline(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        downloader = opened(QbittorrentConfig(url=url), tmp_path / "control", deadline=lambda: 0.2)
        with pytest.raises(Unavailable, match="did not answer in time"):
            downloader.poll([Handle(KEY)])
        downloader.close()


def test_nobody_there(tmp_path: Path) -> None:
    with nobody() as address:
        url = f"http://{address}"
        downloader = opened(QbittorrentConfig(url=url), tmp_path / "control")
        with pytest.raises(Unavailable, match="cannot be reached: Connection refused"):
            downloader.poll([Handle(KEY)])
    downloader.close()
    with pytest.raises(Unavailable):
        downloader.test()


def test_under_another_name(qbittorrent: Qbittorrent, tmp_path: Path) -> None:
    """Behind a port that is forwarded, say. That is no login, and nobody is banned for it."""
    front = socket.create_server(("127.0.0.1", 0))

    def forward() -> None:
        connection, _ = front.accept()
        with connection, socket.create_connection(("127.0.0.1", qbittorrent.port)) as back:
            back.sendall(_all_of(connection))
            connection.sendall(back.recv(65536))

    threading.Thread(target=forward, daemon=True).start()
    config = QbittorrentConfig(url=f"http://127.0.0.1:{front.getsockname()[1]}", **LOGIN)
    downloader = opened(config, tmp_path / "control")
    with pytest.raises(Unavailable, match="Host header validation"):
        downloader.poll([Handle(KEY)])
    downloader.close()
    front.close()


def test_too_old(tmp_path: Path, fake: Any) -> None:
    front = fake({"app/version": http("v4.3.9"), "app/webapiVersion": http("2.8.2")})
    downloader = opened(QbittorrentConfig(url=front.url), tmp_path / "control")
    with pytest.raises(Unavailable, match=r"4\.3\.9 at .* is too old: 4\.5 or newer"):
        downloader.test()
    downloader.close()


# -- what it tells -----------------------------------------------------------------------------------------------------


def test_every_state() -> None:
    wanted = {
        "metadata": "metaDL forcedMetaDL",
        "queued": "queuedDL",
        "downloading": "downloading forcedDL stalledDL allocating",
        "checking": "checkingDL checkingUP checkingResumeData moving",
        "seeding": "uploading stalledUP forcedUP queuedUP",
        "paused": "pausedDL stoppedDL pausedUP stoppedUP",
        "error": "error missingFiles",
    }
    assert {state: TransferState(ours) for ours, states in wanted.items() for state in states.split()} == STATES
    for native, state in STATES.items():
        assert tell(_entry(native), attached=False).state is state
    for native in ("unknown", "", "somethingOfVersion6", "completed", "Error"):
        assert tell(_entry(native), attached=False).state is TransferState.UNKNOWN


def _entry(state: str, **more: Any) -> Entry:
    return Entry(hash="a" * 40, state=state, **{"total_size": 10, "size": 10, "completed": 10, **more})


def test_stopped_when_it_was_whole() -> None:
    for native in ("pausedUP", "stoppedUP"):
        assert tell(_entry(native), attached=True).state is TransferState.COMPLETED
        # A limit that somebody has set over there has ended it.
        assert tell(_entry(native, ratio_limit=2.0), attached=False).state is TransferState.COMPLETED
        assert tell(_entry(native, seeding_time_limit=60), attached=False).state is TransferState.COMPLETED
        # More files have been selected since.
        assert tell(_entry(native, size=20), attached=True).state is TransferState.DOWNLOADING
    assert tell(_entry("stalledUP", size=20), attached=False).state is TransferState.DOWNLOADING


DIGEST = "67c92c352cf6060f9c0af5dc129b6a4a071aeb3d"
RECORDED: dict[str, dict[str, Any]] = {
    # sync/maindata of a magnet link that seeds, one of two files selected; without what is not read.
    "4.5.2": {"state": "stalledUP", "has_metadata": None, "popularity": None},
    "5.1.0": {"state": "stalledUP", "root_path": f"/s/1-{KEY}/album", "inactive_seeding_time_limit": -1},
    "5.3.0": {"state": "stalledUP", "share_limit_action": "Stop", "share_limits_mode": "Default", "pieces_have": 4},
}
COMMON: dict[str, Any] = {
    "amount_left": 0, "auto_tmm": False, "category": "", "completed": 51696, "content_path": f"/s/1-{KEY}/album",
    "dlspeed": 0, "download_path": "", "downloaded": 0, "eta": 8640000, "infohash_v1": DIGEST, "infohash_v2": "",
    "max_ratio": -1, "max_seeding_time": -1, "name": "album", "progress": 1, "ratio": 0, "ratio_limit": -1,
    "save_path": f"/s/1-{KEY}", "seeding_time": 0, "seeding_time_limit": -1, "size": 51696,
    "tags": f"dlqueue-{KEY}", "total_size": 150000, "uploaded": 77, "upspeed": 5,
}  # fmt: skip
FILES = [
    {"availability": 0, "index": 0, "is_seed": True, "name": "album/a.bin", "piece_range": [0, 6], "priority": 0,
     "progress": 0.01696, "size": 100000},
    {"availability": 0, "index": 1, "name": "album/sub/b.bin", "piece_range": [6, 9], "priority": 1, "progress": 1,
     "size": 50000},
]  # fmt: skip


@pytest.mark.parametrize("version", list(RECORDED))
def test_recorded(tmp_path: Path, fake: Any, version: str) -> None:
    new = version == "5.3.0"
    torrents = {DIGEST: {**COMMON, **RECORDED[version]}}
    front = fake({
        "sync/maindata": http({"rid": 1, "full_update": True, "server_state": {}, "torrents": torrents}),
        "torrents/files": http(FILES),
        "app/webapiVersion": http({"4.5.2": "2.8.19", "5.1.0": "2.11.4", "5.3.0": "2.16.2"}[version]),
        "app/processInfo": http({"launch_time": 1795348078}),
        "log/main": http([{"id": 0, "message": f"qBittorrent v{version} started", "timestamp": 1795348085, "type": 1}]),
    })  # fmt: skip
    downloader = opened(QbittorrentConfig(url=front.url), tmp_path / "control")
    handle = Handle(KEY, DIGEST)
    status = downloader.poll([handle])[handle]
    assert (status.state, status.name, status.total, status.downloaded) == ("seeding", "album", 51696, 51696)
    assert (status.uploaded, status.upload_speed, status.hash) == (77, 5.0, DIGEST)
    assert status.content == (f"/s/1-{KEY}/album",)
    assert downloader.instance() == ("launched 1795348078" if new else "started 1795348085")
    assert [(file.index, file.path, file.selected) for file in downloader.files(handle)] == [
        (1, "album/a.bin", False), (2, "album/sub/b.bin", True)
    ]  # fmt: skip
    downloader.close()


def test_an_old_log_tells_nothing(tmp_path: Path, fake: Any) -> None:
    front = fake({
        "sync/maindata": http({"rid": 1, "full_update": True}),
        "app/webapiVersion": http("2.8.19"),
        "log/main": http([{"id": 31337, "message": "x", "timestamp": 1, "type": 1}]),
    })  # fmt: skip
    downloader = opened(QbittorrentConfig(url=front.url), tmp_path / "control")
    assert downloader.poll([Handle(KEY)]) == {}
    assert downloader.instance() is None
    downloader.close()


def test_only_what_changes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is left out has not changed; a removed one is gone; anything odd begins from the start."""
    from dlqueue_qbittorrent.api import Api
    from dlqueue_qbittorrent.sync import Sync

    answers: list[Any] = [
        {"rid": 7, "full_update": True, "torrents": {DIGEST: COMMON | {"state": "metaDL", "tags": ""}}},
        "1",
        {"rid": 8, "torrents": {DIGEST: {"dlspeed": 9}}},
        {"rid": 9},
        "garbage",
        {"rid": 1, "full_update": True, "torrents": {DIGEST: COMMON | {"state": "stalledUP"}}},
        "2",
        {"rid": 2, "torrents_removed": [DIGEST]},
    ]
    asked: list[int] = []

    class Client:
        def sync_maindata(self, rid: int) -> Any:
            asked.append(rid)
            return answers.pop(0)

        def app_process_info(self) -> Any:
            return {"launch_time": answers.pop(0)}

    api = Api(QbittorrentConfig(url="http://127.0.0.1:9"), lambda: 1.0)
    monkeypatch.setattr(api, "_client", Client())
    sync = Sync(api)
    handle = Handle(KEY)
    entry = sync.look().find(handle)
    assert entry is not None and (entry.state, entry.dlspeed) == ("metaDL", 0), "found by its folder"
    entry = sync.look().find(handle)
    assert entry is not None and (entry.state, entry.dlspeed, entry.name) == ("metaDL", 9, "album")
    assert sync.look().find(handle) is entry
    with pytest.raises(Unavailable):
        sync.look()
    sight = sync.look()
    entry = sight.find(handle)
    assert entry is not None and (entry.state, entry.dlspeed, sight.instance) == ("stalledUP", 0, "launched 2")
    assert sync.look().find(handle) is None
    assert asked == [0, 7, 8, 9, 0, 1]


# -- configuration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "begins"),
    [
        ({"url": "127.0.0.1:8080"}, "url "),
        ({"url": "ftp://127.0.0.1/"}, "url "),
        ({"url": "http://"}, "url "),
        ({"url": "http://127.0.0.1:99999/"}, "url "),
        ({"url": "http://[::1/"}, "url "),
        ({"url": "http://dl:hunter2@127.0.0.1:8080"}, "url "),
        ({"url": "http://127.0.0.1:8080/?password=hunter2"}, "url "),
        ({"url": "http://box", "username": "dl"}, "username and password "),
        ({"url": "http://box", "password": "hunter2"}, "username and password "),
        ({"url": "http://box", "username": "", "password": "hunter2"}, "username "),
        ({"url": "http://box", "api_key": "hunter2", "username": "dl", "password": "x"}, "api_key "),
        ({"url": "http://box", "api_key": "hunter2\n"}, "api_key "),
        ({"url": "http://box", "api_key": ""}, "api_key "),
    ],
)
def test_keys_that_cannot_be(keys: dict[str, Any], begins: str) -> None:
    with pytest.raises(ValueError) as caught:
        QbittorrentConfig(**keys)
    assert str(caught.value).startswith(begins)
    assert "hunter2" not in str(caught.value)
