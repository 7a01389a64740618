"""Torrents and magnet links on a real qBittorrent, in a swarm on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bencode2
import pytest

from dlqueue.sdk import Handle, NotFound, Rejected, Request, TransferState
from dlqueue_qbittorrent import QbittorrentDownloader, selections
from dlqueue_qbittorrent.status import STOPPED
from dlqueue_qbittorrent.torrents import Identity, read_magnet, read_torrent
from tests.plugins.aria2.live import until
from tests.plugins.aria2.swarm import PIECE, Swarm, Torrent, make_torrent
from tests.plugins.qbittorrent.live import Qbittorrent, config_of, opened, wait, whole
from tests.webserver import pattern

KEY = "00c0ffee00c0ffee"
FILES = {"a.bin": pattern(100_000, 1), "b.bin": pattern(150_000, 2), "sub/c.bin": pattern(50_000, 3)}


@pytest.fixture(scope="session")
def album(swarm: Swarm) -> Torrent:
    return swarm.seed("album", FILES)


@pytest.fixture
def closed(swarm: Swarm) -> Iterator[None]:
    """Nobody finds anybody until the test opens the tracker again."""
    swarm.tracker.closed = True
    yield
    swarm.tracker.closed = False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / f"1-{KEY}"


def asked(torrent: Torrent, folder: Path, how: str = "torrent", **more: Any) -> Request:
    if how == "magnet":
        return Request(urls=(torrent.magnet,), directory=folder, **more)
    return Request(urls=(), directory=folder, torrent=torrent.content, **more)


def tree(folder: Path) -> dict[str, bytes]:
    """Without what it keeps of pieces that reach into files that are not wanted."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".parts")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_torrent_of_several_files(album: Torrent, downloader: QbittorrentDownloader, folder: Path) -> None:
    handle = downloader.create(asked(album, folder), KEY)
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


def test_a_magnet_without_peers(
    closed: None, swarm: Swarm, album: Torrent, downloader: QbittorrentDownloader, folder: Path
) -> None:
    handle = downloader.create(asked(album, folder, "magnet"), KEY)
    assert handle == Handle(KEY, album.hash)
    status = wait(downloader, handle, lambda status: status.state is TransferState.METADATA, "looking for metadata")
    assert (status.name, status.total, status.downloaded, status.content) == ("album", None, 0, ())
    assert downloader.files(handle) == []
    downloader.pause(handle)
    wait(downloader, handle, lambda status: status.state is TransferState.PAUSED, "paused")
    downloader.resume(handle)
    swarm.tracker.closed = False
    whole(downloader, handle)
    assert tree(folder / "album") == FILES


@pytest.mark.parametrize("how", ["torrent", "magnet"])
def test_a_selection(
    album: Torrent,
    downloader: QbittorrentDownloader,
    qbittorrent: Qbittorrent,
    folder: Path,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selections, "SURE", 0.0)
    handle = downloader.create(asked(album, folder, how, select=(3, 1)), KEY)
    status = whole(downloader, handle)
    assert set(tree(folder / "album")) == {"a.bin", "sub/c.bin"}
    assert [file.selected for file in downloader.files(handle)] == [True, False, True]
    assert status.total == status.downloaded and status.total < 300_000
    assert list((folder.parent / "control" / "selections").iterdir()) == []
    # One more, when it was whole already.
    downloader.select(handle, [1, 2, 3])
    status = wait(downloader, handle, lambda status: status.whole and status.total == 300_000, "whole again")
    assert tree(folder / "album") == FILES
    with pytest.raises(Rejected, match="there are 3 files, no number 4"):
        downloader.select(handle, [4])


def test_a_selection_while_there_is_no_metadata(
    closed: None, swarm: Swarm, album: Torrent, downloader: QbittorrentDownloader, folder: Path
) -> None:
    handle = downloader.create(asked(album, folder, "magnet"), KEY)
    downloader.select(handle, [3])
    swarm.tracker.closed = False
    whole(downloader, handle)
    assert [file.selected for file in downloader.files(handle)] == [False, False, True]
    assert (folder / "album" / "sub" / "c.bin").read_bytes() == FILES["sub/c.bin"]


