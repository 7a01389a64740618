"""The way to a Transmission: logins, proxies, hostile and silent endpoints; and the keys of the section."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dlqueue.sdk import AuthFailed, Handle, Rejected, Request, TransferState, Unavailable
from dlqueue_transmission import TransmissionConfig
from dlqueue_transmission.entries import Entry
from dlqueue_transmission.ledger import Ledger, Note
from dlqueue_transmission.status import explain, scrubbed, state_of, tell
from tests.plugins.transmission.live import Transmission, opened
from tests.serving import nobody

KEY = "00c0ffee00c0ffee"
HASH = "1" * 40
SESSION = b'{"arguments":{"version":"4.1.4 (abc)","rpc-version":18},"result":"success"}'


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n".encode() + body


class Fake:
    """Answers what `answer` says to the method that is called; remembers what it was asked."""

    def __init__(self, answer: Callable[[str], bytes]) -> None:
        self.asked: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/transmission/rpc"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            found = b""
            while b"\r\n\r\n" not in found and (piece := connection.recv(65536)):
                found += piece
            head, _, body = found.partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line[:15].lower() == b"content-length:"), 0)
            while len(body) < length and (piece := connection.recv(65536)):
                body += piece
            self.asked.append(head + b"\r\n\r\n" + body)
            method = json.loads(body)["method"] if body else ""
            try:
                answer = self._answer(method)
                connection.sendall(answer)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def fake() -> Iterator[Callable[[Callable[[str], bytes]], Fake]]:
    made: list[Fake] = []

    def serve(answer: Callable[[str], bytes]) -> Fake:
        made.append(Fake(answer))
        return made[-1]

    yield serve
    for one in made:
        one.close()


# -- logins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("username", "password"), [("u", "wr0ng"), (None, None)])
def test_a_wrong_password_is_one_clear_message(
    transmission: Transmission, tmp_path: Path, username: str | None, password: str | None
) -> None:
    downloader = opened(TransmissionConfig(transmission.url, username, password), tmp_path / "control")
    for call in (downloader.test, lambda: downloader.poll([Handle(KEY, HASH)])):
        with pytest.raises(AuthFailed) as caught:
            call()
        assert "`password`" in str(caught.value)
        assert transmission.url in str(caught.value)
        assert "wr0ng" not in str(caught.value)
    downloader.close()


def test_a_password_with_signs(tmp_path: Path) -> None:
    with Transmission(tmp_path / "transmission", username="a@b", password="p/w@rd:%41 ?#") as running:
        downloader = opened(running.config, tmp_path / "control")
        assert downloader.test().startswith("transmission ")
        downloader.close()


def test_a_whitelist_is_named(tmp_path: Path) -> None:
    with Transmission(tmp_path / "t", rpc_whitelist_enabled=True, rpc_whitelist="192.0.2.1") as running:
        downloader = opened(running.config, tmp_path / "control")
        with pytest.raises(Unavailable, match="rpc-whitelist"):
            downloader.test()
        downloader.close()


def test_a_whitelist_of_names_is_named(tmp_path: Path, fake: Any) -> None:
    url = fake(lambda method: http(b"", "421 Misdirected Request")).url
    downloader = opened(TransmissionConfig(url), tmp_path / "control")
    with pytest.raises(Unavailable, match="rpc-host-whitelist"):
        downloader.test()
    downloader.close()


def test_a_proxy_of_the_environment_sees_nothing(
    transmission: Transmission, tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = fake(lambda method: http(b"", "502 Bad Gateway"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/transmission/rpc"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    downloader = opened(transmission.config, tmp_path / "control")
    assert downloader.test().startswith("transmission 3.")
    downloader.close()
    assert proxy.asked == []


def test_a_redirect_does_not_get_the_password(tmp_path: Path, fake: Any) -> None:
    elsewhere = fake(lambda method: http(b"{}"))
    url = fake(lambda method: http(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}\r\n")).url
    downloader = opened(TransmissionConfig(url, "u", "s3cret"), tmp_path / "control")
    with pytest.raises(Unavailable, match="HTTP 307"):
        downloader.test()
    assert elsewhere.asked == []
    downloader.close()


# -- endpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-nothing\r\n",
        http(b"<html>hello</html>"),
        http(b"[]"),
        http(b"7"),
        http(b'{"result": "success"}'),
        http(b'{"result": 7, "arguments": {}}'),
        http(b'{"result": "success", "arguments": {"torrents": 7}}'),
        http(b'{"result": "success", "arguments": {"torrents": [7]}}'),
        http(b'{"result": "success", "arguments": {"torrents": [{"id": 1}]}}'),
        http(b'{"result": "success", "arguments": {"torrents": [{"id": 1, "hashString": 2}]}}'),
        http(b"[" * 100_000),
        http(b"\xff\xfe"),
        http(b"", "409 Conflict"),
        http(b"", "409 Conflict", "X-Transmission-Session-Id: again\r\n"),
        http(b"", "500 Internal Server Error"),
        http(b"", "404 Not Found"),
    ],
)
def test_what_is_no_transmission_is_unavailable(
    tmp_path: Path, fake: Any, answer: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    url = fake(lambda method: http(SESSION) if method == "session-get" and b"torrents" in answer else answer).url
    downloader = opened(TransmissionConfig(url, "u", "s3cret"), tmp_path / "control")
    with pytest.raises(Unavailable) as caught:
        downloader.poll([Handle(KEY, HASH)])
    assert url in str(caught.value)
    assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "the library tells nobody else"
    downloader.close()


def test_nobody_there(tmp_path: Path) -> None:
    with nobody() as address:
        downloader = opened(TransmissionConfig(f"http://{address}"), tmp_path / "control")
        with pytest.raises(Unavailable, match="cannot be reached: Connection refused"):
            downloader.test()
    downloader.close()


def test_an_endless_answer_is_given_up(tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlqueue_transmission.rpc.MAX_ANSWER", 1 << 20)
    url = fake(lambda method: b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (4 << 20)).url
    downloader = opened(TransmissionConfig(url), tmp_path / "control")
    with pytest.raises(Unavailable, match="is larger than 1 MiB"):
        downloader.test()
    downloader.close()


@pytest.mark.parametrize("drips", [False, True])
def test_a_slow_answer_is_given_up(tmp_path: Path, drips: bool) -> None:
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" if drips else b"")
            while not over.wait(0.05):
                try:
                    connection.sendall(b" " if drips else b"")
                except OSError:
                    return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    downloader = opened(TransmissionConfig(url), tmp_path / "control", deadline=lambda: 0.5)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="in time"):
        downloader.test()
    assert time.monotonic() - began < 10
    over.set()
    thread.join()
    listener.close()
    downloader.close()


# -- what other versions say -------------------------------------------------------------------------------------------


def entry(**given: Any) -> Entry:
    known: dict[str, Any] = {"hash_string": HASH, "metadata_percent_complete": 1, "size_when_done": 10}
    return Entry(**(known | given))


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({"status": 4, "metadata_percent_complete": 0.5, "size_when_done": 0}, "metadata"),
        ({"status": 3, "left_until_done": 5}, "queued"),
        ({"status": 4, "left_until_done": 5}, "downloading"),
        ({"status": 1}, "checking"),
        ({"status": 2, "left_until_done": 5}, "checking"),
        ({"status": 5}, "seeding"),
        ({"status": 6}, "seeding"),
        ({"status": 6, "left_until_done": 5}, "downloading"),
        ({"status": 0, "left_until_done": 5}, "paused"),
        ({"status": 0}, "completed"),
        ({"status": 0, "metadata_percent_complete": 0, "size_when_done": 0}, "paused"),
        ({"status": 7}, "unknown"),
        ({"status": -1}, "unknown"),
    ],
)
def test_states(given: dict[str, Any], state: str) -> None:
    assert state_of(entry(**given)) == TransferState(state)


def test_trouble() -> None:
    url = "http://tracker.example/s3cret/announce"
    warned = tell(entry(status=4, left_until_done=5, error=2, error_string=f"refused by {url}"), (), None)
    assert (warned.state, warned.error) == (TransferState.DOWNLOADING, None)
    assert warned.message == "the tracker says: refused by (address)"
    full = tell(entry(status=4, left_until_done=5, error=3, error_string="No space left on device"), None, None)
    assert full.state is TransferState.ERROR
    assert full.error is not None and (full.error.kind, full.error.final) == ("disk_full", None)
    assert tell(entry(status=6), None, None).state is TransferState.UNKNOWN, "where it is could not be asked"
    denied = explain("Permission denied (/srv/x)")
    assert (denied.kind, denied.final) == ("file", "downloader")
    assert explain("No data found! Ensure your drives are connected").kind == "files_gone"
    assert explain("File name too long (/srv/x)").final == "downloader"
    odd = explain("odd\nthing")
    assert (odd.message, odd.final) == ("transmission failed: odd thing", None)
    assert len(scrubbed("x" * 999)) == 200


def test_the_name_is_that_on_the_disk() -> None:
    """3.00 tells the one in the torrent, and writes a harmless one."""
    hostile = entry(status=4, left_until_done=5, name="../a\n\u202eb")
    assert tell(hostile, None, None).name == "../a__b"
    assert tell(entry(status=6, name="../a"), ("/srv/x/.._a",), None).name == ".._a"


def test_a_reply_of_version_4(tmp_path: Path, fake: Any) -> None:
    """As the 4.x line answers the old form of the protocol: more fields, fractions of percents."""
    torrent = {
        "id": 3, "hashString": HASH, "name": "album", "downloadDir": f"/srv/x-{KEY}", "status": 6, "error": 0,
        "errorString": "", "metadataPercentComplete": 1.0, "leftUntilDone": 0, "sizeWhenDone": 300_000,
        "rateDownload": 0, "rateUpload": 12, "uploadedEver": 34, "seedRatioMode": 2, "group": "",
    }  # fmt: skip
    files = {
        "id": 3, "hashString": HASH,
        "files": [{"name": f"album/{name}", "length": 150_000, "bytesCompleted": done, "beginPiece": 0, "endPiece": 9}
                  for name, done in (("a", 150_000), ("b", 0))],
        "fileStats": [{"bytesCompleted": 150_000, "priority": 0, "wanted": True},
                      {"bytesCompleted": 0, "priority": 0, "wanted": False}],
    }  # fmt: skip
    statistics = {"current-stats": {"secondsActive": 100, "sessionCount": 1},
                  "cumulative-stats": {"secondsActive": 900, "sessionCount": 7}}  # fmt: skip
    answers: list[dict[str, Any]] = [{"torrents": [torrent]}, statistics, {"torrents": [files]}]

    def answer(method: str) -> bytes:
        if method == "session-get":
            return http(SESSION)
        return http(json.dumps({"arguments": answers.pop(0), "result": "success"}).encode())

    downloader = opened(TransmissionConfig(fake(answer).url), tmp_path / "control")
    handle = Handle(KEY, HASH)
    (status,) = downloader.poll([handle]).values()
    assert (status.state, status.name, status.total, status.downloaded) == ("seeding", "album", 300_000, 300_000)
    assert (status.uploaded, status.upload_speed, status.content) == (34, 12.0, (f"/srv/x-{KEY}/album",))
    downloader.close()


@pytest.mark.parametrize("path", ["../escape", "/etc/passwd", "album/../../x", ""])
def test_a_path_outside_of_the_folder_is_an_error(tmp_path: Path, fake: Any, path: str) -> None:
    torrent = {"id": 1, "hashString": HASH, "downloadDir": f"/srv/x-{KEY}", "status": 6, "metadataPercentComplete": 1}
    files = {"id": 1, "hashString": HASH, "files": [{"name": path, "length": 1, "bytesCompleted": 1}],
             "fileStats": [{"wanted": True}]}  # fmt: skip
    statistics = {"current-stats": {"secondsActive": 100}, "cumulative-stats": {"secondsActive": 900}}
    answers: list[dict[str, Any]] = [{"torrents": [torrent]}, statistics, {"torrents": [files]}]

    def answer(method: str) -> bytes:
        if method == "session-get":
            return http(SESSION)
        return http(json.dumps({"arguments": answers.pop(0), "result": "success"}).encode())

    downloader = opened(TransmissionConfig(fake(answer).url), tmp_path / "control")
    (status,) = downloader.poll([Handle(KEY, HASH)]).values()
    assert status.state is TransferState.ERROR
    assert status.error is not None and status.error.kind == "bad_path"
    downloader.close()


def test_a_refusal_is_told(tmp_path: Path, fake: Any) -> None:
    def answer(method: str) -> bytes:
        refused = b'{"arguments":{},"result":"see http://x.example/s3cret"}'
        return http(SESSION) if method == "session-get" else http(refused)

    downloader = opened(TransmissionConfig(fake(answer).url), tmp_path / "control")
    request = Request(urls=(f"magnet:?xt=urn:btih:{HASH}",), directory=tmp_path / KEY)
    with pytest.raises(Rejected, match=r"transmission refuses it: see \(address\)"):
        downloader.create(request, KEY)
    downloader.close()


# -- the section -------------------------------------------------------------------------------------------------------


def test_the_address() -> None:
    for url, endpoint in (
        ("http://127.0.0.1:9091/transmission/rpc", "http://127.0.0.1:9091/transmission/rpc"),
        ("http://127.0.0.1:9091", "http://127.0.0.1:9091/transmission/rpc"),
        ("http://127.0.0.1:9091/transmission/", "http://127.0.0.1:9091/transmission/rpc"),
        ("https://nas.example/t/rpc", "https://nas.example:443/t/rpc"),
        ("http://[::1]:9091/", "http://[::1]:9091/transmission/rpc"),
    ):
        assert TransmissionConfig(url).endpoint == endpoint
    for url, text in (
        ("127.0.0.1:9091", "must be like"),
        ("ftp://x/", "must be like"),
        ("http://x:99999/", "must be like"),
        ("http://u:p@x/", "user name"),
        ("http://x/?q", "query"),
    ):
        with pytest.raises(ValueError, match=text):
            TransmissionConfig(url)
    with pytest.raises(ValueError, match="password needs a username"):
        TransmissionConfig("http://x/", password="p")


# -- just started ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 100])
def test_it_may_answer_before_it_knows_its_torrents(tmp_path: Path, fake: Any, seconds: int) -> None:
    statistics = {"current-stats": {"secondsActive": seconds}, "cumulative-stats": {"secondsActive": 900}}

    def answer(method: str) -> bytes:
        if method == "session-get":
            return http(SESSION)
        found: dict[str, Any] = statistics if method == "session-stats" else {"torrents": []}
        return http(json.dumps({"arguments": found, "result": "success"}).encode())

    Ledger(tmp_path / "control").write(KEY, Note(HASH))
    downloader = opened(TransmissionConfig(fake(answer).url), tmp_path / "control")
    if seconds:
        assert downloader.poll([Handle(KEY, HASH)]) == {}
    else:
        for handle in (Handle(KEY, HASH), Handle(HASH, HASH, attached=True)):
            with pytest.raises(Unavailable, match="has just started"):
                downloader.poll([handle])
    assert downloader.poll([Handle("feedfeedfeedfeed")]) == {}, "nobody has ever known that one"
    downloader.close()


def test_a_session_id_that_is_renewed_is_no_restart(tmp_path: Path, fake: Any) -> None:
    """It is, every hour. For how long it has been running tells the two apart."""
    session, began, late = ["one"], [time.time() - 9000], [0.0]

    def answer(method: str) -> bytes:
        if session[0].encode() not in served.asked[-1]:
            return http(b"", "409 Conflict", f"X-Transmission-Session-Id: {session[0]}\r\n")
        if method == "session-get":
            return http(SESSION)
        active = int(time.time() - began[0])
        time.sleep(late[0])
        seconds = {"current-stats": {"secondsActive": active}, "cumulative-stats": {"secondsActive": 1}}
        found: dict[str, Any] = seconds if method == "session-stats" else {"torrents": []}
        return http(json.dumps({"arguments": found, "result": "success"}).encode())

    served = fake(answer)
    downloader = opened(TransmissionConfig(served.url), tmp_path / "control")

    def instance() -> str | None:
        downloader.poll([Handle(KEY, HASH)])
        return downloader.instance()

    first = instance()
    session[0], late[0] = "two", 3.0
    assert instance() == first, "though its answer was long on its way"
    late[0] = 0.0
    asked = len(served.asked)
    assert instance() == first
    assert len(served.asked) == asked + 1, "asked only when the session id is a new one"
    session[0], began[0] = "three", time.time() - 8000
    assert instance() not in (None, first)
    downloader.close()
