"""Torrents and magnet links in a swarm on loopback."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlqueue.sdk import Handle, Rejected, Request, TransferState
from dlqueue_aria2 import Aria2Downloader
from dlqueue_aria2.torrents import magnet_hash, read_torrent
from tests.plugins.aria2.conftest import named
from tests.plugins.aria2.live import Aria2, until, wait, whole
from tests.plugins.aria2.swarm import Swarm, Torrent, make_torrent
from tests.webserver import WebServer, pattern

KEY = "00c0ffee00c0ffee"
FILES = {"a.bin": pattern(100_000, 1), "b.bin": pattern(150_000, 2), "sub/c.bin": pattern(50_000, 3)}


BOTH = pytest.mark.parametrize("command", ["system", "bundled"], indirect=True)


@pytest.fixture
def command(request: pytest.FixtureRequest, one_command: Path) -> Path:
    """A swarm takes its time: both versions only where they matter."""
    return named(request.param) if hasattr(request, "param") else one_command


@pytest.fixture
def swarm(one_command: Path, tmp_path: Path) -> Iterator[Swarm]:
    with Swarm(one_command, tmp_path / "swarm") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / f"transfer-{KEY}"


def seeding(downloader: Aria2Downloader, handle: Handle) -> None:
    wait(downloader, handle, lambda status: status.state is TransferState.SEEDING, "seeding")


def tree(folder: Path) -> dict[str, bytes]:
    """Without control files, which aria2 removes a moment after the end."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".aria2")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@BOTH
def test_a_torrent_of_several_files(swarm: Swarm, downloader: Aria2Downloader, folder: Path) -> None:
    torrent = swarm.seed("album", FILES)
    handle = downloader.create(Request(urls=(), directory=folder, torrent=torrent.content), KEY)
    assert handle == Handle(KEY, torrent.hash)
    status = whole(downloader, handle)
    assert status.state is TransferState.SEEDING
    assert status.content == (str(folder / "album"),)
    assert (status.name, status.hash) == ("album", torrent.hash)
    assert status.total == status.downloaded == 300_000
    assert tree(folder / "album") == FILES
    assert [(file.index, file.path, file.size, file.progress, file.selected) for file in downloader.files(handle)] == [
        (1, "album/a.bin", 100_000, 100.0, True),
        (2, "album/b.bin", 150_000, 100.0, True),
        (3, "album/sub/c.bin", 50_000, 100.0, True),
    ]
    assert downloader.create(Request(urls=(), directory=folder, torrent=torrent.content), KEY) == handle


@BOTH
def test_a_magnet_link_keeps_its_handle(swarm: Swarm, downloader: Aria2Downloader, aria2: Aria2, folder: Path) -> None:
    torrent = swarm.seed("one.bin", FILES["a.bin"])
    swarm.tracker.closed = True
    handle = downloader.create(Request(urls=(torrent.magnet,), directory=folder), KEY)
    assert handle == Handle(KEY, torrent.hash)
    status = wait(downloader, handle, lambda status: status.state is TransferState.METADATA, "fetching metadata")
    assert (status.name, status.total, status.downloaded, status.content) == ("one.bin", None, 0, ())
    assert downloader.files(handle) == []
    swarm.tracker.closed = False
    status = whole(downloader, handle)
    assert status.content == (str(folder / "one.bin"),)
    assert tree(folder) == {"one.bin": FILES["a.bin"]}
    assert len(aria2.gids()) == 2
    assert downloader.create(Request(urls=(torrent.magnet,), directory=folder), KEY) == handle
    assert len(aria2.gids()) == 2


@BOTH
@pytest.mark.parametrize("by", ["torrent", "magnet"])
def test_only_the_selected_files(swarm: Swarm, downloader: Aria2Downloader, folder: Path, by: str) -> None:
    torrent = swarm.seed("album", FILES)
    given = {"urls": (), "torrent": torrent.content} if by == "torrent" else {"urls": (torrent.magnet,)}
    handle = downloader.create(Request(directory=folder, select=(2,), **given), KEY)
    status = whole(downloader, handle)
    # aria2 counts whole pieces, which neighbours share.
    assert status.total is not None
    assert 150_000 <= status.total <= 150_000 + 2 * (1 << 14)
    files = downloader.files(handle)
    assert [file.selected for file in files] == [False, True, False]
    assert files[1].progress == 100.0
    assert (folder / "album" / "b.bin").read_bytes() == FILES["b.bin"]
    assert files[0].progress < 100.0