def restarted_with(qbittorrent: Qbittorrent, torrent: Torrent, running: bool | None = None) -> None:
    """Killed when it had written down this torrent, and started: it has read that again.

    :param running: or ``False`` for stopped, as it was to be written down; ``None``: it does not matter.
    """

    def noted() -> bool:
        for folder, _, names in os.walk(qbittorrent.home):
            if f"{torrent.hash}.fastresume" in names:
                written = (Path(folder) / f"{torrent.hash}.fastresume").read_bytes()
                return running is None or b"12:auto_managedi%de" % running in written
        return False

    until(noted, "it has written it down")
    qbittorrent.restart()
    until(lambda: torrent.hash in qbittorrent.torrents(), "it has read what it had")


@pytest.mark.parametrize("later", [False, True], ids=["at once", "when it has been made for long"])
def test_a_selection_that_a_killed_qbittorrent_has_not_written_down(
    closed: None,
    swarm: Swarm,
    album: Torrent,
    open_again: Callable[[], QbittorrentDownloader],
    qbittorrent: Qbittorrent,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    later: bool,
) -> None:
    """The trap: it came back with the torrent begun and all of its files wanted, and all were delivered."""
    downloader = open_again()
    handle = downloader.create(asked(album, folder, select=(2,)), KEY)
    if later:
        monkeypatch.setattr(selections, "SURE", 0.0)
        downloader.poll([handle])
    # Created stopped, begun when its files were chosen: only what has been made for long is surely written down.
    restarted_with(qbittorrent, album, running=True if later else None)
    qbittorrent.call("torrents/filePrio", hash=album.hash, id="0|1|2", priority="1")
    qbittorrent.call("torrents/filePrio", hash=album.hash, id="0", priority="0")
    downloader = open_again()  # the daemon was killed, too
    downloader.poll([handle])
    assert [file.selected for file in downloader.files(handle)] == [False, True, later]
    qbittorrent.call("torrents/filePrio", hash=album.hash, id="2", priority="1")
    downloader.poll([handle])
    assert downloader.files(handle)[2].selected, "what a person changes over there stays"
    swarm.tracker.closed = False
    qbittorrent.call("torrents/reannounce", hashes="all")
    whole(downloader, handle)
    assert {name for name, body in tree(folder / "album").items() if body == FILES[name]} == {"b.bin", "sub/c.bin"}


def test_what_is_stopped_does_not_begin_because_of_its_selection(
    closed: None, album: Torrent, downloader: QbittorrentDownloader, qbittorrent: Qbittorrent, folder: Path
) -> None:
    handle = downloader.create(asked(album, folder, select=(2,)), KEY)
    downloader.pause(handle)
    wait(downloader, handle, lambda status: status.state is TransferState.PAUSED, "paused")
    downloader.select(handle, [1, 2])
    restarted_with(qbittorrent, album, running=False)
    wait(downloader, handle, lambda status: status.state is TransferState.PAUSED, "still paused")
    downloader.poll([handle])
    assert qbittorrent.torrents()[album.hash]["state"] in STOPPED


def test_a_selection_outlives_the_daemon(
    closed: None,
    swarm: Swarm,
    album: Torrent,
    open_again: Callable[[], QbittorrentDownloader],
    folder: Path,
) -> None:
    handle = open_again().create(asked(album, folder, "magnet", select=(2,)), KEY)
    other = open_again()
    assert other.create(asked(album, folder, "magnet", select=(2,)), KEY) == handle
    other = open_again()
    other.pause(handle)
    swarm.tracker.closed = False
    other.resume(handle)
    whole(other, handle)
    assert set(tree(folder / "album")) == {"b.bin"}


