"""The line finder, checked against what tomllib makes of the same text."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlqueue.config.lines import key_lines
from dlqueue.config.problems import Key

EVERYTHING = '''\
# a comment = with [brackets]
top = 1
a.b . "c d" = "x # no comment"   # a comment

[table]
plain = [1, 2,
  3,  # three
  { inner = "}", deep.er = [ "]" ] },
]
text = """
not = a key
[nor a table]
quotes ""\\""" and more"""""
literal = \'\'\'
x = 1 \'\'\'
"quo\\u0074ed" = 1
'single "quoted"' = 2

  [ table . sub ]
  date = 1979-05-27 07:32:00

[[list]]
name = "one"
[list.sub]
key = 1
[[list]]
name = "two"
[[list.inner]]
x = 1
[[list.inner]]
x = 2
'''

EXPECTED: dict[Key, int] = {
    ("top",): 2,
    ("a",): 3,
    ("a", "b", "c d"): 3,
    ("table",): 5,
    ("table", "plain"): 6,
    ("table", "plain", 1): 6,
    ("table", "plain", 2): 7,
    ("table", "plain", 3, "inner"): 8,
    ("table", "plain", 3, "deep", "er", 0): 8,
    ("table", "text"): 10,
    ("table", "literal"): 14,
    ("table", "quoted"): 16,
    ("table", 'single "quoted"'): 17,
    ("table", "sub"): 19,
    ("table", "sub", "date"): 20,
    ("list",): 22,
    ("list", 0): 22,
    ("list", 0, "name"): 23,
    ("list", 0, "sub", "key"): 25,
    ("list", 1, "name"): 27,
    ("list", 1, "inner", 0, "x"): 29,
    ("list", 1, "inner", 1): 30,
    ("list", 1, "inner", 1, "x"): 31,
}


def all_keys(value: Any, at: Key = ()) -> set[Key]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {at} if at else set()
    return found.union(*(all_keys(below, (*at, name)) for name, below in inner))


def test_every_construct() -> None:
    lines = key_lines(EVERYTHING)
    assert {key: lines[key] for key in EXPECTED} == EXPECTED


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_exactly_the_keys_that_tomllib_finds(ending: str) -> None:
    text = EVERYTHING.replace("\n", ending)
    assert set(key_lines(text)) == all_keys(tomllib.loads(text))


@pytest.mark.parametrize("text", ["", "\n", "# only this", "\n\n[a]", "a=1", "[a]\r\nb=[]\r\nc={}"])
def test_small_files(text: str) -> None:
    assert set(key_lines(text)) == all_keys(tomllib.loads(text))


# Text without the characters that a TOML string must escape, but with those that mean something outside of one.
_inner = st.text(st.sampled_from("ab#[]{}=,. é"), max_size=8)
_value = st.recursive(
    st.one_of(
        st.integers(-9, 99).map(str),
        st.sampled_from(["true", "1.5", "07:32:00"]),
        _inner.map('"{}"'.format),
        _inner.map("'{}'".format),
        _inner.map('"""\n{}"""'.format),
        _inner.map("'''{}\n'''".format),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", # x ]\n".join(items) + "\n]"),
    ),
    max_leaves=5,
)


@given(st.lists(st.tuples(st.integers(0, 3), _value), max_size=8))
def test_generated_files(parts: list[tuple[int, str]]) -> None:
    text, expected = "", {}
    for number, (blanks, value) in enumerate(parts):
        text += "\n" * blanks
        expected[number] = text.count("\n") + 1
        text += f"key{number} = {value}\n"
    lines = key_lines(text)
    assert set(lines) == all_keys(tomllib.loads(text))
    assert {number: lines[(f"key{number}",)] for number in expected} == expected
