"""What may be fetched and where it may be put."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlqueue.downloads.policy import URL_MAX, Policy, PolicyRefused, check_name, is_public, numeric_address
from dlqueue.queue import InvalidTask

SCHEMES = frozenset({"http", "https", "ftp", "magnet"})
HOME = Policy(SCHEMES, private_addresses=True, destinations=())
SHARED = Policy(SCHEMES, private_addresses=False, destinations=())


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a?b=c#d",
        "HTTP://example.org",
        "ftp://u:p@example.org:2121/x",
        "http://[2606:4700::1111]:80/",
        "http://bücher.example/ü",
        "http://host.invalid/%0d%0a",
        "magnet:?xt=urn:btih:0123456789012345678901234567890123456789",
        "http://8.8.8.8/",
    ],
)
def test_allowed_urls(url: str) -> None:
    HOME.check_url(url)
    SHARED.check_url(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://a/\r\nX: y", "control character"),
        ("http://a/\n", "control character"),
        ("http://a/\tb", "control character"),
        ("ht\ttp://a/", "control character"),
        (" http://a/", "space"),
        ("http://a/b c", "space"),
        ("http://a/\x00", "control character"),
        ("http://a/\x7f", "control character"),
        ("http://a/\x85", "control character"),
        ("http://a/\u2028", "control character"),
        ("", "no scheme"),
        ("example.org/file", "no scheme"),
        ("//example.org/file", "no scheme"),
        ("1http://a/", "no scheme"),
        ("http:///file", "no host"),
        ("http:file", "no host"),
        ("http://:80/", "no host"),
        ("http://?q", "no host"),
        ("http://u:p@/x", "no host"),
        ("http://a:99999/", "not a valid URL"),
        ("http://a:port/", "not a valid URL"),
        ("http://a:-1/", "not a valid URL"),
        ("http://[::1/", "not a valid URL"),
        ("http://[nonsense]/", "not a valid URL"),
        ("http://127.0.0.1\\@public.example/", "not a valid URL"),
        ("http://" + "a" * URL_MAX, "longer than"),
    ],
)
def test_what_is_no_url(url: str, said: str) -> None:
    with pytest.raises(InvalidTask, match=said) as caught:
        HOME.check_url(url, "urls")
    assert not isinstance(caught.value, PolicyRefused)
    assert caught.value.field == "urls"


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@ex\u2100mple/",
        "http://user:secret/x@host/",
        "http://secret:secret@[::1/",
        "javascript:secret",
    ],
)
def test_no_message_repeats_the_url(url: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        HOME.check_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "javascript:alert(1)", "data:,x", "FILE:///x", "sftp://h/x"])
def test_schemes_that_are_not_allowed(url: str) -> None:
    with pytest.raises(PolicyRefused, match=r"policy\.schemes") as caught:
        HOME.check_url(url)
    assert caught.value.kind == "scheme"


LOOPBACK = [
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "0x7f.1",
    "2130706433",
    "017700000001",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[::127.0.0.1]",
    "127.0.0.1.",
    "\uff11\uff12\uff17.0.0.1",
    "127\u30020\u30020\u30021",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "[fe80::1%25eth0]",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_private_addresses_in_every_spelling(host: str) -> None:
    HOME.check_url(f"http://{host}/file")
    with pytest.raises(PolicyRefused, match=r"policy\.private_addresses") as caught:
        SHARED.check_url(f"http://{host}/file")
    assert caught.value.kind == "address"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("1.1.1.1", True),
        ("172.15.0.1", True),
        ("172.16.0.1", False),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("2606:4700::1111", True),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::8.8.8.8", False),
        ("::ffff:8.8.8.8", True),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::808:808", False),
        ("2002:808:808::1", True),
        ("2002:a00:1::1", False),
        ("2001:0:0:0:0:0:f5ff:fffe", False),
        ("fc00::1", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("4000::1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public
    if public:
        SHARED.check_address(address)
    else:
        with pytest.raises(PolicyRefused):
            SHARED.check_address(address)
        HOME.check_address(address)


def test_names_are_not_addresses() -> None:
    assert [numeric_address(host) for host in ("example.org", "1.example", "0xg", "x" * 300)] == [None] * 4


# -- destinations -----------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def allow(*roots: Path) -> Policy:
    return Policy(SCHEMES, True, roots)


def test_destinations_inside_a_root(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (root / "here").mkdir()
    (root / "link").symlink_to(root / "here")
    policy = allow(other, root)
    for inside in ("", "here", "new/deep/er", "link/new", "here/../here"):
        assert policy.check_destination(root / inside) == root


def test_a_root_that_is_itself_a_link(root: Path, tmp_path: Path) -> None:
    alias = tmp_path / "alias"
    alias.symlink_to(root)
    assert allow(alias).check_destination(root / "x") == alias
    assert allow(root).check_destination(alias / "x") == root


def test_the_folder_that_the_client_stands_in_is_one_more_root(root: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    assert allow(root).check_destination(here / "x", here) == here
    with pytest.raises(PolicyRefused, match="outside"):
        allow(root).check_destination(here / "x")


def test_destinations_outside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "rootier").mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "dangling").symlink_to(tmp_path / "nowhere")
    for outside in (
        tmp_path,
        tmp_path / "rootier",
        root / ".." / "x",
        root / "a" / ".." / ".." / "x",
        root / "out" / "x",
        root / "dangling",
        Path("/"),
    ):
        with pytest.raises(PolicyRefused, match="outside the allowed") as caught:
            allow(root).check_destination(outside, field="directory")
        assert (caught.value.kind, caught.value.field) == ("destination", "directory")


def test_destinations_that_cannot_be(root: Path) -> None:
    (root / "file").write_text("")
    (root / "loop").symlink_to(root / "loop")
    for path, said in (
        (root / "file", "not a folder"),
        (root / "file" / "below", "not a folder"),
        (root / ("x" * 256), "more than 255 bytes"),
        (root / "a" / ("\u00fc" * 128) / "b", "more than 255 bytes"),
        (Path(f"{root}/" + "x/" * 3000), "too long"),
    ):
        with pytest.raises(PolicyRefused, match=said) as caught:
            allow(root).check_destination(path)
        assert caught.value.kind == "destination"


def test_destinations_that_are_not_writable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, int]] = []

    def refuse(path: object, mode: int) -> bool:
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", refuse)
    with pytest.raises(PolicyRefused, match="may not write") as caught:
        allow(root).check_destination(root / "new" / "x")
    assert caught.value.kind == "destination"
    assert asked == [(root, os.W_OK | os.X_OK)]


def test_no_destination_is_allowed_without_roots(root: Path) -> None:
    with pytest.raises(PolicyRefused, match="none"):
        allow().check_destination(root)


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["file.bin", ".hidden", "...", "a b", "-rf", "ü" * 127, "x" * 255, "\u202egnp.exe"[1:], "$(id)", "a\\b"]
)
def test_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "/",
        "../x",
        "a\x00",
        "a\nb",
        "a\rb",
        "\x1b[0m",
        "a\x7f",
        "x" * 256,
        "ü" * 128,
        "a\udcff",
        "\ud800",
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        check_name(name)
    assert caught.value.field == "name"


@given(st.one_of(st.text(), st.text(st.sampled_from("./\\\x00ab\n"), max_size=12)))
def test_a_name_that_is_accepted_stays_directly_inside(name: str) -> None:
    try:
        check_name(name)
    except InvalidTask:
        return
    root = Path("/srv/root")
    target = Path(os.path.normpath(root / name))
    assert target.parent == root
    assert target.name == name
    assert len(os.fsencode(name)) <= 255
