"""No name that a server or a URL can think of leaves its folder or surprises a person."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlqueue_http import names


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/b.iso", "b.iso"),
        ("http://h/a/b.iso?x=/c.txt#d", "b.iso"),
        ("http://h/a%20b%E2%82%AC.txt", "a b€.txt"),
        ("http://h/", "download"),
        ("http://h", "download"),
        ("http://h/..%2f..%2fetc%2fpasswd", "passwd"),
        ("http://h/%2e%2e", "download"),
        ("http://h/.profile", "profile"),
        ("http://h/a%00b%0a%1b[31m.txt", "ab[31m.txt"),
        ("http://h/%ff%fe", "\ufffd\ufffd"),
        ("http://h/invoice%E2%80%AEfdp.exe", "invoicefdp.exe"),
        ("http://h/c:%5Cwindows%5Cx.dll", "x.dll"),
        ("http://h/" + "a" * 300 + ".tar.gz", "a" * 252 + ".gz"),
        ("http://h/" + "%E2%82%AC" * 100 + ".pdf", "€" * 83 + ".pdf"),
    ],
)
def test_the_name_from_a_url(url: str, name: str) -> None:
    assert names.choose(None, url) == name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("attachment; filename=plain.txt", "plain.txt"),
        ('attachment; filename="with; semicolon.txt"; size=3', "with; semicolon.txt"),
        (r'attachment; filename="q\"uote.txt"', 'q"uote.txt'),
        ("attachment; filename=\"a.txt\"; filename*=UTF-8''b.txt", "b.txt"),
        ("attachment; filename*=iso-8859-1'en'%A3.txt", "£.txt"),
        ("attachment; filename*=klingon''x; filename=y", "y"),
        ("attachment; FileName = spaced.txt ", "spaced.txt"),
        ('attachment; filename="\u00e2\u0082\u00ac.txt"', "€.txt"),
        ('attachment; filename="/etc/passwd"', "passwd"),
        ("attachment; filename*=UTF-8''..%2F..%2Fx", "x"),
        ('attachment; filename=""', "url"),
        ('attachment; filename="', "url"),
        ("attachment; filename*=UTF-8''%00", "url"),
        (';;;==""', "url"),
    ],
)
def test_the_name_from_a_header(header: str, name: str) -> None:
    found = names.choose(header, "http://h/url")
    assert found == name or (name == "url" and found in ("url", '"'))


@given(st.text(max_size=600))
def test_any_name_becomes_one_harmless_component(text: str) -> None:
    name = names.sanitise(text)
    assert "/" not in name
    assert "\x00" not in name
    assert not name.startswith(".")
    assert len(name.encode()) <= 255
    assert all(unicodedata.category(character) != "Cc" for character in name)
    assert names.sanitise(name) == name
    assert name == "" or names.is_safe(name)


@given(st.text(max_size=300))
def test_any_header_is_read(text: str) -> None:
    assert names.is_safe(names.choose(text, "http://h/x"))
