"""Plain files through a real aria2: identity, restarts, what it forgets, what is in the folder, errors."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dlqueue.sdk import Handle, NotFound, Rejected, Request, TransferState
from dlqueue_aria2 import Aria2Config, Aria2Downloader
from dlqueue_aria2.errors import explain
from tests.plugins.aria2.live import Aria2, RpcError, opened, until, wait, whole
from tests.webserver import WebServer, pattern

KEY = "00c0ffee00c0ffee"
CONTENT = pattern(300_000)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "transfer"


def moving(downloader: Aria2Downloader, handle: Handle) -> None:
    wait(downloader, handle, lambda status: status.downloaded > 0, "moving")


def failed(downloader: Aria2Downloader, handle: Handle) -> Rejected:
    status = wait(downloader, handle, lambda status: status.state is TransferState.ERROR, "failed")
    assert status.error is not None
    return status.error


def digest(content: bytes) -> str:
    return f"sha-256={hashlib.sha256(content).hexdigest()}"


# -- identity ----------------------------------------------------------------------------------------------------------


def test_a_gid_that_somebody_else_uses(
    downloader: Aria2Downloader,
    aria2: Aria2,
    server: WebServer,
    folder: Path,
    open_again: Callable[[], Aria2Downloader],
) -> None:
    slow = server.put("theirs.bin", CONTENT, gate=threading.Event(), gate_at=100_000)
    aria2.call("addUri", [slow], {"gid": KEY})
    with pytest.raises(Rejected, match="somebody else uses the GID") as caught:
        downloader.create(Request(urls=(slow,), directory=folder), KEY)
    assert (caught.value.final, caught.value.kind) == ("downloader", "gid_taken")
    assert downloader.poll([Handle(KEY)]) == {}
    with pytest.raises(NotFound):
        downloader.pause(Handle(KEY))
    # The core will want the key removed, maybe only after a restart of the daemon.
    for other in (downloader, open_again()):
        other.remove(Handle(KEY), delete_data=True)
    assert aria2.call("tellStatus", KEY)["status"] == "active"


def test_an_aria2_that_is_killed_goes_on_from_its_session(
    downloader: Aria2Downloader, aria2: Aria2, server: WebServer, folder: Path
) -> None:
    url = server.put("file.bin", CONTENT, gate=(gate := threading.Event()), gate_at=150_000)
    request = Request(urls=(url,), directory=folder)
    handle = downloader.create(request, KEY)
    moving(downloader, handle)
    first = downloader.instance()
    assert downloader.instance() == first
    until(lambda: KEY in (aria2.home / "session").read_text(), "saved session")
    aria2.restart()
    gate.set()
    assert downloader.create(request, KEY) == handle
    whole(downloader, handle)
    assert downloader.instance() != first
    assert [path.read_bytes() for path in folder.iterdir()] == [CONTENT]


def test_an_aria2_that_has_lost_its_session_begins_again(
    downloader: Aria2Downloader, aria2: Aria2, server: WebServer, folder: Path
) -> None:
    url = server.put("file.bin", CONTENT, gate=threading.Event(), gate_at=150_000)
    request = Request(urls=(url,), directory=folder)
    handle = downloader.create(request, KEY)
    moving(downloader, handle)
    aria2.stop()
    (aria2.home / "session").write_text("")
    server.put("file.bin", CONTENT)
    aria2.start()
    assert downloader.poll([handle]) == {}
    assert downloader.whole_content(request, KEY, total=len(CONTENT), restarted=True) == ()
    assert downloader.create(request, KEY) == handle
    whole(downloader, handle)
    assert [path.read_bytes() for path in folder.iterdir()] == [CONTENT]


def test_a_control_file_saves_what_was_fetched(
    downloader: Aria2Downloader, aria2: Aria2, server: WebServer, folder: Path
) -> None:
    content = pattern(4 << 20)
    url = server.put("file.bin", content, gate=threading.Event(), gate_at=3 << 20)
    request = Request(urls=(url,), directory=folder, options={"split": "1"})
    handle = downloader.create(request, KEY)
    wait(downloader, handle, lambda status: status.downloaded > 1 << 21, "half-way")
    downloader.pause(handle)
    until(lambda: (folder / "file.bin.aria2").exists(), "control file")
    aria2.stop()
    (aria2.home / "session").write_text("")
    aria2.start()
    (folder / "stray").write_bytes(b"of an earlier attempt")
    server.put("file.bin", content)
    before = len(server.requests)
    downloader.create(request, KEY)
    whole(downloader, handle)
    # Not what was sent: the machine takes in megabytes that aria2 never reads.
    ranges = [asked.headers.get("Range", "") for asked in server.requests[before:]]
    assert any(int(one.removeprefix("bytes=").partition("-")[0]) >= 1 << 20 for one in ranges if one)
    assert [path.read_bytes() for path in folder.iterdir()] == [content]


def test_what_an_earlier_attempt_left_is_not_believed(
    downloader: Aria2Downloader, server: WebServer, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    folder.mkdir()
    (folder / "file.bin").write_bytes(b"?" * len(CONTENT))
    (folder / "link").symlink_to(outside)
    handle = downloader.create(Request(urls=(server.put("file.bin", CONTENT),), directory=folder), KEY)
    whole(downloader, handle)
    assert [path.read_bytes() for path in folder.iterdir()] == [CONTENT]
    assert outside.read_bytes() == b"mine"


def test_removed_by_hand_is_gone(downloader: Aria2Downloader, aria2: Aria2, server: WebServer, folder: Path) -> None:
    url = server.put("file.bin", CONTENT, gate=threading.Event(), gate_at=100_000)
    request = Request(urls=(url,), directory=folder)
    handle = downloader.create(request, KEY)
    moving(downloader, handle)
    instance = downloader.instance()
    aria2.call("forceRemove", KEY)
    until(lambda: downloader.poll([handle]) == {} or None, "removal")
    assert downloader.instance() == instance
    assert downloader.whole_content(request, KEY, total=len(CONTENT), restarted=False) == ()
    # A person who tries again means it.
    server.put("file.bin", CONTENT)
    assert downloader.create(request, KEY) == handle
    whole(downloader, handle)


# -- what aria2 forgets ------------------------------------------------------------------------------------------------


def test_fifty_downloads_and_room_for_three_results(command: Path, server: WebServer, tmp_path: Path) -> None:
    with Aria2(command, tmp_path / "aria2", "--max-download-result=3", "--max-concurrent-downloads=50") as aria2:
        downloader = opened(Aria2Config(url=aria2.url, secret=aria2.secret), tmp_path / "control")
        requests = {}
        for number in range(50):
            key, content = f"{number + 1:016x}", pattern(10_000, number)
            url = server.put(f"{number}.bin", content)
            requests[key] = Request(urls=(url,), directory=tmp_path / key)
            downloader.create(requests[key], key)
        until(lambda: int(aria2.call("getGlobalStat")["numActive"]) == 0 or None, "end")
        seen = downloader.poll([Handle(key) for key in requests])
        assert len(seen) == 3
        for number, (key, request) in enumerate(requests.items()):
            assert downloader.whole_content(request, key, total=10_000, restarted=False) == (
                str(tmp_path / key / f"{number}.bin"),
            )
            assert (tmp_path / key / f"{number}.bin").read_bytes() == pattern(10_000, number)
        downloader.close()


def test_whole_is_proven_or_not_claimed(downloader: Aria2Downloader, folder: Path) -> None:
    request = Request(urls=("http://127.0.0.1:9/file.bin",), directory=folder)
    checked = Request(urls=request.urls, directory=folder, checksum=digest(CONTENT))
    wrong = Request(urls=request.urls, directory=folder, checksum=digest(b""))
    file = folder / "file.bin"

    def proof(given: Request = request, total: int | None = len(CONTENT), restarted: bool = False) -> tuple[str, ...]:
        return tuple(downloader.whole_content(given, KEY, total=total, restarted=restarted))

    assert proof() == ()
    folder.mkdir()
    assert proof() == ()
    file.write_bytes(CONTENT)
    assert proof() == (str(file),)
    assert proof(total=len(CONTENT) + 1) == ()
    # Nothing is known of its size, and nobody has said that it is whole; or aria2 may have been killed meanwhile.
    assert proof(total=None) == ()
    assert proof(restarted=True) == ()
    assert proof(checked, restarted=True) == proof(checked, total=None) == (str(file),)
    assert proof(wrong) == ()
    (folder / "file.bin.aria2").touch()
    assert proof() == proof(checked) == ()
    (folder / "file.bin.aria2").unlink()
    file.write_bytes(b"")
    os.truncate(file, len(CONTENT))
    assert proof() == ()
    file.unlink()
    file.symlink_to("/etc/hostname")
    assert proof(total=None) == proof(total=file.stat().st_size) == ()
    for url in ("magnet:?xt=urn:btih:" + "0" * 40, "http://127.0.0.1:9/x.torrent"):
        file.unlink()
        file.write_bytes(CONTENT)
        assert proof(Request(urls=(url,), directory=folder)) == ()


def test_a_notice_proves_it_if_the_size_was_never_known(
    downloader: Aria2Downloader, aria2: Aria2, server: WebServer, folder: Path
) -> None:
    heard = threading.Event()

    def listen() -> None:
        for _ in downloader.events():
            heard.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert heard.wait(20)
    request = Request(urls=(server.put("file.bin", CONTENT, chunked=True),), directory=folder)
    downloader.create(request, KEY)
    until(lambda: downloader.whole_content(request, KEY, total=None, restarted=False), "proof")
    aria2.call("purgeDownloadResult")
    assert downloader.poll([Handle(KEY)]) == {}
    assert downloader.whole_content(request, KEY, total=None, restarted=True) == ()
    downloader.close()
    thread.join(20)
    assert not thread.is_alive()


# -- requests ----------------------------------------------------------------------------------------------------------


def test_names_headers_options_and_mirrors(
    downloader: Aria2Downloader, aria2: Aria2, server: WebServer, folder: Path
) -> None:
    server.put("file.bin", CONTENT, need={"X-Key": "a, b", "Authorization": "Basic dXNlcjpwYXNz"})
    dead = "http://127.0.0.1:9/file.bin"
    url = server.url("file.bin").replace("http://", "http://user:pass@")
    request = Request(
        urls=(dead, url),
        directory=folder,
        name="Übung $(id).bin",
        headers={"X-Key": "a, b"},
        checksum=digest(CONTENT),
        options={"split": "3", "user-agent": "me/1", "max-download-limit": "10M"},
    )
    handle = downloader.create(request, KEY)
    assert whole(downloader, handle).content == (str(folder / "Übung $(id).bin"),)
    assert server.requests[-1].headers["User-Agent"] == "me/1"
    options = aria2.call("getOption", KEY)
    assert (options["split"], options["max-download-limit"]) == ("3", "10485760")


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ({"name": "../evil"}, "bad_name"),
        ({"name": "/etc/passwd"}, "bad_name"),
        ({"name": ".."}, "bad_name"),
        ({"name": "a\nb"}, "bad_name"),
        ({"name": "x" * 251}, "bad_name"),
        ({"headers": {"X": "a\r\nEvil: 1"}}, "bad_header"),
        ({"headers": {"X\n": "a"}}, "bad_header"),
        ({"headers": {"Range": "bytes=0-"}}, "bad_header"),
        ({"options": {"out": "../x"}}, "bad_option"),
        ({"options": {"dir": "/etc"}}, "bad_option"),
        ({"options": {"on-download-complete": "/bin/sh"}}, "bad_option"),
        ({"options": {"all-proxy": "http://127.0.0.1:9"}}, "bad_option"),
        ({"options": {"split": "3\nout=x"}}, "bad_option"),
        ({"options": {"split": "many"}}, "bad_option"),
        ({"options": {"follow-torrent": "mem"}}, "bad_option"),
        ({"checksum": "crc32=00"}, "bad_checksum"),
        ({"checksum": "sha-256=00"}, "bad_checksum"),
        ({"urls": ("file:///etc/passwd",)}, "bad_url"),
        ({"urls": ("http://127.0.0.1:9/a b",)}, "bad_url"),
        ({"urls": ("http://127.0.0.1:9/a\tb",)}, "bad_url"),
        ({"urls": ()}, "bad_url"),
        ({"urls": ("magnet:?xt=urn:btih:" + "0" * 40, "http://127.0.0.1:9/")}, "bad_url"),
        ({"select": (2,)}, "bad_select"),
        ({"directory": Path("relative")}, "bad_name"),
    ],
)
def test_bad_requests(
    downloader: Aria2Downloader, aria2: Aria2, folder: Path, field: dict[str, Any], kind: str
) -> None:
    given: dict[str, Any] = {"urls": ("http://127.0.0.1:9/x",), "directory": folder}
    request = Request(**(given | field))
    with pytest.raises(Rejected) as caught:
        downloader.create(request, KEY)
    assert caught.value.kind == kind
    assert caught.value.final in ("request", "downloader")
    assert aria2.gids() == set()


@pytest.mark.parametrize("key", ["0" * 16, "", "abc", "00C0FFEE00C0FFEE", "g" * 16, "0" * 15 + "\n", "1" * 17])
def test_bad_keys(downloader: Aria2Downloader, folder: Path, key: str) -> None:
    with pytest.raises(Rejected):
        downloader.create(Request(urls=("http://127.0.0.1:9/x",), directory=folder), key)
    assert downloader.poll([Handle(key)]) == {}
    downloader.remove(Handle(key), delete_data=True)


def test_a_part_of_a_gid_is_no_gid(downloader: Aria2Downloader, server: WebServer, folder: Path) -> None:
    downloader.create(Request(urls=(server.put("file.bin", CONTENT),), directory=folder), KEY)
    assert downloader.poll([Handle(KEY[:8])]) == {}


def test_a_server_cannot_choose_a_place(downloader: Aria2Downloader, server: WebServer, folder: Path) -> None:
    headers = {"Content-Disposition": 'attachment; filename="../../evil.bin"'}
    server.put("../evil.bin", CONTENT, headers=headers)
    handle = downloader.create(Request(urls=(server.url("%2e%2e%2fevil.bin"),), directory=folder), KEY)
    status = whole(downloader, handle)
    assert [Path(path).parent for path in status.content] == [folder]
    assert [path.name for path in folder.parent.iterdir() if "evil" in path.name] == []


def test_selecting_the_only_file(downloader: Aria2Downloader, server: WebServer, folder: Path) -> None:
    request = Request(urls=(server.put("file.bin", CONTENT),), directory=folder, select=(1,))
    handle = downloader.create(request, KEY)
    whole(downloader, handle)
    downloader.select(handle, [1])
    with pytest.raises(Rejected, match="there is one file, no number 2"):
        downloader.select(handle, [2])
    with pytest.raises(NotFound):
        downloader.select(Handle("f" * 16), [1])


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "final", "kind"),
    [
        ({"status": 400}, "request", "http_400"),
        ({"status": 401}, "request", "http_401"),
        ({"status": 403}, "request", "http_403"),
        ({"status": 404}, "request", "http_404"),
        ({"status": 410}, "request", "http_410"),
        ({"status": 429}, None, "http_429"),
        ({"status": 500}, None, "http_500"),
        ({"status": 502}, None, "http_502"),
        ({"status": 503}, None, "http_503"),
        ({"redirect": "file:///etc/passwd"}, "request", "bad_redirect"),
        ({"redirect": "loop"}, "request", "redirects"),
        ({"cut": 1000}, None, "truncated"),
    ],
)
def test_answers_of_servers(
    downloader: Aria2Downloader, server: WebServer, folder: Path, page: dict[str, Any], final: str | None, kind: str
) -> None:
    url = server.put("loop", CONTENT, **page).replace("http://", "http://user:hunter2@")
    error = failed(
        downloader, downloader.create(Request(urls=(url,), directory=folder, options={"max-tries": "1"}), KEY)
    )
    assert (error.final, error.kind) == (final, kind)
    assert "hunter2" not in error.message
    if kind.startswith("http_"):
        assert kind.removeprefix("http_") in error.message


def test_nobody_listens_and_nobody_is_known(downloader: Aria2Downloader, tmp_path: Path) -> None:
    for number, (url, kind) in enumerate(
        [
            ("http://127.0.0.1:9/x", "connection"),
            ("https://127.0.0.1:9/x", "connection"),
            ("http://no.invalid/x", "dns"),
        ]
    ):
        request = Request(urls=(url,), directory=tmp_path / str(number), options={"max-tries": "1"})
        error = failed(downloader, downloader.create(request, f"{number + 1:016x}"))
        assert (error.final, error.kind) == (None, kind)
        assert "127.0.0.1:9/x" not in error.message


def test_a_wrong_checksum_is_found_and_fetched_anew(
    downloader: Aria2Downloader, server: WebServer, folder: Path
) -> None:
    url = server.put("file.bin", b"?" * len(CONTENT))
    request = Request(urls=(url,), directory=folder, checksum=digest(CONTENT))
    handle = downloader.create(request, KEY)
    error = failed(downloader, handle)
    assert (error.final, error.kind) == ("request", "checksum")
    server.put("file.bin", CONTENT)
    assert downloader.create(request, KEY) == handle
    whole(downloader, handle)
    assert [path.read_bytes() for path in folder.iterdir()] == [CONTENT]


def test_a_folder_that_cannot_be_made(downloader: Aria2Downloader, server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    request = Request(urls=(server.put("file.bin", CONTENT),), directory=tmp_path / "file" / "transfer")
    error = failed(downloader, downloader.create(request, KEY))
    assert (error.final, error.kind) == ("downloader", "file")


def test_a_full_disk_is_told_by_code_or_words() -> None:
    for code, message in ((9, ""), (17, "Failed to write into the file: No space left on device"), (16, "Disk quota")):
        error = explain(code, message)
        assert (error.final, error.kind) == (None, "disk_full")


# -- metalinks ---------------------------------------------------------------------------------------------------------


def metalink(*files: tuple[str, list[str], str]) -> bytes:
    inner = "".join(
        f'<file name="{name}"><hash type="sha-256">{checksum}</hash>'
        + "".join(f'<url priority="{len(urls) - number}">{url}</url>' for number, url in enumerate(urls))
        + "</file>"
        for name, urls, checksum in files
    )
    return f'<?xml version="1.0"?><metalink xmlns="urn:ietf:params:xml:ns:metalink">{inner}</metalink>'.encode()


def test_a_metalink_of_one_file(downloader: Aria2Downloader, aria2: Aria2, server: WebServer, folder: Path) -> None:
    urls = ["http://127.0.0.1:9/dead.bin", server.put("file.bin", CONTENT)]
    request = Request(
        urls=(), directory=folder, metalink=metalink(("one.bin", urls, hashlib.sha256(CONTENT).hexdigest()))
    )
    handle = downloader.create(request, KEY)
    assert downloader.create(request, KEY) == handle == Handle(KEY)
    assert whole(downloader, handle).content == (str(folder / "one.bin"),)
    assert aria2.gids() == {KEY}
    assert aria2.call("getOption", KEY)["checksum"] == digest(CONTENT)


def test_a_metalink_of_several_files(downloader: Aria2Downloader, server: WebServer, folder: Path) -> None:
    good = hashlib.sha256(CONTENT).hexdigest()
    content = metalink(("a.bin", ["http://127.0.0.1:9/"], "0" * 64), ("b.bin", [server.put("b", CONTENT)], good))
    with pytest.raises(Rejected, match="describes 2 files: add it once for each"):
        downloader.create(Request(urls=(), directory=folder, metalink=content), KEY)
    with pytest.raises(Rejected, match="there are 2 files, no number 3"):
        downloader.create(Request(urls=(), directory=folder, metalink=content, select=(3,)), KEY)
    handle = downloader.create(Request(urls=(), directory=folder, metalink=content, select=(2,)), KEY)
    assert whole(downloader, handle).content == (str(folder / "b.bin"),)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<a>",
        b"<metalink/>",
        metalink(("..", ["http://127.0.0.1:9/"], "")),
        metalink(("a.bin", ["file:///etc/passwd"], "")),
        metalink(("a.bin", ["http://127.0.0.1:9/ x"], "")),
        b'<!DOCTYPE a [<!ENTITY b "c">]><metalink><file name="&b;"/></metalink>',
    ],
)
def test_bad_metalinks(downloader: Aria2Downloader, folder: Path, content: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        downloader.create(Request(urls=(), directory=folder, metalink=content), KEY)
    assert caught.value.final == "request"


def test_the_call_that_crashes_aria2_is_never_made() -> None:
    # changeUri on a paused transfer ends some versions of aria2; changeGlobalOption is not ours to call.
    modules = list((Path(__file__).parents[3] / "plugins" / "dlqueue_aria2").glob("*.py"))
    assert len(modules) > 10
    for module in modules:
        text = module.read_text()
        assert "changeUri" not in text
        assert "changeGlobalOption" not in text


def test_the_helper_of_these_tests_tells_errors(aria2: Aria2) -> None:
    with pytest.raises(RpcError):
        aria2.call("tellStatus", "f" * 16)


def test_what_is_ours_is_known_by_its_key(server: WebServer, downloader: Aria2Downloader, tmp_path: Path) -> None:
    assert downloader.owned() == {}
    server.put("a.bin", CONTENT)
    folder = tmp_path / f"1-{KEY}"
    handle = downloader.create(Request(urls=(server.url("a.bin"),), directory=folder), KEY)
    assert downloader.owned() == {KEY: str(folder)}
    downloader.remove(handle, True)
    assert downloader.owned() == {}
