"""Lines out of chunks."""

from __future__ import annotations

import random

from dlqueue.protocol.framing import LineSplitter


def test_lines_come_whole_however_they_are_cut() -> None:
    text = b"".join(b"%d" % number * (number % 7) + b"\n" for number in range(500)) + b"rest"
    cut = random.Random(1)
    for _ in range(50):
        splitter = LineSplitter()
        found: list[bytes] = []
        at = 0
        while at < len(text):
            size = cut.randrange(1, 40)
            lines, too_long = splitter.feed(text[at : at + size])
            assert not too_long
            found += lines
            at += size
        assert found == text.split(b"\n")[:-1]
        assert splitter.rest() == b"rest"


def test_limit_is_exact() -> None:
    assert LineSplitter(5).feed(b"12345\n") == ([b"12345"], False)
    assert LineSplitter(5).feed(b"123456\n") == ([], True)
    assert LineSplitter(5).feed(b"12345") == ([], False)
    assert LineSplitter(5).feed(b"123456") == ([], True), "told before the line ends"


def test_lines_before_the_long_one_count_and_nothing_after() -> None:
    splitter = LineSplitter(5)
    assert splitter.feed(b"a\nb\n1234567\nc\n") == ([b"a", b"b"], True)
    assert splitter.feed(b"tail\n{}\n") == ([], False)
    assert splitter.rest() == b""


def test_long_line_in_pieces() -> None:
    splitter = LineSplitter(5)
    assert splitter.feed(b"1234") == ([], False)
    assert splitter.feed(b"56\nnext\n") == ([], True)
    assert splitter.feed(b"x\n") == ([], False)
