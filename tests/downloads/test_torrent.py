"""Reading .torrent and .metalink files from strangers, and keeping them."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bencode2 import bencode

from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.request import DownloadParams, join_key, normalised
from dlqueue.downloads.torrent import FILE_MAX, list_files, read_metalink, read_torrent
from dlqueue.downloads.upload import KEPT, Uploads, name_of
from dlqueue.queue import InvalidTask, Submitter

INFO: dict[bytes, Any] = {
    b"name": b"T",
    b"piece length": 16384,
    b"pieces": b"\0" * 20,
    b"files": [{b"length": 3, b"path": [b"a"]}, {b"length": 5, b"path": [b"sub", b"b"]}],
}
SINGLE = {b"name": b"one.bin", b"piece length": 16384, b"pieces": b"\0" * 20, b"length": 7}
METALINK = b"""<?xml version="1.0"?><metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="m.bin">
<size>5</size><url>http://a/m.bin</url><url> https://b/m.bin </url></file></metalink>"""


def torrent(info: Any = INFO, **more: Any) -> bytes:
    return bencode({b"info": info, **{name.encode(): value for name, value in more.items()}})


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def read(root: Path, *schemes: str, **params: Any) -> tuple[DownloadParams, bytes | None]:
    policy = Policy(frozenset(schemes or ("http", "https", "magnet")), True, (root,))
    return normalised({"directory": str(root), **params}, Submitter("me"), policy, None)


def test_a_torrent_tells_name_files_and_hash() -> None:
    contents = read_torrent(torrent(announce=b"http://tracker/"))
    assert (contents.name, contents.files) == ("T", 2)
    assert contents.hash == hashlib.sha1(bencode(INFO)).hexdigest()
    assert list_files(torrent()) == [("T/a", 3), ("T/sub/b", 5)]
    assert read_torrent(torrent(SINGLE)).files == 1
    assert list_files(torrent(SINGLE)) == [("one.bin", 7)]


def test_sizes_are_told_where_all_are_known() -> None:
    assert read_torrent(torrent()).sizes == (3, 5)
    assert read_torrent(torrent(SINGLE)).sizes == (7,)
    odd: dict[bytes, Any] = {**SINGLE, b"length": -7}
    assert read_torrent(torrent(odd)).sizes is None
    assert read_metalink(METALINK.replace(b"<size>5", b"<size>many"))[0].sizes is None
    assert read_metalink(METALINK.replace(b"<size>5</size>", b""))[0].sizes is None


def test_a_torrent_of_the_second_version_only_has_no_first_hash() -> None:
    tree = {b"a": {b"": {b"length": 3}}, b"d": {b"b": {b"": {b"length": 4}}}}
    info = {b"name": b"T", b"piece length": 16384, b"meta version": 2, b"file tree": tree}
    assert read_torrent(torrent(info)) == ("T", 2, None, None)
    assert list_files(torrent(info)) == []


@pytest.mark.parametrize(
    "content",
    [
        b"", b"junk", b"le", b"d4:infoi1ee", b"<html>", torrent({}), torrent({b"name": b"x"}), b"l" * 500 + b"e" * 500,
        b"l" * 5000 + b"e" * 5000,
        torrent({**INFO, b"files": []}), torrent({**INFO, b"files": 5}), torrent({**INFO, b"piece length": b"x"}),
        torrent({b"name": b"T", b"piece length": 1, b"file tree": {}}), torrent() + b"more", b"d1:b0:1:a0:e",
    ],
)  # fmt: skip
def test_what_is_no_torrent_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidTask, match=r"^torrent: is not a \.torrent file") as caught:
        read_torrent(content)
    assert "\n" not in str(caught.value)


def test_a_metalink_tells_its_urls() -> None:
    contents, urls = read_metalink(METALINK)
    assert contents == ("m.bin", 1, None, (5,))
    assert urls == ["http://a/m.bin", "https://b/m.bin"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"junk", b"<metalink/>", b"<a><file/></a>", b"<metalink><file name='x'></file></metalink>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><metalink><file><url>http://a/</url></file></metalink>",
    ],
)  # fmt: skip
def test_what_is_no_metalink_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidTask, match=r"^metalink: "):
        read_metalink(content)


