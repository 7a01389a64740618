"""Torrents and magnet links in a real transmission-daemon."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dlqueue.sdk import Handle, NotFound, Rejected, Request, TransferState, Unavailable
from dlqueue_transmission import TransmissionDownloader, rpc
from dlqueue_transmission.rpc import Rpc
from dlqueue_transmission.runs import Runs
from tests.plugins.aria2.conftest import named
from tests.plugins.aria2.swarm import Swarm, Torrent, make_torrent
from tests.plugins.transmission.live import Transmission, opened, until, wait, web_seeded, whole
from tests.webserver import WebServer, pattern

KEY = "00c0ffee00c0ffee"
FILES = {"a.bin": pattern(100_000, 1), "b.bin": pattern(150_000, 2), "sub/c.bin": pattern(50_000, 3)}


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as running:
        yield running


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with Swarm(named("system"), tmp_path / "swarm") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / f"transfer-{KEY}"


@pytest.fixture
def album(server: WebServer) -> Torrent:
    return web_seeded(server, "album", FILES)


def magnet(torrent: Torrent, server: WebServer) -> str:
    """Its metadata comes from the swarm, its content from the web server: Transmission is quicker with that."""
    for path, body in FILES.items():
        server.put(f"{torrent.hash}/{torrent.name}/{path}", body)
    return f"{torrent.magnet}&ws={quote(server.url(f'{torrent.hash}/'), safe='')}"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def loaded(downloader: TransmissionDownloader, handle: Handle) -> None:
    """Until Transmission has loaded its torrents after a start, with this one or without it."""

    def done() -> bool:
        try:
            downloader.poll([handle])
        except Unavailable as error:
            assert "just started" in str(error)
            return False
        return True

    until(done, "transmission has loaded")


# -- several files -----------------------------------------------------------------------------------------------------


def test_a_torrent_of_several_files(
    downloader: TransmissionDownloader, transmission: Transmission, album: Torrent, folder: Path
) -> None:
    handle = downloader.create(Request(urls=(), directory=folder, torrent=album.content), KEY)
    assert handle == Handle(KEY, album.hash)
    status = whole(downloader, handle)
    assert status.state is TransferState.SEEDING
    assert status.content == (str(folder / "album"),)
    assert (status.name, status.hash) == ("album", album.hash)
    assert status.total == status.downloaded == 300_000
    assert tree(folder / "album") == FILES
    assert [(file.index, file.path, file.size, file.progress, file.selected) for file in downloader.files(handle)] == [
        (1, "album/a.bin", 100_000, 100.0, True),
        (2, "album/b.bin", 150_000, 100.0, True),
        (3, "album/sub/c.bin", 50_000, 100.0, True),
    ]
    seen = transmission.look(album.hash)
    assert (seen["seedRatioMode"], seen["seedIdleMode"]) == (2, 2), "the core ends the seeding"
    assert seen["labels"] == ["dlqueue"]


def test_one_request_per_poll(
    downloader: TransmissionDownloader, server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    send = rpc._Gate.send

    def counted(gate: Any, *args: Any, **given: Any) -> Any:
        asked.append(args)
        return send(gate, *args, **given)

    monkeypatch.setattr(rpc._Gate, "send", counted)
    handles = []
    for number in range(5):
        key, torrent = f"{number + 1:016x}", web_seeded(server, f"{number}.bin", pattern(20_000, number))
        request = Request(urls=(), directory=tmp_path / f"x-{key}", torrent=torrent.content)
        handles.append(downloader.create(request, key))
    until(lambda: all(status.whole for status in downloader.poll(handles).values()), "all of them whole")
    asked.clear()
    assert len(downloader.poll(handles)) == 5
    assert downloader.instance()
    assert len(asked) == 1


def test_a_folder_for_incomplete_files_is_not_used(
    server: WebServer, album: Torrent, tmp_path: Path, folder: Path
) -> None:
    elsewhere = tmp_path / "incomplete"
    held = server.pages[f"{album.hash}/album/b.bin"]
    held.gate, held.gate_at = threading.Event(), 0
    settings: dict[str, Any] = {"incomplete_dir_enabled": True, "incomplete_dir": str(elsewhere), "cache_size_mb": 0}
    with Transmission(tmp_path / "transmission", **settings) as transmission:
        downloader = opened(transmission.config, tmp_path / "control")
        handle = downloader.create(Request(urls=(), directory=folder, torrent=album.content), KEY)
        until(lambda: [*folder.rglob("*.bin*"), *elsewhere.rglob("*.bin*")], "a file")
        assert not list(elsewhere.rglob("*.bin*"))
        assert downloader.poll([handle])[handle].state is TransferState.DOWNLOADING
        held.gate.set()
        whole(downloader, handle)
        assert tree(folder / "album") == FILES
        downloader.close()


# -- magnet links and selections ---------------------------------------------------------------------------------------


def test_a_magnet_link_with_a_selection(
    swarm: Swarm, server: WebServer, downloader: TransmissionDownloader, transmission: Transmission, folder: Path,
    open_again: Callable[[], TransmissionDownloader],
) -> None:  # fmt: skip
    torrent = swarm.seed("album", FILES)
    swarm.tracker.closed = True
    request = Request(urls=(magnet(torrent, server),), directory=folder, select=(2,))
    handle = downloader.create(request, KEY)
    assert handle == Handle(KEY, torrent.hash)
    status = wait(downloader, handle, lambda status: status.state is TransferState.METADATA, "fetching metadata")
    assert (status.total, status.downloaded, status.content) == (None, 0, ())
    assert downloader.files(handle) == []
    downloader.select(handle, [3])
    again = open_again()  # what waits for the files is known after a restart of ours
    swarm.tracker.closed = False
    status = whole(again, handle)
    assert status.total is not None and 50_000 <= status.total <= 50_000 + 2 * (1 << 14), "whole pieces"
    assert [file.selected for file in again.files(handle)] == [False, False, True]
    assert (folder / "album/sub/c.bin").read_bytes() == FILES["sub/c.bin"]
    assert not transmission.look(torrent.hash, "downloadLimited")["downloadLimited"]
    assert again.create(request, KEY) == handle


def test_a_magnet_link_with_a_selection_of_nothing(
    swarm: Swarm, downloader: TransmissionDownloader, transmission: Transmission, folder: Path
) -> None:
    torrent = swarm.seed("album", FILES)
    handle = downloader.create(Request(urls=(torrent.magnet,), directory=folder, select=(9,)), KEY)
    status = wait(downloader, handle, lambda status: status.state is TransferState.ERROR, "failed")
    assert status.error is not None
    assert (status.error.final, status.error.kind) == ("request", "bad_select")
    assert "there are 3 files, no number 9" in status.error.message

    def stopped() -> bool:
        assert downloader.poll([handle])[handle].state is TransferState.ERROR
        return bool(transmission.look(torrent.hash)["status"] == 0)

    until(stopped, "it is stopped")


def test_a_selection_can_be_changed(downloader: TransmissionDownloader, album: Torrent, folder: Path) -> None:
    request = Request(urls=(), directory=folder, torrent=album.content, select=(2,))
    handle = downloader.create(request, KEY)
    status = whole(downloader, handle)
    assert (folder / "album/b.bin").read_bytes() == FILES["b.bin"]
    assert (status.total or 0) < 200_000
    downloader.select(handle, [2, 3])
    wait(downloader, handle, lambda status: status.whole and (status.total or 0) >= 200_000, "whole again")
    assert (folder / "album/sub/c.bin").read_bytes() == FILES["sub/c.bin"]
    assert [file.selected for file in downloader.files(handle)] == [False, True, True]
    downloader.select(handle, [1, 2, 3])
    wait(downloader, handle, lambda status: status.whole and status.total == 300_000, "whole again")
    with pytest.raises(Rejected, match="there are 3 files, no number 4") as caught:
        downloader.select(handle, [4])
    assert (caught.value.final, caught.value.kind) == ("request", "bad_select")
    with pytest.raises(Rejected):
        downloader.select(handle, [])


def test_what_is_no_torrent_is_refused(downloader: TransmissionDownloader, folder: Path) -> None:
    for request, text in (
        (Request(urls=(), directory=folder, torrent=b"<html>"), "no .torrent file"),
        (Request(urls=(), directory=folder, torrent=b"d4:infod6:lengthi1eee"), "version 2 only"),
        (Request(urls=("magnet:?xt=urn:btmh:1220",), directory=folder), "no version 1 info-hash"),
        (Request(urls=("http://127.0.0.1/x",), directory=folder), "magnet link or .torrent"),
        (Request(urls=("magnet:?xt=urn:btih:" + "0" * 40,), directory=folder, select=()), "count from 1"),
        (Request(urls=(), directory=folder, torrent=make_torrent("x", b"1").content, select=(2,)), "there is one file"),
    ):
        with pytest.raises(Rejected, match=text):
            downloader.create(request, KEY)
    broken = b"d4:infod6:lengthi1e4:name1:x12:piece lengthi0e6:pieces20:" + b"x" * 20 + b"ee"
    with pytest.raises(Rejected, match="cannot use this torrent") as caught:
        downloader.create(Request(urls=(), directory=folder, torrent=broken), KEY)
    assert (caught.value.final, caught.value.kind) == ("request", "bad_torrent")
    base32 = "magnet:?xt=urn:btih:" + "A" * 32
    assert downloader.create(Request(urls=(base32,), directory=folder), KEY).hash == "0" * 40


# -- somebody else's ---------------------------------------------------------------------------------------------------


def test_a_torrent_that_is_there_already_is_attached_to(
    downloader: TransmissionDownloader, transmission: Transmission, album: Torrent, folder: Path
) -> None:
    transmission.client.add_torrent(album.content, labels=["mine"])
    before = transmission.look(album.hash)
    handle = Handle(album.hash, album.hash, attached=True)
    request = Request(urls=(), torrent=album.content, directory=folder, select=(1,))
    assert downloader.create(request, KEY) == handle
    assert downloader.create(Request(urls=(album.magnet,), directory=folder), KEY) == handle
    status = whole(downloader, handle)
    assert status.content == (str(transmission.theirs / "album"),)
    for touch in (downloader.pause, downloader.resume):
        with pytest.raises(Rejected, match="somebody else"):
            touch(handle)
    with pytest.raises(Rejected, match="somebody else"):
        downloader.select(handle, [1])
    with pytest.raises(Rejected, match="somebody else"):
        downloader.remove(handle, delete_data=True)
    downloader.remove(Handle(KEY), delete_data=True)
    after = transmission.look(album.hash)
    assert {name: after[name] for name in ("labels", "seedRatioMode", "downloadDir")} == {
        name: before[name] for name in ("labels", "seedRatioMode", "downloadDir")
    }
    assert tree(transmission.theirs / "album") == FILES
    assert not folder.exists()


def test_two_of_ours_with_one_torrent(
    downloader: TransmissionDownloader, album: Torrent, folder: Path, tmp_path: Path
) -> None:
    """The second is attached to the first, and cannot take it away."""
    first = downloader.create(Request(urls=(), torrent=album.content, directory=folder), KEY)
    other = Request(urls=(), torrent=album.content, directory=tmp_path / ("x-" + "1" * 16))
    second = downloader.create(other, "1" * 16)
    assert second == Handle(album.hash, album.hash, attached=True)
    downloader.remove(Handle("1" * 16), delete_data=True)
    whole(downloader, first)
    assert whole(downloader, second).content == (str(folder / "album"),)


# -- restarts ----------------------------------------------------------------------------------------------------------


def test_a_restart_is_another_instance(
    downloader: TransmissionDownloader, transmission: Transmission, album: Torrent, folder: Path,
    open_again: Callable[[], TransmissionDownloader],
) -> None:  # fmt: skip
    handle = downloader.create(Request(urls=(), directory=folder, torrent=album.content), KEY)
    whole(downloader, handle)
    instance = downloader.instance()
    assert open_again().instance() == instance == downloader.instance()
    transmission.restart(signal.SIGTERM)
    loaded(downloader, handle)
    assert downloader.poll([handle])[handle].state in (TransferState.SEEDING, TransferState.CHECKING)
    assert downloader.instance() not in (None, instance)
    assert open_again().instance() == downloader.instance()


def test_what_a_crash_of_transmission_has_lost_is_put_right(
    downloader: TransmissionDownloader, transmission: Transmission, album: Torrent, folder: Path
) -> None:
    """Killed, it knows the torrent again, but neither its folder nor which files were wanted."""
    request = Request(urls=(), directory=folder, torrent=album.content, select=(2,), seed=False)
    handle = downloader.create(request, KEY)
    whole(downloader, handle)
    instance = downloader.instance()
    transmission.restart()
    until(
        lambda: transmission.look(album.hash).get("downloadDir") == str(transmission.theirs), "it has forgotten where"
    )
    loaded(downloader, handle)
    assert downloader.poll([handle]) == {}, "what is there is not what was created"
    assert downloader.instance() != instance
    with pytest.raises(NotFound):
        downloader.files(handle)
    shutil.rmtree(transmission.theirs / "album", ignore_errors=True)
    assert downloader.create(request, KEY) == handle
    status = whole(downloader, handle)
    assert status.content == (str(folder / "album"),)
    assert (folder / "album/b.bin").read_bytes() == FILES["b.bin"]
    assert [file.selected for file in downloader.files(handle)] == [False, True, False]
    assert transmission.look(album.hash)["seedRatioMode"] == 2


def test_a_crash_while_the_losses_of_another_are_put_right(
    downloader: TransmissionDownloader, transmission: Transmission, album: Torrent, folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It has written down by then when the torrent was added, for it was stopped, but not yet where it belongs. The
    trap: ours was taken for somebody else's, and waited for for ever."""
    request = Request(urls=(), directory=folder, torrent=album.content, select=(2,), seed=False)
    handle = downloader.create(request, KEY)
    transmission.restart()
    until(
        lambda: transmission.look(album.hash).get("downloadDir") == str(transmission.theirs), "it has forgotten where"
    )
    added = transmission.look(album.hash, "addedDate")["addedDate"]

    class Killed(Exception):
        """Both, at that moment."""

    def place(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Rpc, "place", place)
        with pytest.raises(Killed):
            downloader.create(request, KEY)

    def stopped() -> bool:
        return any(b"6:pausedi1e" in path.read_bytes() for path in (transmission.home / "resume").iterdir())

    until(stopped, "it has written down that it is stopped")
    monkeypatch.setattr(Runs, "began_with", lambda runs, rpc, moment: moment != added)  # that start was long ago
    transmission.restart()
    until(lambda: transmission.look(album.hash), "it is there again")
    assert downloader.create(request, KEY) == handle
    assert whole(downloader, handle).content == (str(folder / "album"),)