@BOTH
def test_a_selection_can_be_changed(swarm: Swarm, downloader: Aria2Downloader, folder: Path) -> None:
    torrent = swarm.seed("album", FILES)
    handle = downloader.create(Request(urls=(torrent.magnet,), directory=folder, select=(3,)), KEY)
    whole(downloader, handle)
    downloader.select(handle, [1, 3])
    wait(downloader, handle, lambda status: status.whole and (status.total or 0) > 140_000, "whole again")
    assert (folder / "album" / "a.bin").read_bytes() == FILES["a.bin"]
    with pytest.raises(Rejected, match="there are 3 files, no number 4") as caught:
        downloader.select(handle, [4])
    assert (caught.value.final, caught.value.kind) == ("request", "bad_select")


def test_a_selection_before_the_files_are_known(swarm: Swarm, downloader: Aria2Downloader, folder: Path) -> None:
    torrent = swarm.seed("album", FILES)
    swarm.tracker.closed = True
    handle = downloader.create(Request(urls=(torrent.magnet,), directory=folder), KEY)
    wait(downloader, handle, lambda status: status.state is TransferState.METADATA, "fetching metadata")
    downloader.select(handle, [2])
    swarm.tracker.closed = False
    whole(downloader, handle)
    assert [file.selected for file in downloader.files(handle)] == [False, True, False]


def test_a_selection_of_nothing_that_is_there(swarm: Swarm, downloader: Aria2Downloader, folder: Path) -> None:
    torrent = swarm.seed("album", FILES)
    with pytest.raises(Rejected, match="no number 9"):
        downloader.create(Request(urls=(), directory=folder, torrent=torrent.content, select=(9,)), KEY)
    handle = downloader.create(Request(urls=(torrent.magnet,), directory=folder, select=(9,)), KEY)
    status = wait(downloader, handle, lambda status: status.state is TransferState.ERROR, "failed")
    assert status.error is not None
    assert (status.error.final, status.error.kind) == ("request", "bad_select")


def test_without_seeding_it_ends(swarm: Swarm, downloader: Aria2Downloader, folder: Path) -> None:
    torrent = swarm.seed("one.bin", FILES["a.bin"])
    handle = downloader.create(Request(urls=(), directory=folder, torrent=torrent.content, seed=False), KEY)
    status = wait(downloader, handle, lambda status: status.state is TransferState.COMPLETED, "completed")
    assert status.content == (str(folder / "one.bin"),)


def test_aria2_does_not_end_the_seeding(swarm: Swarm, downloader: Aria2Downloader, aria2: Aria2, folder: Path) -> None:
    torrent = swarm.seed("one.bin", FILES["a.bin"])
    seeding(downloader, downloader.create(Request(urls=(), directory=folder, torrent=torrent.content), KEY))
    options = aria2.call("getOption", KEY)
    assert (options["seed-ratio"], int(options["seed-time"]) > 10_000_000) == ("0.0", True)


@BOTH
def test_the_url_of_a_torrent_is_followed(
    swarm: Swarm, downloader: Aria2Downloader, aria2: Aria2, folder: Path
) -> None:
    torrent = swarm.seed("one.bin", FILES["a.bin"])
    with WebServer() as server:
        url = server.put("x.torrent", torrent.content)
        handle = downloader.create(Request(urls=(url,), directory=folder), KEY)
        status = whole(downloader, handle)
    assert (status.content, status.hash) == ((str(folder / "one.bin"),), torrent.hash)
    assert tree(folder) == {"one.bin": FILES["a.bin"]}
    downloader.remove(handle, delete_data=True)
    assert aria2.gids() == set()
    assert tree(folder) == {}


def test_the_url_of_a_torrent_as_a_file(downloader: Aria2Downloader, folder: Path) -> None:
    torrent = make_torrent("one.bin", FILES["a.bin"])
    with WebServer() as server:
        url = server.put("x.torrent", torrent.content)
        options = {"follow-torrent": "false"}
        status = whole(downloader, downloader.create(Request(urls=(url,), directory=folder, options=options), KEY))
    assert status.content == (str(folder / "x.torrent"),)
    assert tree(folder) == {"x.torrent": torrent.content}


def test_what_is_called_a_torrent_and_is_none(downloader: Aria2Downloader, folder: Path) -> None:
    with WebServer() as server:
        url = server.put("x.torrent", b"<html>please log in</html>")
        handle = downloader.create(Request(urls=(url,), directory=folder), KEY)
        status = wait(downloader, handle, lambda status: status.state is TransferState.ERROR, "failed")
        assert status.error is not None
        assert (status.error.final, status.error.kind) == ("request", "bad_torrent")
        # As after any other error, it can be tried again.
        server.put("x.torrent", b"still none")
        before = len(server.requests)
        assert downloader.create(Request(urls=(url,), directory=folder), KEY) == handle
        until(lambda: len(server.requests) > before, "second try")