def test_a_selection_that_another_call_makes_first_is_no_error(
    album: Torrent, open_again: Callable[[], QbittorrentDownloader], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two looks at once find that it is still to be made."""
    first = open_again()
    monkeypatch.setattr(first, "_choose", lambda entry, key: None)
    handle = first.create(asked(album, folder, select=(2,)), KEY)
    other = open_again()
    alone, beaten = other._alone, threading.Event()

    @contextlib.contextmanager
    def too_late() -> Iterator[None]:
        with alone():
            if not beaten.is_set():
                beaten.set()
                other._choose(other._find(handle), KEY)
            yield

    monkeypatch.setattr(other, "_alone", too_late)
    wait(other, handle, lambda status: status.state is TransferState.ERROR or status.whole, "whole, and never failed")
    assert beaten.is_set() and other.poll([handle])[handle].error is None
    assert set(tree(folder / "album")) == {"b.bin"}


def test_a_selection_was_half_made(
    album: Torrent, open_again: Callable[[], QbittorrentDownloader], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon is killed between the add and the choice."""
    first = open_again()
    monkeypatch.setattr(first, "_choose", lambda entry, key: None)
    handle = first.create(asked(album, folder, select=(2,)), KEY)
    other = open_again()
    whole(other, handle)
    assert set(tree(folder / "album")) == {"b.bin"}


@pytest.mark.parametrize("how", ["torrent", "magnet"])
def test_a_selection_that_cannot_be(
    album: Torrent, downloader: QbittorrentDownloader, qbittorrent: Qbittorrent, folder: Path, how: str
) -> None:
    if how == "torrent":
        with pytest.raises(Rejected, match="there are 3 files, no number 4") as caught:
            downloader.create(asked(album, folder, select=(4,)), KEY)
        assert caught.value.final == "request"
        assert qbittorrent.torrents() == {}
        return
    handle = downloader.create(asked(album, folder, "magnet", select=(4,)), KEY)
    status = wait(downloader, handle, lambda status: status.state is TransferState.ERROR, "failed")
    assert status.error is not None and (status.error.final, status.error.kind) == ("request", "bad_select")
    assert tree(folder) == {}


# -- whose is it? ------------------------------------------------------------------------------------------------------


def test_adopted_after_a_crash(
    album: Torrent, open_again: Callable[[], QbittorrentDownloader], qbittorrent: Qbittorrent, folder: Path
) -> None:
    handle = open_again().create(asked(album, folder), KEY)
    other = open_again()
    assert other.create(asked(album, folder), KEY) == handle
    whole(other, handle)
    assert list(qbittorrent.torrents()) == [album.hash]
    # By its folder, if somebody has taken its tag away.
    qbittorrent.call("torrents/deleteTags", tags=f"dlqueue-{KEY}")
    until(lambda: qbittorrent.torrents()[album.hash]["tags"] == "", "tag gone")
    assert other.create(asked(album, folder), KEY) == handle
    assert other.poll([handle])[handle].whole
    other.remove(Handle(KEY), delete_data=False)
    assert qbittorrent.torrents() == {}


def test_a_foreign_torrent_is_attached_to(
    album: Torrent, downloader: QbittorrentDownloader, qbittorrent: Qbittorrent, folder: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    qbittorrent.add(album.content, theirs, tags="mine", ratioLimit="7", upLimit="4096")
    qbittorrent.wait(album.hash, "stalledUP", "uploading")
    before = foreign(qbittorrent)
    handle = downloader.create(asked(album, folder, select=(1,)), KEY)
    assert handle == Handle(album.hash, album.hash, attached=True)
    assert downloader.create(asked(album, folder, "magnet"), KEY) == handle
    status = whole(downloader, handle)
    assert status.content == (str(theirs / "album"),)
    assert all(file.selected and file.progress == 100 for file in downloader.files(handle))
    for call in (downloader.pause, downloader.resume, lambda h: downloader.remove(h, True)):
        with pytest.raises(Rejected):
            call(handle)
    with pytest.raises(Rejected):
        downloader.select(handle, [1])
    downloader.remove(Handle(KEY), delete_data=True)
    assert foreign(qbittorrent) == before
    assert tree(theirs / "album") == FILES
    assert not folder.exists()
    # Stopped by its owner, it is whole all the same.
    qbittorrent.call(
        "torrents/pause" if "pausedUP" in stopped_names(qbittorrent) else "torrents/stop", hashes=album.hash
    )
    wait(downloader, handle, lambda status: status.state is TransferState.COMPLETED, "stopped")


def stopped_names(qbittorrent: Qbittorrent) -> set[str]:
    old = str(qbittorrent.call("app/version")).startswith("v4")
    return {"pausedUP", "pausedDL"} if old else {"stoppedUP", "stoppedDL"}


def foreign(qbittorrent: Qbittorrent) -> dict[str, Any]:
    """What must not change of a transfer that is not ours."""
    names = stopped_names(qbittorrent)
    keys = ("save_path", "tags", "category", "ratio_limit", "up_limit", "size", "auto_tmm")
    return {
        digest: {key: torrent[key] for key in keys}
        | {"stopped": torrent["state"] in names, "files": qbittorrent.call("torrents/files", hash=digest)}
        for digest, torrent in qbittorrent.torrents().items()
    }


def test_two_keys_of_ours_are_one_torrent(
    album: Torrent, downloader: QbittorrentDownloader, folder: Path, tmp_path: Path
) -> None:
    handle = downloader.create(asked(album, folder), KEY)
    other = downloader.create(asked(album, tmp_path / f"2-{'f' * 16}"), "f" * 16)
    assert other == Handle(album.hash, album.hash, attached=True)
    assert set(downloader.poll([handle, other])) == {handle, other}


def test_the_answer_was_lost(
    album: Torrent, downloader: QbittorrentDownloader, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library asks once more, and is refused: it is there already."""
    from dlqueue_qbittorrent.session import Client

    add = Client.torrents_add
    monkeypatch.setattr(Client, "torrents_add", lambda self, **what: (add(self, **what), add(self, **what))[1])
    assert downloader.create(asked(album, folder), KEY) == Handle(KEY, album.hash)


# -- restarts and removals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_is_another_instance(
    album: Torrent, downloader: QbittorrentDownloader, qbittorrent: Qbittorrent, folder: Path, number: int
) -> None:
    handle = downloader.create(asked(album, folder), KEY)
    whole(downloader, handle)
    before = downloader.instance()
    assert before is not None and downloader.instance() == before
    qbittorrent.call("auth/logout")
    qbittorrent.restart(number)
    whole(downloader, handle)
    assert downloader.instance() not in (None, before)


def test_another_login_is_no_other_instance(
    album: Torrent, open_again: Callable[[], QbittorrentDownloader], folder: Path
) -> None:
    first, second = open_again(), open_again()
    handle = first.create(asked(album, folder), KEY)
    first.poll([handle])
    second.poll([handle])
    assert first.instance() == second.instance() is not None
    connection = second._connection()[0]
    connection.call(lambda client: client.auth_log_out())
    assert second.poll([handle]), "it logs in again"
    assert first.instance() == second.instance()


def test_removed_by_hand(
    album: Torrent, downloader: QbittorrentDownloader, qbittorrent: Qbittorrent, folder: Path
) -> None:
    request = asked(album, folder)
    handle = downloader.create(request, KEY)
    content = whole(downloader, handle).content
    before = downloader.instance()
    qbittorrent.call("torrents/delete", hashes=album.hash, deleteFiles="false")
    assert downloader.poll([handle]) == {}
    assert downloader.instance() == before
    assert downloader.whole_content(request, KEY, total=300_000, restarted=False) == content
    (folder / "album").rename(folder / "elsewhere")
    assert downloader.whole_content(request, KEY, total=300_000, restarted=False) == ()
    for call in (downloader.pause, downloader.resume, downloader.files):
        with pytest.raises(NotFound):
            call(handle)
    downloader.remove(handle, delete_data=True)
    assert tree(folder / "elsewhere") == FILES


def test_nothing_of_ours_is_left(
    album: Torrent, downloader: QbittorrentDownloader, qbittorrent: Qbittorrent, folder: Path
) -> None:
    handle = downloader.create(asked(album, folder, select=(1,)), KEY)
    assert f"dlqueue-{KEY}" in qbittorrent.call("torrents/tags")
    whole(downloader, handle)
    downloader.remove(handle, delete_data=True)
    assert qbittorrent.torrents() == {}
    assert qbittorrent.call("torrents/tags") == []
    assert qbittorrent.call("torrents/categories") == {}
    # It removes the files of a torrent in a thread of its own, after the torrent.
    until(lambda: not folder.exists() or list(folder.iterdir()) == [], "the last of its files")


# -- habits of its owner -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["torrent", "magnet"])
def test_its_defaults_do_not_matter(album: Torrent, tmp_path: Path, folder: Path, how: str) -> None:
    """Elsewhere while incomplete, with another name, without a folder, stopped, and removed with its content as soon
    as it is whole."""
    habits = {
        "TempPathEnabled": "true",
        "TempPath": str(tmp_path / "temp"),
        "AddExtensionToIncompleteFiles": "true",
        "TorrentContentLayout": "NoSubfolder",
        "AddTorrentPaused": "true",
        "AddTorrentStopped": "true",
        "TorrentStopCondition": "FilesChecked",
        "DisableAutoTMMByDefault": "false",
        "GlobalMaxRatio": "0",
        "GlobalMaxSeedingMinutes": "0",
        "MaxRatioAction": "3",
        "ShareLimitAction": "RemoveWithContent",
    }
    with Qbittorrent(tmp_path / "qbittorrent", session=habits) as qbittorrent:
        downloader = opened(config_of(qbittorrent), tmp_path / "control")
        handle = downloader.create(asked(album, folder, how), KEY)
        status = whole(downloader, handle)
        assert status.content == (str(folder / "album"),)
        assert tree(folder / "album") == FILES
        (torrent,) = qbittorrent.torrents().values()
        assert (torrent["auto_tmm"], torrent["category"], torrent["ratio_limit"]) == (False, "", -1)
        assert torrent["download_path"] == "", "it lies where it belongs from the first byte on"
        # It says when it was whole; a limit would have been met long since.
        qbittorrent.restart(signal.SIGTERM)
        assert whole(downloader, handle).state is TransferState.SEEDING
        downloader.close()


def test_options(album: Torrent, downloader: QbittorrentDownloader, qbittorrent: Qbittorrent, folder: Path) -> None:
    options = {"dlLimit": "40960", "sequentialDownload": "true"}
    downloader.create(asked(album, folder, options=options), KEY)
    (torrent,) = qbittorrent.torrents().values()
    assert (torrent["dl_limit"], torrent["seq_dl"]) == (40960, True)
    for odd in ({"savepath": "/etc"}, {"dlLimit": "fast"}, {"sequentialDownload": "1"}):
        with pytest.raises(Rejected, match=next(iter(odd))) as caught:
            downloader.create(asked(album, folder, options=odd), KEY)
        assert caught.value.kind == "bad_option"


def test_one_request_per_look(
    album: Torrent, downloader: QbittorrentDownloader, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlqueue_qbittorrent.session import Client

    torrents = [make_torrent(f"{number}.bin", pattern(1000 + number)) for number in range(8)]
    handles = [downloader.create(asked(album, folder), KEY)]
    for number, torrent in enumerate(torrents):
        key = f"{number + 1:016x}"
        handles.append(downloader.create(asked(torrent, folder.parent / f"{number}-{key}"), key))
    whole(downloader, handles[0])
    downloader.instance()
    calls = []
    request = Client._request

    def counted(self: Client, *arguments: Any, **more: Any) -> Any:
        calls.append(more.get("api_method"))
        return request(self, *arguments, **more)

    monkeypatch.setattr(Client, "_request", counted)
    for _ in range(3):
        assert set(downloader.poll(handles)) == set(handles)
        assert downloader.instance() is not None
    assert calls == ["maindata"] * 3
    assert downloader.poll([]) == {} and len(calls) == 3


# -- identities --------------------------------------------------------------------------------------------------------


def modern(name: str, body: bytes, *, hybrid: bool) -> bytes:
    """A .torrent of one small file by BEP 52."""
    info: dict[bytes, Any] = {
        b"name": name.encode(),
        b"piece length": PIECE,
        b"meta version": 2,
        b"file tree": {name.encode(): {b"": {b"length": len(body), b"pieces root": hashlib.sha256(body).digest()}}},
    }
    if hybrid:
        info |= {b"length": len(body), b"pieces": hashlib.sha1(body).digest()}
    return bytes(bencode2.bencode({b"info": info, b"piece layers": {}}))


@pytest.mark.parametrize("hybrid", [True, False])
def test_torrents_of_version_2(
    downloader: QbittorrentDownloader, qbittorrent: Qbittorrent, folder: Path, hybrid: bool
) -> None:
    body = pattern(5000)
    content = modern("new.bin", body, hybrid=hybrid)
    identity = read_torrent(content)
    folder.mkdir()
    (folder / "new.bin").write_bytes(body)  # nobody has to be found
    request = Request(urls=(), directory=folder, torrent=content)
    handle = downloader.create(request, KEY)
    assert handle == Handle(KEY, identity.v1)
    assert (handle.hash is None) is not hybrid
    assert downloader.create(request, KEY) == handle
    status = whole(downloader, handle)
    assert (status.content, status.hash) == ((str(folder / "new.bin"),), identity.v1)
    attached = downloader.create(Request(urls=(), directory=folder, torrent=content), "f" * 16)
    assert attached.attached and set(downloader.poll([attached])) == {attached}
    downloader.remove(handle, delete_data=True)
    assert qbittorrent.torrents() == {}


def test_what_names_a_torrent() -> None:
    digest = "0123456789abcdef0123456789abcdef01234567"
    base32 = "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH"
    assert read_magnet(f"magnet:?xt=urn:btih:{digest.upper()}&dn=x") == Identity(digest, None)
    assert read_magnet(f"magnet:?dn=x&xt=urn:btih:{base32}") == Identity(digest, None)
    assert read_magnet(f"magnet:?xt=urn:btmh:1220{'ab' * 32}") == Identity(None, "ab" * 20)
    assert read_magnet(f"magnet:?xt.1=urn:btih:{digest}&xt.2=urn:btmh:1220{'ab' * 32}") == Identity(digest, "ab" * 20)
    for odd in ("magnet:?dn=x", "magnet:?xt=urn:btih:xyz", "magnet:?xt=urn:sha1:" + base32):
        with pytest.raises(Rejected):
            read_magnet(odd)
    for content in (b"", b"i1e", b"de", b"d4:infodee", b"d4:info3:xyze", b"\xff" * 100):
        with pytest.raises(Rejected, match=r"no \.torrent file"):
            read_torrent(content)


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (Request(urls=("http://127.0.0.1:9/x.torrent",), directory=Path("/x")), "bad_url"),
        (Request(urls=("file:///etc/passwd",), directory=Path("/x")), "bad_url"),
        (Request(urls=("magnet:?xt=urn:btih:" + "a" * 40 + "\nfile:///etc/passwd",), directory=Path("/x")), "bad_url"),
        (Request(urls=(), directory=Path("/x")), "bad_url"),
        (Request(urls=("magnet:?xt=urn:btih:" + "a" * 40,), directory=Path("../x")), "bad_name"),
        (Request(urls=("magnet:?xt=urn:btih:" + "a" * 40,), directory=Path("/x\n/y")), "bad_name"),
        (Request(urls=("magnet:?xt=urn:btih:" + "a" * 40,), directory=Path("/x"), select=()), "bad_select"),
        (Request(urls=("magnet:?xt=urn:btih:" + "a" * 40,), directory=Path("/x"), select=(0,)), "bad_select"),
    ],
)
def test_what_is_never_asked_of_it(
    downloader: QbittorrentDownloader, qbittorrent: Qbittorrent, request_: Request, kind: str
) -> None:
    with pytest.raises(Rejected) as caught:
        downloader.create(request_, KEY)
    assert caught.value.kind == kind
    assert qbittorrent.torrents() == {}


def test_what_it_does_not_take(downloader: QbittorrentDownloader, qbittorrent: Qbittorrent, folder: Path) -> None:
    content = bytes(bencode2.bencode({b"info": {b"name": b"x", b"piece length": 16384, b"pieces": b"short"}}))
    with pytest.raises(Rejected, match="does not take") as caught:
        downloader.create(Request(urls=(), directory=folder, torrent=content, select=(1,)), KEY)
    assert caught.value.final == "downloader"
    assert list((folder.parent / "control" / "selections").iterdir()) == []


def test_what_is_ours_is_known_by_its_key(
    album: Torrent, downloader: QbittorrentDownloader, folder: Path, closed: None
) -> None:
    assert downloader.owned() == {}
    handle = downloader.create(asked(album, folder), KEY)
    assert downloader.owned() == {KEY: "album"}
    downloader.remove(handle, True)
    assert downloader.owned() == {}