def test_what_is_whole_and_seeds_is_not_fetched_again_after_a_crash(
    downloader: TransmissionDownloader, transmission: Transmission, album: Torrent, folder: Path, server: WebServer
) -> None:
    handle = downloader.create(Request(urls=(), directory=folder, torrent=album.content, select=(2,)), KEY)
    whole(downloader, handle)
    until(lambda: transmission.look(album.hash)["status"] == 6, "it seeds")
    requests, written = len(server.requests), (folder / "album/b.bin").stat().st_mtime_ns
    transmission.restart()
    loaded(downloader, handle)
    wait(downloader, handle, lambda status: status.state is TransferState.PAUSED, "stopped as it was written down")
    downloader.resume(handle)
    status = wait(downloader, handle, lambda status: status.state is TransferState.SEEDING, "seeding on")
    assert status.content == (str(folder / "album"),)
    assert (len(server.requests), (folder / "album/b.bin").stat().st_mtime_ns) == (requests, written)
    # By hand it may be ended, as before.
    transmission.client.stop_torrent(album.hash)
    wait(downloader, handle, lambda status: status.state is TransferState.COMPLETED, "ended by hand")


def test_what_a_crash_of_transmission_has_lost_is_removed_without_its_data(
    downloader: TransmissionDownloader, transmission: Transmission, album: Torrent, folder: Path
) -> None:
    handle = downloader.create(Request(urls=(), directory=folder, torrent=album.content, seed=False), KEY)
    whole(downloader, handle)
    transmission.restart()
    until(
        lambda: transmission.look(album.hash).get("downloadDir") == str(transmission.theirs), "it has forgotten where"
    )
    until(lambda: transmission.look(album.hash)["status"] == 6, "it has fetched it again")
    downloader.remove(handle, delete_data=True)
    assert transmission.hashes() == set()
    assert tree(transmission.theirs / "album") == FILES, "it might be somebody's"