def test_the_file_is_kept_apart_from_the_params(tmp_path: Path) -> None:
    params, file = read(tmp_path, torrent=encoded(torrent()), select=[2, 1, 2])
    assert file == torrent()
    assert (params.urls, params.torrent, params.title) == ((), name_of(torrent()), "T")
    assert params.select == (1, 2)
    assert params.schemes == {"torrent"}
    again, _ = read(tmp_path, torrent=encoded(torrent()), select=[1, 2])
    assert again == params, "sent twice is the same request"


def test_the_same_torrent_is_the_same_download_whatever_it_came_as(tmp_path: Path) -> None:
    file, _ = read(tmp_path, torrent=encoded(torrent(announce=b"http://tracker/")))
    link, _ = read(tmp_path, url=f"magnet:?xt=urn:btih:{file.info_hash}&tr=http://other/")
    other, _ = read(tmp_path, torrent=encoded(torrent(SINGLE)))
    assert join_key(file, "me") == join_key(link, "me") != join_key(other, "me")


@pytest.mark.parametrize(
    ("params", "field", "words"),
    [
        ({"torrent": "not base64!"}, "torrent", "base64"),
        ({"torrent": "eA=="}, "torrent", r"not a \.torrent"),
        ({"torrent": encoded(b"x" * (FILE_MAX + 1))}, "torrent", "at most"),
        ({"torrent": encoded(torrent()), "select": []}, "select", "at least one"),
        ({"torrent": encoded(torrent()), "select": [0]}, "select", "from 1"),
        ({"torrent": encoded(torrent()), "select": [3]}, "select", "there is no file 3"),
        ({"torrent": encoded(torrent()), "select": ["1"]}, "select", "int"),
        ({"metalink": "eA=="}, "metalink", "not a metalink"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, params: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidTask, match=words) as caught:
        read(tmp_path, **params)
    assert caught.value.field == field


def test_what_the_policy_forbids_is_no_way_around_it(tmp_path: Path) -> None:
    with pytest.raises(PolicyRefused, match="BitTorrent is not allowed"):
        read(tmp_path, "http", torrent=encoded(torrent()))
    with pytest.raises(PolicyRefused, match="scheme 'https'"):
        read(tmp_path, "http", "magnet", metalink=encoded(METALINK))
    with pytest.raises(PolicyRefused, match="scheme 'file'"):
        read(tmp_path, metalink=encoded(METALINK.replace(b"http://a/", b"file:///etc/")))


# -- keeping them -----------------------------------------------------------------------------------------------------


def aged(path: Path, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(path, (when, when))


def test_uploads_are_private_and_read_again(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    for _ in range(2):
        uploads.keep(b"content")
    (kept,) = (tmp_path / "uploads").iterdir()
    assert (tmp_path / "uploads").stat().st_mode & 0o777 == 0o700
    assert uploads.read(name_of(b"content")) == b"content"
    assert kept.name == name_of(b"content")
    with pytest.raises(FileNotFoundError):
        uploads.read(name_of(b"other"))


def test_the_sweep_drops_only_what_is_old_and_not_needed(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    uploads = Uploads(folder)
    uploads.sweep([])
    for content in (b"needed", b"old", b"young"):
        uploads.keep(content)
    half = folder / f"{name_of(b'half')}.77"
    half.touch()
    stranger = folder / "stranger"
    stranger.touch()
    for path in (folder / name_of(b"needed"), folder / name_of(b"old"), half, stranger):
        aged(path, KEPT + 60)
    uploads.sweep([name_of(b"needed"), name_of(b"gone")])
    left: Callable[[bytes], bool] = lambda content: (folder / name_of(content)).exists()  # noqa: E731
    assert (left(b"needed"), left(b"old"), left(b"young"), half.exists(), stranger.exists()) == (
        True, False, True, False, True,
    )  # fmt: skip
    aged(folder / name_of(b"needed"), KEPT - 60)
    uploads.keep(b"needed")
    assert time.time() - (folder / name_of(b"needed")).stat().st_mtime < 3600
