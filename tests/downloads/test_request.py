"""What a download is asked for: every field, checked and made whole."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import bencode2
import msgspec
import pytest

from dlqueue.downloads.policy import Policy, PolicyRefused
from dlqueue.downloads.request import DIGESTS, DownloadParams, join_key, new_digest, normalised
from dlqueue.queue import InvalidTask, Submitter
from tests.plugins.aria2.swarm import make_torrent

MAGNET = "magnet:?xt=urn:btih:" + "ab" * 20
URL = "http://host.invalid/file.bin"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def read(root: Path, params: Any, cwd: str | None = None, default: bool = True) -> DownloadParams:
    policy = Policy(frozenset({"http", "https", "ftp", "magnet"}), True, (root,))
    return normalised(params, Submitter("me", cwd), policy, root if default else None)[0]


def refused(root: Path, params: Any, field: str, said: str, **more: Any) -> InvalidTask:
    with pytest.raises(InvalidTask, match=said) as caught:
        read(root, params, **more)
    assert caught.value.field == field
    return caught.value


def test_the_least(root: Path) -> None:
    made = read(root, {"url": URL})
    assert made == DownloadParams(urls=(URL,), directory=str(root), root=str(root))
    assert made.on_exists == "rename"


def test_every_field(root: Path) -> None:
    made = read(
        root,
        {
            "urls": [URL, "https://mirror.invalid/file.bin"],
            "directory": str(root / "a" / ".." / "b"),
            "name": "n.bin",
            "on_exists": "overwrite",
            "downloader": "box",
            "headers": {"X-Token": "a\tb ü"},
            "options": {"split": "4"},
            "checksum": " SHA-256=" + "AB" * 32,
            "cwd": "/",
        },
    )
    assert made == DownloadParams(
        urls=(URL, "https://mirror.invalid/file.bin"),
        directory=str(root / "b"),
        root=str(root),
        name="n.bin",
        on_exists="overwrite",
        downloader="box",
        headers={"X-Token": "a\tb ü"},
        options={"split": "4"},
        checksum="sha-256=" + "ab" * 32,
    )


def test_what_is_stored_can_be_submitted_again(root: Path) -> None:
    made = read(root, {"url": URL, "directory": str(root / "x"), "name": "n", "headers": {"A": "b"}})
    stored = msgspec.to_builtins(made)
    del stored["root"]  # where it may go is found out anew
    assert read(root, stored) == made


@pytest.mark.parametrize("params", [None, [], "x", 5, True])
def test_params_that_are_no_object(root: Path, params: Any) -> None:
    refused(root, params, "params", "must be an object")


@pytest.mark.parametrize("name", ["ur", "selec", "__class__", "Url", "root"])
def test_unknown_fields_are_named(root: Path, name: str) -> None:
    refused(root, {"url": URL, name: "x"}, name, "no such param")


def test_an_unknown_field_names_the_nearest_one(root: Path) -> None:
    refused(root, {"url": URL, "directry": "x"}, "directry", 'did you mean "directory"')
    refused(root, {"url": URL, "zzz": "x"}, "zzz", "known: url, ")


@pytest.mark.parametrize(
    "params",
    [{}, {"url": URL, "urls": [URL]}, {"url": None}, {"url": URL, "urls": []}, {"url": URL, "torrent": "eA=="}],
    ids=["none", "both", "null", "both, one empty", "a file too"],
)
def test_one_source(root: Path, params: Any) -> None:
    refused(root, params, "url", "give one of url, urls")
    refused(root, {"urls": []}, "urls", "must not be empty")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", 5),
        ("urls", URL),
        ("urls", [5]),
        ("directory", []),
        ("name", 5),
        ("on_exists", "replace"),
        ("downloader", False),
        ("headers", ["A: b"]),
        ("headers", {"A": 5}),
        ("options", "x"),
        ("options", {"a": 1}),
        ("checksum", {}),
        ("cwd", 1),
    ],
)
def test_a_wrong_type_names_its_field(root: Path, field: str, value: Any) -> None:
    params = {"url": URL} | ({"url": None} if field == "urls" else {}) | {field: value}
    with pytest.raises(InvalidTask) as caught:
        read(root, params)
    assert caught.value.field == field


def test_every_mirror_is_checked(root: Path) -> None:
    error = refused(root, {"urls": [URL, "file:///etc/passwd"]}, "urls", "scheme 'file'")
    assert isinstance(error, PolicyRefused)
    refused(root, {"urls": [URL, "http://h/\r\nX: y"]}, "urls", "control character")
    refused(root, {"urls": [URL, MAGNET]}, "urls", "a magnet link cannot be a mirror")


def test_a_magnet_link_tells_its_hash_and_name(root: Path) -> None:
    params = read(root, {"url": f"{MAGNET}&dn=A%20b%1b"})
    assert (params.urls, params.info_hash, params.title) == ((f"{MAGNET}&dn=A%20b%1b",), "ab" * 20, "A b_")
    base32 = base64.b32encode(bytes.fromhex("ab" * 20)).decode()
    assert read(root, {"url": f"magnet:?xt=urn:btih:{base32}"}).info_hash == "ab" * 20
    assert read(root, {"url": "magnet:?xt=urn:btmh:1220" + "ab" * 32}).info_hash is None
    refused(root, {"url": "magnet:?xt=urn:btih:x"}, "url", "valid info-hash")
    refused(root, {"url": "magnet:?dn=x"}, "url", "valid info-hash")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a\x00", "x" * 256, "a\nb", "\u202efdp.exe", "\ufeffa"])
def test_names_are_checked(root: Path, name: str) -> None:
    refused(root, {"url": URL, "name": name}, "name", "^name: ")


@pytest.mark.parametrize("name", ["", "a b", "A:", "A\r\nB", "ü", "a\x00", "x" * 257, "(a)"])
def test_bad_header_names(root: Path, name: str) -> None:
    refused(root, {"url": URL, "headers": {name: "x"}}, "headers", "header name")


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nb", "a\rb", "\x00", "\x1b", "a\x7f"])
def test_bad_header_values_are_refused_and_not_repeated(root: Path, value: str) -> None:
    error = refused(root, {"url": URL, "headers": {"X-Secret": f"hidden{value}"}}, "headers", "X-Secret")
    assert "hidden" not in str(error)


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_checksums(root: Path, algorithm: str) -> None:
    digits = DIGESTS[algorithm]
    made = read(root, {"url": URL, "checksum": f"{algorithm.upper()}={'F' * digits}"})
    assert made.checksum == f"{algorithm}={'f' * digits}"
    update, hexdigest = new_digest(made.checksum)
    update(b"x")
    assert len(hexdigest()) == digits
    for wrong in (f"{algorithm}={'f' * (digits - 1)}", f"{algorithm}={'g' * digits}", f"{algorithm}="):
        refused(root, {"url": URL, "checksum": wrong}, "checksum", f"{digits} hexadecimal")


@pytest.mark.parametrize("checksum", ["", "f" * 64, "sha256=" + "f" * 64, "crc32=ffffffff", "=" + "f" * 64])
def test_checksums_of_no_known_kind(root: Path, checksum: str) -> None:
    refused(root, {"url": URL, "checksum": checksum}, "checksum", "sha-256, sha-1, sha-512, md5")


# -- where to -----------------------------------------------------------------------------------------------------


def test_a_relative_directory_needs_a_believed_folder(root: Path, tmp_path: Path) -> None:
    refused(root, {"url": URL, "directory": "sub"}, "directory", "absolute")
    # What the params themselves say is not what is believed: only what the submitter is known to stand in.
    refused(root, {"url": URL, "directory": "sub", "cwd": str(root)}, "directory", "absolute")
    here = tmp_path / "here"
    here.mkdir()
    made = read(root, {"url": URL, "directory": "sub"}, cwd=str(here))
    assert (made.directory, made.root) == (str(here / "sub"), str(here))
    refused(root, {"url": URL, "directory": "../x"}, "directory", "outside", cwd=str(here))
    assert read(root, {"url": URL, "directory": "../root/x"}, cwd=str(here)).root == str(root)


def test_without_a_directory_the_default_and_then_the_believed_folder(root: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    assert read(root, {"url": URL}, cwd=str(here)).directory == str(root)
    assert read(root, {"url": URL}, cwd=str(here), default=False).directory == str(here)
    refused(root, {"url": URL}, "directory", r"daemon\.downloads", default=False)


@pytest.mark.parametrize("cwd", ["relative", "", "/tmp/\x00", "/tmp/\ud800"])
def test_a_believed_folder_that_cannot_be(root: Path, cwd: str) -> None:
    refused(root, {"url": URL, "directory": "sub"}, "cwd", "^cwd: ", cwd=cwd)


@pytest.mark.parametrize("directory", ["/tmp/\x00", "/tmp/\ud800", ""])
def test_a_directory_that_cannot_be(root: Path, directory: str) -> None:
    refused(root, {"url": URL, "directory": directory}, "directory", "^directory: ")


def test_links_keep_the_name_that_the_user_knows(root: Path) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to(root / "real")
    assert read(root, {"url": URL, "directory": str(root / "link" / "x")}).directory == str(root / "link" / "x")


# -- joining ------------------------------------------------------------------------------------------------------


def test_what_makes_two_downloads_the_same(root: Path) -> None:
    base = {"urls": [URL, "https://m.invalid/f"], "name": "n", "checksum": "md5=" + "0" * 32, "downloader": "box"}
    key = join_key(read(root, base), "me")
    assert join_key(read(root, base | {"urls": base["urls"][::-1]}), "me") == key
    assert join_key(read(root, base | {"on_exists": "skip", "headers": {"A": "b"}}), "me") == key
    others = [
        join_key(read(root, base), "you"),
        join_key(read(root, base | {"urls": [URL]}), "me"),
        join_key(read(root, base | {"name": "o"}), "me"),
        join_key(read(root, base | {"directory": str(root / "sub")}), "me"),
        join_key(read(root, base | {"checksum": None}), "me"),
        join_key(read(root, base | {"downloader": None}), "me"),
    ]
    assert len({key, *others}) == 7


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://host.invalid/f?x=1", "HTTP://HOST.invalid:80/f?x=1#part"),
        ("https://u:P@host.invalid/", "https://u:P@host.invalid:443"),
        ("http://[::1]:80/f", "http://[::1]/f"),
        ("ftp://host.invalid:21/f", "ftp://host.invalid/f"),
    ],
)
def test_urls_that_ask_for_the_same(root: Path, url: str, same: str) -> None:
    assert join_key(read(root, {"url": url}), "me") == join_key(read(root, {"url": same}), "me")


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("http://host.invalid/f", "http://host.invalid/F"),
        ("http://host.invalid/f", "https://host.invalid/f"),
        ("http://host.invalid/f", "http://host.invalid:8080/f"),
        ("http://host.invalid/f?x=1", "http://host.invalid/f?x=2"),
        ("http://a:1@host.invalid/f", "http://A:1@host.invalid/f"),
        ("http://host.invalid/f", "http://host.invalid/f/"),
    ],
)
def test_urls_that_ask_for_something_else(root: Path, url: str, other: str) -> None:
    assert join_key(read(root, {"url": url}), "me") != join_key(read(root, {"url": other}), "me")


def test_a_torrent_is_the_same_wherever_it_comes_from(root: Path) -> None:
    torrent = make_torrent("t", b"content")
    plain = f"magnet:?xt=urn:btih:{torrent.hash}"
    asked = [
        {"url": torrent.magnet},
        {"url": plain},
        {"url": plain.replace(torrent.hash, torrent.hash.upper())},
        {"url": plain.replace(torrent.hash, base64.b32encode(bytes.fromhex(torrent.hash)).decode())},
        {"torrent": base64.b64encode(torrent.content).decode()},
    ]
    assert len({join_key(read(root, params), "me") for params in asked}) == 1


def test_torrents_without_a_first_hash_are_told_apart(root: Path) -> None:
    def second_version(name: bytes) -> str:
        info: dict[str, Any] = {
            "file tree": {name: {"": {"length": 1, "pieces root": b"0" * 32}}},
            "meta version": 2,
            "name": name,
        }
        return base64.b64encode(bencode2.bencode({"info": info | {"piece length": 16384}})).decode()

    keys = {join_key(read(root, {"torrent": second_version(name)}), "me") for name in (b"a", b"b")}
    assert len(keys) == 2