@pytest.mark.parametrize("restarted", [False, True])
def test_somebody_has_removed_ours_and_added_it_for_himself(
    downloader: TransmissionDownloader, transmission: Transmission, album: Torrent, folder: Path, restarted: bool
) -> None:
    """That one is not ours that a crash has thrown into another folder: it is neither taken over nor removed."""
    request = Request(urls=(), directory=folder, torrent=album.content)
    whole(downloader, downloader.create(request, KEY))
    ours = transmission.look(album.hash, "addedDate")["addedDate"]
    until(lambda: time.time() > ours + 2, "another second")  # its clock goes by whole ones
    transmission.client.remove_torrent(album.hash, delete_data=True)
    transmission.client.add_torrent(album.content)
    until(lambda: transmission.look(album.hash).get("status") == 6, "it is whole")
    if restarted:
        transmission.restart(signal.SIGTERM)
        until(lambda: transmission.look(album.hash), "it is there")
    before = transmission.look(album.hash, "addedDate")
    theirs = downloader.create(request, KEY)
    assert theirs == Handle(album.hash, album.hash, attached=True)
    downloader.remove(Handle(KEY), delete_data=True)
    after = transmission.look(album.hash, "addedDate")
    for same in ("downloadDir", "labels", "seedRatioMode", "addedDate"):
        assert after[same] == before[same]
    assert tree(transmission.theirs / "album") == FILES


def test_removed_over_there(downloader: TransmissionDownloader, transmission: Transmission, album: Torrent,
                            folder: Path) -> None:  # fmt: skip
    request = Request(urls=(), directory=folder, torrent=album.content)
    handle = downloader.create(request, KEY)
    whole(downloader, handle)
    transmission.client.remove_torrent(album.hash)
    loaded(downloader, handle)
    assert downloader.poll([handle]) == {}
    assert downloader.whole_content(request, KEY, total=300_000, restarted=False) == (str(folder / "album"),)
    downloader.remove(handle, delete_data=False)
    assert tree(folder / "album") == FILES


def test_what_is_ours_is_known_by_its_key(album: Torrent, downloader: TransmissionDownloader, folder: Path) -> None:
    assert downloader.owned() == {}
    handle = downloader.create(Request(urls=(), directory=folder, torrent=album.content), KEY)
    assert downloader.owned() == {KEY: "album"}
    downloader.remove(handle, True)
    assert downloader.owned() == {}