@BOTH
def test_a_torrent_that_is_there_already_is_attached_to(
    swarm: Swarm, downloader: Aria2Downloader, aria2: Aria2, folder: Path, tmp_path: Path
) -> None:
    torrent = swarm.seed("one.bin", FILES["a.bin"])
    theirs = {"dir": str(tmp_path / "theirs"), "gid": "1" * 16, "seed-ratio": "0.0"}
    aria2.call("addTorrent", base64.b64encode(torrent.content).decode(), [], theirs)
    handle = Handle("1" * 16, torrent.hash, attached=True)
    assert downloader.create(Request(urls=(torrent.magnet,), directory=folder), KEY) == handle
    assert downloader.create(Request(urls=(), torrent=torrent.content, directory=folder), KEY) == handle
    status = whole(downloader, handle)
    assert status.content == (str(tmp_path / "theirs" / "one.bin"),)
    for touch in (downloader.pause, downloader.resume):
        with pytest.raises(Rejected, match="somebody else"):
            touch(handle)
    with pytest.raises(Rejected, match="somebody else"):
        downloader.select(handle, [1])
    with pytest.raises(Rejected, match="somebody else"):
        downloader.remove(handle, delete_data=True)
    assert aria2.gids() == {"1" * 16}
    assert not folder.exists()


def test_a_url_that_turns_out_to_be_a_torrent_that_is_there(
    swarm: Swarm, downloader: Aria2Downloader, aria2: Aria2, folder: Path, tmp_path: Path
) -> None:
    torrent = swarm.seed("one.bin", FILES["a.bin"])
    theirs = {"dir": str(tmp_path / "theirs"), "gid": "1" * 16, "seed-ratio": "0.0"}
    aria2.call("addTorrent", base64.b64encode(torrent.content).decode(), [], theirs)
    with WebServer() as server:
        request = Request(urls=(server.put("x.torrent", torrent.content),), directory=folder)
        first = downloader.create(request, KEY)
        status = wait(downloader, first, lambda status: status.state is TransferState.ERROR, "failed")
        assert status.error is not None
        assert (status.error.final, status.error.kind) == (None, "attach")
        # That is worth another try, as the core does.
        assert downloader.create(request, KEY) == Handle("1" * 16, torrent.hash, attached=True)
    assert aria2.gids() == {"1" * 16}


def test_content_without_a_control_file_is_proven_not_fetched(
    downloader: Aria2Downloader, aria2: Aria2, folder: Path
) -> None:
    torrent = make_torrent("one.bin", FILES["a.bin"])  # nobody seeds it
    folder.mkdir()
    (folder / "one.bin").write_bytes(FILES["a.bin"])
    seeding(downloader, downloader.create(Request(urls=(), directory=folder, torrent=torrent.content), KEY))


@BOTH
def test_seeding_is_lost_in_a_restart_and_content_is_proven(
    swarm: Swarm, downloader: Aria2Downloader, aria2: Aria2, folder: Path
) -> None:
    torrent = swarm.seed("album", FILES)
    request = Request(urls=(torrent.magnet,), directory=folder)
    handle = downloader.create(request, KEY)
    seeding(downloader, handle)
    before = downloader.instance()
    until(lambda: KEY not in (aria2.home / "session").read_text(), "saved session")
    aria2.restart()
    assert downloader.poll([handle]) == {}
    assert downloader.instance() not in (None, before)
    # This process has seen that it was whole; another one has not, and aria2 proves it anew.
    assert downloader.whole_content(request, KEY, total=None, restarted=True) == (str(folder / "album"),)
    (folder / "album" / "a.bin").write_bytes(b"x" * 100_000)
    assert downloader.create(request, KEY) == handle
    seeding(downloader, handle)
    assert tree(folder / "album") == FILES
    status = downloader.poll([handle])[handle]
    assert status.downloaded == 300_000


def test_what_a_magnet_leads_to_is_found_again(
    swarm: Swarm,
    downloader: Aria2Downloader,
    aria2: Aria2,
    folder: Path,
    open_again: Callable[[], Aria2Downloader],
) -> None:
    content = pattern(2_000_000)
    torrent = swarm.seed("one.bin", content, ("max-upload-limit", "300K"))
    handle = downloader.create(Request(urls=(torrent.magnet,), directory=folder), KEY)
    wait(downloader, handle, lambda status: status.downloaded > 0 and status.name == "one.bin", "moving")
    first = aria2.call("tellStatus", KEY)["followedBy"]
    until(lambda: KEY in (aria2.home / "session").read_text(), "saved session")
    # A restart of aria2 gives it another GID, and another process of ours has never seen either.
    aria2.restart()
    swarm.seeder.call("changeGlobalOption", {"max-upload-limit": "0"})
    other = open_again()
    wait(other, handle, lambda status: status.total == 2_000_000, "known again")
    assert aria2.call("tellStatus", KEY)["followedBy"] != first
    aria2.call("removeDownloadResult", KEY)
    status = whole(other, handle)
    assert Path(status.content[0]).read_bytes() == content
    third = open_again()
    assert third.poll([handle])[handle].whole
    third.remove(handle, delete_data=True)
    assert aria2.gids() == set()
    assert tree(folder) == {}


def test_remove_leaves_nothing_and_nobody_revives_it(
    swarm: Swarm, downloader: Aria2Downloader, aria2: Aria2, folder: Path
) -> None:
    torrent = swarm.seed("album", FILES)
    handle = downloader.create(Request(urls=(), directory=folder, torrent=torrent.content), KEY)
    seeding(downloader, handle)
    stranger = folder / "album" / "stranger"
    stranger.write_bytes(b"not yours")
    downloader.remove(Handle(KEY), delete_data=True)
    assert tree(folder) == {"album/stranger": b"not yours"}
    swarm.tracker.closed = True
    downloader.create(Request(urls=(torrent.magnet,), directory=folder), KEY)
    downloader.remove(Handle(KEY), delete_data=True)
    aria2.restart()
    assert aria2.gids() == set()


def test_pause_and_resume_of_a_torrent(swarm: Swarm, downloader: Aria2Downloader, folder: Path) -> None:
    torrent = swarm.seed("one.bin", pattern(2_000_000), ("max-upload-limit", "300K"))
    request = Request(urls=(torrent.magnet,), directory=folder)
    handle = downloader.create(request, KEY)
    wait(downloader, handle, lambda status: status.downloaded > 0, "moving")
    downloader.pause(handle)
    assert downloader.poll([handle])[handle].state is TransferState.PAUSED
    assert downloader.create(request, KEY) == handle
    assert downloader.poll([handle])[handle].state is TransferState.PAUSED
    swarm.seeder.call("changeGlobalOption", {"max-overall-upload-limit": "0"})
    downloader.resume(handle)
    assert downloader.poll([handle])[handle].state is not TransferState.PAUSED


@BOTH
def test_a_hostile_torrent_is_refused(downloader: Aria2Downloader, aria2: Aria2, folder: Path) -> None:
    torrent = make_torrent("album", {"../../evil": b"x"})
    with pytest.raises(Rejected) as caught:
        downloader.create(Request(urls=(), directory=folder, torrent=torrent.content), KEY)
    assert (caught.value.final, caught.value.kind) == ("request", "bad_torrent")
    assert aria2.gids() == set()


def test_a_torrent_too_large_for_aria2(downloader: Aria2Downloader, folder: Path) -> None:
    torrent = make_torrent("big.bin", bytes(1))
    padded = torrent.content[:-1] + b"7:padding1800000:" + bytes(1_800_000) + b"e"
    with pytest.raises(Rejected, match="rpc-max-request-size above 2097152") as caught:
        downloader.create(Request(urls=(), directory=folder, torrent=padded), KEY)
    assert (caught.value.final, caught.value.kind) == ("downloader", "too_large")


@pytest.mark.parametrize("content", [b"", b"junk", b"de", b"d4:infod6:lengthi1eee", b"l" * 100_000, b"i1e"])
def test_what_is_no_torrent(downloader: Aria2Downloader, folder: Path, content: bytes) -> None:
    with pytest.raises(Rejected):
        downloader.create(Request(urls=(), directory=folder, torrent=content), KEY)


def test_info_hashes() -> None:
    torrent: Torrent = make_torrent("album", FILES)
    assert (read_torrent(torrent.content).hash, read_torrent(torrent.content).files) == (torrent.hash, 3)
    base32 = base64.b32encode(bytes.fromhex(torrent.hash)).decode()
    for written in (torrent.hash, torrent.hash.upper(), base32, base32.lower()):
        assert magnet_hash(f"magnet:?dn=x&xt=urn:btih:{written}") == torrent.hash
    for bad in ("magnet:?", "magnet:?xt=urn:btih:zz", "magnet:?xt=urn:sha1:" + base32):
        with pytest.raises(Rejected, match="info-hash"):
            magnet_hash(bad)
    digest = hashlib.sha256(b"").hexdigest()
    with pytest.raises(Rejected):
        magnet_hash(f"magnet:?xt=urn:btmh:1220{digest}")
